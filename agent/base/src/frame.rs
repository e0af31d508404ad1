//! A captured frame as a capture source lends it: octets, their time, where they came from.

use crate::WallNanos;

crate::closed_list! {
    /// What a frame begins with. Numbers of capture files: [`LinkType::from_pcap`].
    LinkType {
        /// IEEE 802.3 Ethernet: DLT 1.
        Ethernet = "ethernet",
        /// IPv4 or IPv6 without a link header: DLT 12, 14, 101, 228, 229.
        Raw = "raw",
        /// Linux cooked capture v1: DLT 113.
        LinuxCooked = "linux_cooked",
        /// Linux cooked capture v2: DLT 276.
        LinuxCooked2 = "linux_cooked_v2",
        /// BSD loopback: a protocol family of 32 bits in the order of the machine: DLT 0, 108.
        Loopback = "loopback",
        /// PPP, with or without HDLC framing: DLT 9, 50.
        Ppp = "ppp",
        /// A link type that is not decoded.
        Other = "other",
    }
}

impl LinkType {
    /// From the LINKTYPE number of a pcap or pcapng file.
    #[must_use]
    pub const fn from_pcap(number: u16) -> Self {
        match number {
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::Raw,
            113 => Self::LinuxCooked,
            276 => Self::LinuxCooked2,
            0 | 108 => Self::Loopback,
            9 | 50 => Self::Ppp,
            _ => Self::Other,
        }
    }
}

/// Which way a frame went as seen from the host that captured it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Passage {
    /// Not known: a file without the flag, a mirror.
    #[default]
    Unknown,
    /// Arrived at this host.
    Received,
    /// Left this host.
    Sent,
}

/// One captured frame, lent for the time of a batch.
#[derive(Copy, Clone, Debug)]
pub struct Frame<'a> {
    /// The captured octets, from the link header on.
    pub bytes: &'a [u8],
    /// Octets that the frame had on the wire (or in the stack); at least `bytes.len()`.
    pub original_len: u32,
    /// When it was captured.
    pub at: WallNanos,
    /// TCP payload octets per wire segment when the stack had merged or not yet cut it
    /// (GRO, TSO; `gso_size` of `virtio_net_hdr`); 0: one frame is one packet.
    pub segment_bytes: u16,
    /// What `bytes` begins with.
    pub link: LinkType,
    /// Which way it went.
    pub passage: Passage,
}

impl<'a> Frame<'a> {
    /// An Ethernet frame, whole, of unknown passage.
    #[must_use]
    pub const fn ethernet(bytes: &'a [u8], at: WallNanos) -> Self {
        Self {
            bytes,
            original_len: bytes.len() as u32,
            at,
            segment_bytes: 0,
            link: LinkType::Ethernet,
            passage: Passage::Unknown,
        }
    }
}
