//! The metric table, the encoders and the HTTP endpoint.
//!
//! Reads immutable snapshots only: nothing here sees a packet, a lock of the measuring
//! threads or a socket that probes. Encoders are pure functions of a snapshot; the
//! endpoint runs them on a thread of its own. Values leave in base units (seconds, bytes).
#![forbid(unsafe_code)]

pub mod encode;
pub mod gather;
pub mod http;
pub mod native;

pub mod status;
pub mod table;

pub use gather::Encoding;
pub use http::{Role, Server, ServerOptions, spawn};

#[cfg(test)]
mod sample;
