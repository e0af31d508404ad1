//! What a series recorded since it began: native buckets of schema 5 in a dense array,
//! and classic buckets counted beside them.
//!
//! Owned by the publisher. A map of occupied slots makes folding and reading cost as much
//! as there are occupied slots, not as there are slots. Counts never fall.

use std::sync::Arc;

use super::native::SLOTS;
use super::snapshot::{Buckets, SeriesSnapshot};
use super::{Interval, Unit};

const WORDS: usize = SLOTS.div_ceil(64);

/// One half: positive or negative magnitudes.
#[derive(Clone, Debug)]
struct Half {
    counts: Box<[u64]>,
    occupied: [u64; WORDS],
    buckets: usize,
}

impl Half {
    fn new() -> Self {
        Self {
            counts: vec![0; SLOTS].into_boxed_slice(),
            occupied: [0; WORDS],
            buckets: 0,
        }
    }

    fn increase(&mut self, slot: usize, by: u64) {
        if self.counts[slot] == 0 {
            self.occupied[slot / 64] |= 1 << (slot % 64);
            self.buckets += 1;
        }
        self.counts[slot] += by;
    }

    fn sparse(&self, first_index: i16) -> Buckets {
        let slots = self
            .occupied
            .iter()
            .enumerate()
            .flat_map(|(word, occupied)| {
                std::iter::successors(Some(*occupied), |left| Some(left & left.wrapping_sub(1)))
                    .take_while(|left| *left != 0)
                    .map(move |left| word * 64 + left.trailing_zeros() as usize)
            });
        Buckets::collect(
            self.buckets,
            slots.map(|slot| (first_index + slot as i16, self.counts[slot])),
        )
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Cumulative {
    unit: Unit,
    positive: Half,
    negative: Option<Box<Half>>,
    zero: u64,
    classic: Box<[u64]>,
    bounds: Arc<[u64]>,
    count: u64,
    sum: i128,
    min: i64,
    max: i64,
    saturated: u64,
}

impl Cumulative {
    /// Empty, with classic bounds in recorded units, ascending.
    #[must_use]
    pub fn new(unit: Unit, bounds: Arc<[u64]>) -> Self {
        Self {
            unit,
            positive: Half::new(),
            negative: None,
            zero: 0,
            classic: vec![0; bounds.len() + 1].into_boxed_slice(),
            bounds,
            count: 0,
            sum: 0,
            min: i64::MAX,
            max: i64::MIN,
            saturated: 0,
        }
    }

    /// Counts values in their buckets; the totals follow with the interval they are of.
    pub fn add(&mut self, values: &[i64]) {
        for value in values {
            self.put(*value, 1);
        }
    }

    /// Counts a value that came so often (at least once). The negative half is made at the
    /// first negative value.
    #[inline(always)]
    fn put(&mut self, value: i64, times: u64) {
        match self.unit.slot(value.unsigned_abs()) {
            None => self.zero += times,
            Some(slot) if value < 0 => self
                .negative
                .get_or_insert_with(|| Box::new(Half::new()))
                .increase(slot, times),
            Some(slot) => self.positive.increase(slot, times),
        }
        // Negative values are below the first bound.
        let magnitude = u64::try_from(value).unwrap_or(0);
        let place = self.bounds.partition_point(|bound| *bound < magnitude);
        self.classic[place] += times;
    }

    /// Ends an interval: adds its totals and what is still in its list. What was in
    /// earlier lists was given to [`Cumulative::add`] when they were full.
    pub fn fold(&mut self, interval: &Interval) {
        self.add(interval.exact());
        self.total(interval);
    }

    /// Adds an interval of which nothing was added before: what left its list is known as
    /// closely as HDR holds it.
    pub fn absorb(&mut self, interval: &Interval) {
        interval.for_each(|value, times| self.put(value, times));
        self.total(interval);
    }

    fn total(&mut self, interval: &Interval) {
        self.count += interval.count();
        self.sum += interval.sum();
        self.min = self.min.min(interval.min().unwrap_or(i64::MAX));
        self.max = self.max.max(interval.max().unwrap_or(i64::MIN));
        self.saturated += interval.saturated();
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The non-empty buckets, to be shared.
    #[must_use]
    pub fn snapshot(&self) -> SeriesSnapshot {
        let first = self.unit.first_index() as i16;
        SeriesSnapshot {
            unit: self.unit,
            count: self.count,
            sum: self.sum,
            min: (self.count > 0).then_some(self.min),
            max: (self.count > 0).then_some(self.max),
            zero: self.zero,
            positive: self.positive.sparse(first),
            negative: self
                .negative
                .as_ref()
                .map(|half| half.sparse(first))
                .unwrap_or_default(),
            bounds: Arc::clone(&self.bounds),
            classic: self.classic.clone(),
            saturated: self.saturated,
        }
    }
}

#[cfg(test)]
mod tests;
