//! What passive measurement says: per frame, per flow, and as plain values for whoever
//! keeps them. Times are nanoseconds, sizes bytes.

use crate::{Address, WallNanos, closed_list};

closed_list! {
    /// How a round-trip time was learnt. Methods are never mixed in one distribution.
    RttMethod {
        /// SYN to SYN-ACK, and SYN-ACK to the ACK that ends the handshake.
        Handshake = "handshake",
        /// TSval and its echo (RFC 7323).
        Timestamp = "timestamp",
        /// A segment and the ACK of its last octet, with Karn's rule.
        Sequence = "sequence",
        /// Client Initial to the server's first long header.
        QuicHandshake = "quic_handshake",
        /// Edges of the spin bit (RFC 9000 section 17.4).
        QuicSpin = "quic_spin",
        /// Echo request to reply.
        Icmp = "icmp",
        /// Query to response.
        Dns = "dns",
        /// STAMP request to reply.
        Stamp = "stamp",
    }
}

closed_list! {
    /// Which side of the probe a round trip was on.
    Leg {
        /// From the probe to the near end and back: this host, or the flow's initiator
        /// where the capture does not say which way frames went.
        Near = "near",
        /// From the probe to the remote end and back.
        Remote = "remote",
    }
}

closed_list! {
    /// What a TCP segment is, by the definitions of the classifier in use. The three
    /// retransmissions and `OutOfOrder` exclude each other.
    TcpClass {
        /// A retransmission that is neither fast nor spurious.
        Retransmission = "retransmissions",
        /// After duplicate ACKs, within 20 ms of the last one.
        FastRetransmission = "fast_retransmissions",
        /// Of octets that were acknowledged already.
        SpuriousRetransmission = "spurious_retransmissions",
        /// Older than what was seen, but too soon for a retransmission.
        OutOfOrder = "out_of_order",
        /// The same acknowledgement again.
        DuplicateAck = "duplicate_acks",
        /// Octets before this segment were not seen.
        LostSegment = "lost_segments",
        /// Acknowledges octets that were not seen: the capture missed them.
        AckedUnseen = "acked_unseen",
        /// Advertises no window.
        ZeroWindow = "zero_windows",
        /// One octet into a closed window.
        ZeroWindowProbe = "zero_window_probes",
        /// The answer to such a probe.
        ZeroWindowProbeAck = "zero_window_probe_acks",
        /// An octet before the next expected one.
        KeepAlive = "keep_alives",
        /// The answer to a keep-alive.
        KeepAliveAck = "keep_alive_acks",
        /// Changes the window and nothing else.
        WindowUpdate = "window_updates",
        /// Fills the window that the other side advertised.
        WindowFull = "window_full",
        /// A SYN that begins a new connection on the ports of an old one.
        PortReuse = "reused_ports",
        /// The same packet captured twice (a mirror, two devices); not classified further.
        CaptureDuplicate = "capture_duplicates",
    }
}

/// A set of [`TcpClass`]es: those of one frame.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct TcpClasses(u32);

impl TcpClasses {
    /// None.
    pub const NONE: Self = Self(0);

    /// Adds one.
    #[inline]
    pub const fn insert(&mut self, class: TcpClass) {
        self.0 |= 1 << class.index();
    }

    /// Whether it is in.
    #[must_use]
    #[inline]
    pub const fn contains(self, class: TcpClass) -> bool {
        self.0 & 1 << class.index() != 0
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in.
    pub fn iter(self) -> impl Iterator<Item = TcpClass> {
        TcpClass::ALL
            .iter()
            .copied()
            .filter(move |class| self.contains(*class))
    }
}

closed_list! {
    /// Where a lost segment was lost, as seen from the probe.
    LossPlace {
        /// Seen here, and again: lost after the probe.
        After = "after",
        /// Never seen before it filled a hole: lost before the probe.
        Before = "before",
        /// Filled a hole too soon for a retransmission: reordered before the probe, not lost.
        Reordered = "reordered",
        /// Acknowledged but never seen: the capture missed it; no loss of the network's.
        Capture = "capture",
        /// Sent again although it had arrived: no loss at all.
        Spurious = "spurious",
    }
}

closed_list! {
    /// Why a flow left the table.
    FlowEnd {
        /// Both FINs or an RST, and quiet after it.
        Closed = "closed",
        /// Quiet for longer than its time-out.
        Idle = "idle",
        /// Its ports began a new connection.
        Reused = "reused",
        /// The table was full and it was the one to go.
        Evicted = "evicted",
        /// The capture ended.
        Stopped = "stopped",
    }
}

/// A flow's number while it lives: the place in its worker's table.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowKey(pub u32);

/// The group that a flow's values are added to (`group_by`, `group_by_port`); 0: none fits.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupKey(pub u16);

/// Which end of a flow sent.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Sender {
    /// The near end: this host, or the initiator.
    Near,
    /// The remote end.
    Remote,
}

impl Sender {
    /// Both, in the order of [`Sender::index`].
    pub const ALL: [Self; 2] = [Self::Near, Self::Remote];

    /// 0 for near, 1 for remote.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Remote => "remote",
        }
    }

    /// The other one.
    #[must_use]
    #[inline]
    pub const fn other(self) -> Self {
        match self {
            Self::Near => Self::Remote,
            Self::Remote => Self::Near,
        }
    }

    /// The leg behind the end that *answers* this sender.
    #[must_use]
    #[inline]
    pub const fn leg_to_peer(self) -> Leg {
        match self {
            Self::Near => Leg::Remote,
            Self::Remote => Leg::Near,
        }
    }
}

/// One thing that passive measurement learnt, in the order of the frames.
#[expect(
    clippy::large_enum_variant,
    reason = "handed on one at a time, never kept; and an allocation per flow is none"
)]
#[derive(Copy, Clone, Debug)]
pub enum Observation {
    /// A round-trip time.
    Rtt {
        /// Of which flow.
        flow: FlowKey,
        /// Where it is added up.
        group: GroupKey,
        /// How it was learnt.
        method: RttMethod,
        /// On which side.
        leg: Leg,
        /// The time.
        ns: u64,
    },
    /// A TCP frame with at least one class.
    Tcp {
        /// Of which flow.
        flow: FlowKey,
        /// Where it is added up.
        group: GroupKey,
        /// Who sent it.
        sender: Sender,
        /// What it is.
        classes: TcpClasses,
        /// Wire segments in the frame.
        segments: u32,
    },
    /// Lost (or reordered) segments, placed.
    Loss {
        /// Of which flow.
        flow: FlowKey,
        /// Where it is added up.
        group: GroupKey,
        /// Who had sent them.
        sender: Sender,
        /// Where they were lost.
        place: LossPlace,
        /// How many wire segments.
        segments: u32,
    },
    /// A segment that came late: how far behind the newest one.
    Reordering {
        /// Of which flow.
        flow: FlowKey,
        /// Where it is added up.
        group: GroupKey,
        /// Who had sent it.
        sender: Sender,
        /// Octets behind the newest.
        bytes: u32,
        /// Time since the newest.
        late_ns: u64,
    },
    /// The path said that a packet was too big.
    TooBig {
        /// Of which flow the quoted packet was, if it is in the table.
        flow: Option<FlowKey>,
        /// Where it is added up.
        group: GroupKey,
        /// The next hop's MTU; 0: an old router that does not say.
        next_hop_mtu: u32,
        /// Who says so.
        from: Address,
    },
    /// The same full-size segment again and again while smaller ones pass.
    BlackHole {
        /// Which flow.
        flow: FlowKey,
        /// Where it is added up.
        group: GroupKey,
        /// Who sends it.
        sender: Sender,
        /// Octets of the IP packet.
        packet_bytes: u32,
    },
    /// A flow left the table.
    Ended {
        /// What it was.
        summary: FlowSummary,
        /// Why.
        end: FlowEnd,
    },
}

/// More of one end of a TCP connection, where it was asked for; by the classifier in use.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct TcpDetail {
    /// Octets that it sent again.
    pub retransmitted_bytes: u64,
    /// Frames of its that were out of order.
    pub out_of_order: u32,
    /// Duplicate ACKs that it sent.
    pub duplicate_acks: u32,
    /// How often there were three of them.
    pub triple_duplicate_acks: u32,
    /// Frames of its that advertised no window.
    pub zero_windows: u32,
    /// Probes into the closed window of its peer.
    pub zero_window_probes: u32,
    /// Round trips of what it sent by sequence numbers.
    pub rtt_samples: u32,
}

closed_list! {
    /// IPv4's DF bit of an end's packets (RFC 791 section 3.1); always set for IPv6, which
    /// routers do not fragment (RFC 8200 section 5).
    DontFragment {
        /// In all of them.
        Set = "set",
        /// In none.
        Clear = "clear",
        /// In some: a sender that looks for the path's MTU, or one that found a black hole.
        Mixed = "mixed",
    }
}

/// What one end of a flow sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct SideSummary {
    /// Wire packets.
    pub packets: u64,
    /// Octets of their IP packets.
    pub bytes: u64,
    /// TCP: all retransmissions, in frames.
    pub retransmissions: u32,
    /// The latest round-trip estimate (smoothed as RFC 6298 does) of the leg to the peer.
    pub rtt_ns: Option<u32>,
    /// Whether routers may fragment its packets: TCP: by its first packet and by all later
    /// ones that are not just the next data or the next ACK; else by all.
    pub dont_fragment: Option<DontFragment>,
    /// TCP: the MSS option of its SYN.
    pub mss: Option<u16>,
    /// The largest IP packet on the wire.
    pub largest_packet_bytes: u32,
    /// TCP: more, where it was asked for.
    pub detail: Option<TcpDetail>,
}

/// A flow as the table knows it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct FlowSummary {
    /// Its number while it lives.
    pub flow: FlowKey,
    /// Where its values are added up.
    pub group: GroupKey,
    /// IP protocol number.
    pub protocol: u8,
    /// Address and port (ICMP: the echo's identifier) of the near and the remote end.
    pub ends: [(Address, u16); 2],
    /// The first frame.
    pub first: WallNanos,
    /// The last frame.
    pub last: WallNanos,
    /// How the round trips of both sides were learnt, if the protocol has a way.
    pub rtt_method: Option<RttMethod>,
    /// What each end sent, by [`Sender::index`].
    pub sides: [SideSummary; 2],
}
