//! The agent's series: an interval that is folded into a cumulative store every tick.
//!
//! Owned by the publisher's thread alone; nothing here runs on a thread that measures, so
//! the rare growth (first negative value, an interval that overflows its list) costs no
//! measurement. Recorded units are ns and packets, exported ones seconds and packets.

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

    /// Takes an interval that was recorded elsewhere, and ends it here.
    pub fn absorb(&mut self, interval: &Interval) {
        if interval.count() > 0 {
            self.cumulative.fold(interval);
            self.shared = Arc::new(self.cumulative.snapshot());
        }
    }

    /// What came since the last tick (for sinks that want intervals).
    #[must_use]
    pub fn interval(&self) -> &Interval {
        &self.interval
    }

    /// Folds the interval and begins the next; says whether anything had come.
    pub fn tick(&mut self) -> bool {
        let changed = self.interval.count() > 0;
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
