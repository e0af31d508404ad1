//! What measurements add up to: distributions, counters, events, the hand-off between
//! threads, and the snapshot that encoders read.
//!
//! Recording never allocates, never waits and never fails: a value out of range is
//! clamped and counted. Values are nanoseconds ([`base::Quantity::LossRun`]: packets).
//! `ping` and `perf` use [`Distribution`] and [`TargetStats`]; the agent's publisher uses
//! [`series`], [`events`] and [`snapshot`]; [`results`] and [`handoff`] join threads.
#![forbid(unsafe_code)]

pub mod distribution;
pub mod events;
pub mod handoff;
pub mod memory;
pub mod passive;
pub mod results;
pub mod series;
pub mod snapshot;
pub mod stats;

pub use distribution::{Distribution, Summary};
pub use events::{EventLog, LoggedEvent};
pub use series::{Series, SeriesSnapshot, TargetSeries};
pub use snapshot::Snapshot;
pub use stats::TargetStats;
