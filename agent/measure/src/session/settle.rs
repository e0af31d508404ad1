//! Verdicts in order of sending, and what needs that order: loss runs, outages, and the
//! direction of loss.

use base::{Counter, EventKind, Gauge, LossTotals, MonoNanos, Output, Quantity, Verdict};
use wire::report::Report;

use super::slots::{Slot, State};
use super::{Alignment, Emission, Kind, Reflector, Session, Split, emit, sample};
use crate::runs::Run;

/// Loss that no report has explained for so long goes out as unattributed.
const PUBLISH_PATIENCE_NS: u64 = 2_000_000_000;
/// Between two loss totals, and between two sets of gauges.
const PUBLISH_INTERVAL_NS: u64 = 100_000_000;

/// Reports that may wait for the verdicts of probes before theirs.
pub(super) const MAX_CHECKPOINTS: usize = 32;

impl Session {
    /// Gives every probe whose wait has passed its verdict, and walks the verdicts in order.
    pub(super) fn settle(&mut self, now: MonoNanos, out: &mut impl FnMut(Emission)) {
        self.release_held(now, out);
        while self.settled < self.next {
            let Some(mut slot) = self.slots.copy(self.settled) else {
                break;
            };
            if matches!(slot.state, State::Outstanding | State::Held) {
                if now.since(slot.sent) < self.config.wait_ns {
                    break;
                }
                self.decide(slot, out);
                slot = self.slots.copy(self.settled).unwrap_or(slot);
            }
            self.settled += 1;
            if slot.counted() {
                self.account(&slot, now, out);
            }
            self.take_checkpoints(slot.index, out);
        }
    }

    /// Replies whose TX stamp does not come: on a path that never gave one, measure with the
    /// user clock from here on.
    fn release_held(&mut self, now: MonoNanos, out: &mut impl FnMut(Emission)) {
        let Some(since) = self.held_since else { return };
        if self.stamp_seen {
            self.held_since = None;
        } else if now.since(since) >= self.stamp_patience_ns() {
            self.held_since = None;
            self.stamps_expected = false;
            self.event(EventKind::ComponentDegraded, 0, 0, out);
            for index in self.settled..self.next {
                if self
                    .slots
                    .copy(index)
                    .is_some_and(|slot| slot.state == State::Held)
                {
                    self.measure(index, out);
                }
            }
        }
    }

    pub(super) fn decide(&mut self, slot: Slot, out: &mut impl FnMut(Emission)) {
        let state = if slot.state == State::Held {
            State::Discarded(Counter::DiscardedTxStampLost)
        } else if slot.kernel.is_none()
            && slot.hardware.is_none()
            && self.stamps_expected
            && (self.stamp_seen || self.stamps_certain)
            && !slot.doubtful
        {
            // The kernel stamps what it hands to the device; this one never got there.
            State::LostLocal
        } else {
            State::Lost
        };
        if let Some(slot) = self.slots.get(slot.index) {
            slot.state = state;
        }
        if !slot.counted() {
            return;
        }
        let verdict = match state {
            State::Discarded(counter) => {
                emit(out, Output::Count(counter, 1));
                Verdict::Discarded(counter)
            }
            State::LostLocal => Verdict::LostLocal,
            _ => Verdict::Lost,
        };
        self.result(slot.index, verdict, None, out);
    }

    /// The verdict of the next counted probe in order.
    fn account(&mut self, slot: &Slot, now: MonoNanos, out: &mut impl FnMut(Emission)) {
        let schedule_error = slot.schedule_error_ns();
        sample(out, Quantity::ScheduleError, schedule_error.max(0));
        if schedule_error > self.late_after_ns() {
            emit(out, Output::Count(Counter::SentLate, 1));
        }
        self.settled_counts.sent += 1;
        self.settled_counted = slot.index;
        if !matches!(slot.state, State::Lost | State::LostLocal) {
            if let Some(run) = self.runs.ended(slot.sent) {
                self.run_ended(run, out);
            }
            return;
        }
        emit(out, Output::Count(Counter::Lost, 1));
        self.settled_counts.lost += 1;
        self.settled_counts.never_left += u64::from(slot.state == State::LostLocal);
        self.unpublished_since = self.unpublished_since.or(Some(now));
        let run = self.runs.lost(slot.sent, slot.sent_wall);
        let silent = self.last_answer.is_none_or(|last| {
            now.since(last) >= self.config.wait_ns + 2 * self.config.interval_ns
        });
        if run >= crate::runs::OUTAGE_PACKETS && silent && self.up != Some(false) {
            let before = i64::from(self.up == Some(true));
            self.up = Some(false);
            emit(out, Output::Gauge(Gauge::Up, 0.0));
            self.event(EventKind::TargetDown, before, 0, out);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "wall time to 256 ns is enough here"
    )]
    pub(super) fn run_ended(&self, run: Run, out: &mut impl FnMut(Emission)) {
        sample(out, Quantity::LossRun, run.packets.cast_signed());
        if run.is_outage() {
            emit(out, Output::Count(Counter::Outages, 1));
        }
        if run.longest_outage {
            emit(
                out,
                Output::Gauge(Gauge::LongestOutage, run.duration_ns as f64),
            );
            emit(
                out,
                Output::Gauge(Gauge::LongestOutageAt, run.began_at.0 as f64),
            );
        }
    }

    /// Keeps a report until all probes up to its own are decided.
    pub(super) fn queue_report(
        &mut self,
        index: u64,
        report: Report,
        out: &mut impl FnMut(Emission),
    ) {
        let newest = self.checkpoints.back().map_or(0, |(last, _)| *last);
        // A report is held against what was decided up to its own probe. One that comes later
        // than that, or again, says less than the next one will.
        if index <= newest.max(self.reported) || index < self.settled_counted {
            return;
        }
        if self.checkpoints.len() == MAX_CHECKPOINTS {
            // Cumulative, so that the newer ones say it all.
            self.checkpoints.pop_front();
        }
        self.checkpoints.push_back((index, report));
        if index < self.settled {
            self.take_checkpoints(index, out);
        }
    }

    fn take_checkpoints(&mut self, index: u64, out: &mut impl FnMut(Emission)) {
        while let Some((at, report)) = self.checkpoints.front().copied() {
            if at > index {
                break;
            }
            self.checkpoints.pop_front();
            self.reported = at;
            let added = self.reports.add(report, self.settled_counts);
            for (counter, count) in [
                (Counter::DuplicatesForward, added.duplicates),
                (Counter::ReflectorRateLimited, added.rate_limited),
                (Counter::ReflectorOverflows, added.overflow),
            ] {
                if count > 0 {
                    emit(out, Output::Count(counter, count));
                }
            }
        }
    }

    /// Hands probes past any late answer to the alignment, in order.
    pub(super) fn retire(&mut self, now: MonoNanos, all: bool, out: &mut impl FnMut(Emission)) {
        while self.retired < self.settled {
            let Some(slot) = self.slots.copy(self.retired) else {
                self.retired += 1;
                continue;
            };
            if !all && now.since(slot.sent) < 2 * self.config.wait_ns {
                break;
            }
            self.retired += 1;
            if slot.state != State::Lost {
                continue;
            }
            if slot.late {
                // It reached the reflector, and an answer came, if too late: as our own
                // reflector's reports have it.
                self.closed_split.reverse += u64::from(slot.counted());
            } else if slot.index < self.boundary {
                self.closed_split.unattributed += u64::from(slot.counted());
            } else if let Some(alignment) = &mut self.alignment {
                alignment.lost(slot.index, slot.counted());
            } else {
                self.closed_split.unattributed += u64::from(slot.counted());
            }
        }
        let keep_from = if all { u64::MAX } else { 0 };
        self.drain_order(self.retired, keep_from, out);
    }

    /// Walks the reflector's numbers in order as far as their probes are retired.
    pub(super) fn drain_order(
        &mut self,
        decided: u64,
        keep_from: u64,
        out: &mut impl FnMut(Emission),
    ) {
        self.walk_order(decided, keep_from, true, out);
    }

    pub(super) fn walk_order(
        &mut self,
        decided: u64,
        keep_from: u64,
        with_gaps: bool,
        out: &mut impl FnMut(Emission),
    ) {
        let Some(alignment) = &mut self.alignment else {
            return;
        };
        // Our own reflector reports them.
        let count_duplicates = self.reflector == Reflector::Stateful;
        let slots = &mut self.slots;
        self.order.drain(decided, keep_from, |gaps, probe| {
            let (duplicate, counted) = slots.get(probe).map_or((true, false), |slot| {
                (std::mem::replace(&mut slot.ordered, true), slot.counted())
            });
            let gaps = if with_gaps { gaps } else { 0 };
            let reordered = alignment.answered(gaps, probe, duplicate);
            if reordered && counted {
                emit(out, Output::Count(Counter::ReorderedForward, 1));
            }
            if duplicate && counted && count_duplicates {
                emit(out, Output::Count(Counter::DuplicatesForward, 1));
            }
        });
    }

    /// Sends the loss totals on once their directions are known, or waited for long enough,
    /// and the gauges; both ten times a second at most.
    pub(super) fn publish(&mut self, now: MonoNanos, out: &mut impl FnMut(Emission)) {
        if self.gauges_stale && now >= self.gauges_due {
            self.gauges_due = now.plus(PUBLISH_INTERVAL_NS);
            self.publish_gauges(out);
        }
        let Some(since) = self.unpublished_since.filter(|_| now >= self.losses_due) else {
            return;
        };
        self.losses_due = now.plus(PUBLISH_INTERVAL_NS);
        let patience = PUBLISH_PATIENCE_NS + 3 * self.config.wait_ns;
        let (totals, open) = self.totals();
        if (open == 0 || now.since(since) >= patience) && totals != self.attributed {
            self.attributed = totals;
            emit(out, Output::Loss(totals));
        }
        if open == 0 {
            self.unpublished_since = None;
        }
    }

    /// Loss by place, and how much of it may still find its direction.
    fn totals(&self) -> (LossTotals, u64) {
        let counts = self.settled_counts;
        let network = counts.lost - counts.never_left;
        let (mut forward, mut reverse, open) = match self.reflector {
            Reflector::Reporting => {
                let (forward, unattributed, at) = self.reports.totals();
                let known = at.lost - at.never_left;
                let forward = forward.min(known);
                (
                    forward,
                    (known - forward).saturating_sub(unattributed),
                    network - known,
                )
            }
            Reflector::Stateful => {
                let split = self
                    .alignment
                    .as_ref()
                    .map_or_else(Split::default, Alignment::split);
                let forward = split.forward + self.closed_split.forward;
                let reverse = split.reverse + self.closed_split.reverse;
                let known = forward + reverse + split.unattributed + self.closed_split.unattributed;
                (forward, reverse, network.saturating_sub(known))
            }
            Reflector::Unknown | Reflector::Undirected => (0, 0, 0),
        };
        let directed = matches!(self.reflector, Reflector::Reporting | Reflector::Stateful);
        // Replies that our own socket dropped had made the whole way.
        let dropped = self.overflows.min(network);
        let from_reverse = if directed {
            dropped.min(reverse)
        } else {
            dropped
        };
        if directed {
            reverse -= from_reverse;
        }
        let local = counts.never_left + from_reverse;
        forward = forward.min(counts.lost - local);
        let totals = LossTotals {
            lost: counts.lost,
            local,
            forward,
            reverse,
            unattributed: (counts.lost - local).saturating_sub(forward + reverse),
            directed,
        };
        (totals, open)
    }
}

impl Kind {
    /// Whether it is in the statistics.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        matches!(self, Self::Counted)
    }
}
