//! All series, counters and gauges of one target of the agent.

use std::sync::Arc;

use base::{Counter, EventKind, Gauge, LossTotals, Output, Protocol, Quantity, SessionEvent, Why};

use super::loss::SettledLoss;
use super::{ClassicBounds, Series, SeriesSnapshot};

/// See the module. Owned by the publisher.
#[derive(Debug)]
pub struct TargetSeries {
    series: Vec<Series>,
    settled: SettledLoss,
    /// By [`Counter::index`].
    pub counters: [u64; Counter::COUNT],
    /// By [`Gauge::index`]; `None` until measured.
    pub gauges: [Option<f64>; Gauge::COUNT],
    /// Samples by stamp point and source.
    pub stamped: [[u64; 4]; 4],
    /// Loss by place, as told last.
    pub loss: LossTotals,
    /// How the target is probed and why, once known.
    pub protocol: Option<(Protocol, Why)>,
    /// The errno of the last failed send.
    pub last_errno: Option<i32>,
    /// Events by [`EventKind::index`].
    pub events: [u64; EventKind::ALL.len()],
}

impl TargetSeries {
    /// For a target that is probed every `interval_ns` and ticked every `tick_ns`.
    #[must_use]
    pub fn new(interval_ns: u64, tick_ns: u64, bounds: &ClassicBounds) -> Self {
        let samples = tick_ns as f64 / interval_ns.max(1) as f64;
        Self {
            series: Quantity::ALL
                .iter()
                .map(|quantity| Series::new(*quantity, samples, bounds))
                .collect(),
            settled: SettledLoss::default(),
            counters: [0; Counter::COUNT],
            gauges: [None; Gauge::COUNT],
            stamped: [[0; 4]; 4],
            loss: LossTotals::default(),
            protocol: None,
            last_errno: None,
            events: [0; EventKind::ALL.len()],
        }
    }

    /// Takes one output of the session; an event is given back, to be named and logged.
    pub fn apply(&mut self, output: &Output) -> Option<SessionEvent> {
        match *output {
            Output::Sample(sample) => self.series[sample.quantity.index()].record(sample.value),
            Output::Count(counter, by) => self.counters[counter.index()] += by,
            Output::Stamped(point, source) => self.stamped[point.index()][source.index()] += 1,
            Output::Gauge(gauge, value) => self.gauges[gauge.index()] = Some(value),
            Output::Loss(loss) => self.loss = loss,
            Output::Protocol(protocol, why) => self.protocol = Some((protocol, why)),
            Output::Errno(errno) => self.last_errno = Some(errno),
            Output::Event(event) => {
                self.events[event.kind.index()] += 1;
                return Some(event);
            }
            Output::Icmp { .. } | Output::Finished => {}
        }
        None
    }

    /// Ends an interval.
    pub fn tick(&mut self) {
        for series in &mut self.series {
            series.tick();
        }
        self.settled.tick(&self.loss);
    }

    /// Loss by place as counters that never fall, as at the last tick; a place that is
    /// not told yet follows up to [`super::SETTLE_TICKS`] ticks later.
    #[must_use]
    pub fn settled_loss(&self) -> LossTotals {
        self.settled.totals()
    }

    /// The series of a quantity.
    #[must_use]
    pub fn series(&self, quantity: Quantity) -> &Series {
        &self.series[quantity.index()]
    }

    /// All series as at the last tick, by [`Quantity::index`].
    #[must_use]
    pub fn snapshot(&self) -> [Arc<SeriesSnapshot>; Quantity::COUNT] {
        std::array::from_fn(|place| self.series[place].snapshot())
    }
}
