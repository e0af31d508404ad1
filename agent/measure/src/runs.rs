//! The shape of loss (RFC 3357): lengths of loss runs, and outages.

use base::{MonoNanos, WallNanos};

/// A run of at least this many lost packets is an outage.
pub const OUTAGE_PACKETS: u64 = 3;

/// What the verdicts of consecutive probes add up to.
#[derive(Clone, Debug, Default)]
pub struct LossRuns {
    run: u64,
    began: MonoNanos,
    began_at: WallNanos,
    longest_ns: u64,
}

/// A run that has ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Lost packets in a row.
    pub packets: u64,
    /// From the first lost packet's send to the next answered one's.
    pub duration_ns: u64,
    /// When the first lost packet was sent.
    pub began_at: WallNanos,
    /// Whether it is an outage, and longer than every one before.
    pub longest_outage: bool,
}

impl Run {
    /// RFC 3357: long enough to be called an outage.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        self.packets >= OUTAGE_PACKETS
    }
}

impl LossRuns {
    /// The next probe in order of sending was lost. Returns the length of the run so far.
    pub fn lost(&mut self, sent: MonoNanos, sent_at: WallNanos) -> u64 {
        if self.run == 0 {
            (self.began, self.began_at) = (sent, sent_at);
        }
        self.run += 1;
        self.run
    }

    /// The next probe in order of sending was answered, or the measurement ended then.
    pub fn ended(&mut self, sent: MonoNanos) -> Option<Run> {
        if self.run == 0 {
            return None;
        }
        let duration_ns = sent.since(self.began);
        let packets = std::mem::take(&mut self.run);
        let longest_outage = packets >= OUTAGE_PACKETS && duration_ns > self.longest_ns;
        if longest_outage {
            self.longest_ns = duration_ns;
        }
        Some(Run {
            packets,
            duration_ns,
            began_at: self.began_at,
            longest_outage,
        })
    }

    /// The run that is going on: packets and nanoseconds until `now`.
    #[must_use]
    pub fn present(&self, now: MonoNanos) -> Option<(u64, u64)> {
        (self.run > 0).then(|| (self.run, now.since(self.began)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_outages_of_a_written_pattern() {
        let mut runs = LossRuns::default();
        let mut ended = Vec::new();
        // x = lost; one probe a microsecond.
        for (n, c) in "..x.xxx..xx.xxxxx.".bytes().enumerate() {
            let sent = MonoNanos(n as u64 * 1000);
            if c == b'x' {
                runs.lost(sent, WallNanos(n as u64));
            } else {
                ended.extend(runs.ended(sent));
            }
        }
        let lengths: Vec<u64> = ended.iter().map(|run| run.packets).collect();
        assert_eq!(lengths, [1, 3, 2, 5]);
        let outages: Vec<_> = ended.iter().filter(|run| run.is_outage()).collect();
        assert_eq!(outages.len(), 2);
        assert_eq!(
            (outages[0].duration_ns, outages[0].began_at),
            (3_000, WallNanos(4))
        );
        assert!(outages[0].longest_outage && outages[1].longest_outage);
        assert_eq!(outages[1].duration_ns, 5_000);
    }
}
