//! The limit on packets per second.

use base::MonoNanos;

/// Packets per second of all targets together (GCRA).
pub(super) struct Limit {
    pub(super) cost_ns: u64,
    pub(super) full_at: MonoNanos,
    /// No event about it before.
    pub(super) quiet_until: MonoNanos,
}

impl Limit {
    const BURST_NS: u64 = 50_000_000;

    pub(super) fn admits(&mut self, packets: u32, now: MonoNanos) -> bool {
        if self.cost_ns == 0 {
            return true;
        }
        let cost = self.cost_ns * u64::from(packets);
        let from = self.full_at.max(now);
        if from.since(now) + cost > Self::BURST_NS.max(cost) {
            return false;
        }
        self.full_at = from.plus(cost);
        true
    }
}
