//! Round trips from the spin bit (RFC 9000 section 17.4, RFC 9312 section 3.8.2).
//!
//! The client sends the inverse of what it got, the server what it got: an edge of one side is
//! answered by the other side's next edge, to the same value if that is the server. The time
//! between is the leg behind the side that answers; the two legs add up to the time between
//! two edges of one side. A sample is given if
//! 1. both edges were confirmed by a third packet in a row: one or two are reordering, or
//!    chance;
//! 2. the values fit, and no other edge has answered the same edge: edges alternate;
//! 3. the edge is not younger than 1/8 of the round trip so far (hold-off), against
//!    reordering of several packets around an edge;
//! 4. the silence before the answering edge is at most half of the sample: otherwise the
//!    sample says when the sender had something to send (RFC 9312: "application-limited");
//! 5. the flow is trusted. Endpoints that do not spin send a constant or *random* values
//!    (RFC 9000 section 17.4). A good edge adds [`GOOD`] to the flow's score, a bad one takes
//!    [`BAD`]. The worst case is a client of random values and a server that reflects them, so
//!    that every edge fits once it is confirmed, which is one in four of the client's: eight in a
//!    row at its start would reach [`TRUSTED`], one in 65 536; from there the score only falls.

use base::{Leg, RttMethod, Sender};

use super::{DatagramEvent, Seen};
use crate::flow::time::Short;

const GOOD: i8 = 1;
const BAD: i8 = -4;
/// A packet within the hold-off: most likely a late one.
const LATE: i8 = -1;
/// From here on samples are given: eight round trips after the first edge.
const TRUSTED: i8 = 16;
const BEST: i8 = 24;
const WORST: i8 = -100;

/// A sample that says more of the gap between packets than of the path.
const SPARSE: u32 = 0;
/// A sample from an edge that answered nothing itself.
const STRAY: u32 = u32::MAX;

/// What is known of one side; bits.
#[derive(Copy, Clone, Debug)]
struct Flags(u16);

impl Flags {
    /// A packet was seen: `LEVEL` and `last_at` say something.
    const SEEN: u16 = 1;
    /// The spin value, as confirmed.
    const LEVEL: u16 = 1 << 1;
    /// `edge_at` is when it began; without, it was so from the start.
    const EDGE: u16 = 1 << 2;
    /// The other side's edge answered that edge.
    const ANSWERED: u16 = 1 << 3;
    /// A packet had the other value, at `candidate_at`.
    const CANDIDATE: u16 = 1 << 4;
    /// `sample` is that of the candidate or, with `WAITS`, of the edge.
    const SAMPLE: u16 = 1 << 5;
    /// The edge answers the other side's candidate, which is not confirmed yet.
    const WAITS: u16 = 1 << 6;
    /// The candidate answers the other side's candidate.
    const EARLY: u16 = 1 << 7;
    /// The candidate answers an edge after which the other side has confirmed another.
    const PAST: u16 = 1 << 8;
    /// The candidate has two packets.
    const SECOND: u16 = 1 << 9;
    /// The edge answered nothing: what answers it is no sample, but may begin a new chain.
    const STRAY: u16 = 1 << 10;

    const fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    const fn set(&mut self, bits: u16) {
        self.0 |= bits;
    }

    const fn clear(&mut self, bits: u16) {
        self.0 &= !bits;
    }
}

/// One side's spin signal.
#[derive(Copy, Clone, Debug)]
struct Side {
    last_at: Short,
    edge_at: Short,
    candidate_at: Short,
    /// Nanoseconds from the other side's edge to this side's, or [`SPARSE`] or [`STRAY`].
    /// Saturates at 4.29 s.
    sample: u32,
}

/// Both sides.
#[derive(Copy, Clone, Debug)]
pub(super) struct Spin {
    sides: [Side; 2],
    /// The legs' round trips so far, smoothed, in nanoseconds; 0: none.
    legs: [u32; 2],
    flags: [Flags; 2],
    score: i8,
}

impl Spin {
    pub(super) const fn new() -> Self {
        let side = Side {
            last_at: Short::ZERO,
            edge_at: Short::ZERO,
            candidate_at: Short::ZERO,
            sample: 0,
        };
        Self {
            sides: [side; 2],
            legs: [0; 2],
            flags: [Flags(0); 2],
            score: 0,
        }
    }

    /// A round trip of a leg: RFC 9312 section 3.8.2 takes the handshake's as the first
    /// estimate. Smoothed as RFC 6298 section 2 does.
    pub(super) fn expect(&mut self, leg: Leg, ns: u64) {
        let ns = u32::try_from(ns).unwrap_or(u32::MAX).max(1);
        let known = &mut self.legs[leg.index()];
        *known = if *known == 0 {
            ns
        } else {
            *known - *known / 8 + ns / 8
        };
    }

    /// A leg's round trip so far; 0: none.
    pub(super) const fn leg_ns(&self, leg: Leg) -> u32 {
        self.legs[leg.index()]
    }

    /// A 1-RTT packet with this spin value.
    #[inline]
    pub(super) fn packet<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        spin: bool,
        client: Option<Sender>,
        seen: &mut Seen<'_, F>,
    ) {
        let me = seen.sender.index();
        let flags = &mut self.flags[me];
        let side = &mut self.sides[me];
        if !flags.has(Flags::SEEN) {
            flags.set(Flags::SEEN | if spin { Flags::LEVEL } else { 0 });
            side.last_at = Short::of(seen.at);
            return;
        }
        let silence = side.last_at.until(seen.at);
        side.last_at = Short::of(seen.at);
        let steady = spin == flags.has(Flags::LEVEL);
        match (steady, flags.has(Flags::CANDIDATE)) {
            (true, false) => {}
            (true, true) => self.contradict(seen),
            (false, true) if !flags.has(Flags::SECOND) => flags.set(Flags::SECOND),
            (false, true) => self.confirm(seen),
            (false, false) => self.begin(spin, silence, client, seen),
        }
    }

    /// The first packet with another value.
    fn begin<F: FnMut(RttMethod, Leg, u64)>(
        &mut self,
        spin: bool,
        silence: i64,
        client: Option<Sender>,
        seen: &mut Seen<'_, F>,
    ) {
        let (me, peer) = (seen.sender.index(), seen.sender.other().index());
        let round_trip = u64::from(self.legs[0]) + u64::from(self.legs[1]);
        if self.flags[me].has(Flags::EDGE)
            && self.sides[me].edge_at.until(seen.at).unsigned_abs() < round_trip / 8
        {
            // Lest an estimate that is too high holds off for ever.
            self.legs = self.legs.map(|ns| ns - ns / 16);
            self.judge(LATE);
            return seen.count(DatagramEvent::SpinHeldOff);
        }
        if self.flags[me].has(Flags::WAITS) {
            // The other side is too slow to confirm what this edge answered.
            self.forget(me);
            self.judge(BAD);
            seen.count(DatagramEvent::SpinUnsteady);
        }
        self.flags[me].clear(Flags::SAMPLE | Flags::EARLY | Flags::PAST | Flags::SECOND);
        self.flags[me].set(Flags::CANDIDATE);
        self.sides[me].candidate_at = Short::of(seen.at);
        // RFC 9000 §17.4: the server sets its value "to be equal to the spin bit in the
        // received packet", the client "to the inverse".
        let Some(client) = client else { return };
        let heard = spin ^ (client == seen.sender);
        let other = self.flags[peer];
        let from = if !other.has(Flags::SEEN) {
            None
        } else if heard != other.has(Flags::LEVEL) {
            // Only a candidate has that value, and none may have answered it yet.
            (other.has(Flags::CANDIDATE)).then(|| {
                self.flags[me].set(Flags::EARLY);
                self.sides[peer].candidate_at
            })
        } else {
            (other.has(Flags::EDGE) && !other.has(Flags::ANSWERED))
                .then_some(self.sides[peer].edge_at)
        };
        let Some(from) = from else { return };
        let ns = from.until(seen.at);
        if ns < 0 || silence < 0 {
            return seen.count(DatagramEvent::Backwards);
        }
        self.flags[me].set(Flags::SAMPLE);
        let stray = if self.flags[me].has(Flags::EARLY) {
            !other.has(Flags::SAMPLE)
        } else {
            other.has(Flags::STRAY)
        };
        self.sides[me].sample = if stray {
            STRAY
        } else if silence > ns / 2 {
            SPARSE
        } else {
            ns.clamp(1, i64::from(STRAY - 1)) as u32
        };
    }

    /// A third packet in a row with the new value: the edge is one.
    fn confirm<F: FnMut(RttMethod, Leg, u64)>(&mut self, seen: &mut Seen<'_, F>) {
        let (me, peer) = (seen.sender.index(), seen.sender.other().index());
        let side = &mut self.sides[me];
        side.edge_at = side.candidate_at;
        let mut flags = self.flags[me];
        flags.0 ^= Flags::LEVEL;
        flags.set(Flags::EDGE);
        flags.clear(Flags::CANDIDATE | Flags::SECOND | Flags::ANSWERED);
        // Did the other side answer before this was certain?
        let answered = self.flags[peer].has(Flags::WAITS);
        if answered {
            flags.set(Flags::ANSWERED);
        }
        let (early, past) = (flags.has(Flags::EARLY), flags.has(Flags::PAST));
        flags.clear(Flags::EARLY | Flags::PAST);
        if flags.has(Flags::SAMPLE) && early {
            flags.set(Flags::WAITS);
        }
        self.flags[me] = flags;
        if answered {
            self.give(seen.sender.other(), seen);
        }
        if self.flags[peer].has(Flags::EARLY) {
            // What the other side's candidate answers is certain now.
            self.flags[peer].clear(Flags::EARLY);
        } else if self.flags[peer].has(Flags::CANDIDATE) {
            self.flags[peer].set(Flags::PAST);
        }
        self.flags[me].clear(Flags::STRAY);
        if !self.flags[me].has(Flags::SAMPLE) {
            self.flags[me].set(Flags::STRAY);
            self.judge(BAD);
            seen.count(DatagramEvent::SpinUnanswering);
        } else if !early {
            if !past {
                self.flags[peer].set(Flags::ANSWERED);
            }
            self.give(seen.sender, seen);
        }
    }

    /// A packet with the old value after one or two with the new.
    fn contradict<F: FnMut(RttMethod, Leg, u64)>(&mut self, seen: &mut Seen<'_, F>) {
        let (me, peer) = (seen.sender.index(), seen.sender.other().index());
        self.flags[me].clear(Flags::CANDIDATE | Flags::EARLY);
        if !self.flags[me].has(Flags::WAITS) {
            self.flags[me].clear(Flags::SAMPLE);
        }
        // Whatever answered that edge answered something else.
        if self.flags[peer].has(Flags::WAITS) || self.flags[peer].has(Flags::EARLY) {
            self.forget(peer);
        }
        self.judge(BAD);
        seen.count(DatagramEvent::SpinUnsteady);
    }

    fn forget(&mut self, side: usize) {
        self.flags[side].clear(Flags::SAMPLE | Flags::WAITS | Flags::EARLY);
    }

    /// The edge of `sender` is a good one: its sample, if it may be given.
    fn give<F: FnMut(RttMethod, Leg, u64)>(&mut self, sender: Sender, seen: &mut Seen<'_, F>) {
        let ns = self.sides[sender.index()].sample;
        self.forget(sender.index());
        self.judge(GOOD);
        if ns == SPARSE {
            return seen.count(DatagramEvent::SpinSparse);
        }
        let leg = sender.other().leg_to_peer();
        if ns == STRAY || self.score < TRUSTED {
            return seen.count(DatagramEvent::SpinUntrusted);
        }
        self.expect(leg, u64::from(ns));
        (seen.rtt)(RttMethod::QuicSpin, leg, u64::from(ns));
    }

    fn judge(&mut self, by: i8) {
        self.score = self.score.saturating_add(by).clamp(WORST, BEST);
    }
}
