//! Loss by direction from our own reflector's counters (the private TLV): exact.
//!
//! A report says how many distinct counted probes had reached the reflector when it
//! answered the probe that carried it. Once every probe up to that one is decided, the
//! difference to what was sent is forward loss. Everything is cumulative, so that a probe
//! that was in flight past one report is set right by the next.

use wire::report::Report;

/// Cumulative counts of this side at a probe, all probes up to it decided.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Counted probes that left `send()`.
    pub sent: u64,
    /// Of these, lost.
    pub lost: u64,
    /// Of the lost, those that never left this host.
    pub never_left: u64,
}

/// Counts of one reflector session (one epoch).
#[derive(Copy, Clone, Debug)]
struct Segment {
    epoch: u32,
    base: Sent,
    last: Report,
    /// Since the base, beyond the 32 bits of the wire.
    distinct: u64,
    /// What the reflector's host refused or dropped since the base.
    refused: u64,
    forward: u64,
    unattributed: u64,
}

/// What all reports so far add up to.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    segment: Option<Segment>,
    /// Of the sessions that the reflector has forgotten.
    closed_forward: u64,
    closed_unattributed: u64,
    /// Counts at the last report.
    at: Sent,
}

/// What one report added.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// Probes that arrived more than once.
    pub duplicates: u64,
    /// Requests that the reflector's own limit refused.
    pub rate_limited: u64,
    /// Packets that the reflector's own socket dropped.
    pub overflow: u64,
    /// The reflector had forgotten the session.
    pub reset: bool,
}

impl Reports {
    /// Takes the report that came with a probe, once all probes up to it are decided.
    pub fn add(&mut self, report: Report, at: Sent) -> Added {
        let mut added = Added::default();
        match &mut self.segment {
            Some(segment) if segment.epoch == report.epoch => {
                let last = &mut segment.last;
                added.duplicates = advance(&mut last.duplicates, report.duplicates);
                added.rate_limited = advance(&mut last.rate_limited, report.rate_limited);
                added.overflow = advance(&mut last.overflow, report.overflow);
                segment.distinct += advance(&mut last.distinct, report.distinct);
                // What the reflector's host refused or dropped is no loss of the path.
                segment.refused += added.rate_limited + added.overflow;

                let left =
                    (at.sent - segment.base.sent) - (at.never_left - segment.base.never_left);
                let missing = left.saturating_sub(segment.distinct);
                segment.unattributed = segment.refused.min(missing);
                segment.forward = missing - segment.unattributed;
            }
            _ => {
                if let Some(segment) = self.segment.take() {
                    added.reset = true;
                    self.closed_forward += segment.forward;
                    // What was in flight around the reset belongs to neither session.
                    self.closed_unattributed += segment.unattributed
                        + (at.lost - at.never_left)
                            .saturating_sub(self.at.lost - self.at.never_left);
                }
                self.segment = Some(Segment {
                    epoch: report.epoch,
                    base: at,
                    last: report,
                    distinct: 0,
                    refused: 0,
                    forward: 0,
                    unattributed: 0,
                });
                if !added.reset {
                    // Lost before the first report ever: nobody counted it.
                    self.closed_unattributed = at.lost - at.never_left;
                }
            }
        }
        self.at = at;
        added
    }

    /// Forward loss and unattributed loss up to the last report, and the counts there.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, Sent) {
        let (forward, unattributed) = self
            .segment
            .as_ref()
            .map_or((0, 0), |segment| (segment.forward, segment.unattributed));
        (
            self.closed_forward + forward,
            self.closed_unattributed + unattributed,
            self.at,
        )
    }
}

/// Moves a counter of the wire on, and says by how much. Counters wrap, so that a step of
/// more than half their range is one back: two reports overtook each other on their way to
/// the reflector, and the older one, which comes later, has nothing to add.
fn advance(last: &mut u32, now: u32) -> u64 {
    let step = now.wrapping_sub(*last);
    if step > u32::MAX / 2 {
        return 0;
    }
    *last = now;
    step.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(epoch: u32, distinct: u32) -> Report {
        Report {
            epoch,
            distinct,
            ..Report::default()
        }
    }

    fn sent(sent: u64, lost: u64, never_left: u64) -> Sent {
        Sent {
            sent,
            lost,
            never_left,
        }
    }

    #[test]
    fn forward_loss_is_sent_minus_arrived_also_across_the_wrap() {
        let mut reports = Reports::default();
        assert_eq!(
            reports.add(report(1, u32::MAX - 5), sent(0, 0, 0)),
            Added::default()
        );
        // 100 sent, 2 never left, 90 arrived: 8 forward.
        reports.add(report(1, 84), sent(100, 12, 2));
        assert_eq!(reports.totals(), (8, 0, sent(100, 12, 2)));
    }

    #[test]
    fn a_session_outlives_the_32_bits_of_its_counters() {
        // 100 us for a week: three times half the range, ten lost forward each time.
        let mut reports = Reports::default();
        reports.add(report(1, 7), Sent::default());
        let step = u64::from(u32::MAX / 2);
        for turn in 1..=3 {
            let distinct = (7 + turn * step) as u32;
            reports.add(report(1, distinct), sent(turn * (step + 10), turn * 10, 0));
            assert_eq!(reports.totals().0, turn * 10);
        }
    }

    #[test]
    fn reports_that_overtook_each_other_count_nothing_twice() {
        let mut reports = Reports::default();
        let with = |distinct, duplicates| Report {
            duplicates,
            ..report(1, distinct)
        };
        reports.add(with(0, 0), Sent::default());
        assert_eq!(reports.add(with(20, 3), sent(19, 0, 0)).duplicates, 3);
        assert_eq!(reports.add(with(19, 2), sent(20, 0, 0)).duplicates, 0);
        assert_eq!(reports.totals().0, 0);
        assert_eq!(reports.add(with(30, 4), sent(30, 0, 0)).duplicates, 1);
        assert_eq!(reports.totals().0, 0);
    }

    #[test]
    fn a_straggler_is_set_right_by_the_next_report() {
        let mut reports = Reports::default();
        reports.add(report(1, 0), Sent::default());
        reports.add(report(1, 9), sent(10, 0, 0));
        assert_eq!(reports.totals().0, 1);
        reports.add(report(1, 20), sent(20, 0, 0));
        assert_eq!(reports.totals().0, 0);
    }

    #[test]
    fn what_the_reflector_refused_is_not_forward_loss() {
        let mut reports = Reports::default();
        reports.add(report(1, 0), Sent::default());
        let limited = Report {
            rate_limited: 3,
            overflow: 1,
            duplicates: 2,
            ..report(1, 90)
        };
        let added = reports.add(limited, sent(100, 10, 0));
        assert_eq!(
            added,
            Added {
                duplicates: 2,
                rate_limited: 3,
                overflow: 1,
                reset: false
            }
        );
        assert_eq!(reports.totals(), (6, 4, sent(100, 10, 0)));
    }

    #[test]
    fn a_forgotten_session_starts_anew_and_leaves_its_time_unattributed() {
        let mut reports = Reports::default();
        reports.add(report(1, 0), Sent::default());
        reports.add(report(1, 95), sent(100, 7, 0));
        assert!(reports.add(report(2, 3), sent(150, 20, 1)).reset);
        assert_eq!(reports.totals(), (5, 12, sent(150, 20, 1)));
        reports.add(report(2, 43), sent(200, 30, 1));
        assert_eq!(reports.totals(), (15, 12, sent(200, 30, 1)));
    }
}
