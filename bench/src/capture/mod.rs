//! `netsonde capture -r` and its peers on the same capture files, in turn.
//!
//! Every program runs on one file from the page cache, to its end, several times; a figure is
//! a median. Frames per second are those of the trace over the wall clock, the start of the
//! process included, as a user has it. Memory is the most that the kernel saw resident.
//! Nothing is reported from a busy machine.

pub mod plan;
pub mod programs;
pub mod report;

pub use plan::{Options, run};
