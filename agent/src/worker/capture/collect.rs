//! What the capture threads hand over, added up for snapshots. Lives on the publisher's
//! thread; one call of [`Collector::snapshot`] is one interval.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use base::{FlowEnd, GroupKey, Leg, Quantity, RttMethod, Sender as End};
use capture::{DropReason, Drops};
use measure::passive::{Counters, DatagramEvent, Groups, NoSample, Unmeasured};
use record::handoff::Reader;
use record::passive::{GroupCounts, Traffic};
use record::series::{ClassicBounds, Interval, Series};
use record::snapshot::{CaptureGroup, CaptureSnapshot};
use wire::decode::Undecoded;

use super::Told;
use crate::passive::live::load::{Load, Shares};

/// Values of a series per tick that are kept exactly: its own interval is not used.
const UNUSED: f64 = 0.0;
/// The word for flows that fit no prefix, or no port.
pub const NONE: &str = "none";

/// What it begins with.
pub(super) struct Begin {
    /// Of each worker its loads, and how many sources it reads.
    pub(super) loads: Vec<(Reader<Load<Interval>>, usize)>,
    pub(super) groups: Groups,
    pub(super) bounds: ClassicBounds,
    pub(super) described: Described,
    pub(super) capacity: u64,
    pub(super) gone: Sender<usize>,
    pub(super) told: Arc<Told>,
}

/// What is captured, how and why so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// The devices, with commas.
    pub device: String,
    /// How.
    pub backend: &'static str,
    /// Why so.
    pub reason: String,
}

/// Series of a group; each from its first value on.
#[derive(Default)]
struct Group {
    /// What was sent before these workers began.
    before: Traffic,
    rtt: [Option<Series>; RttMethod::COUNT * Leg::COUNT],
    late: [Option<Series>; 2],
    counts: GroupCounts,
}

/// See the module.
pub struct Collector {
    loads: Vec<Reader<Load<Interval>>>,
    shares: Shares,
    of: Vec<Group>,
    groups: Groups,
    bounds: ClassicBounds,
    /// What was counted before these workers began.
    before: Counters,
    base: CaptureSnapshot,
    lost: u64,
    gone: Sender<usize>,
    told: Arc<Told>,
}

impl Collector {
    pub(super) fn new(begin: Begin) -> Self {
        let count = begin.groups.count();
        let mut collector = Self {
            shares: Shares::new(begin.loads.iter().map(|(_, reading)| *reading), count),
            loads: begin.loads.into_iter().map(|(loads, _)| loads).collect(),
            of: (0..count).map(|_| Group::default()).collect(),
            before: measure::passive::Analyser::new(crate::passive::smallest()).counters(),
            base: CaptureSnapshot {
                since: sys::clock::wall_now(),
                flows_capacity: begin.capacity,
                ..CaptureSnapshot::default()
            },
            groups: begin.groups,
            bounds: begin.bounds,
            lost: 0,
            gone: begin.gone,
            told: begin.told,
        };
        collector.describe(begin.described);
        collector
    }

    /// What is captured from now on, how and why so.
    pub fn describe(&mut self, described: Described) {
        let Described {
            device,
            backend,
            reason,
        } = described;
        self.base.device = device;
        self.base.backend = backend;
        self.base.reason = reason;
    }

    /// Goes on where one ends whose threads have stopped and left their sources to ours:
    /// every counter goes on from where it was, and so do the groups of the same names.
    pub fn succeed(&mut self, mut before: Self) {
        before.take();
        self.before = before.counters();
        self.shares.succeed(&before.shares);
        self.lost = before.lost;
        self.base.since = before.base.since;
        self.base.intervals = before.base.intervals;
        self.base.degraded_intervals = before.base.degraded_intervals;
        self.base.interrupted_intervals = before.base.interrupted_intervals;
        self.base.interruptions = before.base.interruptions;
        for (at, mut group) in std::mem::take(&mut before.of).into_iter().enumerate() {
            group.before.merge(&before.shares.sent(at));
            let name = before.groups.names(key(at));
            let same = (0..self.of.len()).find(|at| self.groups.names(key(*at)) == name);
            if let Some(ours) = same.and_then(|at| self.of.get_mut(at)) {
                *ours = group;
            }
        }
    }

    /// Takes what waits.
    fn take(&mut self) {
        let Self {
            loads,
            shares,
            of,
            bounds,
            ..
        } = self;
        let mut interruptions = None;
        for (worker, loads) in loads.iter_mut().enumerate() {
            let mut went = 0;
            loads.take(|load| {
                for (device, _) in &load.gone {
                    went += 1;
                    // A supervisor that is gone needs no word.
                    let _ = self.gone.send(*device);
                }
                for (group, from) in of.iter_mut().zip(load.tally.stats.groups()) {
                    group.take(from, bounds);
                }
                shares.take(worker, load);
                load.clear();
            });
            // Each device has a source in the first worker: the others say the same.
            interruptions.get_or_insert(went);
        }
        self.base.interruptions += interruptions.unwrap_or(0);
    }

    fn counters(&self) -> Counters {
        let mut counters = self.before.clone();
        self.shares.add_to(&mut counters);
        counters
    }

    /// Takes what waits, and ends an interval.
    pub fn snapshot(&mut self) -> CaptureSnapshot {
        self.take();
        let counters = self.counters();
        let drops = self.shares.drops();
        self.base.intervals += 1;
        self.base.interrupted_intervals += u64::from(!self.shares.are_reading());
        self.base.degraded_intervals += u64::from(drops.lost() > self.lost);
        self.lost = drops.lost();
        // Relaxed: counters, nothing is read through them.
        self.told.lost.store(self.lost, Ordering::Relaxed);
        let evicted = counters.ended[FlowEnd::Evicted.index()];
        self.told.evicted.store(evicted, Ordering::Relaxed);
        let mut snapshot = self.base.clone();
        numbers(&mut snapshot, &counters, &drops);
        snapshot.flows_active = self.shares.active();
        self.of.iter_mut().for_each(Group::tick);
        snapshot.groups = (0..self.of.len()).map(|at| self.group(at)).collect();
        snapshot
    }

    fn group(&self, at: usize) -> CaptureGroup {
        let Some(group) = self.of.get(at) else {
            return CaptureGroup::default();
        };
        let (prefix, port) = self.groups.names(key(at));
        let mut traffic = group.before;
        traffic.merge(&self.shares.sent(at));
        let mut rtt = Vec::new();
        for method in RttMethod::ALL {
            for leg in Leg::ALL {
                if let Some(series) = &group.rtt[cell(*method, *leg)] {
                    rtt.push((*method, *leg, series.snapshot()));
                }
            }
        }
        CaptureGroup {
            group: prefix.unwrap_or(NONE).to_owned(),
            service: port.unwrap_or(NONE).to_owned(),
            traffic,
            counts: group.counts,
            rtt,
            late: [0, 1].map(|at: usize| group.late[at].as_ref().map(Series::snapshot)),
        }
    }
}

const fn cell(method: RttMethod, leg: Leg) -> usize {
    method.index() * Leg::COUNT + leg.index()
}

fn key(at: usize) -> GroupKey {
    GroupKey(u16::try_from(at).unwrap_or(u16::MAX))
}

impl Group {
    /// Shows what was absorbed since the last time.
    fn tick(&mut self) {
        for series in self.rtt.iter_mut().chain(&mut self.late).flatten() {
            series.tick();
        }
    }

    fn take(&mut self, from: &record::passive::GroupStats<Interval>, bounds: &ClassicBounds) {
        for method in RttMethod::ALL {
            for leg in Leg::ALL {
                absorb(
                    &mut self.rtt[cell(*method, *leg)],
                    from.rtts(*method, *leg),
                    bounds,
                );
            }
        }
        for end in End::ALL {
            absorb(&mut self.late[end.index()], from.late_ns(end), bounds);
        }
        self.counts.merge(&from.counts);
    }
}

fn absorb(series: &mut Option<Series>, values: Option<&Interval>, bounds: &ClassicBounds) {
    let Some(values) = values.filter(|values| values.count() > 0) else {
        return;
    };
    series
        .get_or_insert_with(|| Series::new(Quantity::Rtt, UNUSED, bounds))
        .absorb(values);
}

/// Complete lists, also at 0.
fn numbers(snapshot: &mut CaptureSnapshot, counters: &Counters, drops: &Drops) {
    snapshot.frames = counters.frames;
    snapshot.bytes = counters.bytes;
    let all = DropReason::ALL.iter();
    snapshot.dropped = all
        .map(|reason| (reason.as_str(), drops.get(*reason)))
        .collect();
    let all = Undecoded::ALL.iter();
    snapshot.undecoded = all
        .map(|reason| (reason.as_str(), counters.undecoded[reason.index()]))
        .collect();
    let all = Unmeasured::ALL.iter();
    snapshot.unmeasured = all
        .map(|reason| (reason.as_str(), counters.unmeasured[reason.index()]))
        .collect();
    snapshot.duplicates = counters.capture_duplicates;
    let tcp = NoSample::ALL
        .iter()
        .map(|reason| (reason.as_str(), counters.no_sample[reason.index()]));
    let datagrams = DatagramEvent::ALL
        .iter()
        .map(|event| (event.as_str(), counters.datagrams[event.index()]));
    snapshot.no_sample = tcp.chain(datagrams).collect();
    snapshot.segments_forgotten = counters.segments_forgotten;
    snapshot.clock_back = counters.clock_back;
    snapshot.flows = counters.flows;
    let all = FlowEnd::ALL.iter();
    snapshot.flows_ended = all
        .map(|end| (end.as_str(), counters.ended[end.index()]))
        .collect();
}

#[cfg(test)]
mod tests;
