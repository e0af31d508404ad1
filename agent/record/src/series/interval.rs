//! What one series recorded since the last tick.
//!
//! Owned by whoever records: the publisher, or a capture worker until it hands it over. A
//! low-rate series keeps the values themselves in a small preallocated list. When that is
//! full, its values go over to HDR with 2 digits (15 KiB a half), allocated then, on the
//! thread that records, and given back after a while without need; the list then takes the
//! next ones. [`super::Series::record`] folds a full list into the cumulative store before,
//! so that only readers of intervals see HDR's rounding; an interval that is absorbed brings
//! that rounding along. Exact count, sum, min and max beside.

use hdrhistogram::Histogram;

use crate::distribution::HIGHEST;

/// The longest list of exact values.
pub const MOST_EXACT: usize = 128;
/// HDR digits of an interval that overflowed its list: 0.4 % from the middle of a slot.
const DIGITS: u8 = 2;
/// Ticks without need after which the HDR halves are given back.
const KEEP_TICKS: u8 = 30;

/// See the module.
#[derive(Clone, Debug)]
pub struct Interval {
    exact: Vec<i64>,
    limit: usize,
    positive: Option<Box<Histogram<u32>>>,
    negative: Option<Box<Histogram<u32>>>,
    spilled: bool,
    unused_ticks: u8,
    signed: bool,
    count: u64,
    sum: i128,
    min: i64,
    max: i64,
    saturated: u64,
}

fn into(half: &mut Option<Box<Histogram<u32>>>, magnitude: u64) {
    half.get_or_insert_with(|| {
        Box::new(
            Histogram::new_with_bounds(1, HIGHEST, DIGITS)
                .expect("constant bounds that HDR accepts"),
        )
    })
    .saturating_record(magnitude.min(HIGHEST));
}

/// Length of the exact list for so many samples a tick: half as many again, 8 to 128.
#[must_use]
pub fn exact_length(samples_per_tick: f64) -> usize {
    ((samples_per_tick * 1.5).ceil() as usize).clamp(8, MOST_EXACT)
}

impl Interval {
    /// A list for the samples expected per tick; `signed` says whether negative values
    /// are values (else they count as 0 and as saturated).
    #[must_use]
    pub fn new(samples_per_tick: f64, signed: bool) -> Self {
        let limit = exact_length(samples_per_tick);
        Self {
            exact: Vec::with_capacity(limit),
            limit,
            positive: None,
            negative: None,
            spilled: false,
            unused_ticks: 0,
            signed,
            count: 0,
            sum: 0,
            min: i64::MAX,
            max: i64::MIN,
            saturated: 0,
        }
    }

    /// Takes one value.
    pub fn record(&mut self, value: i64) {
        let out_of_range = (value < 0 && !self.signed) || value.unsigned_abs() > HIGHEST;
        self.saturated += u64::from(out_of_range);
        let value = if self.signed { value } else { value.max(0) };
        self.count += 1;
        self.sum += i128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if self.is_full() {
            self.spill();
        }
        self.exact.push(value);
    }

    /// Whether the next value sends the list over to HDR.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.exact.len() >= self.limit
    }

    /// The values of the list: those that came last, and all unless
    /// [`Interval::is_spilled`].
    #[must_use]
    pub fn exact(&self) -> &[i64] {
        &self.exact
    }

    fn spill(&mut self) {
        self.spilled = true;
        for value in self.exact.drain(..) {
            let half = if value < 0 {
                &mut self.negative
            } else {
                &mut self.positive
            };
            into(half, value.unsigned_abs());
        }
    }

    /// Calls `each(value, count)` for all that was recorded: the values themselves, or
    /// the middles of HDR slots.
    pub fn for_each(&self, mut each: impl FnMut(i64, u64)) {
        for value in &self.exact {
            each(*value, 1);
        }
        if !self.spilled {
            return;
        }
        for (half, sign) in [(&self.negative, -1), (&self.positive, 1)] {
            let Some(half) = half else { continue };
            for step in half.iter_recorded() {
                let middle = half.median_equivalent(step.value_iterated_to());
                let value = i64::try_from(middle).unwrap_or(i64::MAX) * sign;
                // The ends are known exactly.
                each(
                    value.clamp(self.min, self.max),
                    u64::from(step.count_at_value()),
                );
            }
        }
    }

    /// Forgets the values, keeps the memory that is likely to be needed again.
    pub fn clear(&mut self) {
        self.exact.clear();
        if self.spilled {
            self.unused_ticks = 0;
            for half in [&mut self.positive, &mut self.negative]
                .into_iter()
                .flatten()
            {
                half.clear();
            }
        } else if self.positive.is_some() || self.negative.is_some() {
            self.unused_ticks += 1;
            if self.unused_ticks >= KEEP_TICKS {
                self.positive = None;
                self.negative = None;
                self.unused_ticks = 0;
            }
        }
        self.spilled = false;
        self.count = 0;
        self.sum = 0;
        self.min = i64::MAX;
        self.max = i64::MIN;
        self.saturated = 0;
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Exact sum.
    #[must_use]
    pub fn sum(&self) -> i128 {
        self.sum
    }

    /// Exact smallest value.
    #[must_use]
    pub fn min(&self) -> Option<i64> {
        (self.count > 0).then_some(self.min)
    }

    /// Exact largest value.
    #[must_use]
    pub fn max(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max)
    }

    /// Values out of range.
    #[must_use]
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// Whether the list overflowed in this interval.
    #[must_use]
    pub fn is_spilled(&self) -> bool {
        self.spilled
    }

    /// Whether HDR halves are allocated.
    #[must_use]
    pub fn holds_spill(&self) -> bool {
        self.positive.is_some() || self.negative.is_some()
    }
}
