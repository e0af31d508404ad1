//! The sockets that probes and reflectors use, with kernel stamps and the error queue.
//!
//! Owns: one non-blocking, close-on-exec datagram socket each, and its options. What never
//! happens: blocking, allocation in a send or receive, a soft error of one packet taken for
//! a failure of the socket. A socket may be used by one thread at a time or by several:
//! every method takes `&self` and is one system call (two after a pending error).
//!
//! Transmit stamps, ICMP errors and datagrams share the receive buffer (`SO_RCVBUF`): drain
//! both queues, and size the buffer by what may be in flight.

mod address;
mod batch;
mod errors;
mod options;
mod send;
mod slots;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Type};

pub use batch::{Batch, Received};
pub use errors::{ErrorBatch, ErrorItem};
pub use options::{Memory, Pmtu, StampMode};

use crate::call::{errno_of, failed};

/// include/uapi/asm-generic/socket.h, absent from libc for glibc.
pub(crate) const SO_RXQ_OVFL: i32 = 40;
/// include/uapi/linux/in.h
pub(crate) const IP_RECVFRAGSIZE: i32 = 25;
/// include/uapi/linux/in6.h
pub(crate) const IPV6_RECVFRAGSIZE: i32 = 77;

/// What kind of packets a socket carries.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum SocketKind {
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 by a raw socket (`CAP_NET_RAW`).
    IcmpRaw,
    /// ICMP echo by a ping socket (`net.ipv4.ping_group_range`). The kernel replaces the
    /// identifier by the local port, which [`ProbeSocket::local_addr`] tells once bound.
    IcmpPing,
}

/// Which socket to open.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SocketSpec {
    /// IPv6 rather than IPv4; such a socket never takes IPv4.
    pub ipv6: bool,
    /// What it carries.
    pub kind: SocketKind,
    /// Bind it to this device.
    pub device: Option<String>,
}

impl SocketSpec {
    /// A UDP socket without a device.
    #[must_use]
    pub const fn udp(ipv6: bool) -> Self {
        Self {
            ipv6,
            kind: SocketKind::Udp,
            device: None,
        }
    }

    /// The socket's kind in words, for errors.
    fn describe(&self) -> String {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let kind = match self.kind {
            SocketKind::Udp => "UDP",
            SocketKind::IcmpRaw => "raw ICMP",
            SocketKind::IcmpPing => "ping",
        };
        match &self.device {
            Some(device) => format!("{kind} {family} on {device}"),
            None => format!("{kind} {family}"),
        }
    }
}

/// A datagram socket for probes.
#[derive(Debug)]
pub struct ProbeSocket {
    fd: OwnedFd,
    ipv6: bool,
    kind: SocketKind,
}

impl ProbeSocket {
    /// Opens a socket, bound to a device if one is given. Raw ICMP sockets let echo replies
    /// through only; IPv6 sockets take IPv6 only.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege, no such family or device.
    pub fn open(spec: &SocketSpec) -> io::Result<Self> {
        let domain = if spec.ipv6 {
            Domain::IPV6
        } else {
            Domain::IPV4
        };
        let (kind, protocol) = match (spec.kind, spec.ipv6) {
            (SocketKind::Udp, _) => (Type::DGRAM, Protocol::UDP),
            (SocketKind::IcmpRaw, false) => (Type::RAW, Protocol::ICMPV4),
            (SocketKind::IcmpRaw, true) => (Type::RAW, Protocol::ICMPV6),
            (SocketKind::IcmpPing, false) => (Type::DGRAM, Protocol::ICMPV4),
            (SocketKind::IcmpPing, true) => (Type::DGRAM, Protocol::ICMPV6),
        };
        let socket = socket2::Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))
            .map_err(|error| failed("socket", spec.describe(), error))?;
        if let Some(device) = &spec.device {
            socket
                .bind_device(Some(device.as_bytes()))
                .map_err(|error| failed("SO_BINDTODEVICE", device.as_str(), error))?;
        }
        Self::from_fd(socket.into(), spec)
    }

    /// Takes a descriptor that another process opened by the same `spec`, and sets on it
    /// what [`ProbeSocket::open`] sets, except for the device.
    ///
    /// # Errors
    /// When it is no such socket.
    pub fn from_fd(fd: OwnedFd, spec: &SocketSpec) -> io::Result<Self> {
        SockRef::from(&fd)
            .set_nonblocking(true)
            .map_err(|error| failed("O_NONBLOCK", spec.describe(), error))?;
        let socket = Self {
            fd,
            ipv6: spec.ipv6,
            kind: spec.kind,
        };
        // Raw ICMPv6 has no IPv4 side, and refuses the option.
        if spec.ipv6 && spec.kind == SocketKind::Udp {
            socket.v6_only(true)?;
        }
        if spec.kind == SocketKind::IcmpRaw {
            socket.filter_echo_replies()?;
        }
        Ok(socket)
    }

    /// Whether it is an IPv6 socket.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.ipv6
    }

    /// What it carries.
    #[must_use]
    pub const fn kind(&self) -> SocketKind {
        self.kind
    }

    /// Gives the descriptor away.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Binds to a local address; port 0 takes any.
    ///
    /// # Errors
    /// As bind(2): in use, not ours, not allowed.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        SockRef::from(&self.fd)
            .bind(&address.into())
            .map_err(|error| failed("bind", address.to_string(), error))
    }

    /// Sends go to, and datagrams are taken from, this address only.
    ///
    /// # Errors
    /// As connect(2): no route, for instance.
    pub fn connect(&self, address: SocketAddr) -> io::Result<()> {
        SockRef::from(&self.fd)
            .connect(&address.into())
            .map_err(|error| failed("connect", address.to_string(), error))
    }

    /// The local address and port.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.fd)
            .local_addr()
            .map_err(|error| failed("getsockname", "of a socket", error))?;
        address
            .as_socket()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Takes the datagrams that wait, up to the batch's room; 0 when there are none.
    ///
    /// One pending soft error (an ICMP error about an earlier packet, say) is no failure:
    /// the result is 0 and [`Batch::soft_error`] holds the number. Datagrams may still wait.
    ///
    /// # Errors
    /// Only when the socket itself is unusable.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.ipv4_header = self.kind == SocketKind::IcmpRaw && !self.ipv6;
        batch.soft_error = None;
        let error = match batch.slots.fill(self.as_fd(), libc::MSG_DONTWAIT) {
            Ok(got) => return Ok(got),
            Err(error) => error,
        };
        match errno_of(&error) {
            Some(libc::EAGAIN) => Ok(0),
            Some(errno) if is_soft(errno) => {
                batch.soft_error = Some(errno);
                Ok(0)
            }
            _ => Err(error),
        }
    }

    /// Takes the items that wait in the error queue; 0 when there are none. Reading them
    /// also clears the pending error that would hit the next send (kernel-and-lab E2).
    ///
    /// # Errors
    /// Only when the socket itself is unusable.
    pub fn receive_errors(&self, batch: &mut ErrorBatch) -> io::Result<usize> {
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        match batch.slots.fill(self.as_fd(), flags) {
            Ok(got) => Ok(got),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Takes the pending error (`SO_ERROR`), if there is one.
    ///
    /// # Errors
    /// When the socket cannot be asked.
    pub fn take_error(&self) -> io::Result<Option<i32>> {
        let error = SockRef::from(&self.fd).take_error()?;
        Ok(error.and_then(|error| error.raw_os_error()))
    }
}

impl AsFd for ProbeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Errors that concern a packet or a path, never the socket: what ICMP makes of the kernel's
/// `icmp_err_convert` and `icmpv6_err_convert`, and local refusals of a packet.
#[must_use]
pub const fn is_soft(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EMSGSIZE
            | libc::EHOSTDOWN
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::ENONET
            | libc::EPROTO
            | libc::EACCES
            | libc::EPERM
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::ETIMEDOUT
            | libc::ECONNRESET
    )
}

#[cfg(test)]
mod tests;
