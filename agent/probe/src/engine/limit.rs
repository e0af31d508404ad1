//! The limit on packets per second of all targets together.

use base::MonoNanos;
use measure::rate::{Bucket, cost_ns};

/// What may leave at once.
const BURST_NS: u64 = 50_000_000;

/// See the module.
pub(super) struct Limit {
    cost_ns: u64,
    bucket: Bucket,
    /// No event about it before.
    pub(super) quiet_until: MonoNanos,
}

impl Limit {
    /// 0 is no limit.
    pub(super) fn new(packets_per_second: u32) -> Self {
        let cost_ns = cost_ns(packets_per_second);
        Self {
            cost_ns,
            bucket: Bucket::default(),
            quiet_until: MonoNanos(0),
        }
    }

    pub(super) fn admits(&mut self, packets: u32, now: MonoNanos) -> bool {
        self.bucket
            .admits(self.cost_ns * u64::from(packets), BURST_NS, now)
    }
}
