//! AF_XDP sockets on libc alone: a UMEM, its four rings and the socket that binds them to one
//! receive queue of a device.
//!
//! Owns: the packet memory, the rings, the socket. Loads no program: whoever uses this puts
//! [`Socket::as_fd`](std::os::fd::AsFd::as_fd) into an `XSKMAP` of an XDP program.
//!
//! What never happens here: a reference to memory that the kernel may write; trust in an
//! index or descriptor that came from it (each is checked, bad ones are counted); an
//! allocation after [`Socket::open`]; a chunk of the UMEM that has two owners (checked where
//! `debug_assertions` are on). The kernel side of every ordering is `net/xdp/xsk_queue.h`.
//!
//! Lengths are bytes. A socket belongs to one thread at a time: [`Send`], not `Sync`.
//!
//! ```no_run
//! # use netsonde_af_xdp as af_xdp;
//! # fn main() -> Result<(), af_xdp::Error> {
//! let mut socket = af_xdp::Socket::open("eth1", 0, &af_xdp::Options::default())?;
//! loop {
//!     let batch = socket.receive(64);
//!     for frame in batch.frames() {
//!         println!("{} bytes", frame.len());
//!     }
//! }
//! # }
//! ```

mod call;
mod device;
mod error;
mod memory;
mod receive;
mod ring;
mod rings;
mod send;
mod socket;
mod umem;

pub use device::Device;
pub use error::{Error, Step};
pub use receive::{Batch, Chunks, Frames};
pub use send::SendError;
pub use socket::{BusyPoll, Mode, Obtained, Options, Socket, Statistics};
