//! Buckets of native histograms, schema 5: bounds 2^(k/32), upper-inclusive.
//!
//! Values come in integers (ns or packets), bounds are in the exported unit (seconds or
//! packets). Bucket k holds values in (2^((k-1)/32), 2^(k/32)]. The tables are integers
//! (the largest value that a bucket holds), so a lookup is exact, also on a bound.

use std::sync::OnceLock;

/// The schema: 2^5 buckets an octave, 2.19 % wide.
pub const SCHEMA: i32 = 5;
const PER_OCTAVE: usize = 32;
const OCTAVES: usize = 34;
/// Slots of one half of a cumulative array.
pub const SLOTS: usize = PER_OCTAVE * OCTAVES;

/// What the values of a series are.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Unit {
    /// Recorded in nanoseconds, exported in seconds.
    Nanoseconds,
    /// Recorded and exported in packets.
    Packets,
}

impl Unit {
    /// The unit of a quantity.
    #[must_use]
    pub const fn of(quantity: base::Quantity) -> Self {
        match quantity {
            base::Quantity::LossRun => Self::Packets,
            _ => Self::Nanoseconds,
        }
    }

    /// Recorded units in one exported unit.
    #[must_use]
    pub const fn per_exported(self) -> f64 {
        match self {
            Self::Nanoseconds => 1e9,
            Self::Packets => 1.0,
        }
    }

    /// The first octave: slot 0 is the first bucket above `2^octave` exported units.
    /// Nanoseconds: 3.7 ns to 64 s. Packets: 1 (just above one half) to 2^33.
    const fn first_octave(self) -> i32 {
        match self {
            Self::Nanoseconds => -28,
            Self::Packets => -1,
        }
    }

    /// Values of at most this magnitude, in exported units, are in the zero bucket.
    #[must_use]
    pub fn zero_threshold(self) -> f64 {
        f64::from(self.first_octave()).exp2()
    }

    /// Native bucket index of slot 0.
    #[must_use]
    pub const fn first_index(self) -> i32 {
        self.first_octave() * PER_OCTAVE as i32 + 1
    }

    /// The largest recorded value that the last slot holds by right.
    #[must_use]
    pub fn highest(self) -> u64 {
        self.table()[SLOTS]
    }

    /// `[0]`: the largest value of the zero bucket; `[1 + slot]`: of that slot.
    fn table(self) -> &'static [u64] {
        static NANOSECONDS: OnceLock<Box<[u64]>> = OnceLock::new();
        static PACKETS: OnceLock<Box<[u64]>> = OnceLock::new();
        let cell = match self {
            Self::Nanoseconds => &NANOSECONDS,
            Self::Packets => &PACKETS,
        };
        cell.get_or_init(|| {
            (0..=SLOTS)
                .map(|place| {
                    // The octave is exact; the fraction is irrational but for 0, so that
                    // the floor is right unless the rounding crosses an integer: a test
                    // checks every entry in exact arithmetic.
                    let octave = self.first_octave() + (place / PER_OCTAVE) as i32;
                    let fraction = (place % PER_OCTAVE) as f64 / PER_OCTAVE as f64;
                    let bound = fraction.exp2() * self.per_exported() * f64::from(octave).exp2();
                    bound.floor() as u64
                })
                .collect()
        })
    }

    /// The slot of a magnitude, `None` for the zero bucket. Values above the last slot
    /// belong to it (the caller counts them).
    #[must_use]
    pub fn slot(self, magnitude: u64) -> Option<usize> {
        let table = self.table();
        let place = table.partition_point(|largest| *largest < magnitude);
        place.checked_sub(1).map(|slot| slot.min(SLOTS - 1))
    }

    /// Upper bound of a slot in exported units.
    #[must_use]
    pub fn upper_bound(self, slot: usize) -> f64 {
        (f64::from(self.first_index() + slot as i32) / PER_OCTAVE as f64).exp2()
    }
}

#[cfg(test)]
mod tests;
