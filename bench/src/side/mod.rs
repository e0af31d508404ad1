//! `netsonde` and its peers in one run, in turn, between two hosts of the lab on one veth
//! pair: the same count, interval and packet size for each.
//!
//! Every figure is made from single samples by the same code, never taken from a tool's own
//! summary. What else used the processor is recorded for each run; a run that was disturbed
//! is repeated, and nothing is reported from a busy machine. Times are nanoseconds.

pub mod machine;
pub mod peers;
pub mod plan;
pub mod report;
pub mod samples;

pub use plan::{Options, run};
