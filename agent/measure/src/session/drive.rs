//! What a session does next: opening, counted and closing probes by their times, the end.

use base::{Counter, Gauge, MonoNanos, Output};

use super::{
    Action, CLOSING_PROBES, Emission, Kind, Marking, Phase, REPORT_INTERVAL_NS, REPORT_RETRY_NS,
    Reflector, Schedule, Session, Transmit, emit,
};

impl Session {
    /// No further counted probes: drain, close, be done.
    pub fn finish(&mut self) {
        if matches!(self.phase, Phase::Opening | Phase::Counting) {
            self.phase = Phase::Draining;
            self.opening.due = None;
        }
    }

    /// What to do at `now`. To be called again after each `Send` until it says otherwise.
    pub fn poll(&mut self, now: MonoNanos, out: &mut impl FnMut(Emission)) -> Action {
        self.settle(now, out);
        self.retire(now, false, out);
        self.publish(now, out);
        if let Some(transmit) = self.due(now, out) {
            return Action::Send(transmit);
        }
        if self.phase == Phase::Done {
            return Action::Done;
        }
        Action::Wait(self.wake_at(now))
    }

    pub(super) fn due(
        &mut self,
        now: MonoNanos,
        out: &mut impl FnMut(Emission),
    ) -> Option<Transmit> {
        if let Some(due) = self.opening_due()
            && due <= now
        {
            if !self.opening.spent() {
                return Some(self.transmit(Kind::Opening, Marking::Uncounted, 2, due));
            }
            self.opening.due = None;
            if self.opening.heard() {
                self.reflector = Reflector::Undirected;
            }
        }
        if self.phase == Phase::Opening && self.opening.due.is_none() {
            self.phase = Phase::Counting;
            self.schedule = Schedule::new(
                now,
                self.config.interval_ns,
                self.config.poisson,
                self.config.seed,
            );
        }
        if self.phase == Phase::Counting {
            let skipped = self
                .schedule
                .skip_overdue(now, self.left.unwrap_or(u64::MAX));
            if skipped > 0 {
                self.take(skipped);
                emit(out, Output::Count(Counter::Skipped, skipped));
            }
            if self.left == Some(0) {
                self.finish();
            } else if self.schedule.next() <= now {
                let intended = self.schedule.take();
                let report = self.reflector == Reflector::Reporting
                    && self.codec.reports_in_counted()
                    && now.since(self.last_report) >= REPORT_INTERVAL_NS
                    && now.since(self.last_asked) >= REPORT_RETRY_NS;
                let marking = if report {
                    Marking::Report
                } else {
                    Marking::Plain
                };
                return Some(self.transmit(Kind::Counted, marking, 1, intended));
            }
        }
        if self.phase == Phase::Draining && self.settled == self.next {
            let worth_closing = self.highest_answered.is_some()
                && matches!(self.reflector, Reflector::Reporting | Reflector::Stateful);
            self.phase = if worth_closing {
                Phase::Closing {
                    left: CLOSING_PROBES,
                    due: now,
                }
            } else {
                self.end(now, out);
                Phase::Done
            };
        }
        if let Phase::Closing { left, due } = self.phase
            && due <= now
        {
            if left == 0 {
                self.end(now, out);
                self.phase = Phase::Done;
                return None;
            }
            return Some(self.transmit(Kind::Closing, Marking::Uncounted, 1, due));
        }
        None
    }

    /// No search goes on once the last counted probe is out.
    pub(super) fn opening_due(&self) -> Option<MonoNanos> {
        let searching = matches!(self.phase, Phase::Opening | Phase::Counting);
        self.opening.due.filter(|_| searching)
    }

    pub(super) fn transmit(
        &self,
        kind: Kind,
        marking: Marking,
        copies: u32,
        intended: MonoNanos,
    ) -> Transmit {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half goes on the wire"
        )]
        let sequence = self.next as u32;
        Transmit {
            sequence,
            kind,
            marking,
            copies,
            intended,
        }
    }

    pub(super) fn wake_at(&self, now: MonoNanos) -> MonoNanos {
        let mut wake = now.plus(1_000_000_000);
        if let Some(due) = self.opening_due() {
            wake = wake.min(due);
        }
        if self.phase == Phase::Counting {
            wake = wake.min(self.schedule.next());
        }
        if let Phase::Closing { due, .. } = self.phase {
            wake = wake.min(due);
        }
        if let Some(held) = self.held_since {
            wake = wake.min(held.plus(self.stamp_patience_ns()));
        }
        if let Some(oldest) = self.slots.copy(self.settled) {
            wake = wake.min(oldest.sent.plus(self.config.wait_ns));
        }
        wake
    }

    pub(super) fn closing_tried(&mut self, now: MonoNanos) {
        if let Phase::Closing { left, .. } = self.phase {
            let left = left - 1;
            let spacing = (self.config.wait_ns / u64::from(CLOSING_PROBES)).max(1_000_000);
            // After the last one there is the whole wait for an answer.
            let pause = if left == 0 {
                self.config.wait_ns
            } else {
                spacing
            };
            self.phase = Phase::Closing {
                left,
                due: now.plus(pause),
            };
        }
    }

    pub(super) fn take(&mut self, count: u64) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count);
        }
    }

    /// All is decided: what waited for more goes out.
    pub(super) fn end(&mut self, now: MonoNanos, out: &mut impl FnMut(Emission)) {
        self.retire(now, true, out);
        self.publish_gauges(out);
        self.break_chains(out);
        if let Some(run) = self.runs.ended(now) {
            self.run_ended(run, out);
        }
        self.unpublished_since = Some(now);
        // What has no direction by now gets none.
        self.publish(MonoNanos(u64::MAX), out);
        emit(out, Output::Finished);
    }

    pub(super) fn publish_gauges(&mut self, out: &mut impl FnMut(Emission)) {
        self.gauges_stale = false;
        for (jitter, gauge) in self
            .jitter
            .iter()
            .zip([Gauge::JitterForward, Gauge::JitterReverse])
        {
            if let Some(ns) = jitter.ns() {
                emit(out, Output::Gauge(gauge, ns));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        emit(
            out,
            Output::Gauge(Gauge::InFlight, (self.next - self.settled) as f64),
        );
    }
}
