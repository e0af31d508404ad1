//! The flow table: what is known of each flow, in memory that is fixed at the start.
//!
//! One worker owns one table. Nothing here allocates, waits or reads a clock after
//! [`Table::new`]; times are those of the capture. [`key`] names flows, [`table`] finds
//! them, [`wheel`] lets them go, [`record`] is what is kept, [`pool`] holds the segments that
//! are not yet acknowledged.

pub(crate) mod datagram;
pub(crate) mod key;
pub(crate) mod nearby;
pub(crate) mod pool;
pub(crate) mod record;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod wheel;
