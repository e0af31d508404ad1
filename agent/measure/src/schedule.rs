//! When probes are to leave: absolute deadlines from a random start, so that neither
//! answers nor late sends move the ones that follow.

use base::MonoNanos;

use crate::random::Random;

/// Deadlines, periodic or Poisson (RFC 2330 section 11.1.1).
#[derive(Clone, Debug)]
pub struct Schedule {
    next: MonoNanos,
    interval_ns: u64,
    poisson: Option<Random>,
}

impl Schedule {
    /// Overdue by more than this, a send is skipped instead of sent late: after a stall the
    /// probes of at most one second go out at once.
    pub const MAX_OVERDUE_NS: u64 = 1_000_000_000;

    /// A schedule whose first deadline lies within one interval after `earliest`, at a
    /// random phase, so that agents started together do not probe together.
    #[must_use]
    pub fn new(earliest: MonoNanos, interval_ns: u64, poisson: bool, seed: u64) -> Self {
        let mut random = Random::new(seed);
        // RFC 3432 section 4: "the start time of the measurement … MUST be random".
        let phase = random.below(interval_ns.min(1_000_000_000));
        Self {
            next: earliest.plus(phase),
            interval_ns,
            poisson: poisson.then_some(random),
        }
    }

    /// The deadline that is due next.
    #[must_use]
    pub const fn next(&self) -> MonoNanos {
        self.next
    }

    /// Takes the next deadline and sets the one after it.
    pub fn take(&mut self) -> MonoNanos {
        let due = self.next;
        let step = match &mut self.poisson {
            None => self.interval_ns,
            Some(random) => random.exponential(self.interval_ns),
        };
        self.next = due.plus(step);
        due
    }

    /// Drops the deadlines that are overdue beyond [`Self::MAX_OVERDUE_NS`], at most
    /// `limit`, and says how many.
    pub fn skip_overdue(&mut self, now: MonoNanos, limit: u64) -> u64 {
        let mut skipped = 0;
        if self.poisson.is_none() && now.since(self.next) > Self::MAX_OVERDUE_NS {
            // In one step: a process stopped for a day has a billion of them.
            let behind = now.since(self.next) - Self::MAX_OVERDUE_NS;
            skipped = behind.div_ceil(self.interval_ns.max(1)).min(limit);
            self.next = self.next.plus(skipped.saturating_mul(self.interval_ns));
        }
        while now.since(self.next) > Self::MAX_OVERDUE_NS && skipped < limit {
            self.take();
            skipped += 1;
        }
        skipped
    }
}

/// A send counts as late beyond this distance from its deadline: 50 us, or a tenth of the
/// interval if that is more.
#[must_use]
pub const fn late_after_ns(interval_ns: u64) -> u64 {
    let tenth = interval_ns / 10;
    if tenth > 50_000 { tenth } else { 50_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn periodic_deadlines_do_not_drift() {
        let mut schedule = Schedule::new(MonoNanos(5 * MS), MS, false, 1);
        let first = schedule.take();
        assert!(first >= MonoNanos(5 * MS) && first < MonoNanos(6 * MS));
        for n in 1..1000 {
            assert_eq!(schedule.take(), first.plus(n * MS));
        }
    }

    #[test]
    fn the_start_is_random_and_repeats_for_a_seed() {
        let start = |seed| Schedule::new(MonoNanos(0), 1_000 * MS, false, seed).next();
        assert_eq!(start(3), start(3));
        assert_ne!(start(3), start(4));
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn poisson_keeps_the_mean_rate() {
        let mut schedule = Schedule::new(MonoNanos(0), MS, true, 11);
        let first = schedule.take();
        let mut last = first;
        for _ in 0..50_000 {
            last = schedule.take();
        }
        let mean = last.since(first) as f64 / 50_000.0;
        assert!((mean / MS as f64 - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn a_stall_skips_only_what_is_overdue_by_more_than_a_second() {
        for poisson in [false, true] {
            let mut schedule = Schedule::new(MonoNanos(0), MS, poisson, 1);
            let now = schedule.next().plus(3_000 * MS);
            let skipped = schedule.skip_overdue(now, u64::MAX);
            assert!(now.since(schedule.next()) <= Schedule::MAX_OVERDUE_NS);
            assert!((1_800..2_200).contains(&skipped), "{skipped}");
            assert_eq!(schedule.skip_overdue(now, u64::MAX), 0);
        }
        let mut schedule = Schedule::new(MonoNanos(0), MS, false, 1);
        assert_eq!(schedule.skip_overdue(MonoNanos(90_000 * MS), 10), 10);
    }
}
