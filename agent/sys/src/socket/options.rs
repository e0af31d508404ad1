//! The options of a probe socket.

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use super::{IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE, ProbeSocket, SO_RXQ_OVFL, SocketSpec};
use crate::call::{get_option, set_option};

/// include/uapi/linux/icmp.h: a bit set means "drop this type".
const ICMP_FILTER: i32 = 1;
const ICMP_ECHO_REPLY: u32 = 0;
/// include/uapi/linux/icmpv6.h: a bit set means "drop this type".
const ICMPV6_FILTER: i32 = 1;
const ICMPV6_ECHO_REPLY: usize = 129;
const SOL_RAW: i32 = 255;

/// What IP fragmentation may do to sent packets (`IP_MTU_DISCOVER`).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Pmtu {
    /// DF is set; sizes are tried whatever path MTU the kernel believes in.
    Probe,
    /// DF is set; packets above the kernel's path MTU are refused with EMSGSIZE.
    Do,
    /// DF is not set: packets may be fragmented.
    Dont,
}

/// What stamps a socket gives.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct StampMode {
    /// The kernel takes ids of our own (`SCM_TS_OPT_ID`, 6.13 and later). If not, it numbers
    /// accepted sends from 0 on, and send must be called without an id.
    pub own_ids: bool,
}

/// What a socket's queues hold (`SO_MEMINFO`), bytes with the kernel's overhead.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Memory {
    /// In the receive and error queues.
    pub receive_used: u32,
    /// The most they may hold.
    pub receive_limit: u32,
    /// Not yet sent.
    pub send_used: u32,
    /// Datagrams dropped so far for want of room, or for a bad checksum.
    pub drops: u32,
}

impl ProbeSocket {
    fn set_by_family(
        &self,
        v4: (i32, &'static str),
        v6: (i32, &'static str),
        value: i32,
    ) -> io::Result<()> {
        let (level, (option, name)) = if self.ipv6 {
            (libc::IPPROTO_IPV6, v6)
        } else {
            (libc::IPPROTO_IP, v4)
        };
        set_option(self.as_fd(), level, option, name, value)
    }

    /// TTL or hop limit of unicast packets sent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_ttl(&self, ttl: u8) -> io::Result<()> {
        self.set_by_family(
            (libc::IP_TTL, "IP_TTL"),
            (libc::IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS"),
            ttl.into(),
        )
    }

    /// TOS or traffic class of packets sent: DSCP in the upper six bits.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_tos(&self, tos: u8) -> io::Result<()> {
        self.set_by_family(
            (libc::IP_TOS, "IP_TOS"),
            (libc::IPV6_TCLASS, "IPV6_TCLASS"),
            tos.into(),
        )
    }

    /// What fragmentation may do to packets sent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_pmtu(&self, pmtu: Pmtu) -> io::Result<()> {
        // The IPv4 and IPv6 constants are equal.
        let value = match pmtu {
            Pmtu::Probe => libc::IP_PMTUDISC_PROBE,
            Pmtu::Do => libc::IP_PMTUDISC_DO,
            Pmtu::Dont => libc::IP_PMTUDISC_DONT,
        };
        self.set_by_family(
            (libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER"),
            (libc::IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER"),
            value,
        )
    }

    /// Sizes the receive buffer, beyond `net.core.rmem_max` where `CAP_NET_ADMIN` allows;
    /// returns what the kernel made of it (twice the request if it was granted).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<usize> {
        self.set_buffer(
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            ("SO_RCVBUFFORCE", "SO_RCVBUF"),
            bytes,
        )
    }

    /// As [`ProbeSocket::set_receive_buffer`], but a buffer that is larger already stays so:
    /// whoever opened the socket may have had the privilege.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn grow_receive_buffer(&self, bytes: usize) -> io::Result<usize> {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVBUF);
        let present = get_option(self.as_fd(), level, option, "SO_RCVBUF", 0_i32)?;
        let present = usize::try_from(present).unwrap_or(0);
        if present / 2 >= bytes {
            Ok(present)
        } else {
            self.set_receive_buffer(bytes)
        }
    }

    /// As [`ProbeSocket::set_receive_buffer`], for sending.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<usize> {
        self.set_buffer(
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
            ("SO_SNDBUFFORCE", "SO_SNDBUF"),
            bytes,
        )
    }

    fn set_buffer(
        &self,
        (force, plain): (i32, i32),
        names: (&'static str, &'static str),
        bytes: usize,
    ) -> io::Result<usize> {
        // The kernel doubles the value in an int.
        let value = i32::try_from(bytes).unwrap_or(i32::MAX).min(i32::MAX / 2);
        let fd = self.as_fd();
        if set_option(fd, libc::SOL_SOCKET, force, names.0, value).is_err() {
            set_option(fd, libc::SOL_SOCKET, plain, names.1, value)?;
        }
        let actual = get_option(fd, libc::SOL_SOCKET, plain, names.1, 0_i32)?;
        Ok(usize::try_from(actual).unwrap_or(0))
    }

    /// Received datagrams tell TTL, TOS, destination address, device, the largest fragment
    /// they came in, and how many were dropped before them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn receive_ttl_tos_pktinfo(&self) -> io::Result<()> {
        self.set_by_family(
            (libc::IP_RECVTTL, "IP_RECVTTL"),
            (libc::IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT"),
            1,
        )?;
        self.set_by_family(
            (libc::IP_RECVTOS, "IP_RECVTOS"),
            (libc::IPV6_RECVTCLASS, "IPV6_RECVTCLASS"),
            1,
        )?;
        self.set_by_family(
            (libc::IP_PKTINFO, "IP_PKTINFO"),
            (libc::IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"),
            1,
        )?;
        self.set_by_family(
            (IP_RECVFRAGSIZE, "IP_RECVFRAGSIZE"),
            (IPV6_RECVFRAGSIZE, "IPV6_RECVFRAGSIZE"),
            1,
        )?;
        set_option(
            self.as_fd(),
            libc::SOL_SOCKET,
            SO_RXQ_OVFL,
            "SO_RXQ_OVFL",
            1_i32,
        )
    }

    /// ICMP errors and local errors go to the error queue, with who said what.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn receive_errors_on(&self) -> io::Result<()> {
        self.set_by_family(
            (libc::IP_RECVERR, "IP_RECVERR"),
            (libc::IPV6_RECVERR, "IPV6_RECVERR"),
            1,
        )
    }

    /// Whether an IPv6 socket refuses IPv4; no effect on IPv4 sockets.
    ///
    /// # Errors
    /// When the kernel refuses, as it does once bound.
    pub fn v6_only(&self, only: bool) -> io::Result<()> {
        if !self.ipv6 {
            return Ok(());
        }
        let fd = self.as_fd();
        let level = libc::IPPROTO_IPV6;
        // A socket that another process has bound already cannot be changed, and need not be.
        let now = get_option(fd, level, libc::IPV6_V6ONLY, "IPV6_V6ONLY", 0_i32)?;
        if (now != 0) == only {
            return Ok(());
        }
        set_option(fd, level, libc::IPV6_V6ONLY, "IPV6_V6ONLY", i32::from(only))
    }

    /// Raw ICMP: echo replies only. ICMP errors about our packets still come by the error queue.
    pub(super) fn filter_echo_replies(&self) -> io::Result<()> {
        let fd = self.as_fd();
        if self.ipv6 {
            let mut drop_types = [u32::MAX; 8];
            drop_types[ICMPV6_ECHO_REPLY / 32] &= !(1 << (ICMPV6_ECHO_REPLY % 32));
            let level = libc::IPPROTO_ICMPV6;
            set_option(fd, level, ICMPV6_FILTER, "ICMPV6_FILTER", drop_types)
        } else {
            let drop_types = !(1_u32 << ICMP_ECHO_REPLY);
            set_option(fd, SOL_RAW, ICMP_FILTER, "ICMP_FILTER", drop_types)
        }
    }

    /// Stamps on what is sent (by the error queue) and received. Right after, a few datagrams
    /// may still come without: the kernel switches them on later. Where a send can name its
    /// own id, stamps come without the packet; elsewhere with it, see
    /// [`ProbeSocket::enable_quoting_stamps`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enable_stamps(&self, hardware: bool) -> io::Result<StampMode> {
        let own_ids = own_ids_accepted();
        let without_packet = if own_ids {
            libc::SOF_TIMESTAMPING_OPT_TSONLY
        } else {
            0
        };
        self.stamp(hardware, without_packet)?;
        Ok(StampMode { own_ids })
    }

    /// As [`ProbeSocket::enable_stamps`] on a kernel before 6.13: each stamp comes with the
    /// packet that it is of. The kernel's own count of packets is no use there, since a send
    /// that failed may have advanced it or not (kernel-and-lab E2).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enable_quoting_stamps(&self, hardware: bool) -> io::Result<StampMode> {
        self.stamp(hardware, 0)?;
        Ok(StampMode { own_ids: false })
    }

    fn stamp(&self, hardware: bool, without_packet: u32) -> io::Result<()> {
        let mut flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE
            | libc::SOF_TIMESTAMPING_RX_SOFTWARE
            | libc::SOF_TIMESTAMPING_SOFTWARE
            | libc::SOF_TIMESTAMPING_OPT_ID
            | libc::SOF_TIMESTAMPING_OPT_CMSG
            | without_packet;
        if hardware {
            flags |= libc::SOF_TIMESTAMPING_TX_HARDWARE
                | libc::SOF_TIMESTAMPING_RX_HARDWARE
                | libc::SOF_TIMESTAMPING_RAW_HARDWARE
                | libc::SOF_TIMESTAMPING_OPT_TX_SWHW;
        }
        self.set_stamping(flags)
    }

    /// Stamps on what is received only, for reflectors.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enable_receive_stamps(&self, hardware: bool) -> io::Result<()> {
        let mut flags = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
        if hardware {
            flags |= libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
        }
        self.set_stamping(flags)
    }

    fn set_stamping(&self, flags: u32) -> io::Result<()> {
        let option = libc::SO_TIMESTAMPING;
        set_option(
            self.as_fd(),
            libc::SOL_SOCKET,
            option,
            "SO_TIMESTAMPING",
            flags,
        )
    }

    /// What the queues hold now.
    ///
    /// # Errors
    /// When the kernel has no `SO_MEMINFO`.
    pub fn memory(&self) -> io::Result<Memory> {
        // SK_MEMINFO_*: rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued,
        // optmem, backlog, drops.
        let option = libc::SO_MEMINFO;
        let words = get_option(
            self.as_fd(),
            libc::SOL_SOCKET,
            option,
            "SO_MEMINFO",
            [0_u32; 9],
        )?;
        Ok(Memory {
            receive_used: words[0],
            receive_limit: words[1],
            send_used: words[2],
            drops: words[8],
        })
    }
}

/// Whether this kernel takes `SCM_TS_OPT_ID`: tried once, on a socket that sends to itself.
fn own_ids_accepted() -> bool {
    static ACCEPTED: OnceLock<bool> = OnceLock::new();
    *ACCEPTED.get_or_init(|| {
        [false, true]
            .into_iter()
            .find_map(|ipv6| try_own_id(ipv6).ok())
            .unwrap_or(false)
    })
}

/// Err when the trial itself could not be made (no loopback of this family, say).
fn try_own_id(ipv6: bool) -> io::Result<bool> {
    let socket = ProbeSocket::open(&SocketSpec::udp(ipv6))?;
    let loopback: std::net::IpAddr = if ipv6 {
        std::net::Ipv6Addr::LOCALHOST.into()
    } else {
        std::net::Ipv4Addr::LOCALHOST.into()
    };
    socket.bind((loopback, 0).into())?;
    socket.connect(socket.local_addr()?)?;
    socket.set_stamping(
        libc::SOF_TIMESTAMPING_TX_SOFTWARE
            | libc::SOF_TIMESTAMPING_SOFTWARE
            | libc::SOF_TIMESTAMPING_OPT_ID
            | libc::SOF_TIMESTAMPING_OPT_TSONLY,
    )?;
    match socket.send(&[0], Some(1)) {
        Ok(_) => Ok(true),
        // Unknown control messages are refused with EINVAL.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}
