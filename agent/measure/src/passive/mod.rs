//! Passive measurement: what the packets that pass by say about the network.
//!
//! [`Analyser`] takes batches of captured frames and says what it learns to a closure. One
//! worker owns one analyser; both directions of a flow must come to the same one. Offline and
//! live are the same: time is the frames' own.
//!
//! What never happens here: an allocation after [`Analyser::new`], a clock read, a panic on
//! any frame. Every frame is accounted for: [`Counters::balance`].

mod analyser;
mod counters;
pub(crate) mod datagram;
mod fragments;
mod groups;
mod recent;
pub(crate) mod tcp;

pub use analyser::Analyser;
pub use counters::{Counters, Unmeasured};
pub use datagram::DatagramEvent;
pub use groups::{Groups, MOST_GROUPS, TooManyGroups};
pub use tcp::NoSample;
use wire::decode::Layer;

pub use crate::flow::table::MOST_FLOWS;

/// Whose definitions of retransmissions and the like.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Classifier {
    /// tshark's: by time and sequence numbers.
    #[default]
    Tshark,
    /// tcptrace's: by octets seen before.
    Tcptrace,
}

/// What to do with packets that were captured twice.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Duplicates {
    /// Count them and nothing else.
    #[default]
    Apart,
    /// Treat them as packets of their own, as tshark does.
    Classify,
}

/// How an analyser works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose definitions.
    pub classifier: Classifier,
    /// Which IP header names a flow.
    pub layer: Layer,
    /// What to do with packets that were captured twice.
    pub duplicates: Duplicates,
    /// Flows in memory at once, at most [`MOST_FLOWS`]; fewer than 192 octets each.
    pub flows: u32,
    /// Segments that wait for their ACK, of all flows; 24 octets each.
    pub segments: u32,
    /// A flow that was quiet for so long is over, in ns.
    pub idle_ns: u64,
    /// The same while only one end was seen, in ns.
    pub unanswered_ns: u64,
    /// Counts more of each TCP connection ([`base::TcpDetail`]), in memory of its own: 112
    /// octets a flow. tcptrace's definitions need it in any case.
    pub details: bool,
    /// How flows are grouped.
    pub groups: Groups,
    /// Ports of QUIC servers beside 443.
    pub quic_ports: Vec<u16>,
    /// Ports of STAMP reflectors beside 862.
    pub stamp_ports: Vec<u16>,
    /// Random numbers that nobody else knows: the key of the flow table's hash.
    pub seed: [u64; 8],
}

impl Options {
    /// The defaults with that seed: 131 072 flows and as many segments twice, 300 s and 30 s.
    #[must_use]
    pub fn new(seed: [u64; 8]) -> Self {
        Self {
            classifier: Classifier::default(),
            layer: Layer::default(),
            duplicates: Duplicates::default(),
            flows: 1 << 17,
            segments: 1 << 18,
            idle_ns: 300_000_000_000,
            unanswered_ns: 30_000_000_000,
            details: false,
            groups: Groups::default(),
            quic_ports: Vec::new(),
            stamp_ports: Vec::new(),
            seed,
        }
    }

    /// Octets that an analyser of these options allocates for flows and segments.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        crate::flow::table::Table::bytes(self.flows)
            + self.segments as u64 * size_of::<crate::flow::pool::Cell>() as u64
            + self.detailed() as u64 * size_of::<tcp::Detail>() as u64
    }

    /// For how many flows there are details.
    const fn detailed(&self) -> u32 {
        if self.details || matches!(self.classifier, Classifier::Tcptrace) {
            self.flows
        } else {
            0
        }
    }
}
