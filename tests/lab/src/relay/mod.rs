//! The relay: a bridge in user space that impairs on purpose and writes down what it did.
//!
//! Forward is from the interface named `left` to the one named `right`. Every decision is
//! a function of seed, direction and the packet's index within its direction, never of
//! time, so that a run can be repeated. [`config`] says what to do, [`fate`] decides,
//! [`engine`] does it, [`log`] keeps what was done, [`process`] runs it from a test.

pub mod config;
pub mod engine;
pub mod fate;
pub mod frame;
mod lane;
pub mod log;
pub mod process;
pub mod reordering;
pub mod truth;

pub use config::{
    Corrupt, Delay, Duplicate, Impairment, Loss, Matching, MtuLimit, Pick, RelayConfig, Reorder,
};
pub use log::{DirectionTotals, Record, RelayLog, Segment, Verdict};
pub use process::Relay;
pub use truth::Truth;
