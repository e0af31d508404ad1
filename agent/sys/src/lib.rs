//! Every unsafe line of the probe but the AF_XDP rings: system calls behind safe functions.
//!
//! Owns: the conversation with the Linux kernel. Knows no protocol, keeps no statistics,
//! logs nothing and starts no thread. Calls that set something up return an [`std::io::Error`]
//! that names operation and object (see [`call`]); calls on the packet path return the bare
//! error number and never allocate. Times are nanoseconds; lengths are bytes.

pub mod cache;
pub mod call;
pub mod clock;
mod control;
pub mod device;
pub mod fdpass;
pub mod map;
pub mod netns;
pub mod packet;
pub mod poll;
pub mod privilege;
pub mod process;
pub mod ring;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod terminal;
