//! A series as encoders see it: immutable, sparse, shared by `Arc`.

use std::sync::Arc;

use super::Unit;
use super::native::SCHEMA;
use crate::distribution::quantile_rank;

/// A non-empty native bucket: values in (2^((index-1)/32), 2^(index/32)] exported units.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Native bucket index at schema 5.
    pub index: i32,
    /// Values in it (not cumulated over buckets).
    pub count: u64,
}

impl Bucket {
    /// Lower and upper bound in exported units.
    #[must_use]
    pub fn bounds(self) -> (f64, f64) {
        let per_octave = f64::from(1 << SCHEMA);
        let bound = |index: i32| (f64::from(index) / per_octave).exp2();
        (bound(self.index - 1), bound(self.index))
    }
}

/// Non-empty buckets, ascending by index, in 10 bytes each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Buckets {
    indices: Box<[i16]>,
    counts: Box<[u64]>,
}

impl Buckets {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Ascending by index.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.indices
            .iter()
            .zip(&self.counts)
            .map(|(index, count)| Bucket {
                index: i32::from(*index),
                count: *count,
            })
    }

    /// Takes ascending, non-empty buckets; `expected` is how many.
    pub(super) fn collect(expected: usize, buckets: impl Iterator<Item = (i16, u64)>) -> Self {
        let mut indices = Vec::with_capacity(expected);
        let mut counts = Vec::with_capacity(expected);
        for (index, count) in buckets {
            indices.push(index);
            counts.push(count);
        }
        Self {
            indices: indices.into_boxed_slice(),
            counts: counts.into_boxed_slice(),
        }
    }

    fn plus(&self, other: &Self) -> Self {
        let mut both = std::collections::BTreeMap::new();
        for (index, count) in self.indices.iter().zip(&self.counts) {
            both.insert(*index, *count);
        }
        for (index, count) in other.indices.iter().zip(&other.counts) {
            *both.entry(*index).or_default() += *count;
        }
        Self::collect(both.len(), both.into_iter())
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.indices) + size_of_val(&*self.counts)
    }
}

/// Bytes of one bucket in [`Buckets`].
pub(crate) const BUCKET_BYTES: usize = size_of::<i16>() + size_of::<u64>();

/// See the module. Counts are since the series began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeriesSnapshot {
    /// What the values are.
    pub unit: Unit,
    /// How many values.
    pub count: u64,
    /// Exact sum in recorded units (ns, packets).
    pub sum: i128,
    /// Exact smallest value, in recorded units.
    pub min: Option<i64>,
    /// Exact largest value, in recorded units.
    pub max: Option<i64>,
    /// Values in the zero bucket.
    pub zero: u64,
    /// Non-empty buckets, ascending by index.
    pub positive: Buckets,
    /// Non-empty buckets of the magnitudes of negative values, ascending by index.
    pub negative: Buckets,
    /// Classic bounds in recorded units, ascending.
    pub bounds: Arc<[u64]>,
    /// Values by classic bucket, not cumulated; one longer than `bounds`.
    pub classic: Box<[u64]>,
    /// Values that were out of range.
    pub saturated: u64,
}

impl SeriesSnapshot {
    /// Exact sum in exported units.
    #[must_use]
    pub fn exported_sum(&self) -> f64 {
        self.sum as f64 / self.unit.per_exported()
    }

    /// The mean in recorded units.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// A quantile in recorded units, exponential inside its bucket (to 2.2 %), `None`
    /// with less than one value behind it.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (min, max) = (self.min? as f64, self.max? as f64);
        let rank = quantile_rank(self.count, q)?;
        let mut seen = 0;
        // Where in the bucket the rank lies, 0..1 from its lower bound.
        let inside = |bucket: Bucket, place: f64| {
            let (low, high) = bucket.bounds();
            low * (high / low).powf(place) * self.unit.per_exported()
        };
        for bucket in self.negative.iter().rev() {
            if seen + bucket.count >= rank {
                let place = 1.0 - (rank - seen) as f64 / bucket.count as f64;
                return Some((-inside(bucket, place)).clamp(min, max));
            }
            seen += bucket.count;
        }
        seen += self.zero;
        if seen >= rank {
            return Some(0.0_f64.clamp(min, max));
        }
        for bucket in self.positive.iter() {
            if seen + bucket.count >= rank {
                let place = (rank - seen) as f64 / bucket.count as f64;
                return Some(inside(bucket, place).clamp(min, max));
            }
            seen += bucket.count;
        }
        Some(max)
    }

    /// All values of several series of one unit and one list of bounds together; `None`
    /// of none. A series with other bounds adds its values above its last own bound.
    #[must_use]
    pub fn sum<'a>(mut all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut total = all.next()?.clone();
        for one in all {
            total.count += one.count;
            total.sum += one.sum;
            total.min = [total.min, one.min].into_iter().flatten().min();
            total.max = [total.max, one.max].into_iter().flatten().max();
            total.zero += one.zero;
            total.positive = total.positive.plus(&one.positive);
            total.negative = total.negative.plus(&one.negative);
            total.saturated += one.saturated;
            if total.bounds == one.bounds {
                for (cell, count) in total.classic.iter_mut().zip(&one.classic) {
                    *cell += count;
                }
            } else if let Some(last) = total.classic.last_mut() {
                *last += one.count;
            }
        }
        Some(total)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.positive.heap_bytes() + self.negative.heap_bytes() + size_of_val(&*self.classic)
    }
}
