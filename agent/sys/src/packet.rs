//! Raw frames of one interface: an `AF_PACKET` socket read and written in batches.
//!
//! Owns: the socket. Never: an allocation per received frame, a blocking call other than
//! [`wait`], our own sent frames among the received ones. Units: nanoseconds of
//! `CLOCK_REALTIME` (the kernel's receive stamp), bytes including the Ethernet header.
//! Threads: a socket may be shared by reference; a [`FrameBatch`] belongs to one.
//!
//! Needs `CAP_NET_RAW`, and `CAP_NET_ADMIN` for buffers above the system's limits.

use std::ffi::CString;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use base::WallNanos;

use crate::socket::ErrorBatch;

/// Frames that one system call sends at most.
pub const SEND_BATCH: usize = 64;

/// `ETH_P_ALL` in network byte order, as `bind` wants it.
const ALL_PROTOCOLS: u16 = (libc::ETH_P_ALL as u16).to_be();

/// Room for `SCM_TIMESTAMPNS`, `SCM_TIMESTAMPING` and spare, in units that align a `cmsghdr`.
const CONTROL_WORDS: usize = 16;

/// What a socket counted since it was asked last.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct PacketStatistics {
    /// Frames that the socket was offered, those dropped included.
    pub seen: u32,
    /// Frames that found its buffer full.
    pub dropped: u32,
}

/// A raw socket on one interface. Non-blocking.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn set_option(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is a c_int that outlives the call and `size` is its size.
    let result = unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(&value).cast(), size) };
    check(result).map(drop)
}

fn get_option<T: Copy>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    empty: T,
) -> io::Result<T> {
    let mut value = empty;
    let mut size = size_of::<T>() as libc::socklen_t;
    let place = ptr::from_mut(&mut value).cast();
    // SAFETY: `place` is writable for `size` bytes; T is plain data (callers: c_int, tpacket_stats).
    let result = unsafe { libc::getsockopt(fd, level, name, place, &raw mut size) };
    check(result).map(|_| value)
}

/// The kernel's number of an interface in the calling thread's namespace.
///
/// # Errors
/// When there is none of that name.
pub fn interface_index(device: &str) -> io::Result<u32> {
    let name = CString::new(device)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL in a device name"))?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

impl PacketSocket {
    /// Opens a socket that receives every frame that arrives on `device` and none that
    /// leaves by it, each with the kernel's receive stamp.
    ///
    /// # Errors
    /// When there is no such device or the privilege is missing.
    pub fn open(device: &str) -> io::Result<Self> {
        let index = interface_index(device)?;
        // Protocol 0: nothing is received before bind() names the interface.
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: plain integers.
        let raw = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: `raw` was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        set_option(raw, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        set_option(raw, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        // Past the qdisc: what is sent is on the device when the call returns, or counted.
        set_option(raw, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ALL_PROTOCOLS;
        address.sll_ifindex = index.cast_signed();
        let size = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll that outlives the call and `size` is its size.
        check(unsafe { libc::bind(raw, ptr::from_ref(&address).cast(), size) })?;
        Ok(Self { fd })
    }

    /// Asks for receive and send buffers of so many bytes, past the system's limit where
    /// the privilege is there; returns what the kernel granted for receiving.
    ///
    /// # Errors
    /// When the kernel refuses altogether.
    pub fn set_buffers(&self, bytes: u32) -> io::Result<u32> {
        let fd = self.fd.as_raw_fd();
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        for (force, plain) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            if set_option(fd, libc::SOL_SOCKET, force, bytes).is_err() {
                set_option(fd, libc::SOL_SOCKET, plain, bytes)?;
            }
        }
        let granted: libc::c_int = get_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 0)?;
        Ok(u32::try_from(granted).unwrap_or(0))
    }

    /// Stamps what is sent, by the error queue: see [`PacketSocket::send_stamps`], which must
    /// then be read after every send, or the receive buffer fills.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enable_send_stamps(&self) -> io::Result<()> {
        let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE
            | libc::SOF_TIMESTAMPING_SOFTWARE
            | libc::SOF_TIMESTAMPING_OPT_TSONLY
            | libc::SOF_TIMESTAMPING_OPT_ID;
        let fd = self.fd.as_raw_fd();
        set_option(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            flags.cast_signed(),
        )
    }

    /// Takes the stamps of what was sent, oldest first; 0 when none waits. A veth device
    /// stamps before the send returns.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send_stamps(&self, batch: &mut ErrorBatch) -> io::Result<usize> {
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        match batch.slots.fill(self.fd.as_fd(), flags) {
            Err(error) if is_transient(&error) => Ok(0),
            other => other,
        }
    }

    /// Receives what is there, up to the batch's size. 0 when nothing is.
    ///
    /// # Errors
    /// When the interface went down or the kernel refuses.
    pub fn receive(&self, batch: &mut FrameBatch) -> io::Result<usize> {
        batch.filled = 0;
        batch.prepare();
        let headers = batch.headers.as_mut_ptr();
        let count = batch.headers.len() as libc::c_uint;
        // SAFETY: prepare() pointed every header at buffers of this batch, which the unique
        // borrow keeps in place and untouched for the length of the call.
        let result = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers,
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        match check(result) {
            Ok(filled) => {
                batch.filled = usize::try_from(filled).unwrap_or(0);
                Ok(batch.filled)
            }
            Err(error) if is_transient(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Sends whole frames in order, at most [`SEND_BATCH`]; returns how many left. Fewer
    /// than asked means that the next one was refused: the next call tells why.
    ///
    /// # Errors
    /// When the first frame was refused (`WouldBlock`: the send buffer is full).
    pub fn send(&self, frames: &[&[u8]]) -> io::Result<usize> {
        const EMPTY: libc::iovec = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let count = frames.len().min(SEND_BATCH);
        let mut vectors = [EMPTY; SEND_BATCH];
        // SAFETY: mmsghdr is plain data for which all zeroes is a value.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { mem::zeroed() };
        for ((frame, vector), header) in frames.iter().zip(&mut vectors).zip(&mut headers) {
            vector.iov_base = frame.as_ptr().cast_mut().cast();
            vector.iov_len = frame.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` headers point at `vectors`, and these at `frames`; all
        // outlive the call, and sendmmsg only reads through them.
        let result = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        check(result).map(|sent| usize::try_from(sent).unwrap_or(0))
    }

    /// What the socket counted since the last call; the kernel starts again at 0.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn statistics(&self) -> io::Result<PacketStatistics> {
        let empty = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let counted: libc::tpacket_stats = get_option(
            self.fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            empty,
        )?;
        Ok(PacketStatistics {
            seen: counted.tp_packets,
            dropped: counted.tp_drops,
        })
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Waits until one of the descriptors is readable, or for so many nanoseconds. Returns
/// whether one is; a signal ends the wait early.
///
/// # Errors
/// When the kernel refuses.
pub fn wait(readable: &[BorrowedFd<'_>], timeout_ns: u64) -> io::Result<bool> {
    let mut polled = [libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    }; 8];
    let count = readable.len().min(polled.len());
    for (entry, fd) in polled.iter_mut().zip(readable) {
        entry.fd = fd.as_raw_fd();
    }
    let timeout = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000).cast_signed(),
        tv_nsec: (timeout_ns % 1_000_000_000).cast_signed(),
    };
    let entries = polled.as_mut_ptr();
    // SAFETY: `entries` is an array of at least `count` pollfds and `timeout` a timespec; both
    // outlive the call; no signal mask is passed.
    let result = unsafe {
        libc::ppoll(
            entries,
            count as libc::nfds_t,
            &raw const timeout,
            ptr::null(),
        )
    };
    match check(result) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if is_transient(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Buffers for a batch of frames, made once.
pub struct FrameBatch {
    bytes: Vec<u8>,
    bytes_each: usize,
    controls: Vec<[u64; CONTROL_WORDS]>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    filled: usize,
}

/// One received frame.
#[derive(Copy, Clone, Debug)]
pub struct ReceivedFrame<'a> {
    /// The frame from its Ethernet header, as much as fits the buffer.
    pub bytes: &'a [u8],
    /// Whether it was longer than the buffer.
    pub truncated: bool,
    /// When the kernel received it.
    pub at: Option<WallNanos>,
}

impl FrameBatch {
    /// Room for `frames` frames of `bytes_each` bytes.
    #[must_use]
    pub fn new(frames: usize, bytes_each: usize) -> Self {
        // SAFETY: mmsghdr is plain data for which all zeroes is a value.
        let header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        let vector = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            bytes: vec![0; frames * bytes_each],
            bytes_each,
            controls: vec![[0; CONTROL_WORDS]; frames],
            vectors: vec![vector; frames],
            headers: vec![header; frames],
            filled: 0,
        }
    }

    /// Points every header at its buffers; each call, since the kernel overwrites lengths
    /// and a moved batch has moved nothing that is on the heap, but costs nothing to repeat.
    fn prepare(&mut self) {
        let buffers = self.bytes.chunks_exact_mut(self.bytes_each);
        let rest = self.vectors.iter_mut().zip(&mut self.controls);
        for ((buffer, (vector, control)), header) in buffers.zip(rest).zip(&mut self.headers) {
            vector.iov_base = buffer.as_mut_ptr().cast();
            vector.iov_len = buffer.len();
            header.msg_hdr.msg_name = ptr::null_mut();
            header.msg_hdr.msg_namelen = 0;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of_val(control);
            header.msg_hdr.msg_flags = 0;
            header.msg_len = 0;
        }
    }

    /// How many frames the last receive brought.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether the last receive brought none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Frame `i` of the last receive; an empty one past the end.
    #[must_use]
    pub fn get(&self, i: usize) -> ReceivedFrame<'_> {
        if i >= self.filled {
            return ReceivedFrame {
                bytes: &[],
                truncated: false,
                at: None,
            };
        }
        let header = &self.headers[i];
        let length = (header.msg_len as usize).min(self.bytes_each);
        let start = i * self.bytes_each;
        ReceivedFrame {
            bytes: &self.bytes[start..start + length],
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            at: stamp_of(&header.msg_hdr),
        }
    }

    /// The bytes of frame `i`, to be changed in place; empty past the end.
    pub fn bytes_mut(&mut self, i: usize) -> &mut [u8] {
        if i >= self.filled {
            return &mut [];
        }
        let length = (self.headers[i].msg_len as usize).min(self.bytes_each);
        let start = i * self.bytes_each;
        &mut self.bytes[start..start + length]
    }
}

/// The kernel's receive stamp among the control messages.
fn stamp_of(header: &libc::msghdr) -> Option<WallNanos> {
    // SAFETY: the kernel wrote msg_control and msg_controllen of this header, and the batch
    // that owns the control buffer is borrowed.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return a whole, aligned header or null.
        let head = unsafe { *message };
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            // SAFETY: `message` is a valid header; the macro only adds an offset.
            let data = unsafe { libc::CMSG_DATA(message) };
            // SAFETY: the kernel stores a timespec in a message of this type; unaligned is allowed for.
            let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
            let seconds = u64::try_from(time.tv_sec).ok()?;
            let nanos = u64::try_from(time.tv_nsec).ok()?;
            return Some(WallNanos(
                seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
            ));
        }
        // SAFETY: `message` is a valid header of `header`'s control buffer.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

#[cfg(test)]
mod tests;
