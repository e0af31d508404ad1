//! Hosts as network namespaces, a relay that injects faults and logs them, and what tests
//! need around that.
//!
//! [`Lab`] makes hosts; [`topology`] joins them the usual ways; a [`relay::Relay`] between
//! two hosts impairs on purpose. Everything a lab made goes when it is dropped, after a
//! panic, and after the death of the process by any signal (see [`cleanup`]). Needs root,
//! `iproute2` and `ethtool`.
#![forbid(unsafe_code)]

pub mod cleanup;
pub mod demo;
pub mod host;
pub mod nft;
pub mod proxy;
pub mod relay;
pub mod running;
pub mod tcp;
pub mod topology;
pub mod traffic;

pub use host::{Host, Lab};
pub use relay::{Impairment, Relay, RelayConfig, RelayLog};
pub use running::{Finished, Running};
pub use sys::privilege::Capability;
pub use topology::{Chained, Direct, LinkOptions, Relayed, Routed};
