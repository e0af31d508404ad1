//! One probe session: a target, a source port, a run of numbered probes.
//!
//! Sans-I/O. The caller asks [`Session::poll`] what to do, sends what it is told to, and
//! hands in what the kernel reports: sends, TX stamps, replies, clock steps. The session
//! hands on plain values through a closure. It reads no clock, and allocates only when it is
//! made (and for loss runs, a handful of bytes, when replies are lost).
//!
//! Order of calls for one batch from the kernel: TX stamps first, then a clock step if
//! there was one, then replies; a reply never precedes its TX stamp that way.

pub mod codec;
mod opening;
mod reply;
mod settle;
mod slots;

use base::{
    Counter, Gauge, MonoNanos, Output, ProbeResult, Quantity, Sample, StampPoint, StampSource,
    WallNanos,
};

pub use codec::{ClockState, Codec, IcmpCodec, MAX_PAYLOAD, Marking, StampCodec};
pub use opening::{Reflector, SILENT_ATTEMPTS};
pub use reply::Datagram;
pub use slots::Kind;

use crate::loss::{Alignment, Order, Reports, Sent, Split, unwrap_sequence};
use crate::runs::LossRuns;
use crate::schedule::{Schedule, late_after_ns};
use crate::variation::{Jitter, Pdv};
use opening::Opening;
use slots::{Slot, Slots, State};

/// Closing probes at most, until one is answered.
pub const CLOSING_PROBES: u32 = 16;
/// How often a counted probe asks our own reflector for its counters.
const REPORT_INTERVAL_NS: u64 = 1_000_000_000;
/// How soon the next one asks if no report came back.
const REPORT_RETRY_NS: u64 = 100_000_000;
/// Replies wait so long for a TX stamp before we conclude that this path gives none.
const STAMP_PATIENCE_NS: u64 = 50_000_000;
/// Indices start here, so that replies to numbers before the first one have an index too.
const FIRST_INDEX: u64 = 1 << 32;

/// Which one-way delays may be published.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ClockTrust {
    /// Those of clocks that both ends call synchronised.
    Kernel,
    /// All: the user says that the clocks agree to within this.
    Assume {
        /// Greatest difference between the two clocks.
        error_ns: u64,
    },
}

/// What a session is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Between intended sends.
    pub interval_ns: u64,
    /// A probe unanswered for so long is lost.
    pub wait_ns: u64,
    /// Counted probes (attempts included that fail or are skipped); `None` is until finished.
    pub count: Option<u64>,
    /// Poisson instead of periodic.
    pub poisson: bool,
    /// TTL or hop limit of the probes.
    pub ttl: u8,
    /// Which one-way delays count.
    pub clock: ClockTrust,
    /// Whether kernel TX stamps were switched on.
    pub stamped: bool,
    /// Counted probes wait until the kind of reflector is known (`ping`), or start at once.
    pub opening_first: bool,
    /// Number of the first probe.
    pub first_sequence: u32,
    /// For phase and Poisson gaps.
    pub seed: u64,
    /// The port it leaves from, for the records; 0 where there is none.
    pub source_port: u16,
}

/// What a session hands on.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Emission {
    /// For distributions, counters, gauges, events.
    Output(Output),
    /// For `--records`.
    Result(ProbeResult),
}

/// What to do next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send this now, then call [`Session::sent`], [`Session::failed`] or [`Session::skipped`].
    Send(Transmit),
    /// Nothing until then (or until something arrives).
    Wait(MonoNanos),
    /// All is decided.
    Done,
}

/// A probe to be sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Its number.
    pub sequence: u32,
    /// What for.
    pub kind: Kind,
    /// What it carries.
    pub marking: Marking,
    /// How often to send the very same packet.
    pub copies: u32,
    /// When it should leave.
    pub intended: MonoNanos,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    Opening,
    Counting,
    Draining,
    Closing { left: u32, due: MonoNanos },
    Done,
}

/// A probe session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    codec: Codec,
    schedule: Schedule,
    phase: Phase,
    slots: Slots,
    /// Index of the next probe; one past it; all below `settled` have a verdict; all below
    /// `retired` are past any late answer and went to the loss attribution.
    next: u64,
    settled: u64,
    retired: u64,
    left: Option<u64>,
    last_report: MonoNanos,
    last_asked: MonoNanos,

    opening: Opening,
    reflector: Reflector,
    order: Order,
    /// T2 of the highest reflector number, by which stragglers of the count before a restart
    /// are known.
    highest_received_at: WallNanos,
    /// When the reply with the highest reflector number came: what was sent later than that
    /// has a higher one, or the reflector counts anew.
    highest_came: MonoNanos,
    alignment: Option<Alignment>,
    closed_split: Split,
    /// Lost probes below this were in flight when the reflector restarted.
    boundary: u64,
    reports: Reports,
    /// Reports that wait until all probes before theirs are decided.
    checkpoints: std::collections::VecDeque<(u64, wire::report::Report)>,
    /// The probe of the newest report taken, and the last counted probe decided.
    reported: u64,
    settled_counted: u64,
    settled_counts: Sent,
    attributed: base::LossTotals,
    unpublished_since: Option<MonoNanos>,
    overflows: u64,

    stamps_expected: bool,
    stamp_seen: bool,
    stamps_certain: bool,
    held_since: Option<MonoNanos>,
    generation: u32,
    tai_offset: i32,
    own_error_ns: u64,
    own_synchronised: bool,

    highest_answered: Option<u64>,
    highest_reply: Option<u64>,
    jitter: [Jitter; 2],
    pdv: [Pdv; 2],
    runs: LossRuns,
    up: Option<bool>,
    hops: [Option<u8>; 2],
    last_answer: Option<MonoNanos>,
    gauges_due: MonoNanos,
    losses_due: MonoNanos,
    gauges_stale: bool,
}

impl Session {
    /// A session that may begin to send at `now`.
    #[must_use]
    pub fn new(config: Config, codec: Codec, now: MonoNanos) -> Self {
        let first = FIRST_INDEX + u64::from(config.first_sequence);
        let directed = matches!(codec, Codec::Stamp(_));
        let capacity = Self::capacity(&config);
        let schedule = Schedule::new(now, config.interval_ns, config.poisson, config.seed);
        // Agents have many targets: their first packets are spread like all others.
        let opens = if config.opening_first {
            now
        } else {
            schedule.next()
        };
        Self {
            schedule,
            phase: if directed && config.opening_first {
                Phase::Opening
            } else {
                Phase::Counting
            },
            slots: Slots::new(capacity),
            next: first,
            settled: first,
            retired: first,
            left: config.count,
            last_report: now,
            last_asked: now,
            opening: if directed {
                Opening::new(opens)
            } else {
                Opening::none()
            },
            reflector: if directed {
                Reflector::Unknown
            } else {
                Reflector::Undirected
            },
            order: Order::new(capacity, 0),
            highest_received_at: WallNanos(0),
            highest_came: now,
            alignment: None,
            closed_split: Split::default(),
            boundary: 0,
            reports: Reports::default(),
            checkpoints: std::collections::VecDeque::with_capacity(8),
            reported: 0,
            settled_counted: 0,
            settled_counts: Sent::default(),
            attributed: base::LossTotals::default(),
            unpublished_since: None,
            overflows: 0,
            stamps_expected: config.stamped,
            stamp_seen: false,
            stamps_certain: false,
            held_since: None,
            generation: 0,
            tai_offset: 0,
            own_error_ns: 0,
            own_synchronised: false,
            highest_answered: None,
            highest_reply: None,
            jitter: [Jitter::default(); 2],
            pdv: [Pdv::default(), Pdv::default()],
            runs: LossRuns::default(),
            up: None,
            hops: [None; 2],
            last_answer: None,
            gauges_due: now,
            losses_due: now,
            gauges_stale: false,
            config,
            codec,
        }
    }

    /// Probes that must be remembered: in flight, and as long again for late answers.
    fn capacity(config: &Config) -> usize {
        let per_wait = config.wait_ns / config.interval_ns.max(1);
        let burst = if config.poisson { per_wait / 2 } else { 0 };
        // A stall of one second is caught up at once.
        let caught_up = Schedule::MAX_OVERDUE_NS / config.interval_ns.max(1);
        let probes = 3 * per_wait + burst + caught_up + 24;
        usize::try_from(probes)
            .unwrap_or(1 << 20)
            .min(1 << 20)
            .next_power_of_two()
    }

    /// Bytes that a session with this configuration keeps for its probes.
    #[must_use]
    pub fn memory_bytes(config: &Config) -> usize {
        Self::capacity(config) * (size_of::<Slot>() + size_of::<u64>()) + size_of::<Self>()
    }

    /// What is known of the reflector.
    #[must_use]
    pub const fn reflector(&self) -> Reflector {
        self.reflector
    }

    /// Whether the opening has ended without any answer: `auto` then tries something else.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.highest_answered.is_none()
            && !self.opening.heard()
            && self.opening.spent()
            && self.phase != Phase::Opening
    }

    /// The configuration it was made with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its packets.
    #[must_use]
    pub const fn codec(&self) -> &Codec {
        &self.codec
    }

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

    fn due(&mut self, now: MonoNanos, out: &mut impl FnMut(Emission)) -> Option<Transmit> {
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
    fn opening_due(&self) -> Option<MonoNanos> {
        let searching = matches!(self.phase, Phase::Opening | Phase::Counting);
        self.opening.due.filter(|_| searching)
    }

    fn transmit(&self, kind: Kind, marking: Marking, copies: u32, intended: MonoNanos) -> Transmit {
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

    fn wake_at(&self, now: MonoNanos) -> MonoNanos {
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

    /// Writes the packet of a transmit; the same `t1` and `echo` go to [`Session::sent`].
    pub fn emit(
        &mut self,
        transmit: &Transmit,
        buf: &mut [u8; MAX_PAYLOAD],
        t1: WallNanos,
        clock: ClockState,
    ) -> (usize, [u8; 8]) {
        self.tai_offset = clock.tai_offset;
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
        emit(out, Output::Errno(errno));
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

    fn closing_tried(&mut self, now: MonoNanos) {
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

    fn take(&mut self, count: u64) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count);
        }
    }

    /// The kernel's (and the device's) TX stamp of a probe.
    pub fn tx_stamp(
        &mut self,
        sequence: u32,
        kernel: Option<WallNanos>,
        hardware: Option<WallNanos>,
        out: &mut impl FnMut(Emission),
    ) {
        self.stamp_seen = true;
        self.stamps_expected = true;
        let index = unwrap_sequence(sequence, self.next);
        let Some(slot) = self.slots.get(index) else {
            return;
        };
        // The first copy's stamp is the one that counts.
        slot.kernel = slot.kernel.or(kernel);
        slot.hardware = slot.hardware.or(hardware);
        if slot.state == State::Held {
            self.measure(index, out);
        }
    }

    /// The device says that it stamps whatever it sends: a probe without a stamp never left,
    /// also when no probe had one yet.
    pub const fn stamps_are_certain(&mut self) {
        self.stamps_certain = true;
    }

    /// TX stamps may have been lost from now back to the oldest undecided probe: a full
    /// receive buffer drops them without a trace.
    pub fn stamps_doubtful(&mut self) {
        for index in self.settled..self.next {
            if let Some(slot) = self.slots.get(index) {
                slot.doubtful = true;
            }
        }
    }

    /// Our own socket dropped this many datagrams (`SO_RXQ_OVFL`).
    pub fn overflowed(&mut self, datagrams: u64, out: &mut impl FnMut(Emission)) {
        self.overflows += datagrams;
        emit(out, Output::Count(Counter::ReceiveOverflows, datagrams));
        self.stamps_doubtful();
    }

    /// The wall clock was set: what is in flight has stamps of two times.
    pub fn clock_stepped(&mut self, out: &mut impl FnMut(Emission)) {
        self.generation += 1;
        let settled = self.settled;
        for slot in self.slots.all() {
            slot.stepped |= slot.index >= settled;
        }
        self.break_chains(out);
    }

    /// An ICMP error named one of our probes. Returns nothing and decides nothing: the
    /// probe's wait does.
    pub fn icmp_error(
        &mut self,
        kind: u8,
        code: u8,
        from: std::net::IpAddr,
        out: &mut impl FnMut(Emission),
    ) {
        emit(out, Output::Count(Counter::IcmpErrors, 1));
        emit(out, Output::Icmp { kind, code, from });
    }

    fn break_chains(&mut self, out: &mut impl FnMut(Emission)) {
        for (jitter, (pdv, quantity)) in self.jitter.iter_mut().zip(
            self.pdv
                .iter_mut()
                .zip([Quantity::ForwardPdv, Quantity::ReversePdv]),
        ) {
            jitter.break_chain();
            pdv.evaluate(|value| sample(out, quantity, value));
        }
    }

    /// All is decided: what waited for more goes out.
    fn end(&mut self, now: MonoNanos, out: &mut impl FnMut(Emission)) {
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

    fn publish_gauges(&mut self, out: &mut impl FnMut(Emission)) {
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

    /// Never so long that the wait of the probe that is held passes first.
    fn stamp_patience_ns(&self) -> u64 {
        STAMP_PATIENCE_NS.min(self.config.wait_ns / 4)
    }

    fn late_after_ns(&self) -> i64 {
        late_after_ns(self.config.interval_ns).cast_signed()
    }
}

fn emit(out: &mut impl FnMut(Emission), output: Output) {
    out(Emission::Output(output));
}

fn sample(out: &mut impl FnMut(Emission), quantity: Quantity, value: i64) {
    emit(out, Output::Sample(Sample { quantity, value }));
}

fn stamped(out: &mut impl FnMut(Emission), point: StampPoint, source: StampSource) {
    emit(out, Output::Stamped(point, source));
}

#[cfg(test)]
mod tests;
