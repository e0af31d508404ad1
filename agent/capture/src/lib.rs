//! Where captured frames come from, and where they may be written to.
//!
//! A [`Source`] lends batches of frames to a closure: the octets stay where the kernel or
//! the file has them. Both directions of one innermost flow, its fragments and the ICMP
//! errors that quote it come out of the same source of a set. What a source could not lend is
//! in [`Drops`], by reason: seen on the interface = lent + filtered + dropped.
//!
//! What never happens here: an allocation, a lock or a clock read per frame. Times are
//! nanoseconds of `CLOCK_REALTIME`. A source belongs to one thread.
#![forbid(unsafe_code)]

pub mod afpacket;
pub mod afxdp;
pub mod file;
pub mod filter;
#[cfg(feature = "pcap")]
pub mod libpcap;
mod source;
pub mod write;

pub use afpacket::{AfPacketGroup, AfPacketOptions, AfPacketSource};
pub use file::FileSource;
pub use filter::{Filter, FilterError, Filtered};
#[cfg(feature = "pcap")]
pub use libpcap::LibpcapSource;
pub use source::{BATCH, DropReason, Drops, Polled, Source, SourceError};
pub use write::{WriteOptions, Writer, Written};
