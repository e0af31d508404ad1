//! One target of the publisher: its names, its series over all its sessions, and the part
//! of the snapshot that is shared until something changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Counter, Gauge, LossTotals, Output, SessionEvent, TargetKey, WallNanos};
use record::TargetSeries;
use record::series::ClassicBounds;
use record::snapshot::{Labels, TargetSnapshot};

use crate::config::report::TICK_NS;
use crate::targets::{Name, Wanted};

/// A target of this process; stays over changes of its address.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u32);

/// So many ticks in which sends were refused and nothing came back make a target down. The
/// session does not call that a loss: nothing was sent.
const REFUSED_TICKS: u32 = 3;

/// What became of sending to a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sending {
    /// Nothing can be sent, and why.
    Refused(String),
    /// It is answered again.
    Works,
}

/// See the module.
pub struct Slot {
    /// The configured name of the probe.
    pub probe: Arc<str>,
    /// The target as configured.
    pub target: Arc<str>,
    /// Labels of the probe.
    pub labels: Labels,
    /// Why it cannot be probed now.
    pub problem: String,
    protocol_requested: &'static str,
    interval_ns: u64,
    since: WallNanos,
    key: TargetKey,
    address: Option<String>,
    series: TargetSeries,
    /// Loss of sessions that are over.
    loss_before: LossTotals,
    /// What each session told last: sessions count from their own beginning, series from
    /// theirs. For a moment there are two, when the address changed.
    loss_of: BTreeMap<TargetKey, LossTotals>,
    /// Probes of each session that are sent and not decided.
    in_flight: BTreeMap<TargetKey, u64>,
    shared: Option<Arc<TargetSnapshot>>,
    /// Send errors and answers at the last tick.
    counted: (u64, u64),
    refused_ticks: u32,
}

impl Slot {
    /// A target that has not been probed yet.
    pub fn new((probe, target): &Name, wanted: &Wanted, bounds: &ClassicBounds) -> Self {
        Self {
            probe: Arc::clone(probe),
            target: Arc::clone(target),
            labels: Arc::clone(&wanted.labels),
            problem: String::new(),
            protocol_requested: wanted.protocol(),
            interval_ns: wanted.how.interval_ns,
            since: sys::clock::wall_now(),
            key: TargetKey(u32::MAX),
            address: None,
            series: TargetSeries::new(
                // All sessions of a target fill the same series.
                wanted.how.interval_ns / u64::from(wanted.how.sessions().max(1)),
                TICK_NS,
                bounds,
            ),
            loss_before: LossTotals::default(),
            loss_of: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            shared: None,
            counted: (0, 0),
            refused_ticks: 0,
        }
    }

    /// The series go on with another session.
    pub fn begin_session(&mut self, key: TargetKey, address: String) {
        self.key = key;
        self.address = Some(address);
        self.problem.clear();
    }

    /// A session is over and all its results are read.
    pub fn end_session(&mut self, key: TargetKey) {
        if let Some(loss) = self.loss_of.remove(&key) {
            self.loss_before = plus(&self.loss_before, &loss);
        }
        // Nobody will tell what became of them, and they must not count as in flight for good.
        let undecided = self.in_flight.remove(&key).unwrap_or(0);
        if undecided > 0 {
            let counter = Counter::DiscardedSessionEnded;
            self.series.apply(&Output::Count(counter, undecided));
            self.touch();
        }
    }

    fn decide(&mut self, key: TargetKey, counter: Counter, by: u64) {
        let in_flight = self.in_flight.entry(key).or_default();
        if counter == Counter::Sent {
            *in_flight += by;
        } else if matches!(counter, Counter::Received | Counter::Lost)
            || Counter::DISCARDED.contains(&counter)
        {
            // Less than there were only if results did not fit the ring.
            *in_flight = in_flight.saturating_sub(by);
        }
    }

    /// Something changed: the next snapshot is made anew.
    pub fn touch(&mut self) {
        self.shared = None;
    }

    /// Takes one result of a session; an event is given back.
    pub fn apply(&mut self, key: TargetKey, output: &Output) -> Option<SessionEvent> {
        self.touch();
        if let Output::Loss(loss) = output {
            self.loss_of.insert(key, *loss);
            let total = self
                .loss_of
                .values()
                .fold(self.loss_before, |sum, one| plus(&sum, one));
            return self.series.apply(&Output::Loss(total));
        }
        if let Output::Count(counter, by) = output {
            self.decide(key, *counter, *by);
        }
        self.series.apply(output)
    }

    /// Ends an interval. Whether nothing can be sent any more, or can again, is given back.
    pub fn tick(&mut self) -> Option<Sending> {
        let settled = self.series.settled_loss();
        self.series.tick();
        if self.series.settled_loss() != settled {
            self.touch();
        }
        let count = |counter: Counter| self.series.counters[counter.index()];
        let (errors, received) = (count(Counter::SendErrors), count(Counter::Received));
        let (errors_before, received_before) = self.counted;
        self.counted = (errors, received);
        let was = self.refused_ticks >= REFUSED_TICKS;
        if received > received_before {
            self.refused_ticks = 0;
        } else if errors > errors_before {
            self.refused_ticks = self.refused_ticks.saturating_add(1);
        }
        match (was, self.refused_ticks >= REFUSED_TICKS) {
            (false, true) => {
                self.touch();
                Some(Sending::Refused(self.refusal()))
            }
            (true, false) => {
                self.touch();
                Some(Sending::Works)
            }
            _ => None,
        }
    }

    /// Why nothing can be sent.
    fn refusal(&self) -> String {
        let error = self
            .series
            .last_errno
            .map(std::io::Error::from_raw_os_error);
        let why = error.map_or_else(|| "refused".to_owned(), |error| error.to_string());
        format!("nothing can be sent: {why}")
    }

    /// As at the last tick; the same `Arc` while nothing changes.
    pub fn snapshot(&mut self) -> Arc<TargetSnapshot> {
        if let Some(shared) = &self.shared {
            return Arc::clone(shared);
        }
        let series = &self.series;
        let (mut gauges, mut problem) = (series.gauges, self.problem.clone());
        if self.refused_ticks >= REFUSED_TICKS {
            gauges[Gauge::Up.index()] = Some(0.0);
            if problem.is_empty() {
                problem = self.refusal();
            }
        }
        let snapshot = Arc::new(TargetSnapshot {
            key: self.key,
            probe: Arc::clone(&self.probe),
            target: Arc::clone(&self.target),
            labels: Arc::clone(&self.labels),
            address: self.address.clone(),
            az_id: String::new(),
            protocol_requested: self.protocol_requested,
            protocol: series.protocol.map(|(protocol, _)| protocol),
            why: series.protocol.map(|(_, why)| why),
            interval_ns: self.interval_ns,
            since: self.since,
            counters: series.counters,
            gauges,
            stamped: series.stamped,
            loss: series.loss,
            settled_loss: series.settled_loss(),
            problem,
            series: series.snapshot(),
        });
        self.shared = Some(Arc::clone(&snapshot));
        snapshot
    }
}

/// Losses of two sessions of one target. Directions are told if either tells them; what
/// the other could not tell is unattributed there already.
fn plus(a: &LossTotals, b: &LossTotals) -> LossTotals {
    LossTotals {
        lost: a.lost + b.lost,
        local: a.local + b.local,
        forward: a.forward + b.forward,
        reverse: a.reverse + b.reverse,
        unattributed: a.unattributed + b.unattributed,
        directed: a.directed || b.directed,
    }
}
