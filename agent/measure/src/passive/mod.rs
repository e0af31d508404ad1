//! Passive measurement: what packets that are there anyway say of the network.

#[allow(dead_code, reason = "until the analyser uses it")]
pub(crate) mod datagram;
