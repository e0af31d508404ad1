//! What decoding leaves of a frame: plain values, nothing borrowed.

use base::Address;

/// One decoded frame: the layers that were asked for (the innermost by default).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port; the identifier of an ICMP echo; 0 where there is none.
    pub source_port: u16,
    /// Destination port; the identifier of an ICMP echo; 0 where there is none.
    pub destination_port: u16,
    /// The protocol above IP and its extension headers; for a later fragment of IPv6 what its
    /// fragment header says, which may be another extension header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4's identification; 0 for IPv6.
    pub ip_id: u16,
    /// What else the IP header and the way to it say.
    pub flags: PacketFlags,
    /// With [`PacketFlags::FRAGMENT`], the first fragment included: which packet it is of, as
    /// in [`Fragment::id`]; else 0.
    pub fragment_id: u32,
    /// VNI of VXLAN or Geneve, GRE's key, ERSPAN's session, of the innermost tunnel that has
    /// one; 0 where there is none.
    pub tunnel_id: u32,
    /// Octets of the IP packet, its header included (BIG TCP and jumbograms: more than 65 535).
    pub ip_len: u32,
    /// Octets that the transport header carries (a first fragment: in this frame), from the lengths in the headers and not
    /// from the frame (Ethernet pads); 0 where there is no transport header.
    pub payload_len: u32,
    /// Where those octets begin in the frame.
    pub payload_at: u16,
    /// How many of them were captured; all, unless the snaplen or a mirror cut the frame.
    pub payload_captured: u32,
    /// What the transport header says.
    pub transport: Transport,
}

// Two cache lines: the estimators' loop copies it.
const _: () = assert!(size_of::<Packet>() == 128);

/// Facts of one bit each.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct PacketFlags(u8);

impl PacketFlags {
    /// IPv4's DF is set (always for IPv6, which routers do not fragment).
    pub const DONT_FRAGMENT: Self = Self(1);
    /// Part of a fragmented packet, the first one included.
    pub const FRAGMENT: Self = Self(1 << 1);
    /// Came out of a tunnel.
    pub const TUNNELLED: Self = Self(1 << 2);
    /// The IP length field was 0 (BIG TCP, a tap before segmentation): taken from the frame.
    pub const LENGTH_FROM_FRAME: Self = Self(1 << 3);
    /// The IP length is more than the frame had on the wire, so the payload ends with the
    /// frame: a receiver drops such a packet, and an edited capture has many. Not in tunnels,
    /// whose inside a mirror may have cut: there the IP length is right.
    pub const CLIPPED: Self = Self(1 << 4);

    /// No bit.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// With another's bits too.
    #[must_use]
    #[inline]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of another are in.
    #[must_use]
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Above IP.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp(TcpHeader),
    /// UDP; the payload is `Packet::payload_at`.
    Udp,
    /// An ICMP or ICMPv6 echo request or reply; the identifier is in the ports.
    Echo {
        /// Reply or request.
        reply: bool,
        /// Its sequence number.
        sequence: u16,
    },
    /// An ICMP or ICMPv6 error and the packet that it quotes.
    IcmpError(IcmpError),
    /// A fragment that is not the first: no header above IP here.
    Fragment(Fragment),
    /// Another protocol, or another ICMP message: a flow without ports.
    Other,
}

/// What identifies the packet that a fragment is of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// IPv4's 16 bits or IPv6's 32.
    pub id: u32,
    /// Where it starts in the whole packet's payload, in octets.
    pub offset: u16,
    /// More follow.
    pub more: bool,
}

/// A TCP header and the options that passive measurement needs.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct TcpHeader {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; says something only with [`TcpHeader::ACK`].
    pub ack: u32,
    /// TSval, if `options` has [`TcpHeader::TIMESTAMPS`].
    pub tsval: u32,
    /// TSecr, likewise.
    pub tsecr: u32,
    /// The first SACK block, if `options` has [`TcpHeader::SACK`].
    pub sack: (u32, u32),
    /// The window as it is in the header, not scaled.
    pub window: u16,
    /// FIN to CWR, the low eight bits.
    pub flags: u8,
    /// Which options there are.
    pub options: u8,
    /// MSS, if `options` has [`TcpHeader::MSS`].
    pub mss: u16,
    /// Shift of the window scale option, if `options` has [`TcpHeader::SCALE`].
    pub scale: u8,
}

impl TcpHeader {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 1 << 1;
    /// RST.
    pub const RST: u8 = 1 << 2;
    /// PSH.
    pub const PSH: u8 = 1 << 3;
    /// ACK.
    pub const ACK: u8 = 1 << 4;
    /// URG.
    pub const URG: u8 = 1 << 5;

    /// `options`: the timestamps option.
    pub const TIMESTAMPS: u8 = 1;
    /// `options`: at least one SACK block.
    pub const SACK: u8 = 1 << 1;
    /// `options`: MSS.
    pub const MSS: u8 = 1 << 2;
    /// `options`: window scale.
    pub const SCALE: u8 = 1 << 3;
    /// `options`: SACK permitted.
    pub const SACK_PERMITTED: u8 = 1 << 4;
    /// `options`: the list was malformed or cut by the snaplen; what came before counts.
    pub const CUT: u8 = 1 << 5;
    /// `options`: the second SACK block or the cumulative ACK covers the first: a DSACK
    /// (RFC 2883 section 4).
    pub const DSACK: u8 = 1 << 6;

    /// Whether all of these flags are set.
    #[must_use]
    #[inline]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether any of these flags is set.
    #[must_use]
    #[inline]
    pub const fn any(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// An ICMP error: what it says and of which packet.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// ICMP or ICMPv6 type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// "Too big" (3/4, ICMPv6 2): the next hop's MTU, 0 if the router does not say.
    pub next_hop_mtu: Option<u32>,
    /// The quoted packet, in the direction in which it went; `None`: too little is quoted.
    pub quoted: Option<Quoted>,
}

/// The packet that an ICMP error quotes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port or echo identifier.
    pub source_port: u16,
    /// Destination port or echo identifier.
    pub destination_port: u16,
    /// Protocol above IP.
    pub protocol: u8,
    /// TCP's sequence number, if quoted.
    pub seq: Option<u32>,
}
