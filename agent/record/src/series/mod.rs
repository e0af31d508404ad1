//! The agent's series: an interval that is folded into a cumulative store every tick.
//!
//! A [`Series`] is the publisher's alone. An [`Interval`] may be a capture worker's, which
//! hands it over ([`Series::absorb`]); then the rare growth (the first value, a list that
//! overflows) happens on the thread that measures. Recorded units are ns and packets,
//! exported ones seconds and packets.

pub mod classic;
mod cumulative;
mod interval;
mod loss;
mod native;
mod snapshot;
mod target;

use std::sync::Arc;

pub use classic::ClassicBounds;
pub use cumulative::Cumulative;
pub use interval::{Interval, MOST_EXACT, exact_length};
pub use loss::SETTLE_TICKS;
pub use native::{SCHEMA, SLOTS, Unit};
pub(crate) use snapshot::BUCKET_BYTES;
pub use snapshot::{Bucket, Buckets, SeriesSnapshot};
pub use target::TargetSeries;

/// One series: interval, cumulative store and the snapshot that was shared last.
#[derive(Debug)]
pub struct Series {
    interval: Interval,
    cumulative: Cumulative,
    /// Whether anything came from elsewhere since the last tick.
    absorbed: bool,
    shared: Arc<SeriesSnapshot>,
}

impl Series {
    /// A series for a quantity that expects so many samples per tick.
    #[must_use]
    pub fn new(quantity: base::Quantity, samples_per_tick: f64, bounds: &ClassicBounds) -> Self {
        let unit = Unit::of(quantity);
        let cumulative = Cumulative::new(unit, Arc::clone(bounds.of(unit)));
        Self {
            interval: Interval::new(samples_per_tick, quantity.is_signed()),
            absorbed: false,
            shared: Arc::new(cumulative.snapshot()),
            cumulative,
        }
    }

    /// Takes one value.
    pub fn record(&mut self, value: i64) {
        if self.interval.is_full() {
            self.cumulative.add(self.interval.exact());
        }
        self.interval.record(value);
    }

    /// Takes an interval that was recorded elsewhere; the next tick shows it.
    pub fn absorb(&mut self, interval: &Interval) {
        if interval.count() > 0 {
            self.cumulative.absorb(interval);
            self.absorbed = true;
        }
    }

    /// What came since the last tick (for sinks that want intervals).
    #[must_use]
    pub fn interval(&self) -> &Interval {
        &self.interval
    }

    /// Folds the interval and begins the next; says whether anything had come.
    pub fn tick(&mut self) -> bool {
        let changed = std::mem::take(&mut self.absorbed) || self.interval.count() > 0;
        if changed {
            self.cumulative.fold(&self.interval);
            self.shared = Arc::new(self.cumulative.snapshot());
        }
        self.interval.clear();
        changed
    }

    /// The state at the last tick; the same `Arc` while nothing changed.
    #[must_use]
    pub fn snapshot(&self) -> Arc<SeriesSnapshot> {
        Arc::clone(&self.shared)
    }
}
