//! What all workers handed over, since the beginning and in the interval that runs.

use std::collections::HashMap;

use base::{FlowKey, FlowSummary, WallNanos};
use capture::{DropReason, Drops};
use measure::passive::{Counters, Groups};
use record::passive::Traffic;

use super::load::{Load, Shares};
use crate::output::passive::{Intervals, Report, subtract_counters};
use crate::passive::plan::Plan;
use crate::passive::tally::{Origin, Standing, Tally};
use crate::passive::write::Unwritten;

/// A flow that is shown, with what it sent since it was looked at last.
#[derive(Clone, Copy, Debug)]
pub struct Moving {
    /// The flow.
    pub flow: FlowSummary,
    /// Octets since.
    pub bytes: u64,
    /// In so many nanoseconds.
    pub ns: u64,
}

/// See the module.
pub struct Merged {
    total: Tally,
    interval: Tally,
    shares: Shares,
    before: Option<Counters>,
    traffic_before: Vec<Traffic>,
    interval_traffic: Vec<Traffic>,
    nothing: Standing,
    drops_before: Drops,
    counters: Counters,
    interval_counters: Counters,
    zero: Counters,
    groups: Groups,
    /// Octets of the flows that were looked at last, by worker, place and beginning.
    seen: HashMap<(usize, FlowKey, WallNanos), (u64, WallNanos)>,
    top: usize,
    with_intervals: bool,
    /// Lines that no file has.
    pub lines_lost: u64,
    /// Devices that went away.
    pub interruptions: u64,
    /// Why frames are not written any more.
    pub unwritten: Option<Unwritten>,
}

impl Merged {
    /// For so many workers.
    #[must_use]
    pub fn new(plan: &Plan, workers: usize) -> Self {
        let groups = plan.options.groups.clone();
        let zero = zero();
        Self {
            total: Tally::new(groups.count(), plan.top),
            interval: Tally::new(groups.count(), plan.top),
            // Each begins with a source.
            shares: Shares::new(std::iter::repeat_n(1, workers), groups.count()),
            before: None,
            traffic_before: vec![Traffic::default(); groups.count()],
            interval_traffic: Vec::new(),
            nothing: Standing::new(groups.count(), 0),
            drops_before: Drops::default(),
            counters: zero.clone(),
            interval_counters: zero.clone(),
            zero,
            groups,
            seen: HashMap::new(),
            top: plan.top,
            with_intervals: plan.show.has_intervals(),
            lines_lost: 0,
            interruptions: 0,
            unwritten: None,
        }
    }

    /// Takes a load of a worker.
    pub fn take(&mut self, worker: usize, load: &mut Load) {
        self.total.merge(&load.tally);
        if self.with_intervals {
            self.interval.merge(&load.tally);
        }
        self.lines_lost += load.lines_lost;
        if let Some(written) = load.written.take() {
            self.total.written = Some(written);
        }
        if let Some(unwritten) = load.unwritten.take() {
            self.unwritten = Some(unwritten);
        }
        self.shares.take(worker, load);
        self.counters = self.zero.clone();
        self.shares.add_to(&mut self.counters);
    }

    /// Ends an interval: whether the capture lost frames in it is known now.
    pub fn end_interval(&mut self) {
        let now = self.shares.drops();
        let lost = now.lost() > self.drops_before.lost();
        self.total.intervals.all += 1;
        self.total.intervals.degraded += u64::from(lost);
        let interrupted = u64::from(!self.shares.are_reading());
        self.total.intervals.interrupted += interrupted;
        self.interval.intervals = Intervals {
            all: 1,
            degraded: u64::from(lost),
            interrupted,
        };
        self.interval_counters = self.counters.clone();
        if let Some(before) = &self.before {
            subtract_counters(&mut self.interval_counters, before);
        }
        self.before = Some(self.counters.clone());
        let now = self.traffic();
        self.interval_traffic = now
            .iter()
            .zip(&self.traffic_before)
            .map(|(now, before)| now.since(before))
            .collect();
        self.traffic_before = now;
    }

    /// What was sent by group until the tables were walked last.
    fn traffic(&self) -> Vec<Traffic> {
        (0..self.groups.count())
            .map(|group| self.shares.sent(group))
            .collect()
    }

    /// The interval that [`Merged::end_interval`] ended.
    pub fn interval_report<'a>(&'a self, origin: &'a Origin) -> Report<'a> {
        let now = self.shares.drops();
        let mut drops = Drops::default();
        for reason in DropReason::ALL {
            let before = self.drops_before.get(*reason);
            drops.add(*reason, now.get(*reason).saturating_sub(before));
        }
        let mut report = self.interval.report(
            origin,
            &self.interval_counters,
            drops,
            &self.groups,
            self.interval_traffic.clone(),
            &self.nothing,
        );
        report.active = self.shares.active();
        report
    }

    /// Forgets the interval that ended.
    pub fn begin_interval(&mut self) {
        self.drops_before = self.shares.drops();
        self.interval.clear();
    }

    /// Everything so far.
    pub fn report<'a>(&'a self, origin: &'a Origin) -> Report<'a> {
        let mut report = self.total.report(
            origin,
            &self.counters,
            self.shares.drops(),
            &self.groups,
            self.traffic(),
            &self.nothing,
        );
        report.active = self.shares.active();
        report.interruptions = self.interruptions;
        report
    }

    /// The flows that move most, if the tables were walked since the last call.
    pub fn moving(&mut self) -> Option<Vec<Moving>> {
        let mut walked = false;
        let mut moving = Vec::new();
        for worker in 0..self.shares.workers() {
            let Some(largest) = self.shares.largest(worker) else {
                continue;
            };
            walked = true;
            let mut seen = HashMap::new();
            for flow in largest.iter() {
                let bytes = flow.sides[0].bytes + flow.sides[1].bytes;
                let key = (worker, flow.flow, flow.first);
                let (before, since) = self.seen.get(&key).copied().unwrap_or((0, flow.first));
                moving.push(Moving {
                    flow: *flow,
                    bytes: bytes.saturating_sub(before),
                    ns: flow.last.delta(since).max(0).cast_unsigned(),
                });
                seen.insert(key, (bytes, flow.last));
            }
            // A worker that was not walked keeps what was seen of its flows.
            self.seen.retain(|(of, ..), _| *of != worker);
            self.seen.extend(seen);
        }
        if !walked {
            return None;
        }
        moving.sort_by_key(|each| {
            (
                std::cmp::Reverse(each.bytes),
                each.flow.first,
                each.flow.ends,
            )
        });
        moving.truncate(self.top);
        Some(moving)
    }
}

/// Counters at 0.
fn zero() -> Counters {
    measure::passive::Analyser::new(crate::passive::smallest()).counters()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    /// Also the part of a second in which a run ends: what comes last comes in it.
    #[test]
    fn intervals_add_up_to_the_whole() {
        let typed = ["netsonde", "capture", "-i", "lo", "--json-stream"];
        let Command::Capture(args) = Cli::try_parse_from(typed).expect("parses").command else {
            panic!("not capture");
        };
        let plan = crate::passive::plan::plan(&args, false).expect("a plan");
        let origin = Origin {
            source_name: "lo".to_owned(),
            backend: "afpacket",
            reason: String::new(),
            filter: String::new(),
            notes: Vec::new(),
        };
        let mut merged = Merged::new(&plan, 1);
        let mut load: Load = Load::new(1, 0, false);
        let mut counters = zero();
        let mut told = Vec::new();
        // Frames, sources that can be read, and what was dropped, all so far.
        for (frames, reading, dropped) in [(10, 1, 0), (15, 0, 0), (15, 1, 0), (17, 1, 3)] {
            counters.frames = frames;
            load.counters = Some(counters.clone());
            load.reading = reading;
            load.drops = Drops::default();
            load.drops.add(DropReason::RingFull, dropped);
            merged.take(0, &mut load);
            load.clear();
            merged.end_interval();
            let report = merged.interval_report(&origin);
            let Intervals {
                all,
                degraded,
                interrupted,
            } = report.intervals;
            told.push([report.counters.frames, all, degraded, interrupted]);
            drop(report);
            merged.begin_interval();
        }
        assert_eq!(
            told,
            [[10, 1, 0, 0], [5, 1, 0, 1], [0, 1, 0, 0], [2, 1, 1, 0]]
        );
        let whole = merged.report(&origin);
        assert_eq!(whole.counters.frames, 17);
        let Intervals {
            all,
            degraded,
            interrupted,
        } = whole.intervals;
        assert_eq!([all, degraded, interrupted], [4, 1, 1]);
    }
}
