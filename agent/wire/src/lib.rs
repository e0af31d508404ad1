//! Packet formats: STAMP, its TLVs, ICMP echo, Ethernet to UDP, checksums.
//!
//! One protocol, one file: offsets, a checked view for reading, a struct of fields for
//! writing. All integers on the wire are big-endian; this crate hands out host integers.
//! Times are nanoseconds of `CLOCK_REALTIME` ([`base::WallNanos`]).
//!
//! What never happens here: an allocation, an unsafe line, a clock read, a panic on any
//! bytes whatever. A parser says "ours", "not ours" ([`Reason::NotOurs`] or `Ok(None)`) or
//! malformed and why; a [`Reason`] is the index of a counter. A writer that gets too small a
//! buffer says so and leaves the buffer as it was.
#![forbid(unsafe_code)]
// Without std and alloc there is nothing to allocate with: the compiler holds the promise.
#![cfg_attr(not(test), no_std)]

mod bytes;
pub mod checksum;
pub mod decode;
pub mod dns;
pub mod frame;
pub mod icmp;
pub mod quic;
pub mod reason;
pub mod report;
pub mod stamp;
pub mod tlv;

pub use reason::Reason;
