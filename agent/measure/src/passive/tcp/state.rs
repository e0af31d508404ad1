//! What is kept of a TCP connection: 120 octets, both directions.

use base::{RttMethod, Sender, SideSummary, WallNanos};
use wire::decode::TcpHeader;

use crate::flow::pool::List;
use crate::flow::time::{Short, U48, smoothed};

/// The shift of the windows that one end advertises (RFC 7323 section 2).
///
/// An enum, and the last field of its struct: the values that it does not have tell the
/// compiler which protocol a record is of, so that the tag costs no octet.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
#[rustfmt::skip]
pub(crate) enum Scale {
    S0, S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, S12, S13, S14,
    /// One of the SYNs did not offer it.
    Unused,
    /// The SYNs were not seen.
    Unknown,
}

impl Scale {
    const SHIFTS: [Self; 15] = [
        Self::S0,
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::S11,
        Self::S12,
        Self::S13,
        Self::S14,
    ];

    /// RFC 7323 section 2.3: "If a Window Scale option is received with a shift.cnt value
    /// larger than 14, the TCP SHOULD log the error but MUST use 14 instead".
    pub(crate) fn of(shift: u8) -> Self {
        Self::SHIFTS[usize::from(shift.min(14))]
    }

    #[inline]
    pub(crate) const fn shift(self) -> Option<u32> {
        match self {
            Self::Unknown => None,
            Self::Unused => Some(0),
            known => Some(known as u32),
        }
    }
}

/// What one end sent.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Side {
    pub(crate) bytes: U48,
    pub(crate) packets: U48,
    /// When `next_seq` last advanced.
    pub(crate) newest_at: Short,
    /// Its last frame.
    pub(crate) seen_at: Short,
    /// Of its SYN; 0: none.
    pub(crate) mss: u16,
    /// The largest IP packet on the wire.
    pub(crate) largest: u16,
    /// The last window as it stood in the header.
    pub(crate) window: u16,
    /// In frames; saturates.
    pub(crate) retransmissions: u16,
    /// Behind the highest octet that it sent.
    pub(crate) next_seq: u32,
    /// Behind the highest octet without a gap before it.
    pub(crate) contiguous: u32,
    /// Its last acknowledgement.
    pub(crate) last_ack: u32,
    /// The newest TSval.
    pub(crate) tsval: u32,
    /// Sent, and not yet acknowledged.
    pub(crate) outstanding: List,
    /// Smoothed round trip to the peer and back; 0: none. Saturates at 4.29 s.
    pub(crate) rtt_ns: u32,
}

/// Small things of one end.
#[derive(Copy, Clone, Debug)]
#[repr(C)]
pub(crate) struct Notes {
    /// Since its acknowledgement last changed; saturates.
    pub(crate) dup_acks: u8,
    pub(crate) flags: u8,
    /// Losses that were counted and then disproved: as many of the next ones are not counted.
    disproved: u8,
    pub(crate) scale: Scale,
}

impl Notes {
    /// `next_seq` and `contiguous` say something.
    pub(crate) const SEQ: u8 = 1;
    /// `last_ack` says something.
    pub(crate) const ACK: u8 = 1 << 1;
    /// It sent a SYN.
    pub(crate) const SYN: u8 = 1 << 2;
    /// It sent a FIN.
    pub(crate) const FIN: u8 = 1 << 3;
    /// Its last segment was a keep-alive.
    pub(crate) const KEEP_ALIVE: u8 = 1 << 4;
    /// Its last segment was a zero-window probe.
    pub(crate) const PROBE: u8 = 1 << 5;
    /// Its last window was a SYN's, which is never scaled.
    pub(crate) const SYN_WINDOW: u8 = 1 << 6;
    /// A packet of the largest size was acknowledged.
    pub(crate) const FULL_PASSES: u8 = 1 << 7;

    #[inline]
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    pub(crate) const fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    /// A retransmission was needless; its loss may be counted already.
    pub(crate) const fn disprove(&mut self) {
        self.disproved = self.disproved.saturating_add(1);
    }

    /// Takes one DSACK that was not yet set off against a loss.
    pub(crate) const fn take_disproved(&mut self) -> bool {
        let some = self.disproved > 0;
        if some {
            self.disproved -= 1;
        }
        some
    }
}

/// Both ends, by [`Sender::index`].
#[derive(Copy, Clone, Debug)]
#[repr(C)]
pub(crate) struct TcpFlow {
    pub(crate) sides: [Side; 2],
    pub(crate) notes: [Notes; 2],
}

const _: () = assert!(size_of::<Side>() == 56);
const _: () = assert!(size_of::<TcpFlow>() == 120);

impl TcpFlow {
    /// Nothing seen yet.
    pub(crate) const NEW: Self = Self {
        sides: [Side {
            bytes: U48::new(0),
            packets: U48::new(0),
            newest_at: Short::ZERO,
            seen_at: Short::ZERO,
            mss: 0,
            largest: 0,
            window: 0,
            retransmissions: 0,
            next_seq: 0,
            contiguous: 0,
            last_ack: 0,
            tsval: 0,
            outstanding: List::EMPTY,
            rtt_ns: 0,
        }; 2],
        notes: [Notes {
            dup_acks: 0,
            flags: 0,
            disproved: 0,
            scale: Scale::Unknown,
        }; 2],
    };

    /// For people and files.
    pub(crate) fn summary(&self, sender: Sender) -> SideSummary {
        let side = &self.sides[sender.index()];
        SideSummary {
            packets: side.packets.get(),
            bytes: side.bytes.get(),
            retransmissions: u32::from(side.retransmissions),
            rtt_ns: (side.rtt_ns > 0).then_some(side.rtt_ns),
            mss: (side.mss > 0).then_some(side.mss),
            largest_packet_bytes: u32::from(side.largest),
            ..SideSummary::default()
        }
    }

    /// What the smoothed round trips are of: timestamps where the ends agreed on them.
    pub(crate) const fn rtt_method(&self) -> RttMethod {
        // A clock that stands at 0 is one in 2^32.
        if self.sides[0].tsval | self.sides[1].tsval != 0 {
            RttMethod::Timestamp
        } else {
            RttMethod::Sequence
        }
    }

    /// What the other end has acknowledged of a sender's octets, if it has said.
    #[inline]
    pub(super) const fn acked(&self, sender: Sender) -> Option<u32> {
        let other = sender.other().index();
        if self.notes[other].has(Notes::ACK) {
            Some(self.sides[other].last_ack)
        } else {
            None
        }
    }

    /// One frame more.
    #[inline]
    pub(crate) fn count(&mut self, sender: Sender, bytes: u32, packets: u32, packet_bytes: u32) {
        let side = &mut self.sides[sender.index()];
        side.bytes.add(bytes);
        side.packets.add(packets);
        let size = packet_bytes.min(0xffff) as u16;
        if size > side.largest {
            side.largest = size;
            self.notes[sender.index()].set(Notes::FULL_PASSES, false);
        }
    }

    /// Takes what the SYNs say.
    pub(crate) fn syn(&mut self, sender: Sender, tcp: &TcpHeader) {
        let s = sender.index();
        if tcp.options & TcpHeader::MSS != 0 {
            self.sides[s].mss = tcp.mss;
        }
        let offered = tcp.options & TcpHeader::SCALE != 0;
        self.notes[s].scale = if offered {
            Scale::of(tcp.scale)
        } else {
            Scale::Unused
        };
        // RFC 7323 section 2.2: in force only if both SYNs carry it.
        let other = sender.other().index();
        if tcp.has(TcpHeader::ACK) && self.notes[other].has(Notes::SYN) {
            if !offered {
                self.notes[other].scale = Scale::Unused;
            } else if self.notes[other].scale == Scale::Unused {
                self.notes[s].scale = Scale::Unused;
            }
        }
        self.notes[s].set(Notes::SYN, true);
    }
}

impl Side {
    /// One more round trip to the peer.
    #[inline]
    pub(crate) fn smooth(&mut self, ns: u64) {
        self.rtt_ns = smoothed(self.rtt_ns, ns);
    }

    /// Whether a SYN of this sequence number began what was sent so far: not more octets lie
    /// behind it than were sent. (A new connection's number is chosen at random, RFC 6528.)
    pub(crate) const fn isn_is(&self, seq: u32) -> bool {
        let behind = self.next_seq.wrapping_sub(seq).wrapping_sub(1);
        behind as u64 <= self.bytes.get()
    }

    /// Nanoseconds since `next_seq` advanced.
    #[inline]
    pub(crate) const fn since_newest(&self, now: WallNanos) -> i64 {
        self.newest_at.until(now)
    }
}
