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
mod drive;
mod kernel;
mod measured;
mod opening;
mod reply;
mod send;
mod settle;
mod slots;

use base::{MonoNanos, Output, ProbeResult, Quantity, Sample, StampPoint, StampSource, WallNanos};

pub use codec::{Codec, IcmpCodec, MAX_PAYLOAD, Marking, StampCodec};
pub use opening::{Reflector, SILENT_ATTEMPTS};
pub use reply::Datagram;
pub use slots::Kind;

use crate::loss::{Alignment, Order, Reports, Sent, Split, unwrap_sequence};
use crate::runs::LossRuns;
use crate::schedule::{Schedule, late_after_ns};
use crate::variation::{Jitter, Pdv};
use opening::Opening;
use slots::{Slot, Slots};

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
            checkpoints: std::collections::VecDeque::with_capacity(settle::MAX_CHECKPOINTS),
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

    /// The device says that it stamps whatever it sends: a probe without a stamp never left,
    /// also when no probe had one yet.
    pub const fn stamps_are_certain(&mut self) {
        self.stamps_certain = true;
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
