//! What became of a send that the session asked for.

use base::{ClockState, Counter, MonoNanos, Output, WallNanos};

use super::slots::{Slot, State};
use super::{Emission, Kind, MAX_PAYLOAD, Marking, Session, Transmit, emit};

impl Session {
    /// Writes the packet of a transmit; the same `t1` and `echo` go to [`Session::sent`].
    pub fn emit(
        &mut self,
        transmit: &Transmit,
        buf: &mut [u8; MAX_PAYLOAD],
        t1: WallNanos,
        clock: ClockState,
    ) -> (usize, [u8; 8]) {
        self.tai_offset = clock.tai_offset_s;
        self.own_error_ns = clock.error_ns;
        self.own_synchronised = clock.synchronised;
        self.codec
            .emit(buf, transmit.sequence, transmit.marking, t1, clock)
    }

    /// The packet left `send()` at `now` (at least one of its copies did).
    pub fn sent(
        &mut self,
        transmit: &Transmit,
        now: MonoNanos,
        t1: WallNanos,
        len: usize,
        echo: [u8; 8],
        out: &mut impl FnMut(Emission),
    ) {
        let slot = Slot {
            index: self.next,
            kind: transmit.kind,
            state: State::Outstanding,
            len: u16::try_from(len).unwrap_or(u16::MAX),
            generation: self.generation,
            intended: transmit.intended,
            sent: now,
            sent_wall: t1,
            echo,
            ..Slot::EMPTY
        };
        // The ring is made for this rate; if a caller still overruns it, decide the oldest.
        let capacity = self.slots.capacity() as u64;
        if self.next - self.retired >= capacity {
            let oldest = self.slots.copy(self.retired).map_or(now, |slot| slot.sent);
            let wait = self.config.wait_ns;
            self.settle(now.max(oldest.plus(wait)), out);
            self.retire(now.max(oldest.plus(2 * wait)), false, out);
        }
        self.slots.put(slot);
        self.next += 1;
        if transmit.marking == Marking::Report {
            self.last_asked = now;
        }
        match transmit.kind {
            Kind::Counted => {
                self.take(1);
                emit(out, Output::Count(Counter::Sent, 1));
            }
            Kind::Opening => {
                emit(out, Output::Count(Counter::Uncounted, 1));
                self.opening.sent(slot.index, now, self.config.wait_ns);
            }
            Kind::Closing => {
                emit(out, Output::Count(Counter::Uncounted, 1));
                self.closing_tried(now);
            }
        }
    }

    /// `send()` refused the packet with this `errno`; its number is used for the next one.
    pub fn failed(
        &mut self,
        transmit: &Transmit,
        now: MonoNanos,
        errno: i32,
        out: &mut impl FnMut(Emission),
    ) {
        // Closing probes are many, and nothing is concluded from one that did not leave.
        if transmit.kind != Kind::Closing {
            emit(out, Output::Errno(errno));
        }
        match transmit.kind {
            Kind::Counted => {
                self.take(1);
                emit(out, Output::Count(Counter::SendErrors, 1));
            }
            Kind::Opening => self.opening.sent(u64::MAX, now, self.config.wait_ns),
            Kind::Closing => self.closing_tried(now),
        }
    }

    /// A limit kept the packet back.
    pub fn skipped(&mut self, transmit: &Transmit, now: MonoNanos, out: &mut impl FnMut(Emission)) {
        match transmit.kind {
            Kind::Counted => {
                self.take(1);
                emit(out, Output::Count(Counter::Skipped, 1));
            }
            Kind::Opening => self.opening.due = Some(now.plus(100_000_000)),
            Kind::Closing => self.closing_tried(now),
        }
    }
}
