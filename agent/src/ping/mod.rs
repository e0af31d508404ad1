//! `netsonde ping`.

pub mod host;
pub mod plan;
