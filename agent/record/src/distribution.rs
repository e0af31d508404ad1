//! A distribution for a run that ends: HDR with 3 digits from 1 ns to 60 s.
//!
//! Owns two preallocated halves (positive with zero, negative) and exact count, sum, sum
//! of squares, min and max beside them. [`Distribution::record`] never allocates. A value
//! outside the range is clamped in the histogram, exact in sum, min and max, and counted
//! in [`Distribution::saturated`]. Quantiles hold to 0.05 % (half an HDR step).

use hdrhistogram::Histogram;

/// The largest magnitude that the histograms tell apart: 60 s.
pub const HIGHEST: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

/// Quantiles that a summary holds, in its order.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// See the module.
#[derive(Clone, Debug)]
pub struct Distribution {
    // Counts of 32 bits: one slot would overflow only after 4 billion equal values.
    positive: Histogram<u32>,
    negative: Option<Histogram<u32>>,
    negatives: u64,
    count: u64,
    sum: i128,
    squares: u128,
    min: i64,
    max: i64,
    saturated: u64,
}

/// The numbers of a distribution; `None` is "not measured", never 0.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// The smallest, exact.
    pub min: Option<i64>,
    /// The mean, exact to the rounding of one division.
    pub mean: Option<f64>,
    /// The standard deviation of the values themselves (divided by n).
    pub stddev: Option<f64>,
    /// Median.
    pub p50: Option<i64>,
    /// 90th percentile.
    pub p90: Option<i64>,
    /// 99th percentile.
    pub p99: Option<i64>,
    /// 99.9th percentile.
    pub p99_9: Option<i64>,
    /// 99.99th percentile.
    pub p99_99: Option<i64>,
    /// The largest, exact.
    pub max: Option<i64>,
}

fn half() -> Histogram<u32> {
    Histogram::new_with_bounds(1, HIGHEST, DIGITS).expect("constant bounds that HDR accepts")
}

/// Magnitude of a value as the histogram takes it.
fn magnitude(value: i64) -> u64 {
    value.unsigned_abs().min(HIGHEST)
}

impl Distribution {
    /// For values that cannot be negative; one that is counts as 0 and as saturated.
    #[must_use]
    pub fn new() -> Self {
        Self {
            positive: half(),
            negative: None,
            negatives: 0,
            count: 0,
            sum: 0,
            squares: 0,
            min: i64::MAX,
            max: i64::MIN,
            saturated: 0,
        }
    }

    /// For values of either sign.
    #[must_use]
    pub fn signed() -> Self {
        Self {
            negative: Some(half()),
            ..Self::new()
        }
    }

    /// The one that fits a quantity.
    #[must_use]
    pub fn of(quantity: base::Quantity) -> Self {
        if quantity.is_signed() {
            Self::signed()
        } else {
            Self::new()
        }
    }

    /// Takes one value. Never allocates, never fails.
    #[inline]
    pub fn record(&mut self, value: i64) {
        let magnitude = value.cast_unsigned();
        // A negative one is above it as well.
        if magnitude > HIGHEST {
            self.record_odd(value);
            return;
        }
        self.positive.saturating_record(magnitude);
        self.count += 1;
        self.sum += i128::from(value);
        let size = u128::from(magnitude);
        self.squares = self.squares.saturating_add(size * size);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// A negative value, or one out of range.
    fn record_odd(&mut self, value: i64) {
        let (value, below) = match &self.negative {
            None if value < 0 => (0, true),
            _ => (value, false),
        };
        if below || value.unsigned_abs() > HIGHEST {
            self.saturated += 1;
        }
        match &mut self.negative {
            Some(negative) if value < 0 => {
                negative.saturating_record(magnitude(value));
                self.negatives += 1;
            }
            _ => self.positive.saturating_record(magnitude(value)),
        }
        self.count += 1;
        self.sum += i128::from(value);
        let size = u128::from(value.unsigned_abs());
        self.squares = self.squares.saturating_add(size * size);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds all values of another one.
    pub fn merge(&mut self, other: &Self) {
        if let Some(theirs) = &other.negative {
            if let Some(ours) = &mut self.negative {
                add(ours, theirs);
                self.negatives += other.negatives;
            } else if other.negatives > 0 {
                let mut ours = half();
                add(&mut ours, theirs);
                self.negative = Some(ours);
                self.negatives = other.negatives;
            }
        }
        add(&mut self.positive, &other.positive);
        self.count += other.count;
        self.sum += other.sum;
        self.squares = self.squares.saturating_add(other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.saturated += other.saturated;
    }

    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.positive.clear();
        if let Some(negative) = &mut self.negative {
            negative.clear();
        }
        self.negatives = 0;
        self.count = 0;
        self.sum = 0;
        self.squares = 0;
        self.min = i64::MAX;
        self.max = i64::MIN;
        self.saturated = 0;
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The exact sum.
    #[must_use]
    pub fn sum(&self) -> i128 {
        self.sum
    }

    /// The exact smallest value.
    #[must_use]
    pub fn min(&self) -> Option<i64> {
        (self.count > 0).then_some(self.min)
    }

    /// The exact largest value.
    #[must_use]
    pub fn max(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max)
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The standard deviation (divided by n).
    #[must_use]
    pub fn stddev(&self) -> Option<f64> {
        let n = u128::from(self.count);
        if n == 0 {
            return None;
        }
        // n*S2 - S^2 in integers where it fits: no cancellation.
        let sum = self.sum.unsigned_abs();
        let exact = n
            .checked_mul(self.squares)
            .zip(sum.checked_mul(sum))
            .and_then(|(a, b)| a.checked_sub(b));
        let count = self.count as f64;
        let variance = exact.map_or_else(
            || self.squares as f64 / count - (self.sum as f64 / count).powi(2),
            |exact| exact as f64 / count / count,
        );
        Some(variance.max(0.0).sqrt())
    }

    /// Values that were clamped.
    #[must_use]
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// Nearest-rank quantile; `None` with less than one value behind it
    /// (`count * (1 - q) < 1`).
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<i64> {
        let rank = quantile_rank(self.count, q)?;
        let mut seen = 0;
        let mut found = self.max;
        self.walk(|value, count| {
            seen += count;
            found = value;
            seen < rank
        });
        Some(found.clamp(self.min, self.max))
    }

    /// All at once.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut found = [None; QUANTILES.len()];
        let ranks = QUANTILES.map(|q| quantile_rank(self.count, q));
        let mut seen = 0;
        self.walk(|value, count| {
            seen += count;
            for (slot, rank) in found.iter_mut().zip(ranks) {
                if slot.is_none() && rank.is_some_and(|rank| seen >= rank) {
                    *slot = Some(value.clamp(self.min, self.max));
                }
            }
            seen < self.count
        });
        let [p50, p90, p99, p99_9, p99_99] = found;
        Summary {
            count: self.count,
            min: self.min(),
            mean: self.mean(),
            stddev: self.stddev(),
            p50,
            p90,
            p99,
            p99_9,
            p99_99,
            max: self.max(),
        }
    }

    /// Calls `each(value, count)` for every occupied slot, ascending; the value is the
    /// middle of the slot.
    pub fn for_each(&self, mut each: impl FnMut(i64, u64)) {
        self.walk(|value, count| {
            each(value, count);
            true
        });
    }

    /// Counts values up to and including each bound (ascending) that no earlier bound
    /// took; `out` is one longer than `bounds`, its last cell takes the rest.
    ///
    /// # Panics
    /// If `out` is shorter than that: a mistake of the caller, not of input.
    pub fn bars(&self, bounds: &[i64], out: &mut [u64]) {
        out.fill(0);
        self.for_each(|value, count| {
            out[bounds.partition_point(|bound| *bound < value)] += count;
        });
    }

    /// For a small histogram on a terminal: `out.len()` bars of equal ratio between min
    /// and max (equal width if min is not positive). Gives the two ends.
    pub fn small_histogram(&self, out: &mut [u64]) -> Option<(i64, i64)> {
        out.fill(0);
        let (low, high) = (self.min()?, self.max()?);
        let last = out.len().checked_sub(1)?;
        let scale = |value: i64| {
            if low > 0 {
                (value as f64).ln()
            } else {
                value as f64
            }
        };
        let (from, width) = (scale(low), scale(high) - scale(low));
        self.for_each(|value, count| {
            let place = if width > 0.0 {
                (scale(value.clamp(low, high)) - from) / width * out.len() as f64
            } else {
                0.0
            };
            out[(place as usize).min(last)] += count;
        });
        Some((low, high))
    }

    /// Ascending over occupied slots until `each` says false.
    fn walk(&self, mut each: impl FnMut(i64, u64) -> bool) {
        if let Some(negative) = self.negative.as_ref().filter(|_| self.negatives > 0) {
            let mut slots: Vec<(i64, u64)> = Vec::new();
            for step in negative.iter_recorded() {
                slots.push((
                    -middle(negative, step.value_iterated_to()),
                    u64::from(step.count_at_value()),
                ));
            }
            for (value, count) in slots.into_iter().rev() {
                if !each(value, count) {
                    return;
                }
            }
        }
        for step in self.positive.iter_recorded() {
            let value = middle(&self.positive, step.value_iterated_to());
            if !each(value, u64::from(step.count_at_value())) {
                return;
            }
        }
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

fn middle(histogram: &Histogram<u32>, value: u64) -> i64 {
    i64::try_from(histogram.median_equivalent(value)).unwrap_or(i64::MAX)
}

/// Both have the same constant bounds, so this cannot fail.
fn add(to: &mut Histogram<u32>, from: &Histogram<u32>) {
    to.add(from).expect("equal bounds");
}

/// The nearest rank of a quantile, 1-based; `None` with too few values behind it.
#[must_use]
pub fn quantile_rank(count: u64, q: f64) -> Option<u64> {
    let n = count as f64;
    // The margins are for 0.9999 and its like, which binary fractions only approach.
    if count == 0 || !(0.0..=1.0).contains(&q) || n * (1.0 - q) < 1.0 - 1e-6 {
        return None;
    }
    Some(((q * n - 1e-12 * n).ceil() as u64).clamp(1, count))
}

#[cfg(test)]
mod tests;
