//! Live capture: `netsonde capture` and its peers on one end of a veth pair, frames made in
//! the kernel on the other (`ebpf::generator`).
//!
//! The generator has processor 0, which also runs the receive path of the pair; the receiver
//! has processor 1. Every frame is accounted for: those made are those that the receiving
//! device counted, and those are captured or dropped. Rates are paced; the last one is as fast
//! as it goes.

pub mod plan;
pub mod receivers;

pub use plan::{Options, run};
