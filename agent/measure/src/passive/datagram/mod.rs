//! Round trips of protocols over datagrams, from their own packets: QUIC, DNS, STAMP and TWAMP
//! Light, ICMP echo.
//!
//! Owns what one flow must remember of both its directions, at most [`STATE_BYTES`]: it lies
//! in the flow's record, in the place that a TCP flow needs for TCP. The caller looks the flow up, says
//! who sent the packet, and gets each round trip through a closure.
//!
//! What never happens here: an allocation, a clock read, a panic on any octets, a sample from
//! an interval that is negative (capture time may step back) or ambiguous (Karn). What was
//! seen and not used is in [`DatagramCounters`]. Times are nanoseconds of capture time. A state
//! belongs to one worker.

mod dns;
mod echo;
mod outstanding;
mod quic;
mod spin;
mod stamp;

use base::{Leg, RttMethod, Sender, WallNanos};
use wire::decode::{Packet, Transport};
use wire::quic::NotQuic;

/// The most that the state of one flow may take.
pub(crate) const STATE_BYTES: usize = 84;

base::closed_list! {
    /// What was seen and gave no sample; the index of a counter.
    DatagramEvent {
        /// A response without a request that waits for it.
        UnmatchedResponse = "unmatched_responses",
        /// A second response to a request that was answered.
        DuplicateResponse = "duplicate_responses",
        /// A request again while it waits: its answer will be ambiguous (Karn), no sample.
        RepeatedRequest = "repeated_requests",
        /// A response to a request that was repeated.
        AmbiguousResponse = "ambiguous_responses",
        /// A request that was forgotten for a newer one: it waited too long.
        SupersededRequest = "superseded_requests",
        /// A request that was not remembered: all places held younger ones.
        UntrackedRequest = "untracked_requests",
        /// A response from before its request: capture time stepped back.
        Backwards = "backwards",
        /// On a DNS or STAMP port, but not of that protocol, or cut before what matters.
        Unreadable = "unreadable",
        /// A client Initial again, too late to be of the same flight: no handshake sample.
        InitialRepeated = "quic_initials_repeated",
        /// A server's long header that does not fit the client's, or comes without one.
        HandshakeUnmatched = "quic_handshakes_unmatched",
        /// A handshake's near leg was not to be learnt: cut, coalesced out of sight, repeated.
        HandshakeNearUnknown = "quic_handshakes_near_unknown",
        /// A spin edge that the next packets contradicted: reordering, or no spinning at all.
        SpinUnsteady = "quic_spin_unsteady",
        /// A packet with the other spin value too soon after an edge.
        SpinHeldOff = "quic_spin_held_off",
        /// A spin edge that answers no edge of the other side.
        SpinUnanswering = "quic_spin_unanswering",
        /// A spin sample that would say more of the gap between packets than of the path.
        SpinSparse = "quic_spin_sparse",
        /// A spin sample of a flow that has not spun regularly long enough.
        SpinUntrusted = "quic_spin_untrusted",
    }
}

/// Counts of [`DatagramEvent`] and of payload that is not QUIC, by reason.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct DatagramCounters {
    events: [u64; DatagramEvent::COUNT],
    not_quic: [u64; NotQuic::COUNT],
}

impl DatagramCounters {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self {
            events: [0; DatagramEvent::COUNT],
            not_quic: [0; NotQuic::COUNT],
        }
    }

    /// All of both.
    pub(crate) const fn all(&self) -> ([u64; DatagramEvent::COUNT], [u64; NotQuic::COUNT]) {
        (self.events, self.not_quic)
    }

    /// How often something was seen.
    #[cfg(test)]
    pub(crate) const fn get(&self, event: DatagramEvent) -> u64 {
        self.events[event.index()]
    }

    /// Packets of QUIC candidates that were not QUIC.
    #[cfg(test)]
    pub(crate) const fn not_quic(&self, reason: NotQuic) -> u64 {
        self.not_quic[reason.index()]
    }

    #[inline]
    const fn count(&mut self, event: DatagramEvent) {
        self.events[event.index()] += 1;
    }
}

/// Ports beside the well-known ones.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Ports<'a> {
    /// Of QUIC servers, beside 443.
    pub(crate) quic: &'a [u16],
    /// Of STAMP reflectors, beside 862.
    pub(crate) stamp: &'a [u16],
}

/// Which estimator a flow gets.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// UDP with a QUIC server's port; 0 where both ports are such.
    Quic(u16),
    /// UDP with port 53.
    Dns,
    /// UDP with a reflector's port; 0 where both ports are such.
    Stamp(u16),
    /// ICMP or ICMPv6 echo.
    Echo,
    /// None of these: nothing is learnt.
    Plain,
}

impl Kind {
    /// From the packet that begins a flow.
    pub(crate) fn of(packet: &Packet, ports: &Ports<'_>) -> Self {
        match packet.transport {
            Transport::Echo { .. } => return Self::Echo,
            Transport::Udp => {}
            _ => return Self::Plain,
        }
        let ends = [packet.source_port, packet.destination_port];
        let served = |known: u16, more: &[u16]| {
            let serves = |port: u16| port == known || more.contains(&port);
            match ends.map(serves) {
                [true, true] => Some(0),
                [true, false] => Some(packet.source_port),
                [false, true] => Some(packet.destination_port),
                [false, false] => None,
            }
        };
        if ends.contains(&dns::PORT) {
            Self::Dns
        } else if let Some(port) = served(wire::stamp::PORT, ports.stamp) {
            Self::Stamp(port)
        } else if let Some(port) = served(quic::PORT, ports.quic) {
            Self::Quic(port)
        } else {
            Self::Plain
        }
    }
}

/// What one flow remembers.
#[derive(Copy, Clone, Debug)]
pub(crate) struct DatagramState(State);

#[derive(Copy, Clone, Debug)]
enum State {
    Quic(quic::Quic),
    Dns(dns::Dns),
    Stamp(stamp::Stamp),
    Echo(echo::Echo),
    Plain,
}

const _: () = assert!(size_of::<DatagramState>() <= STATE_BYTES);
const _: () = assert!(align_of::<DatagramState>() <= 4);

/// What every estimator is handed beside its state.
struct Seen<'a, F> {
    at: WallNanos,
    sender: Sender,
    counters: &'a mut DatagramCounters,
    rtt: F,
}

impl<F: FnMut(RttMethod, Leg, u64)> Seen<'_, F> {
    #[inline]
    fn count(&mut self, event: DatagramEvent) {
        self.counters.count(event);
    }
}

impl DatagramState {
    /// Of a flow that begins.
    pub(crate) const fn new(kind: Kind) -> Self {
        Self(match kind {
            Kind::Quic(port) => State::Quic(quic::Quic::new(port)),
            Kind::Dns => State::Dns(dns::Dns::new()),
            Kind::Stamp(port) => State::Stamp(stamp::Stamp::new(port)),
            Kind::Echo => State::Echo(echo::Echo::new()),
            Kind::Plain => State::Plain,
        })
    }

    /// The latest round trip, smoothed or not, in nanoseconds.
    pub(crate) const fn rtt_ns(&self) -> Option<u32> {
        let ns = match &self.0 {
            State::Quic(quic) => quic.remote_ns(),
            State::Dns(dns) => dns.latest_ns(),
            State::Stamp(stamp) => stamp.latest_ns(),
            State::Echo(echo) => echo.latest_ns(),
            State::Plain => 0,
        };
        if ns == 0 { None } else { Some(ns) }
    }

    /// How [`DatagramState::rtt_ns`] is learnt.
    pub(crate) const fn rtt_method(&self) -> Option<RttMethod> {
        match &self.0 {
            State::Quic(_) => Some(RttMethod::QuicSpin),
            State::Dns(_) => Some(RttMethod::Dns),
            State::Stamp(_) => Some(RttMethod::Stamp),
            State::Echo(_) => Some(RttMethod::Icmp),
            State::Plain => None,
        }
    }

    /// Takes one packet of the flow in the order of capture: when, from whom, what, and the
    /// octets of its payload that were captured. Each round trip goes to `rtt`: how it was
    /// learnt, on which leg, nanoseconds.
    #[inline]
    pub(crate) fn packet(
        &mut self,
        at: WallNanos,
        sender: Sender,
        packet: &Packet,
        payload: &[u8],
        counters: &mut DatagramCounters,
        rtt: &mut impl FnMut(RttMethod, Leg, u64),
    ) {
        let mut seen = Seen {
            at,
            sender,
            counters,
            rtt,
        };
        match (&mut self.0, packet.transport) {
            (State::Quic(quic), Transport::Udp) => quic.packet(packet, payload, &mut seen),
            (State::Dns(dns), Transport::Udp) => dns.packet(packet, payload, &mut seen),
            (State::Stamp(stamp), Transport::Udp) => stamp.packet(packet, payload, &mut seen),
            (State::Echo(echo), Transport::Echo { reply, sequence }) => {
                echo.packet(reply, sequence, &mut seen);
            }
            // Later fragments, and an ICMP flow's other messages.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
