//! How many bytes a target of the agent costs: what `agent --check` prints.
//!
//! An upper bound (every series full, negative halves in use) and what is typical. A test
//! holds both to what a run allocates.

use base::Quantity;

use crate::series::{
    BUCKET_BYTES, ClassicBounds, SLOTS, SeriesSnapshot, TargetSeries, Unit, exact_length,
};
use crate::snapshot::TargetSnapshot;

/// HDR of 2 digits and 32 bits from 1 ns to 60 s.
const SPILLED_HALF: usize = 15 * 1024 + 512;
/// Native buckets that a series fills in practice: two decades.
const TYPICAL_BUCKETS: usize = 200;
/// A name, an address and labels.
const TEXTS: usize = 512;

/// Bytes of one target.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Footprint {
    /// Never more than this.
    pub upper: usize,
    /// What to expect.
    pub typical: usize,
}

/// Bytes of record's own structures for one target that is probed every `interval_ns`
/// and ticked every `tick_ns`, with two snapshots alive (one served, one being built).
#[must_use]
pub fn per_target(interval_ns: u64, tick_ns: u64, bounds: &ClassicBounds) -> Footprint {
    let per_tick = tick_ns as f64 / interval_ns.max(1) as f64;
    let list = exact_length(per_tick) * size_of::<i64>();
    let spills = per_tick > exact_length(per_tick) as f64;
    let mut upper = size_of::<TargetSeries>() + 2 * size_of::<TargetSnapshot>() + TEXTS;
    let mut typical = upper;
    for quantity in Quantity::ALL {
        let halves = 1 + usize::from(quantity.is_signed());
        let classic = (bounds.of(Unit::of(*quantity)).len() + 1) * size_of::<u64>();
        let fixed = size_of::<crate::Series>() + list + classic;
        let shared = size_of::<SeriesSnapshot>() + 16 + classic;
        let array = SLOTS * size_of::<u64>() + 160;
        let spill = if spills { SPILLED_HALF * halves } else { 0 };
        upper += fixed + 2 * shared + halves * (array + 2 * SLOTS * BUCKET_BYTES) + spill;
        typical += fixed + 2 * shared + halves * array + 2 * TYPICAL_BUCKETS * BUCKET_BYTES + spill;
    }
    Footprint { upper, typical }
}
