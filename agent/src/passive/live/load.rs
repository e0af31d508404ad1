//! What a capture thread hands over once a tick, and what a reader keeps of all that came.
//!
//! What was sent so far is known when the flow table is walked: what flows that ended until
//! then had sent, and what the flows in the table had. A flow that ends between that walk and
//! the next is in both, at different times: [`Load::walk`] adds up what was so at one moment,
//! and [`Shares`] shows nothing but that. So the sums never fall, and are exact at the end.

use base::{FlowSummary, Observation, WallNanos};
use capture::{DropReason, Drops, Written};
use measure::passive::Counters;
use record::Distribution;
use record::passive::{TopFlows, Traffic, Values};

use crate::output::passive::add_counters;
use crate::passive::tally::{Standing, Tally};
use crate::passive::write::Unwritten;

/// Lines for files that a load takes.
const MOST_LINES: usize = 1 << 16;

/// What a line of a file is made of.
#[derive(Copy, Clone, Debug)]
pub struct Line {
    /// The frame's number.
    pub number: u64,
    /// When it was captured; `None`: what it showed shows only now.
    pub at: Option<WallNanos>,
    /// What it showed.
    pub observation: Observation,
}

/// What a worker hands over. Sums are since the load was empty, the rest is of now.
pub struct Load<D = Distribution> {
    /// Observations, sizes and times.
    pub tally: Tally<D>,
    /// What the analyser counted since it began.
    pub counters: Option<Counters>,
    /// What the sources did not lend since they began.
    pub drops: Drops,
    /// Flows in the table.
    pub active: u64,
    /// Sources that can be read.
    pub reading: usize,
    /// The flows in the table in sum, as they were when the table was walked last.
    pub standing: Standing,
    /// What these flows, and those that ended since the load was empty, had sent then.
    pub sent: Vec<Traffic>,
    /// Whether it was walked for this load.
    pub walked: bool,
    /// For `--flows` and `--records`.
    pub lines: Vec<Line>,
    /// Lines that did not fit.
    pub lines_lost: u64,
    /// Devices that cannot be read any more, and why.
    pub gone: Vec<(usize, String)>,
    /// At the end: what became of frames that were to be written.
    pub written: Option<Written>,
    /// From now on none are written.
    pub unwritten: Option<Unwritten>,
}

impl<D: Values> Load<D> {
    /// An empty one for so many groups and so many of the largest flows.
    #[must_use]
    pub fn new(groups: usize, top: usize, lines: bool) -> Self {
        Self {
            tally: Tally::new(groups, top),
            counters: None,
            drops: Drops::default(),
            active: 0,
            reading: 0,
            standing: Standing::new(groups, 4 * top),
            sent: vec![Traffic::default(); groups.max(1)],
            walked: false,
            lines: Vec::with_capacity(if lines { MOST_LINES } else { 0 }),
            lines_lost: 0,
            gone: Vec::new(),
            written: None,
            unwritten: None,
        }
    }

    /// Empties it; keeps the memory.
    pub fn clear(&mut self) {
        self.tally.clear();
        self.walked = false;
        self.lines.clear();
        self.lines_lost = 0;
        self.gone.clear();
    }

    /// Walks the table: of the largest flows those are kept that sent since `fresh`.
    pub fn walk(&mut self, flows: impl Iterator<Item = FlowSummary>, fresh: WallNanos) {
        self.standing.walk(flows, fresh);
        for (sent, now) in self.sent.iter_mut().zip(self.tally.traffic(&self.standing)) {
            *sent = now;
        }
        self.walked = true;
    }

    /// Keeps a line for files, if there is room.
    #[inline]
    pub(super) fn line(&mut self, line: Line) {
        if self.lines.len() < MOST_LINES {
            self.lines.push(line);
        } else {
            self.lines_lost += 1;
        }
    }
}

/// A worker's newest numbers.
#[derive(Clone, Debug)]
struct Share {
    counters: Option<Counters>,
    drops: Drops,
    active: u64,
    reading: usize,
    /// What flows that ended had sent, by group.
    ended: Vec<Traffic>,
    /// What all had sent when the table was walked last, by group.
    sent: Vec<Traffic>,
    largest: Option<TopFlows>,
}

/// The newest numbers of all workers.
#[derive(Clone, Debug)]
pub struct Shares(Vec<Share>);

impl Shares {
    /// Of workers that read so many sources each, for so many groups.
    #[must_use]
    pub fn new(reading: impl Iterator<Item = usize>, groups: usize) -> Self {
        let share = |reading| Share {
            counters: None,
            drops: Drops::default(),
            active: 0,
            reading,
            ended: vec![Traffic::default(); groups.max(1)],
            sent: vec![Traffic::default(); groups.max(1)],
            largest: None,
        };
        Self(reading.map(share).collect())
    }

    /// Takes a load of a worker.
    pub fn take<D: Values>(&mut self, worker: usize, load: &mut Load<D>) {
        let Some(share) = self.0.get_mut(worker) else {
            return;
        };
        if let Some(counters) = load.counters.take() {
            share.counters = Some(counters);
        }
        share.drops = load.drops;
        share.active = load.active;
        share.reading = load.reading;
        if load.walked {
            share.sent.clone_from(&share.ended);
            for (sum, sent) in share.sent.iter_mut().zip(&load.sent) {
                sum.merge(sent);
            }
            share.largest = Some(load.standing.largest.clone());
        }
        for (ended, group) in share.ended.iter_mut().zip(load.tally.stats.groups()) {
            ended.merge(&group.traffic);
        }
    }

    /// Goes on where workers ended that left their sources to these: what the sources did not
    /// lend is counted on by them.
    pub fn succeed(&mut self, before: &Self) {
        for (share, before) in self.0.iter_mut().zip(&before.0) {
            share.drops = before.drops;
        }
    }

    /// Adds what the analysers counted.
    pub fn add_to(&self, counters: &mut Counters) {
        for more in self.0.iter().filter_map(|share| share.counters.as_ref()) {
            add_counters(counters, more);
        }
    }

    /// What was not lent so far.
    #[must_use]
    pub fn drops(&self) -> Drops {
        let mut all = Drops::default();
        for share in &self.0 {
            add_drops(&mut all, share.drops);
        }
        all
    }

    /// Flows in the tables.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.0.iter().map(|share| share.active).sum()
    }

    /// Whether any source can be read.
    #[must_use]
    pub fn are_reading(&self) -> bool {
        self.0.iter().any(|share| share.reading > 0)
    }

    /// What flows of a group sent until the tables were walked last.
    #[must_use]
    pub fn sent(&self, group: usize) -> Traffic {
        let mut sum = Traffic::default();
        for sent in self.0.iter().filter_map(|share| share.sent.get(group)) {
            sum.merge(sent);
        }
        sum
    }

    /// The largest flows of a worker, if its table was walked since the last call.
    pub fn largest(&mut self, worker: usize) -> Option<TopFlows> {
        self.0.get_mut(worker)?.largest.take()
    }

    /// How many workers.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.0.len()
    }
}

/// Adds what one source did not lend to what others did not.
pub fn add_drops(to: &mut Drops, from: Drops) {
    for reason in DropReason::ALL {
        to.add(*reason, from.get(*reason));
    }
}

#[cfg(test)]
mod tests;
