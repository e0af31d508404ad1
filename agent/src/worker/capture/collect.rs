//! What the capture threads hand over, added up for snapshots. Lives on the publisher's
//! thread; one call of [`Collector::snapshot`] is one interval.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use base::{FlowEnd, GroupKey, Leg, LossPlace, Quantity, RttMethod, Sender as End, TcpClass};
use capture::{DropReason, Drops};
use measure::passive::{Counters, DatagramEvent, Groups, NoSample, Unmeasured};
use record::handoff::Reader;
use record::passive::Traffic;
use record::series::{ClassicBounds, Interval, Series};
use record::snapshot::{CaptureGroup, CaptureSnapshot};
use wire::decode::Undecoded;

use super::Told;
use crate::output::passive::add_counters;
use crate::passive::live::worker::Load;

/// Values of a series per tick that are kept exactly: its own interval is not used.
const UNUSED: f64 = 0.0;
/// The word for flows that fit no prefix, or no port.
const NONE: &str = "none";

/// What it begins with.
pub(super) struct Begin {
    pub(super) loads: Vec<Reader<Load<Interval>>>,
    pub(super) groups: Groups,
    pub(super) bounds: ClassicBounds,
    pub(super) device: String,
    pub(super) backend: &'static str,
    pub(super) reason: String,
    pub(super) capacity: u64,
    pub(super) gone: Sender<usize>,
    pub(super) told: Arc<Told>,
}

/// A worker's newest numbers.
struct Share {
    loads: Reader<Load<Interval>>,
    counters: Option<Counters>,
    drops: Drops,
    active: u64,
    ended: Vec<Traffic>,
    traffic: Vec<Traffic>,
}

/// Series of a group; each from its first value on.
#[derive(Default)]
struct Group {
    rtt: [Option<Series>; RttMethod::COUNT * Leg::COUNT],
    late: [Option<Series>; 2],
    classes: [[u64; TcpClass::COUNT]; 2],
    losses: [[u64; LossPlace::COUNT]; 2],
    too_big: u64,
    black_holes: u64,
}

/// See the module.
pub struct Collector {
    shares: Vec<Share>,
    of: Vec<Group>,
    groups: Groups,
    bounds: ClassicBounds,
    zero: Counters,
    base: CaptureSnapshot,
    lost: u64,
    gone: Sender<usize>,
    told: Arc<Told>,
}

impl Collector {
    pub(super) fn new(begin: Begin) -> Self {
        let count = begin.groups.count();
        let shares = begin.loads.into_iter().map(|loads| Share {
            loads,
            counters: None,
            drops: Drops::default(),
            active: 0,
            ended: vec![Traffic::default(); count],
            traffic: vec![Traffic::default(); count],
        });
        Self {
            shares: shares.collect(),
            of: (0..count).map(|_| Group::default()).collect(),
            zero: measure::passive::Analyser::new(crate::passive::smallest()).counters(),
            base: CaptureSnapshot {
                device: begin.device,
                backend: begin.backend,
                reason: begin.reason,
                since: sys::clock::wall_now(),
                flows_capacity: begin.capacity,
                ..CaptureSnapshot::default()
            },
            groups: begin.groups,
            bounds: begin.bounds,
            lost: 0,
            gone: begin.gone,
            told: begin.told,
        }
    }

    /// Takes what waits, and ends an interval.
    pub fn snapshot(&mut self) -> CaptureSnapshot {
        let mut interruptions = None;
        for share in &mut self.shares {
            let gone = take(share, &mut self.of, &self.bounds, &self.gone);
            // Each device has a source in the first worker: the others say the same.
            interruptions.get_or_insert(gone);
        }
        self.base.interruptions += interruptions.unwrap_or(0);
        let mut counters = self.zero.clone();
        let mut drops = Drops::default();
        for share in &self.shares {
            if let Some(more) = &share.counters {
                add_counters(&mut counters, more);
            }
            for reason in DropReason::ALL {
                drops.add(*reason, share.drops.get(*reason));
            }
        }
        self.base.intervals += 1;
        self.base.degraded_intervals += u64::from(drops.lost() > self.lost);
        self.lost = drops.lost();
        // Relaxed: counters, nothing is read through them.
        self.told.lost.store(self.lost, Ordering::Relaxed);
        let evicted = counters.ended[FlowEnd::Evicted.index()];
        self.told.evicted.store(evicted, Ordering::Relaxed);
        let mut snapshot = self.base.clone();
        numbers(&mut snapshot, &counters, &drops);
        snapshot.flows_active = self.shares.iter().map(|share| share.active).sum();
        self.of.iter_mut().for_each(Group::tick);
        snapshot.groups = (0..self.of.len()).map(|at| self.group(at)).collect();
        snapshot
    }

    fn group(&self, at: usize) -> CaptureGroup {
        let Some(group) = self.of.get(at) else {
            return CaptureGroup::default();
        };
        let key = GroupKey(u16::try_from(at).unwrap_or(u16::MAX));
        let (prefix, port) = self.groups.names(key);
        let mut traffic = Traffic::default();
        for share in &self.shares {
            if let Some(more) = share.traffic.get(at) {
                traffic.merge(more);
            }
        }
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
            classes: group.classes,
            losses: group.losses,
            too_big: group.too_big,
            black_holes: group.black_holes,
            rtt,
            late: [0, 1].map(|at: usize| group.late[at].as_ref().map(Series::snapshot)),
        }
    }
}

const fn cell(method: RttMethod, leg: Leg) -> usize {
    method.index() * Leg::COUNT + leg.index()
}

/// Takes what a worker handed over; gives how many devices went away.
fn take(share: &mut Share, of: &mut [Group], bounds: &ClassicBounds, gone: &Sender<usize>) -> u64 {
    let Share {
        loads,
        counters,
        drops,
        active,
        ended,
        traffic,
    } = share;
    let mut went = 0;
    loads.take(|load| {
        for (device, _) in &load.gone {
            went += 1;
            // A supervisor that is gone needs no word.
            let _ = gone.send(*device);
        }
        if let Some(newest) = load.counters.take() {
            *counters = Some(newest);
        }
        *drops = load.drops;
        *active = load.active;
        for ((group, from), ended) in of
            .iter_mut()
            .zip(load.tally.stats.groups())
            .zip(ended.iter_mut())
        {
            group.take(from, bounds);
            ended.merge(&from.traffic);
        }
        if load.walked {
            traffic.clone_from(ended);
            for (sum, standing) in traffic.iter_mut().zip(&load.standing.traffic) {
                sum.merge(standing);
            }
        }
        load.clear();
    });
    went
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
        for (ours, theirs) in self.classes.iter_mut().zip(&from.classes) {
            add(ours, theirs);
        }
        for (ours, theirs) in self.losses.iter_mut().zip(&from.losses) {
            add(ours, theirs);
        }
        self.too_big += from.too_big;
        self.black_holes += from.black_holes;
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

fn add<const N: usize>(ours: &mut [u64; N], theirs: &[u64; N]) {
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        *ours += theirs;
    }
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
