//! The probes in flight and a little after: a ring by probe number.

use base::{Counter, MonoNanos, WallNanos};

/// What a probe is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Goes out twice with one number before the counted ones, to tell a stateful reflector
    /// from a stateless one.
    Opening,
    /// Is in the statistics.
    Counted,
    /// After the last counted one, to settle the direction of the tail.
    Closing,
}

/// Where a probe stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Sent, unanswered.
    Outstanding,
    /// Answered; T1 has not come yet.
    Held,
    /// Answered and measured.
    Received,
    /// Answered, unusable.
    Discarded(Counter),
    /// Its wait passed.
    Lost,
    /// Its wait passed, and it never left this host.
    LostLocal,
}

/// The answer of a probe.
#[derive(Copy, Clone, Debug)]
pub(super) struct Answer {
    pub(super) reflector: Option<(WallNanos, WallNanos)>,
    pub(super) kernel: Option<WallNanos>,
    pub(super) hardware: Option<WallNanos>,
    pub(super) user: WallNanos,
    pub(super) at: MonoNanos,
    pub(super) reflector_sequence: Option<u32>,
    pub(super) ttl_forward: Option<u8>,
    pub(super) ttl_reverse: Option<u8>,
    pub(super) one_way_error_ns: Option<u64>,
}

/// One probe.
#[derive(Copy, Clone, Debug)]
pub(super) struct Slot {
    pub(super) index: u64,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// In flight while the wall clock was set.
    pub(super) stepped: bool,
    /// Its TX stamp may have been lost on the way to us.
    pub(super) doubtful: bool,
    /// An answer came after it was lost.
    pub(super) late: bool,
    /// Handed to the alignment once.
    pub(super) ordered: bool,
    pub(super) len: u16,
    pub(super) generation: u32,
    pub(super) intended: MonoNanos,
    pub(super) sent: MonoNanos,
    pub(super) sent_wall: WallNanos,
    pub(super) echo: [u8; 8],
    pub(super) kernel: Option<WallNanos>,
    pub(super) hardware: Option<WallNanos>,
    pub(super) answer: Option<Answer>,
    pub(super) forward_ns: Option<i64>,
    pub(super) reverse_ns: Option<i64>,
}

impl Slot {
    pub(super) const EMPTY: Self = Self {
        index: u64::MAX,
        kind: Kind::Counted,
        state: State::Lost,
        stepped: false,
        doubtful: false,
        late: false,
        ordered: false,
        len: 0,
        generation: 0,
        intended: MonoNanos(0),
        sent: MonoNanos(0),
        sent_wall: WallNanos(0),
        echo: [0; 8],
        kernel: None,
        hardware: None,
        answer: None,
        forward_ns: None,
        reverse_ns: None,
    };

    /// T1 minus the intended time, by the best stamp there is.
    pub(super) fn schedule_error_ns(&self) -> i64 {
        let user = self.sent.0.cast_signed() - self.intended.0.cast_signed();
        user + self.kernel.map_or(0, |kernel| kernel.delta(self.sent_wall))
    }

    pub(super) fn counted(&self) -> bool {
        self.kind == Kind::Counted
    }
}

/// The ring; its length is a power of two.
#[derive(Clone, Debug)]
pub(super) struct Slots(Box<[Slot]>);

impl Slots {
    pub(super) fn new(capacity: usize) -> Self {
        Self(vec![Slot::EMPTY; capacity.next_power_of_two()].into_boxed_slice())
    }

    pub(super) const fn capacity(&self) -> usize {
        self.0.len()
    }

    fn place(&self, index: u64) -> usize {
        usize::try_from(index & (self.0.len() as u64 - 1)).unwrap_or(0)
    }

    /// The probe, if the ring still has it.
    pub(super) fn get(&mut self, index: u64) -> Option<&mut Slot> {
        let place = self.place(index);
        Some(&mut self.0[place]).filter(|slot| slot.index == index)
    }

    pub(super) fn copy(&self, index: u64) -> Option<Slot> {
        Some(self.0[self.place(index)]).filter(|slot| slot.index == index)
    }

    pub(super) fn put(&mut self, slot: Slot) {
        let place = self.place(slot.index);
        self.0[place] = slot;
    }

    /// Every probe that still is in the ring.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.0.iter_mut().filter(|slot| slot.index != u64::MAX)
    }
}
