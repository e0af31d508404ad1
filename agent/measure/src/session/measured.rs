//! From an answered probe's stamps to samples and a line for the records.

use base::{
    Counter, Gauge, Output, ProbeResult, Quantity, Stamp, StampPoint, StampSource, Verdict,
};

use super::codec::{Reply, reflector_stamps};
use super::slots::{Answer, Slot, State};
use super::{ClockTrust, Emission, Reflector, Session, emit, sample, stamped};
use crate::delay::{Delays, delays};

impl Session {
    /// The bound of a one-way delay, or `None` while it means nothing.
    pub(super) fn one_way_error(&self, reply: &Reply) -> Option<u64> {
        match self.config.clock {
            ClockTrust::Assume { error_ns } => Some(error_ns),
            ClockTrust::Kernel => {
                let estimate = reply.estimate?;
                (self.own_synchronised && estimate.synchronised())
                    .then(|| estimate.error_ns())
                    .flatten()
                    .map(|error_ns| error_ns + self.own_error_ns)
            }
        }
    }

    /// Takes the stamps of an answered probe together; waits if T1 has not come.
    pub(super) fn measure(&mut self, index: u64, out: &mut impl FnMut(Emission)) {
        let Some(slot) = self.slots.copy(index) else {
            return;
        };
        let Some(answer) = slot.answer else { return };
        let Some((t1, t4)) = self.own_stamps(&slot, &answer) else {
            self.held_since = self.held_since.or(Some(answer.at));
            return;
        };
        let reflector = answer.reflector.map(reflector_stamps);
        let result = if slot.stepped {
            Err(Counter::DiscardedClockStep)
        } else {
            delays(t1, t4, reflector)
        };
        let state = match result {
            Ok(_) => State::Received,
            Err(counter) => State::Discarded(counter),
        };
        if let Some(slot) = self.slots.get(index) {
            slot.state = state;
            if let Ok(delays) = &result {
                (slot.forward_ns, slot.reverse_ns) = (delays.forward_ns, delays.reverse_ns);
            }
        }
        if !slot.counted() {
            return;
        }
        match result {
            Ok(delays) => {
                emit(out, Output::Count(Counter::Received, 1));
                stamped(out, StampPoint::T1, t1.source);
                stamped(out, StampPoint::T4, t4.source);
                if self.reflector == Reflector::Reporting {
                    stamped(out, StampPoint::T2, StampSource::Kernel);
                    stamped(out, StampPoint::T3, StampSource::User);
                }
                self.samples(&slot, &answer, t4, &delays, out);
                self.result(index, Verdict::Received, Some((t1, t4, delays)), out);
            }
            Err(counter) => {
                emit(out, Output::Count(counter, 1));
                self.result(index, Verdict::Discarded(counter), None, out);
            }
        }
    }

    /// T1 and T4 of one clock, by the best source that has both.
    pub(super) fn own_stamps(&self, slot: &Slot, answer: &Answer) -> Option<(Stamp, Stamp)> {
        let stamp = |at, source| Stamp { at, source };
        if let (Some(t1), Some(t4)) = (slot.hardware, answer.hardware) {
            return Some((
                stamp(t1, StampSource::Hardware),
                stamp(t4, StampSource::Hardware),
            ));
        }
        let t4 = answer
            .kernel
            .map_or(stamp(answer.user, StampSource::User), |at| {
                stamp(at, StampSource::Kernel)
            });
        match slot.kernel {
            Some(t1) => Some((stamp(t1, StampSource::Kernel), t4)),
            None if !self.stamps_expected => Some((stamp(slot.sent_wall, StampSource::User), t4)),
            None => None,
        }
    }

    pub(super) fn samples(
        &mut self,
        slot: &Slot,
        answer: &Answer,
        t4: Stamp,
        delays: &Delays,
        out: &mut impl FnMut(Emission),
    ) {
        sample(out, Quantity::Rtt, delays.rtt_ns());
        sample(out, Quantity::RoundTrip, delays.round_trip_ns);
        // From the intended time: a late send is inside it (no coordinated omission).
        let since_intended = slot.sent.0.cast_signed() - slot.intended.0.cast_signed();
        let arrival = if t4.source == StampSource::Hardware {
            answer.user
        } else {
            t4.at
        };
        sample(
            out,
            Quantity::Response,
            arrival.delta(slot.sent_wall) + since_intended,
        );
        if let Some(dwell_ns) = delays.dwell_ns {
            sample(out, Quantity::Dwell, dwell_ns);
        }
        let trusted = answer.one_way_error_ns;
        let known = f64::from(u8::from(trusted.is_some()));
        emit(out, Output::Gauge(Gauge::ClockSynchronised, known));
        if let Some(error_ns) = trusted {
            #[expect(clippy::cast_precision_loss, reason = "a bound, not a measurement")]
            emit(out, Output::Gauge(Gauge::ClockError, error_ns as f64));
        }
        let ways = [
            (
                delays.forward_ns,
                Quantity::ForwardDelay,
                Quantity::ForwardPdv,
            ),
            (
                delays.reverse_ns,
                Quantity::ReverseDelay,
                Quantity::ReversePdv,
            ),
        ];
        for (way, (delay, quantity, variation)) in ways.into_iter().enumerate() {
            let Some(delay) = delay else { continue };
            if trusted.is_some() {
                sample(out, quantity, delay);
            }
            self.jitter[way].add(delay);
            self.pdv[way].add(delay, |value| sample(out, variation, value));
        }
        self.variations(slot, delays, out);
        self.gauges_stale = true;
    }

    /// RFC 3393 section 2: the difference between consecutive packets of the stream, both of
    /// which arrived.
    pub(super) fn variations(
        &mut self,
        slot: &Slot,
        delays: &Delays,
        out: &mut impl FnMut(Emission),
    ) {
        let usable = |other: &Slot| {
            other.state == State::Received && other.counted() && other.generation == slot.generation
        };
        let mut pair = |earlier: (Option<i64>, Option<i64>), later: (Option<i64>, Option<i64>)| {
            if let (Some(before), Some(after)) = (earlier.0, later.0) {
                sample(out, Quantity::ForwardIpdv, after - before);
            }
            if let (Some(before), Some(after)) = (earlier.1, later.1) {
                sample(out, Quantity::ReverseIpdv, after - before);
            }
        };
        let own = (delays.forward_ns, delays.reverse_ns);
        if let Some(before) = self.slots.copy(slot.index - 1).filter(usable) {
            pair((before.forward_ns, before.reverse_ns), own);
        }
        if let Some(after) = self.slots.copy(slot.index + 1).filter(usable) {
            pair(own, (after.forward_ns, after.reverse_ns));
        }
    }

    pub(super) fn result(
        &self,
        index: u64,
        verdict: Verdict,
        measured: Option<(Stamp, Stamp, Delays)>,
        out: &mut impl FnMut(Emission),
    ) {
        let Some(slot) = self.slots.copy(index) else {
            return;
        };
        let kernel = |at| Stamp {
            at,
            source: StampSource::Kernel,
        };
        let answer = slot.answer;
        let reflector = answer
            .and_then(|answer| answer.reflector)
            .map(reflector_stamps);
        let (t1, t4) = match measured {
            Some((t1, t4, _)) => (Some(t1), Some(t4)),
            None => (
                slot.kernel.map(kernel),
                answer.and_then(|answer| answer.kernel).map(kernel),
            ),
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half is on the wire"
        )]
        let sequence = index as u32;
        out(Emission::Result(ProbeResult {
            sequence,
            reflector_sequence: answer.and_then(|answer| answer.reflector_sequence),
            source_port: self.config.source_port,
            stamps: [t1, reflector.map(|r| r.0), reflector.map(|r| r.1), t4],
            reflector_sources_known: self.reflector == Reflector::Reporting,
            rtt_ns: measured.map(|(_, _, delays)| delays.rtt_ns()),
            schedule_error_ns: Some(slot.schedule_error_ns()),
            ttl_forward: answer.and_then(|answer| answer.ttl_forward),
            ttl_reverse: answer.and_then(|answer| answer.ttl_reverse),
            verdict,
        }));
    }
}
