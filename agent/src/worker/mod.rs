//! The threads that the agent starts, each behind one file here: what the supervisor needs
//! to know of `probe` and its reflector, and the thread that resolves names.

pub mod capture;
pub mod export;
pub mod probe;
pub mod records;
pub mod reflect;
pub mod resolve;
