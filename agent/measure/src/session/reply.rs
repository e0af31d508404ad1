//! What arrives: matching a reply to its probe, and measuring the two.

use base::{
    Counter, Direction, EventKind, Gauge, MonoNanos, Output, SessionEvent, Verdict, WallNanos,
};

use super::codec::{Refusal, Reply};
use super::slots::{Answer, Slot, State};
use super::{Alignment, Emission, Kind, Order, Phase, Reflector, Session};
use super::{emit, unwrap_sequence};
use crate::loss::Seen;

/// A datagram as the socket delivered it.
#[derive(Copy, Clone, Debug)]
pub struct Datagram<'a> {
    /// The protocol's payload.
    pub payload: &'a [u8],
    /// The kernel's receive stamp.
    pub kernel: Option<WallNanos>,
    /// The device's receive stamp.
    pub hardware: Option<WallNanos>,
    /// The wall clock when the batch was read.
    pub user: WallNanos,
    /// TTL or hop limit on arrival.
    pub ttl: Option<u8>,
}

impl Session {
    /// A datagram arrived. Returns whether it was for this session.
    pub fn receive(
        &mut self,
        datagram: &Datagram<'_>,
        now: MonoNanos,
        out: &mut impl FnMut(Emission),
    ) -> bool {
        let reply = match self
            .codec
            .parse(datagram.payload, datagram.user, self.tai_offset)
        {
            Ok(reply) => reply,
            Err(Refusal::Another) => return false,
            Err(Refusal::Stray) => {
                emit(out, Output::Count(Counter::StrayReplies, 1));
                return false;
            }
            Err(Refusal::Malformed) => {
                emit(out, Output::Count(Counter::MalformedReplies, 1));
                return false;
            }
        };
        let index = unwrap_sequence(reply.sequence, self.next);
        // A reply repeats T1 as it was sent; one that does not was forged, or is of another
        // run on the same port.
        let Some(slot) = self
            .slots
            .copy(index)
            .filter(|slot| slot.echo == reply.echo)
        else {
            emit(out, Output::Count(Counter::StrayReplies, 1));
            return false;
        };
        if datagram.payload.len() != usize::from(slot.len) {
            emit(out, Output::Count(Counter::ResizedReplies, 1));
        }
        self.search_on(now, now.since(slot.sent));
        if slot.kind == Kind::Opening {
            self.opening_answered(&slot, &reply, now);
        }
        let seen = self.place_in_order(&slot, &reply, now, out);
        if let Some(report) = reply.report {
            self.last_report = now;
            self.queue_report(index, report, out);
        }
        self.take_verdict(slot, &reply, datagram, seen, now, out);
        true
    }

    /// The target answers: while it is not known what kind of reflector it is, that is worth
    /// asking, also if the search had ended in silence.
    fn search_on(&mut self, now: MonoNanos, elapsed: u64) {
        if self.reflector == Reflector::Unknown
            && matches!(self.phase, Phase::Opening | Phase::Counting)
        {
            if self.opening.due.is_none() {
                self.opening = super::Opening::new(now);
            }
            self.opening.target_answers(now, elapsed);
        }
    }

    fn opening_answered(&mut self, slot: &Slot, reply: &Reply, now: MonoNanos) {
        // A further copy of an opening reply must not begin search and order again.
        if self.reflector != Reflector::Unknown {
            return;
        }
        let sequence = reply.reflector_sequence.unwrap_or(reply.sequence);
        let reporting = reply.report.is_some();
        let found = self
            .opening
            .answered(slot.index, reply.sequence, sequence, reporting, now);
        let Some(kind) = found else { return };
        self.reflector = kind;
        self.opening.due = None;
        if let super::Codec::Stamp(codec) = &mut self.codec {
            codec.equal_sizes = kind == Reflector::Reporting && codec.payload.is_none();
        }
        if matches!(kind, Reflector::Stateful | Reflector::Reporting) {
            let base = self.opening.highest_number(sequence);
            self.start_order(slot.index, base, now);
            // What was lost before nobody numbered.
            self.boundary = slot.index;
        }
        // Phase of the counted probes: random again, from here.
        if self.phase == Phase::Opening {
            self.phase = Phase::Counting;
            self.schedule = super::Schedule::new(
                now,
                self.config.interval_ns,
                self.config.poisson,
                self.config.seed,
            );
        }
        self.gauges_stale = true;
        // Whoever shows loss learns now that it has directions.
        self.unpublished_since = self.unpublished_since.or(Some(now));
    }

    /// Begins the reflector's order with its number `base`, which answered probe `index`.
    fn start_order(&mut self, index: u64, base: u32, now: MonoNanos) {
        self.highest_came = now;
        let place = u64::from(base) + super::FIRST_INDEX;
        self.order = Order::new(self.slots.capacity(), place);
        self.order.insert(place, index);
        // The base itself is in order, whatever comes next.
        self.order.drain(u64::MAX, u64::MAX, |_, _| {});
        if let Some(slot) = self.slots.get(index) {
            slot.ordered = true;
        }
        self.highest_reply = Some(place);
        self.alignment = Some(Alignment::new(index));
    }

    /// Notes the reflector's number of a reply. `None` when there are no directions.
    fn place_in_order(
        &mut self,
        slot: &Slot,
        reply: &Reply,
        now: MonoNanos,
        out: &mut impl FnMut(Emission),
    ) -> Option<Seen> {
        if !matches!(self.reflector, Reflector::Stateful | Reflector::Reporting) {
            return None;
        }
        let index = slot.index;
        let place = unwrap_sequence(reply.reflector_sequence?, self.order.end());
        let received_at = reply.reflector?.0;
        if place < self.order.end() {
            // Sent after the reply with the highest number had come, it must have a higher one,
            // or the reflector counts anew. That needs no clock but ours: the reflector's may
            // be set, and its T2 need not be in the order of its numbers.
            if slot.sent > self.highest_came {
                self.reflector_restarted(index, reply, now, out);
                return Some(Seen::New);
            }
        } else if index < self.boundary && received_at < self.highest_received_at {
            // A straggler of the count before the restart.
            return Some(Seen::Forgotten);
        }
        self.drain_order(self.retired, self.order.start_for(place), out);
        if place >= self.order.end() {
            self.highest_received_at = received_at;
            self.highest_came = now;
        }
        let seen = self.order.insert(place, index);
        if seen == Seen::New && self.counted(index) {
            // RFC 4737 section 3.3 over the replies, each once, in their order of arrival:
            // NextExp is one past the highest number so far.
            if self.highest_reply.is_some_and(|highest| place < highest) {
                emit(out, Output::Count(Counter::ReorderedReverse, 1));
            }
            self.highest_reply = self.highest_reply.max(Some(place));
        }
        Some(seen)
    }

    fn counted(&self, index: u64) -> bool {
        self.slots.copy(index).is_some_and(|slot| slot.counted())
    }

    fn reflector_restarted(
        &mut self,
        index: u64,
        reply: &Reply,
        now: MonoNanos,
        out: &mut impl FnMut(Emission),
    ) {
        emit(out, Output::Count(Counter::ReflectorResets, 1));
        self.event(EventKind::ReflectorReset, 0, 0, out);
        // Gaps among probes that are not retired may belong to losses that were not named to
        // the alignment, and now never will be.
        self.drain_order(self.retired, 0, out);
        self.walk_order(u64::MAX, u64::MAX, false, out);
        if let Some(alignment) = self.alignment.take() {
            let split = alignment.split();
            self.closed_split.forward += split.forward;
            self.closed_split.reverse += split.reverse;
            self.closed_split.unattributed += split.unattributed;
        }
        self.boundary = self.next;
        self.start_order(index, reply.reflector_sequence.unwrap_or(0), now);
        self.highest_received_at = reply.reflector.map_or(WallNanos(0), |at| at.0);
        if self.reflector == Reflector::Reporting {
            // Learn the new session's counters soon.
            (self.last_report, self.last_asked) = (MonoNanos(0), MonoNanos(0));
        }
    }

    fn take_verdict(
        &mut self,
        slot: Slot,
        reply: &Reply,
        datagram: &Datagram<'_>,
        seen: Option<Seen>,
        now: MonoNanos,
        out: &mut impl FnMut(Emission),
    ) {
        let answer = Answer {
            reflector: reply.reflector,
            kernel: datagram.kernel,
            hardware: datagram.hardware,
            user: datagram.user,
            at: now,
            reflector_sequence: reply.reflector_sequence,
            ttl_forward: reply.sender_ttl,
            ttl_reverse: datagram.ttl,
            one_way_error_ns: self.one_way_error(reply),
        };
        let mut slot = slot;
        if slot.state == State::Outstanding && self.came_too_late(&slot, &answer) {
            self.decide(slot, out);
            slot = self.slots.copy(slot.index).unwrap_or(slot);
        }
        match slot.state {
            State::Outstanding => {
                if let Some(slot) = self.slots.get(slot.index) {
                    slot.answer = Some(answer);
                    slot.state = State::Held;
                }
                self.count_reordering(slot.index, slot.counted(), out);
                self.answered(slot.sent, &answer, out);
                self.measure(slot.index, out);
                if slot.kind == Kind::Closing && matches!(self.phase, Phase::Closing { .. }) {
                    // Closing probes before this one need no further wait.
                    self.settle(MonoNanos(u64::MAX), out);
                    self.end(now, out);
                    self.phase = Phase::Done;
                }
            }
            State::Lost | State::LostLocal if !slot.late => {
                if let Some(kept) = self.slots.get(slot.index) {
                    kept.late = true;
                    kept.answer = Some(answer);
                    // It is answered, so it did leave this host: only its stamp was lost.
                    if kept.state == State::LostLocal {
                        kept.state = State::Lost;
                        let counted = u64::from(slot.counted() && slot.index < self.settled);
                        self.settled_counts.never_left -= counted;
                    }
                }
                self.answered(slot.sent, &answer, out);
                if slot.counted() {
                    emit(out, Output::Count(Counter::Late, 1));
                    self.result(slot.index, Verdict::Late, None, out);
                }
            }
            _ if slot.counted() => {
                // With directions, a new number is a probe doubled on the way out; that is
                // counted from the reports or the alignment.
                if seen != Some(Seen::New) {
                    emit(out, Output::Count(Counter::DuplicatesReverse, 1));
                }
                self.result(slot.index, Verdict::Duplicate, None, out);
            }
            _ => {}
        }
    }

    /// Whether the kernel says that the wait had passed, which a process that was stopped, or
    /// had other packets to read first, did not see.
    fn came_too_late(&self, slot: &Slot, answer: &Answer) -> bool {
        let wait_ns = i64::try_from(self.config.wait_ns).unwrap_or(i64::MAX);
        let round_trip_ns = slot.kernel.zip(answer.kernel).map(|(t1, t4)| t4.delta(t1));
        !slot.stepped && round_trip_ns.is_some_and(|ns| ns > wait_ns)
    }

    /// Without directions: RFC 4737 by the probes' own numbers.
    fn count_reordering(&mut self, index: u64, counted: bool, out: &mut impl FnMut(Emission)) {
        let reordered = self.highest_answered.is_some_and(|highest| index < highest);
        if reordered
            && counted
            && !matches!(self.reflector, Reflector::Stateful | Reflector::Reporting)
        {
            emit(out, Output::Count(Counter::ReorderedReverse, 1));
        }
        self.highest_answered = self.highest_answered.max(Some(index));
    }

    /// The target answers.
    fn answered(&mut self, sent: MonoNanos, answer: &Answer, out: &mut impl FnMut(Emission)) {
        self.last_answer = self.last_answer.max(Some(sent));
        if self.up != Some(true) {
            let before = i64::from(self.up.unwrap_or(false));
            self.up = Some(true);
            emit(out, Output::Gauge(Gauge::Up, 1.0));
            self.event(EventKind::TargetUp, before, 1, out);
        }
        let forward = answer
            .ttl_forward
            .map(|ttl| self.config.ttl.saturating_sub(ttl));
        let reverse = answer.ttl_reverse.map(|ttl| initial_ttl(ttl) - ttl);
        self.hops_are(Direction::Forward, forward, out);
        self.hops_are(Direction::Reverse, reverse, out);
    }

    fn hops_are(&mut self, direction: Direction, hops: Option<u8>, out: &mut impl FnMut(Emission)) {
        let before = self.hops[direction.index()];
        let (Some(hops), true) = (hops, hops != before) else {
            return;
        };
        self.hops[direction.index()] = Some(hops);
        let (gauge, kind) = match direction {
            Direction::Forward => (Gauge::HopsForward, EventKind::HopsForwardChanged),
            Direction::Reverse => (Gauge::HopsReverse, EventKind::HopsReverseChanged),
        };
        emit(out, Output::Gauge(gauge, f64::from(hops)));
        if let Some(before) = before {
            self.event(kind, i64::from(before), i64::from(hops), out);
        }
    }

    pub(super) fn event(
        &self,
        kind: EventKind,
        old: i64,
        new: i64,
        out: &mut impl FnMut(Emission),
    ) {
        emit(out, Output::Event(SessionEvent { kind, old, new }));
    }
}

/// The TTL that a packet started with, by the values in use: 64, 128 and 255.
const fn initial_ttl(ttl: u8) -> u8 {
    match ttl {
        0..=64 => 64,
        65..=128 => 128,
        _ => 255,
    }
}
