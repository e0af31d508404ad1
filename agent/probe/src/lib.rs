//! The I/O of the active path: sockets that probe, and sockets that reflect.
//!
//! Two threads: `probe` sends and receives for every target and hands plain results to a
//! bounded ring; `reflect` answers STAMP requests. What the packets mean is `measure`'s.
#![forbid(unsafe_code)]

mod clock;
mod engine;
mod link;
pub mod prober;
pub mod reflector;
mod target;

use std::io;
use std::os::fd::OwnedFd;

/// The `SCHED_FIFO` priority of a real-time prober.
pub const REALTIME_PRIORITY: i32 = 50;

/// Opens a socket, by itself or by asking a privileged process for it. Called on the thread
/// that adds targets, never on the one that measures.
pub type OpenSocket = Box<dyn FnMut(&sys::socket::SocketSpec) -> io::Result<OwnedFd> + Send>;

/// Opens sockets with this process's own privileges.
#[must_use]
pub fn direct() -> OpenSocket {
    Box::new(|spec| sys::socket::ProbeSocket::open(spec).map(sys::socket::ProbeSocket::into_fd))
}
