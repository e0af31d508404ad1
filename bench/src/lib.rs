//! What the project costs and how it compares.
//!
//! [`loops`] holds the hot loops once, for three measurements: time (criterion), allocations
//! (a test) and instructions ([`instructions`], callgrind). [`side`] runs `netsonde` and its
//! peers in turn between two lab hosts. A number is reported with the machine it is from,
//! and never from a busy one.
#![forbid(unsafe_code)]

pub mod capture;
pub mod instructions;
pub mod live;
pub mod loops;
pub mod side;
pub mod traces;
