//! The socket of a ring: made, formed, bound, joined to a fanout group.
//!
//! Legal order: `open`, `cut_at(0)`, `bind`, `join`, [`super::Ring::new`], and when all members
//! of a group have come so far, `attach` (or `cut_at`) for each. Until then none takes a
//! frame that another one takes too: a member must be bound before it joins, and a bound one
//! that has not joined gets every frame.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{mem, ptr};

use base::LinkType;

use crate::call::{Plain, check, failed, get_option, set_option};

/// The form of a ring.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RingOptions {
    /// Bytes of one block: a multiple of the page size.
    pub block_bytes: u32,
    /// How many blocks.
    pub blocks: u32,
    /// After how many milliseconds the kernel hands over a block that is not full.
    pub retire_ms: u32,
    /// Have `virtio_net_hdr` in front of each frame: what GRO merged and TSO will cut.
    pub vnet_header: bool,
    /// Bytes of a frame that are lent at most, if it is longer with its VLAN tag than without.
    pub cut: u32,
}

impl RingOptions {
    /// Bytes of the whole ring.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block_bytes as usize * self.blocks as usize
    }
}

/// How a group shares out frames.
#[derive(Copy, Clone, Debug)]
pub enum Fanout<'a> {
    /// By the kernel's own hash, of the outer header.
    Hash,
    /// By what this eBPF program returns.
    Program(BorrowedFd<'a>),
}

/// What a socket counted since it was asked last.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct RingStatistics {
    /// Frames that passed the filter, those dropped included.
    pub seen: u32,
    /// Frames that found no room in the ring.
    pub dropped: u32,
    /// How often the ring was full and then had room again.
    pub freezes: u32,
}

/// A raw `AF_PACKET` socket. Non-blocking, bound to nothing when opened.
#[derive(Debug)]
pub struct RingSocket {
    fd: OwnedFd,
}

// SAFETY: `c_uint`s alone: every bit pattern is a value, no padding, no pointer.
unsafe impl Plain for libc::tpacket_req3 {}
// SAFETY: as above.
unsafe impl Plain for libc::tpacket_stats_v3 {}

const TPACKET_V3: i32 = libc::tpacket_versions::TPACKET_V3 as i32;

impl RingSocket {
    /// Opens one.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing is received before bind() names one.
        // SAFETY: plain integers.
        let raw = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })
            .map_err(|error| failed("socket", "AF_PACKET (needs CAP_NET_RAW)", error))?;
        // SAFETY: `raw` was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { fd })
    }

    fn set<T: Plain>(&self, option: i32, name: &'static str, value: T) -> io::Result<()> {
        set_option(self.fd.as_fd(), libc::SOL_PACKET, option, name, value)
    }

    /// Makes the ring; once, the kernel says `EBUSY` to a second one. Stamps are the kernel's receive stamps in nanoseconds.
    ///
    /// # Errors
    /// When the kernel lacks version 3 or the memory.
    pub(super) fn configure(&self, options: &RingOptions) -> io::Result<()> {
        self.set(libc::PACKET_VERSION, "PACKET_VERSION 3", TPACKET_V3)?;
        if options.vnet_header {
            // Before the ring: afterwards it is EBUSY.
            self.set(libc::PACKET_VNET_HDR, "PACKET_VNET_HDR", 1)?;
        }
        // In front of each frame, for the VLAN tag that the kernel took out of it.
        self.set(
            libc::PACKET_RESERVE,
            "PACKET_RESERVE",
            super::block::TAG as u32,
        )?;
        // Stamps from where a frame enters the stack; without, from where it enters the ring.
        let socket = (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
        set_option(self.fd.as_fd(), socket.0, socket.1, "SO_TIMESTAMPNS", 1)?;
        // Frames have no fixed size in version 3, but the kernel checks the arithmetic.
        let frame = 2048;
        let request = libc::tpacket_req3 {
            tp_block_size: options.block_bytes,
            tp_block_nr: options.blocks,
            tp_frame_size: frame,
            tp_frame_nr: (options.block_bytes / frame).saturating_mul(options.blocks),
            tp_retire_blk_tov: options.retire_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        self.set(libc::PACKET_RX_RING, "PACKET_RX_RING", request)
    }

    /// Attaches a filter that takes every frame and keeps so many bytes of it, in the place of
    /// any other; 0: takes none, and counts none, for the time of setting up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut_at(&self, bytes: u32) -> io::Result<()> {
        let mut all = libc::sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: bytes,
        };
        let filter = libc::sock_fprog {
            len: 1,
            filter: &raw mut all,
        };
        let size = size_of_val(&filter) as libc::socklen_t;
        // SAFETY: `filter` is a sock_fprog of `size` bytes; the kernel reads it and the one
        // instruction it points at, and both outlive the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                ptr::from_ref(&filter).cast(),
                size,
            )
        };
        check(result)
            .map(drop)
            .map_err(|error| failed("SO_ATTACH_FILTER", "a packet socket", error))
    }

    /// Attaches a loaded socket filter program, in the place of any other.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_BPF);
        let fd = program.as_raw_fd();
        set_option(self.fd.as_fd(), level, option, "SO_ATTACH_BPF", fd)
    }

    /// Keeps out what this host sends. For a member of a group say it to [`RingSocket::join`].
    ///
    /// # Errors
    /// When the kernel lacks it (before 4.20).
    pub fn ignore_outgoing(&self) -> io::Result<()> {
        self.set(libc::PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING", 1)
    }

    /// Receives every frame of a device from now on; 0: of all devices.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn bind(&self, index: u32) -> io::Result<()> {
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        let size = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll that outlives the call and `size` is its size.
        let result =
            unsafe { libc::bind(self.fd.as_raw_fd(), ptr::from_ref(&address).cast(), size) };
        check(result)
            .map(drop)
            .map_err(|error| failed("bind", format!("device {index}"), error))
    }

    fn address(&self) -> io::Result<libc::sockaddr_ll> {
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut size = size_of_val(&address) as libc::socklen_t;
        let place = ptr::from_mut(&mut address).cast();
        // SAFETY: `place` is writable for `size` bytes, and any bytes are a sockaddr_ll.
        let result = unsafe { libc::getsockname(self.fd.as_raw_fd(), place, &raw mut size) };
        check(result)
            .map(|_| address)
            .map_err(|error| failed("getsockname", "a packet socket", error))
    }

    /// The index of the device it is bound to; 0: all, -1: one that does not exist any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bound_index(&self) -> io::Result<i32> {
        self.address().map(|address| address.sll_ifindex)
    }

    /// What frames of the device that it is bound to begin with; `None`: they differ.
    #[must_use]
    pub fn link(&self) -> Option<LinkType> {
        let address = self.address().ok()?;
        (address.sll_ifindex > 0).then(|| super::block::link_of(address.sll_hatype))
    }

    /// Joins a fanout group, or, with `None`, makes one whose number is free; returns its
    /// number. All members say the same. The device must be up.
    ///
    /// # Errors
    /// When the kernel refuses: the socket is not bound, its device down, the group another's.
    pub fn join(
        &self,
        group: Option<u16>,
        fanout: Fanout<'_>,
        ignore_outgoing: bool,
    ) -> io::Result<u16> {
        let kind = match fanout {
            Fanout::Hash => libc::PACKET_FANOUT_HASH,
            Fanout::Program(_) => libc::PACKET_FANOUT_EBPF,
        };
        let mut kind = kind;
        if group.is_none() {
            kind |= libc::PACKET_FANOUT_FLAG_UNIQUEID;
        }
        if ignore_outgoing {
            // The group's hook stands in for the members': their own option says nothing.
            kind |= libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
        }
        let value = u32::from(group.unwrap_or(0)) | kind << 16;
        self.set(libc::PACKET_FANOUT, "PACKET_FANOUT", value)?;
        if let (Fanout::Program(program), None) = (fanout, group) {
            let fd = program.as_raw_fd();
            self.set(libc::PACKET_FANOUT_DATA, "PACKET_FANOUT_DATA", fd)?;
        }
        let (level, option) = (libc::SOL_PACKET, libc::PACKET_FANOUT);
        let joined: u32 = get_option(self.fd.as_fd(), level, option, "PACKET_FANOUT", 0)?;
        Ok((joined & 0xffff) as u16)
    }

    /// What it counted since the last call; the kernel starts again at 0.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn statistics(&self) -> io::Result<RingStatistics> {
        let empty = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        let counted = get_option(self.fd.as_fd(), level, option, "PACKET_STATISTICS", empty)?;
        Ok(RingStatistics {
            seen: counted.tp_packets,
            dropped: counted.tp_drops,
            freezes: counted.tp_freeze_q_cnt,
        })
    }

    /// The pending error, which is cleared; 0: none.
    pub(super) fn take_error(&self) -> io::Result<i32> {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_ERROR);
        get_option(self.fd.as_fd(), level, option, "SO_ERROR", 0)
    }
}

impl From<OwnedFd> for RingSocket {
    /// A socket that another process opened and formed.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<RingSocket> for OwnedFd {
    fn from(socket: RingSocket) -> Self {
        socket.fd
    }
}

impl AsFd for RingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
