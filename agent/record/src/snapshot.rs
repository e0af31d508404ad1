//! The state of the agent at one tick: immutable, shared by `Arc<Snapshot>`, all that
//! encoders read.
//!
//! Plain structs with public fields, filled by the publisher. What did not change since
//! the last tick is shared by `Arc`. Nothing here is locked or computed on a scrape.
//! Reasons and kinds are complete lists from the start, with 0 where nothing happened.

use std::sync::Arc;

use base::{Counter, EventKind, Gauge, LossTotals, Protocol, Quantity, TargetKey, WallNanos, Why};

use crate::events::EventList;
use crate::series::SeriesSnapshot;

/// Name and value pairs, e.g. configured labels; shared, for they rarely change.
pub type Labels = Arc<[(String, String)]>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the tick was.
    pub taken_at: WallNanos,
    /// When the agent began to measure.
    pub started_at: WallNanos,
    /// What is running.
    pub build: BuildInfo,
    /// Where it runs.
    pub source: SourceInfo,
    /// Labels on every series (`[agent] labels`), at most 8.
    pub labels: Labels,
    /// Which configuration is in force.
    pub config: ConfigInfo,
    /// Why the agent is not ready; empty: it is.
    pub not_ready: Vec<String>,
    /// Health of its parts.
    pub components: Vec<Component>,
    /// One per probe and target, in the order of the configuration.
    pub targets: Vec<Arc<TargetSnapshot>>,
    /// The reflector, if it is configured.
    pub reflector: Option<ReflectorSnapshot>,
    /// The capture, if it is configured.
    pub capture: Option<CaptureSnapshot>,
    /// What the agent itself uses.
    pub process: ProcessStats,
    /// Events there ever were, by [`EventKind::index`].
    pub event_counts: [u64; EventKind::ALL.len()],
    /// Events that fell out of the list.
    pub events_evicted: u64,
    /// The newest events, oldest first.
    pub events: EventList,
    /// Results of the prober that did not fit its ring.
    pub results_dropped: u64,
    /// How long the publisher took for the last tick, ns.
    pub publish_ns: u64,
    /// `(sink, cause, count)`: what sinks failed to deliver.
    pub export_errors: Vec<(&'static str, &'static str, u64)>,
}

impl Snapshot {
    /// Why the agent does not measure as configured: not yet, or a part of it failed.
    pub fn unready(&self) -> impl Iterator<Item = String> {
        let failed = self
            .components
            .iter()
            .filter(|component| component.health == Health::Failed)
            .map(|component| format!("{} is failed: {}", component.name, component.detail));
        self.not_ready.iter().cloned().chain(failed)
    }

    /// Before the first tick: nothing measured, not ready.
    #[must_use]
    pub fn starting(build: BuildInfo, now: WallNanos) -> Self {
        Self {
            taken_at: now,
            started_at: now,
            build,
            source: SourceInfo::default(),
            labels: Arc::from([]),
            config: ConfigInfo::default(),
            not_ready: vec!["starting".to_owned()],
            components: Vec::new(),
            targets: Vec::new(),
            reflector: None,
            capture: None,
            process: ProcessStats::default(),
            event_counts: [0; EventKind::ALL.len()],
            events_evicted: 0,
            events: Arc::from([]),
            results_dropped: 0,
            publish_ns: 0,
            export_errors: Vec::new(),
        }
    }

    /// The worst health of any component.
    #[must_use]
    pub fn health(&self) -> Health {
        self.components
            .iter()
            .map(|component| component.health)
            .max()
            .unwrap_or(Health::Healthy)
    }
}

/// What is running.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BuildInfo {
    /// Version of the package.
    pub version: String,
    /// Commit, empty if unknown.
    pub revision: String,
    /// Version of the compiler, empty if unknown.
    pub rustc: String,
}

/// Where it runs; empty is unknown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceInfo {
    /// Name of the host.
    pub host: String,
    /// Its address.
    pub address: String,
    /// Its device.
    pub device: String,
    /// EC2 instance.
    pub instance_id: String,
    /// EC2 availability zone id.
    pub az_id: String,
}

/// Which configuration is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigInfo {
    /// SHA-256 of the configuration in force, hexadecimal.
    pub sha256: String,
    /// The file it came from.
    pub path: String,
    /// Whether the last load or reload was taken.
    pub last_reload_ok: bool,
    /// Why it was not; empty if it was.
    pub last_reload_error: String,
    /// When the last one was taken.
    pub last_success_at: WallNanos,
    /// Whether the last valid configuration is in force instead of the present one.
    pub last_valid_in_force: bool,
}

impl Default for ConfigInfo {
    fn default() -> Self {
        Self {
            sha256: String::new(),
            path: String::new(),
            last_reload_ok: true,
            last_reload_error: String::new(),
            last_success_at: WallNanos(0),
            last_valid_in_force: false,
        }
    }
}

/// How well a part works; ordered from well to badly.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Health {
    /// As it should.
    Healthy,
    /// With less than it should have.
    Degraded,
    /// Not at all.
    Failed,
}

impl Health {
    /// All, from well to badly.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Degraded, Self::Failed];

    /// The word in JSON and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// One part of the agent: prober, reflector, publisher, opener, clock, a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    /// Its name, one word.
    pub name: &'static str,
    /// How well it works.
    pub health: Health,
    /// Why, and what to do; empty when healthy.
    pub detail: String,
    /// Since when it is so.
    pub since: WallNanos,
}

/// One target of one probe.
#[derive(Clone, Debug)]
pub struct TargetSnapshot {
    /// Its number in this process.
    pub key: TargetKey,
    /// The configured name of the probe.
    pub probe: Arc<str>,
    /// The target as configured, never an address it resolved to.
    pub target: Arc<str>,
    /// Labels of the probe.
    pub labels: Labels,
    /// The address in use, once known.
    pub address: Option<String>,
    /// EC2 availability zone id of the target; empty: unknown.
    pub az_id: String,
    /// `auto`, `stamp` or `icmp`, as configured.
    pub protocol_requested: &'static str,
    /// How it is probed, once known.
    pub protocol: Option<Protocol>,
    /// Why so.
    pub why: Option<Why>,
    /// Time between probes.
    pub interval_ns: u64,
    /// When it was added.
    pub since: WallNanos,
    /// By [`Counter::index`].
    pub counters: [u64; Counter::COUNT],
    /// By [`Gauge::index`]; `None` until measured.
    pub gauges: [Option<f64>; Gauge::COUNT],
    /// Samples by stamp point and source.
    pub stamped: [[u64; 4]; 4],
    /// Loss by place, as told last.
    pub loss: LossTotals,
    /// Loss by place as counters that never fall ([`crate::TargetSeries::settled_loss`]).
    pub settled_loss: LossTotals,
    /// Why the target cannot be probed now (name unresolved, socket refused); empty: it
    /// is probed.
    pub problem: String,
    /// By [`Quantity::index`].
    pub series: [Arc<SeriesSnapshot>; Quantity::COUNT],
}

impl TargetSnapshot {
    /// The value of a counter.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter.index()]
    }

    /// The value of a gauge, if it was ever measured.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> Option<f64> {
        self.gauges[gauge.index()]
    }

    /// The series of a quantity.
    #[must_use]
    pub fn series(&self, quantity: Quantity) -> &SeriesSnapshot {
        &self.series[quantity.index()]
    }
}

/// The reflector's counters, summed over its sockets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReflectorSnapshot {
    /// Addresses it listens on.
    pub listen: Vec<String>,
    /// Packets that arrived.
    pub received: u64,
    /// Answers sent.
    pub reflected: u64,
    /// `(reason, count)`: packets that were not answered; every reason, also at 0.
    pub dropped: Vec<(&'static str, u64)>,
    /// Sessions in the table.
    pub sessions: u64,
    /// Its size.
    pub session_capacity: u64,
    /// Sessions that were idle too long.
    pub sessions_expired: u64,
    /// Answers that were sent on a forced or malformed TLV and such: `(kind, count)`.
    pub notes: Vec<(&'static str, u64)>,
}

/// What passing traffic shows, of all devices and workers together. Reasons are complete
/// lists, also at 0.
#[derive(Clone, Debug, Default)]
pub struct CaptureSnapshot {
    /// The devices, with commas.
    pub device: String,
    /// How they are captured.
    pub backend: &'static str,
    /// Why so, and in which mode.
    pub reason: String,
    /// When it began.
    pub since: WallNanos,
    /// Frames analysed.
    pub frames: u64,
    /// Their octets on the wire.
    pub bytes: u64,
    /// `(reason, count)`: frames that were not analysed; `filtered` among them.
    pub dropped: Vec<(&'static str, u64)>,
    /// `(reason, count)`: frames that were not decoded.
    pub undecoded: Vec<(&'static str, u64)>,
    /// `(reason, count)`: frames that are decoded and in no flow.
    pub unmeasured: Vec<(&'static str, u64)>,
    /// Frames that were captured twice: in flows, and no packets of them.
    pub duplicates: u64,
    /// `(reason, count)`: what gave no round-trip time.
    pub no_sample: Vec<(&'static str, u64)>,
    /// Segments that were not remembered for want of room.
    pub segments_forgotten: u64,
    /// Frames older than the one before.
    pub clock_back: u64,
    /// Flows in the table.
    pub flows_active: u64,
    /// Its size.
    pub flows_capacity: u64,
    /// Flows there ever were.
    pub flows: u64,
    /// `(reason, count)`: flows that left the table.
    pub flows_ended: Vec<(&'static str, u64)>,
    /// Intervals that ended.
    pub intervals: u64,
    /// Those in which the capture lost frames: losses in them may be the capture's.
    pub degraded_intervals: u64,
    /// Those in which there was no device to read.
    pub interrupted_intervals: u64,
    /// How often a device went away.
    pub interruptions: u64,
    /// What each group of flows shows.
    pub groups: Vec<CaptureGroup>,
}

/// What one group of flows shows. Arrays of two are by [`base::Sender::index`].
#[derive(Clone, Debug, Default)]
pub struct CaptureGroup {
    /// The name of its prefix; `none`: none fits.
    pub group: String,
    /// The name of its port; `none`: none fits.
    pub service: String,
    /// What was sent.
    pub traffic: crate::passive::Traffic,
    /// What was counted by what it is.
    pub counts: crate::passive::GroupCounts,
    /// Round-trip times of the methods and legs that there were.
    pub rtt: Vec<(base::RttMethod, base::Leg, Arc<SeriesSnapshot>)>,
    /// How late reordered segments came, if there were any.
    pub late: [Option<Arc<SeriesSnapshot>>; 2],
}

/// What the agent itself uses, all processes of it.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct ProcessStats {
    /// Resident memory.
    pub resident_bytes: u64,
    /// CPU time, ns.
    pub cpu_ns: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Their limit.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
}
