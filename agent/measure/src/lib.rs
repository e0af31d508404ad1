//! Measurement without I/O: when to probe, what an answer means, where a loss happened,
//! what a reflector answers, what passing traffic shows.
//!
//! Nothing here reads a clock or knows a socket: `now` is an argument, packets are slices,
//! results are plain values handed to a closure.
#![forbid(unsafe_code)]

pub mod delay;
mod flow;
pub mod loss;
pub mod passive;
pub mod random;
pub mod rate;
pub mod reflector;
pub mod runs;
pub mod schedule;
pub mod session;
pub mod variation;
