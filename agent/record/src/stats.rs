//! Everything that one target of `ping` or `perf` adds up to.
//!
//! Owns its distributions and counters; [`TargetStats::apply`] never allocates. One
//! thread owns it. Units as in [`base::Quantity`] and [`base::Counter`].

use std::net::IpAddr;

use base::{Counter, EventKind, Gauge, LossTotals, Output, Protocol, Quantity, Why};

use crate::Distribution;

/// How many different ICMP errors and errnos are told apart; more are only counted.
pub const KINDS_KEPT: usize = 16;

/// One kind of ICMP error from one sender.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct IcmpCount {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Who sent it.
    pub from: IpAddr,
    /// How often.
    pub count: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct TargetStats {
    distributions: Vec<Distribution>,
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
    /// ICMP errors by kind and sender, in the order of their first.
    pub icmp: Vec<IcmpCount>,
    /// ICMP errors of kinds that found no place.
    pub icmp_others: u64,
    /// Failed sends by errno, in the order of their first.
    pub errnos: Vec<(i32, u64)>,
    /// The errno of the last failed send.
    pub last_errno: Option<i32>,
    /// Events by [`EventKind::index`].
    pub events: [u64; EventKind::ALL.len()],
    /// Whether all its probes are decided.
    pub finished: bool,
}

impl TargetStats {
    /// Allocates everything that will ever be needed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            distributions: Quantity::ALL.iter().map(|q| Distribution::of(*q)).collect(),
            counters: [0; Counter::COUNT],
            gauges: [None; Gauge::COUNT],
            stamped: [[0; 4]; 4],
            loss: LossTotals::default(),
            protocol: None,
            icmp: Vec::with_capacity(KINDS_KEPT),
            icmp_others: 0,
            errnos: Vec::with_capacity(KINDS_KEPT),
            last_errno: None,
            events: [0; EventKind::ALL.len()],
            finished: false,
        }
    }

    /// Takes one output of the session. Never allocates.
    pub fn apply(&mut self, output: &Output) {
        match *output {
            Output::Sample(sample) => {
                self.distributions[sample.quantity.index()].record(sample.value);
            }
            Output::Count(counter, by) => self.counters[counter.index()] += by,
            Output::Stamped(point, source) => self.stamped[point.index()][source.index()] += 1,
            Output::Gauge(gauge, value) => self.gauges[gauge.index()] = Some(value),
            Output::Loss(loss) => self.loss = loss,
            Output::Event(event) => self.events[event.kind.index()] += 1,
            Output::Protocol(protocol, why) => self.protocol = Some((protocol, why)),
            Output::Errno(errno) => {
                self.last_errno = Some(errno);
                if let Some(known) = self.errnos.iter_mut().find(|known| known.0 == errno) {
                    known.1 += 1;
                } else if self.errnos.len() < KINDS_KEPT {
                    self.errnos.push((errno, 1));
                }
            }
            Output::Icmp { kind, code, from } => {
                let same = |known: &&mut IcmpCount| {
                    (known.kind, known.code, known.from) == (kind, code, from)
                };
                if let Some(known) = self.icmp.iter_mut().find(same) {
                    known.count += 1;
                } else if self.icmp.len() < KINDS_KEPT {
                    self.icmp.push(IcmpCount {
                        kind,
                        code,
                        from,
                        count: 1,
                    });
                } else {
                    self.icmp_others += 1;
                }
            }
            Output::Finished => self.finished = true,
        }
    }

    /// The distribution of a quantity.
    #[must_use]
    pub fn distribution(&self, quantity: Quantity) -> &Distribution {
        &self.distributions[quantity.index()]
    }

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

    /// Probes that were answered without a usable sample, by reason added up.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        Counter::DISCARDED
            .iter()
            .map(|counter| self.counter(*counter))
            .sum()
    }

    /// Lost over decided probes (received, lost and discarded); `None` before the first.
    #[must_use]
    pub fn loss_ratio(&self) -> Option<f64> {
        let lost = self.counter(Counter::Lost);
        let decided = self.counter(Counter::Received) + lost + self.discarded();
        (decided > 0).then(|| lost as f64 / decided as f64)
    }

    /// Values that were clamped, in all distributions.
    #[must_use]
    pub fn saturated(&self) -> u64 {
        self.distributions.iter().map(Distribution::saturated).sum()
    }
}

impl Default for TargetStats {
    fn default() -> Self {
        Self::new()
    }
}
