//! A few requests of one flow that wait for their responses.
//!
//! A place is taken by a request and stays with it, answered or not, until another request
//! needs it: so a second response is told from one to nothing. The youngest are turned away
//! when all places wait, not the oldest thrown out: with a round trip longer than all places
//! together hold, throwing out would never give a sample.

use base::{RttMethod, Sender, WallNanos};

use super::{DatagramEvent, Seen};

/// Requests that one flow remembers.
pub(super) const PLACES: usize = 5;
/// A request again within this time is the same packet captured twice (a mirror, two
/// devices), not a retransmission, which no client does that soon.
const DUPLICATE_NS: i64 = 1_000_000;
/// A request is given up after so many round trips of the flow...
const PATIENCE: u64 = 8;
/// ...but not before this time...
const LEAST_PATIENCE_NS: u64 = 100_000_000;
/// ...and at the latest, or with no round trip known, after this.
const MOST_PATIENCE_NS: u64 = 10_000_000_000;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Life {
    Empty,
    Waiting,
    /// Asked more than once: a response is of either.
    Repeated,
    Answered,
}

/// One request. The time is in two halves of 16 bits aside so that it packs into 12 octets.
#[derive(Copy, Clone, Debug)]
struct Request {
    key: u32,
    at_low: u32,
    /// Bits 32 to 47 of the time: differences are modulo 2^48 ns, 78 hours.
    at_high: u16,
    sender: Sender,
    life: Life,
}

impl Request {
    const EMPTY: Self = Self {
        key: 0,
        at_low: 0,
        at_high: 0,
        sender: Sender::Near,
        life: Life::Empty,
    };

    /// Signed nanoseconds from this request to `at`.
    const fn age(&self, at: WallNanos) -> i64 {
        let asked = (self.at_high as u64) << 32 | self.at_low as u64;
        // The 48-bit difference, its sign extended.
        ((at.0.wrapping_sub(asked) << 16).cast_signed()) >> 16
    }

    const fn waits(&self) -> bool {
        matches!(self.life, Life::Waiting | Life::Repeated)
    }
}

/// The requests of one flow, from both ends.
#[derive(Copy, Clone, Debug)]
pub(super) struct Outstanding {
    requests: [Request; PLACES],
    /// The latest round trip in microseconds; 0: none yet.
    latest_us: u32,
}

impl Outstanding {
    pub(super) const fn new() -> Self {
        Self {
            requests: [Request::EMPTY; PLACES],
            latest_us: 0,
        }
    }

    /// The latest round trip; 0: none yet. Saturates at 4.29 s.
    pub(super) const fn latest_ns(&self) -> u32 {
        self.latest_us.saturating_mul(1000)
    }

    /// A request with this key went by.
    #[inline]
    pub(super) fn ask<F: FnMut(RttMethod, base::Leg, u64)>(
        &mut self,
        key: u32,
        seen: &mut Seen<'_, F>,
    ) {
        let (at, sender) = (seen.at, seen.sender);
        let new = Request {
            key,
            at_low: at.0 as u32,
            at_high: (at.0 >> 32) as u16,
            sender,
            life: Life::Waiting,
        };
        let patience = self.patience();
        let same = |r: &&mut Request| r.life != Life::Empty && r.key == key && r.sender == sender;
        if let Some(request) = self.requests.iter_mut().find(same) {
            let age = request.age(at);
            if age.unsigned_abs() < DUPLICATE_NS as u64 {
                // The first copy's time stays, and so does an answer.
                seen.count(DatagramEvent::RepeatedRequest);
            } else if request.waits() && age.unsigned_abs() < MOST_PATIENCE_NS {
                seen.count(DatagramEvent::RepeatedRequest);
                request.life = Life::Repeated;
            } else {
                if request.waits() {
                    seen.count(DatagramEvent::SupersededRequest);
                }
                *request = new;
            }
            return;
        }
        // An empty or answered place first, else the one that waits longest.
        let place = self
            .requests
            .iter_mut()
            .max_by_key(|r| (!r.waits(), r.life == Life::Empty, r.age(at).unsigned_abs()));
        let Some(place) = place else { return };
        if place.waits() {
            // A time that lies ahead is one from before a step back: given up likewise.
            if place.age(at).unsigned_abs() < patience {
                seen.count(DatagramEvent::UntrackedRequest);
                return;
            }
            seen.count(DatagramEvent::SupersededRequest);
        }
        *place = new;
    }

    /// A response went by to a request whose key `fits`: a sample if it is the first one to a
    /// request that was sent once.
    #[inline]
    pub(super) fn answer<F: FnMut(RttMethod, base::Leg, u64)>(
        &mut self,
        fits: impl Fn(u32) -> bool,
        method: RttMethod,
        seen: &mut Seen<'_, F>,
    ) {
        let (at, asker) = (seen.at, seen.sender.other());
        // One that waits before one that was answered: keys need not be exact.
        let request = self
            .requests
            .iter_mut()
            .filter(|r| r.life != Life::Empty && r.sender == asker && fits(r.key))
            .max_by_key(|r| r.waits());
        let Some(request) = request else {
            return seen.count(DatagramEvent::UnmatchedResponse);
        };
        let life = request.life;
        request.life = Life::Answered;
        match (life, u64::try_from(request.age(at))) {
            (Life::Answered, _) => seen.count(DatagramEvent::DuplicateResponse),
            (Life::Repeated, _) => seen.count(DatagramEvent::AmbiguousResponse),
            (_, Err(_)) => seen.count(DatagramEvent::Backwards),
            (_, Ok(ns)) => {
                self.latest_us = u32::try_from(ns / 1000).unwrap_or(u32::MAX).max(1);
                (seen.rtt)(method, asker.leg_to_peer(), ns);
            }
        }
    }

    fn patience(&self) -> u64 {
        if self.latest_us == 0 {
            return MOST_PATIENCE_NS;
        }
        (u64::from(self.latest_us) * 1000 * PATIENCE).clamp(LEAST_PATIENCE_NS, MOST_PATIENCE_NS)
    }
}
