//! The QUIC handshake's round trips, and the way of 1-RTT packets to the spin bit.
//!
//! Remote leg: from the client's first Initial to the server's first long-header packet for
//! it, whichever that is (RFC 9312 section 3.8.1, RFC 9000 section 17.2). A Retry answers
//! too, and the client's next Initial begins anew; so does one after Version Negotiation.
//! Near leg: from the server's first Handshake packet to the client's first (RFC 9312 section
//! 3.8.1), which is sent at once (RFC 9000 section 13.2.1: "an endpoint MUST acknowledge all
//! ack-eliciting Initial and Handshake packets immediately"), and after a Retry to the Initial
//! that carries its token. "Near" and "remote" here are for a client on the near side.
//!
//! Karn's rule without packet numbers, which are encrypted: packets of one flight follow each
//! other within [`FLIGHT_NS`]; one that comes later while nothing answered may be a
//! retransmission, and takes the sample away.

use base::{Leg, RttMethod, Sender};
use wire::decode::Packet;
use wire::quic::{ConnectionId, Header, INITIAL_DATAGRAM, Long, LongType};

use super::spin::Spin;
use super::{DatagramEvent, Seen};
use crate::flow::time::Short;

/// Where HTTP/3 servers listen.
pub(super) const PORT: u16 = 443;

/// A ClientHello with a post-quantum key is two Initials, a server's flight several packets.
/// They leave back to back; the first probe time-out is three times a round trip that is
/// taken for 333 ms (RFC 9002 section 6.2.2), and of hundreds of ms with remembered ones.
const FLIGHT_NS: i64 = 10_000_000;

/// How far the handshake is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Phase {
    /// Waits for a client's Initial.
    Idle,
    /// An Initial went by at `since`.
    Asked,
    /// More than one did.
    AskedAgain,
    /// The server answered; waits for its first Handshake packet.
    Answered,
    /// A Handshake packet of the server or a Retry went by at `since`.
    ServerFlight,
    /// Nothing more is to be learnt.
    Done,
}

/// One flow's handshake and spin.
#[derive(Copy, Clone, Debug)]
pub(super) struct Quic {
    spin: Spin,
    /// Of the phases that have a time.
    since: Short,
    /// 0: both ports are a server's.
    server_port: u16,
    /// Digests of connection IDs; 0: not known (cut). The client's source...
    client_id: u16,
    /// ...the destination that it began with...
    first_id: u16,
    /// ...and the server's source, which the client takes over (RFC 9000 section 7.2).
    server_id: u16,
    client: Option<Sender>,
    phase: Phase,
    /// `since` is a Retry's.
    retried: bool,
}

impl Quic {
    pub(super) const fn new(server_port: u16) -> Self {
        Self {
            spin: Spin::new(),
            since: Short::ZERO,
            server_port,
            client_id: 0,
            first_id: 0,
            server_id: 0,
            client: None,
            phase: Phase::Idle,
            retried: false,
        }
    }

    pub(super) const fn remote_ns(&self) -> u32 {
        self.spin.leg_ns(Leg::Remote)
    }

    #[inline]
    pub(super) fn packet<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        packet: &Packet,
        payload: &[u8],
        seen: &mut Seen<'_, F>,
    ) {
        if self.server_port != 0 && self.client.is_none() {
            self.client = Some(if packet.destination_port == self.server_port {
                seen.sender
            } else {
                seen.sender.other()
            });
        }
        match Header::parse(payload, packet.payload_len) {
            Ok(Header::Short { spin }) => self.spin.packet(spin, self.client, seen),
            Ok(Header::Long(long)) => self.long(&long, packet.payload_len, seen),
            Err(reason) => seen.counters.not_quic[reason.index()] += 1,
        }
    }

    fn long<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        long: &Long<'_>,
        whole: u32,
        seen: &mut Seen<'_, F>,
    ) {
        // RFC 9000 §14.1: only a client's Initial must be in so large a datagram.
        let begins = matches!(long.kind, LongType::Initial | LongType::Reserved)
            && whole >= INITIAL_DATAGRAM;
        let client = match self.client {
            Some(client) => client,
            None if begins => *self.client.insert(seen.sender),
            None => return seen.count(DatagramEvent::HandshakeUnmatched),
        };
        if seen.sender == client {
            self.client_sent(long, begins, seen);
        } else {
            self.server_sent(long, seen);
        }
    }

    fn client_sent<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        long: &Long<'_>,
        begins: bool,
        seen: &mut Seen<'_, F>,
    ) {
        let destination = digest(long.destination);
        let source = digest(long.source);
        // A new connection on the ports of the old one: to an ID that neither side chose,
        // after the old one's last Initial or from another ID.
        let anew = destination != 0
            && self.server_id != 0
            && ![self.first_id, self.server_id].contains(&destination)
            && (self.phase == Phase::Done || !same(source, self.client_id));
        if begins && (self.phase == Phase::Idle || anew) {
            self.client_id = source;
            self.first_id = destination;
            self.server_id = 0;
            self.begin(seen);
            return;
        }
        match self.phase {
            Phase::Asked if begins => {
                let gap = self.since.until(seen.at);
                if gap.unsigned_abs() >= FLIGHT_NS as u64 {
                    self.phase = Phase::AskedAgain;
                    seen.count(DatagramEvent::InitialRepeated);
                }
            }
            Phase::AskedAgain if begins => seen.count(DatagramEvent::InitialRepeated),
            // RFC 9000 §7.2: the client sends to the server's connection ID from now on; an
            // Initial to the first one was sent before it heard the server. A Handshake
            // packet needs keys from the server, and may go to a still newer ID.
            Phase::ServerFlight
                if long.kind == LongType::Handshake
                    || long.handshake_follows == Some(true)
                    || same(destination, self.server_id) =>
            {
                self.client_answered(long, begins, seen);
            }
            _ => {}
        }
    }

    /// The client heard the server's Handshake packet or Retry.
    fn client_answered<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        long: &Long<'_>,
        begins: bool,
        seen: &mut Seen<'_, F>,
    ) {
        let near = match (long.kind, long.handshake_follows) {
            (LongType::Initial, _) if self.retried => begins,
            (LongType::Handshake, _) | (LongType::Initial, Some(true)) => !self.retried,
            // A Handshake packet may be behind it, out of sight.
            (LongType::Initial, None) => {
                self.phase = Phase::Done;
                return seen.count(DatagramEvent::HandshakeNearUnknown);
            }
            _ => false,
        };
        if !near {
            return;
        }
        self.emit(seen);
        if self.retried {
            // The server answers to the same client ID; it may choose another of its own.
            self.first_id = self.server_id;
            self.begin(seen);
        } else {
            self.phase = Phase::Done;
        }
    }

    fn server_sent<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        long: &Long<'_>,
        seen: &mut Seen<'_, F>,
    ) {
        let expected = matches!(self.phase, Phase::Asked | Phase::AskedAgain);
        let destination = digest(long.destination);
        if self.phase == Phase::Idle
            || !same(destination, self.client_id)
            || matches!(long.kind, LongType::ZeroRtt | LongType::Reserved)
        {
            return seen.count(DatagramEvent::HandshakeUnmatched);
        }
        if expected {
            if self.phase == Phase::Asked {
                self.emit(seen);
            } else {
                seen.count(DatagramEvent::AmbiguousResponse);
            }
            self.server_id = digest(long.source);
            self.phase = Phase::Answered;
        }
        match (self.phase, long.kind, long.handshake_follows) {
            (_, LongType::VersionNegotiation, _) if expected => self.phase = Phase::Idle,
            (_, LongType::Retry, _) if expected => self.flight(true, seen),
            (Phase::Answered, LongType::Handshake, _)
            | (Phase::Answered, LongType::Initial, Some(true)) => self.flight(false, seen),
            (Phase::Answered, LongType::Initial, None) => {
                self.phase = Phase::Done;
                seen.count(DatagramEvent::HandshakeNearUnknown);
            }
            (Phase::ServerFlight, _, _) => {
                let gap = self.since.until(seen.at);
                if gap.unsigned_abs() >= FLIGHT_NS as u64 && !self.retried {
                    self.phase = Phase::Done;
                    seen.count(DatagramEvent::HandshakeNearUnknown);
                }
            }
            _ => {}
        }
    }

    fn begin<F>(&mut self, seen: &Seen<'_, F>) {
        self.since = Short::of(seen.at);
        self.retried = false;
        self.phase = Phase::Asked;
    }

    fn flight<F>(&mut self, retried: bool, seen: &Seen<'_, F>) {
        self.since = Short::of(seen.at);
        self.retried = retried;
        self.phase = Phase::ServerFlight;
    }

    /// A sample from `since`, for the leg behind who sent now.
    fn emit<F: FnMut(RttMethod, Leg, u64)>(&mut self, seen: &mut Seen<'_, F>) {
        let leg = seen.sender.other().leg_to_peer();
        match u64::try_from(self.since.until(seen.at)) {
            Ok(ns) => {
                self.spin.expect(leg, ns);
                (seen.rtt)(RttMethod::QuicHandshake, leg, ns);
            }
            Err(_) => seen.count(DatagramEvent::Backwards),
        }
    }
}

/// 0: it was cut.
fn digest(id: Option<ConnectionId<'_>>) -> u16 {
    id.map_or(0, ConnectionId::digest)
}

/// Whether two digests may be of the same ID; 0 is one that was not captured.
const fn same(a: u16, b: u16) -> bool {
    a == b || a == 0 || b == 0
}
