//! Times and counts in six octets: records hold many of them.

use base::WallNanos;

/// 48 bits with the alignment of a `u16`.
#[derive(Copy, Clone, Debug, Default)]
#[repr(C, packed(2))]
pub(crate) struct U48 {
    low: u32,
    high: u16,
}

impl U48 {
    #[inline]
    pub(crate) const fn new(value: u64) -> Self {
        Self {
            low: value as u32,
            high: (value >> 32) as u16,
        }
    }

    #[inline]
    pub(crate) const fn get(self) -> u64 {
        self.low as u64 | (self.high as u64) << 32
    }

    /// Counts on; 2^48 is farther than a flow gets.
    #[inline]
    pub(crate) const fn add(&mut self, more: u32) {
        let (low, carry) = self.low.overflowing_add(more);
        self.low = low;
        self.high = self.high.wrapping_add(carry as u16);
    }
}

/// A capture time: nanoseconds modulo 2^48 (78 hours). Differences are right as long as they
/// are less than half of that, which the flows' time-outs see to; a side that was silent for
/// longer may look younger than it is.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Short(U48);

impl Short {
    pub(crate) const ZERO: Self = Self(U48::new(0));

    #[inline]
    pub(crate) const fn of(at: WallNanos) -> Self {
        Self(U48::new(at.0))
    }

    /// Nanoseconds from this time to `now`; negative when the clock was set back.
    #[inline]
    pub(crate) const fn until(self, now: WallNanos) -> i64 {
        (now.0.wrapping_sub(self.0.get()) << 16).cast_signed() >> 16
    }
}

/// A smoothed time with one more (RFC 6298 section 2: an eighth of what is new); 0 is none.
/// Saturates at 4.29 s.
#[inline]
pub(crate) fn smoothed(old_ns: u32, ns: u64) -> u32 {
    let ns = ns.clamp(1, u64::from(u32::MAX)) as u32;
    if old_ns == 0 {
        return ns;
    }
    let change = (i64::from(ns) - i64::from(old_ns)) / 8;
    (i64::from(old_ns) + change) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_carry() {
        let mut sum = U48::new(0);
        let mut truth = 0u64;
        for more in [1, u32::MAX, 0, 2, u32::MAX, u32::MAX, 1 << 31, 7] {
            sum.add(more);
            truth += u64::from(more);
            assert_eq!(sum.get(), truth);
        }
    }

    #[test]
    fn differences_survive_the_wrap_and_keep_their_sign() {
        let day = 86_400_000_000_000;
        for start in [0, (1 << 48) - 5, u64::MAX - 3, 1_700_000_000_000_000_000] {
            for ns in [0, 1, 20_000_000, day, -1, -day] {
                let then = WallNanos(start);
                let now = WallNanos(start.wrapping_add_signed(ns));
                assert_eq!(Short::of(then).until(now), ns, "{start} + {ns}");
            }
        }
    }
}
