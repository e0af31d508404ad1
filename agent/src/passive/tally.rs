//! What a capture adds up to, and the report on it.

use base::{FlowSummary, Frame, Observation, WallNanos};
use capture::{Drops, Written};
use measure::passive::{Counters, Groups};
use record::Distribution;
use record::passive::{CaptureStats, TopFlows, Traffic, Values, Windows, windows_of};

use crate::output::passive::{Intervals, Report};

/// Where frames come from, in words.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file, or the devices.
    pub source_name: String,
    /// Which backend was taken.
    pub backend: &'static str,
    /// Why that one.
    pub reason: String,
    /// The filter's words.
    pub filter: String,
    /// What is not as it should be, one line each.
    pub notes: Vec<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Tally<D = Distribution> {
    /// Observations.
    pub stats: CaptureStats<D>,
    /// How much came when.
    pub windows: Windows<D>,
    /// The first and the last frame.
    pub span: Option<(WallNanos, WallNanos)>,
    /// Intervals that ended.
    pub intervals: Intervals,
    /// What became of frames that were to be written.
    pub written: Option<Written>,
    /// So many of the largest flows are shown.
    top: usize,
}

impl<D: Values> Tally<D> {
    /// For so many groups, showing so many flows.
    #[must_use]
    pub fn new(groups: usize, top: usize) -> Self {
        Self {
            stats: CaptureStats::new(groups, top),
            windows: windows_of(),
            span: None,
            intervals: Intervals::default(),
            written: None,
            top,
        }
    }

    /// Takes the times and sizes of a batch.
    #[inline]
    pub fn frames(&mut self, frames: &[Frame<'_>]) {
        self.windows.take(frames);
        if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
            self.span(first.at, last.at);
        }
    }

    /// Takes the times of a batch alone.
    #[inline]
    pub fn span(&mut self, first: WallNanos, last: WallNanos) {
        let (begin, end) = self.span.unwrap_or((first, last));
        self.span = Some((begin.min(first), end.max(last)));
    }

    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.stats.clear();
        self.windows.clear();
        self.span = None;
    }

    /// What was sent so far by group: by flows that ended, and by those in the table.
    pub fn traffic<'a>(&'a self, standing: &'a Standing) -> impl Iterator<Item = Traffic> + 'a {
        let ended = self.stats.groups().iter().map(|group| group.traffic);
        ended.zip(&standing.traffic).map(|(mut sum, standing)| {
            sum.merge(standing);
            sum
        })
    }

    /// Takes an observation.
    #[inline]
    pub fn observe(&mut self, observation: &Observation) {
        self.stats.observe(observation);
    }
}

impl Tally {
    /// Adds what a worker handed over.
    pub fn merge(&mut self, other: &Self) {
        self.stats.merge(&other.stats);
        self.windows.merge(&other.windows);
        if let Some((first, last)) = other.span {
            self.span(first, last);
        }
    }

    /// Everything so far. `traffic` is what [`Tally::traffic`] says, or what an interval had
    /// of it.
    pub fn report<'a>(
        &'a self,
        origin: &'a Origin,
        counters: &'a Counters,
        drops: Drops,
        groups: &'a Groups,
        traffic: Vec<Traffic>,
        standing: &Standing,
    ) -> Report<'a> {
        let mut total = self.stats.total();
        total.traffic = Traffic::default();
        traffic.iter().for_each(|each| total.traffic.merge(each));
        let mut top = TopFlows::new(self.top);
        for flow in self.stats.top.iter().chain(standing.largest.iter()) {
            top.offer(flow);
        }
        Report {
            source_name: &origin.source_name,
            backend: origin.backend,
            reason: &origin.reason,
            filter: &origin.filter,
            notes: &origin.notes,
            counters,
            drops,
            stats: &self.stats,
            total,
            traffic,
            windows: &self.windows,
            groups,
            active: standing.flows,
            top: top.sorted(),
            span: self.span,
            watched_ns: None,
            written: self.written,
            intervals: self.intervals,
            interruptions: 0,
        }
    }
}

/// The flows in a table, in sum.
#[derive(Clone, Debug)]
pub struct Standing {
    /// How many.
    pub flows: u64,
    /// What they sent, by group.
    pub traffic: Vec<Traffic>,
    /// The largest.
    pub largest: TopFlows,
}

impl Standing {
    /// Of an empty table.
    #[must_use]
    pub fn new(groups: usize, top: usize) -> Self {
        Self {
            flows: 0,
            traffic: vec![Traffic::default(); groups.max(1)],
            largest: TopFlows::new(top),
        }
    }

    /// Walks a table: some milliseconds for each 100 000 flows that it has room for. Of the
    /// largest only those are kept that sent since `fresh`.
    pub fn walk(&mut self, flows: impl Iterator<Item = FlowSummary>, fresh: WallNanos) {
        self.flows = 0;
        self.traffic.fill(Traffic::default());
        self.largest.clear();
        for flow in flows {
            self.flows += 1;
            if let Some(traffic) = self.traffic.get_mut(usize::from(flow.group.0)) {
                traffic.add_flow(&flow);
            }
            if flow.last >= fresh {
                self.largest.offer(&flow);
            }
        }
    }
}
