//! What became of every frame.

use base::FlowEnd;
use wire::decode::Undecoded;
use wire::quic::NotQuic;

use super::datagram::DatagramEvent;
use super::tcp::NoSample;

base::closed_list! {
    /// Why a decoded frame is in no flow.
    Unmeasured {
        /// A later fragment whose first one was not seen (lately).
        OrphanFragment = "orphan_fragment",
        /// An ICMP error: it is about a flow, not of one.
        IcmpError = "icmp_error",
        /// The flow table had no room and nothing to evict.
        TableFull = "table_full",
    }
}

/// What became of every frame, since the analyser began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Frames taken.
    pub frames: u64,
    /// Their octets on the wire.
    pub bytes: u64,
    /// Frames in flows, captured copies included.
    pub measured: u64,
    /// Wire packets in flows: a merged frame counts as the segments that it was.
    pub packets: u64,
    /// Frames that were not decoded, by [`Undecoded::index`].
    pub undecoded: [u64; Undecoded::COUNT],
    /// Frames that were decoded and are in no flow, by [`Unmeasured::index`].
    pub unmeasured: [u64; Unmeasured::COUNT],
    /// Frames that were captured twice; in `measured`.
    pub capture_duplicates: u64,
    /// Their octets on the wire; in `bytes`.
    pub capture_duplicate_bytes: u64,
    /// Fragments that are not the first, in a flow.
    pub fragments: u64,
    /// Flows that were begun.
    pub flows: u64,
    /// Flows that left the table, by [`FlowEnd::index`].
    pub ended: [u64; FlowEnd::COUNT],
    /// Segments that were not remembered, for want of room.
    pub segments_forgotten: u64,
    /// ACKs that gave no round-trip time, by [`NoSample::index`].
    pub no_sample: [u64; NoSample::COUNT],
    /// Datagrams that gave no round-trip time, by [`DatagramEvent::index`].
    pub datagrams: [u64; DatagramEvent::COUNT],
    /// Datagrams on a QUIC port that are not QUIC, by [`NotQuic::index`].
    pub not_quic: [u64; NotQuic::COUNT],
    /// Batches in which time went back: the capture's clock was set, or several queues came
    /// together.
    pub clock_back: u64,
}

impl Counters {
    pub(super) const fn new() -> Self {
        Self {
            frames: 0,
            bytes: 0,
            measured: 0,
            packets: 0,
            undecoded: [0; Undecoded::COUNT],
            unmeasured: [0; Unmeasured::COUNT],
            capture_duplicates: 0,
            capture_duplicate_bytes: 0,
            fragments: 0,
            flows: 0,
            ended: [0; FlowEnd::COUNT],
            segments_forgotten: 0,
            no_sample: [0; NoSample::COUNT],
            datagrams: [0; DatagramEvent::COUNT],
            not_quic: [0; NotQuic::COUNT],
            clock_back: 0,
        }
    }

    /// Frames that were decoded.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.measured + self.unmeasured.iter().sum::<u64>()
    }

    /// Frames that are nowhere: 0, always.
    #[must_use]
    pub fn balance(&self) -> i64 {
        let known = self.decoded() + self.undecoded.iter().sum::<u64>();
        self.frames.wrapping_sub(known).cast_signed()
    }
}
