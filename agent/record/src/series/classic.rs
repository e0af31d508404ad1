//! Bounds of classic histograms, in recorded units, upper-inclusive.

use std::sync::Arc;

use super::Unit;

/// export.md 1.5 with 1 us and 5 us added for placement groups and 5 s for the one wide
/// step, in ns.
pub const EC2_DENSE: [u64; 33] = [
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    75_000,
    100_000,
    150_000,
    200_000,
    300_000,
    400_000,
    500_000,
    750_000,
    1_000_000,
    1_500_000,
    2_000_000,
    3_000_000,
    5_000_000,
    7_500_000,
    10_000_000,
    20_000_000,
    30_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    150_000_000,
    200_000_000,
    300_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// 1, 2.5, 5 a decade from 1 us to 10 s, in ns.
pub const DECADE: [u64; 22] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// For lengths of loss runs, in packets; 3 is where an outage begins (RFC 3357).
pub const PACKETS: [u64; 12] = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000];

/// One list of bounds for time, one for packets, shared by all series.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicBounds {
    times: Arc<[u64]>,
    packets: Arc<[u64]>,
}

impl ClassicBounds {
    /// Bounds in ns for times; sorted and freed of doubles and zeros here.
    #[must_use]
    pub fn new(times_ns: &[u64]) -> Self {
        let mut times: Vec<u64> = times_ns
            .iter()
            .copied()
            .filter(|bound| *bound > 0)
            .collect();
        times.sort_unstable();
        times.dedup();
        Self {
            times: times.into(),
            packets: Arc::from(PACKETS),
        }
    }

    /// The bounds of a unit, ascending, in recorded units.
    #[must_use]
    pub fn of(&self, unit: Unit) -> &Arc<[u64]> {
        match unit {
            Unit::Nanoseconds => &self.times,
            Unit::Packets => &self.packets,
        }
    }
}

impl Default for ClassicBounds {
    fn default() -> Self {
        Self::new(&EC2_DENSE)
    }
}
