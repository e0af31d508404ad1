//! A rate limit in one number: a token bucket kept as the moment when it would be full
//! (generic cell rate algorithm).

use base::MonoNanos;

/// See the module. The default is full.
#[derive(Copy, Clone, Debug, Default)]
pub struct Bucket {
    full_at: MonoNanos,
}

impl Bucket {
    /// Whether something that costs so much time may pass now; a cost of 0 always may. What
    /// fits into `burst_ns` may pass at once, and a single one always.
    pub fn admits(&mut self, cost_ns: u64, burst_ns: u64, now: MonoNanos) -> bool {
        if cost_ns == 0 {
            return true;
        }
        let from = self.full_at.max(now);
        if from.since(now).saturating_add(cost_ns) > burst_ns.max(cost_ns) {
            return false;
        }
        self.full_at = from.plus(cost_ns);
        true
    }
}

/// What one packet costs at a rate per second; 0 is no limit.
#[must_use]
pub const fn cost_ns(rate: u32) -> u64 {
    if rate == 0 {
        0
    } else {
        1_000_000_000 / rate as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::default();
        let cost = cost_ns(1_000);
        let burst = 10 * cost;
        let at = |ns: u64| MonoNanos(5_000_000_000 + ns);
        assert_eq!(
            (0..100)
                .filter(|_| bucket.admits(cost, burst, at(0)))
                .count(),
            10
        );
        let admitted = (1..=1_000_000)
            .step_by(100)
            .filter(|us| bucket.admits(cost, burst, at(us * 1_000)));
        assert!(
            (999..=1_001).contains(&admitted.count()),
            "a second at 1000 a second"
        );
        assert!((0..9).all(|_| bucket.admits(0, 0, at(0))), "no limit");
    }

    #[test]
    fn one_that_costs_more_than_the_burst_passes_alone() {
        let mut bucket = Bucket::default();
        assert!(bucket.admits(1_000, 10, MonoNanos(7)));
        assert!(!bucket.admits(1_000, 10, MonoNanos(8)));
        assert!(bucket.admits(1_000, 10, MonoNanos(1_007)));
    }
}
