//! Recording: what the outputs of probes cost on their way into distributions.

use std::hint::black_box;

use ::record::series::ClassicBounds;
use ::record::{Distribution, TargetSeries, TargetStats, results};
use base::{Output, TargetKey};

use super::{Loop, Numbers, Path};
use ::measure::session::Emission;

/// Probes whose outputs are replayed.
pub(crate) const PROBES: u64 = 1_000;

/// What [`PROBES`] STAMP probes in a row hand on, once the session has settled.
pub(crate) fn outputs() -> Vec<Output> {
    let mut path = Path::stamp();
    for _ in 0..3_000 {
        path.probe(&mut |_| {});
    }
    let mut outputs = Vec::new();
    for _ in 0..PROBES {
        path.probe(&mut |emission| {
            if let Emission::Output(output) = emission {
                outputs.push(output);
            }
        });
    }
    outputs
}

/// Distribution, per-target statistics of `ping`, series of the agent, ring of results.
#[must_use]
pub fn record() -> Vec<Loop> {
    let mut numbers = Numbers::new();
    let values: Vec<i64> = (0..PROBES)
        .map(|_| 20_000 + numbers.delay(2_000_000).cast_signed())
        .collect();
    let mut distribution = Distribution::new();

    let all = outputs();
    let mut stats = TargetStats::new();
    let for_stats = all.clone();

    // A tick of one second at one probe per millisecond.
    let second = 1_000_000_000;
    let mut series = TargetSeries::new(second / PROBES, second, &ClassicBounds::default());
    let for_series = all.clone();

    let (mut sender, mut receiver) = results::channel::<(TargetKey, Output)>(1 << 16);
    let for_ring = all;

    vec![
        Loop::new("record/distribution", PROBES, move || {
            for value in &values {
                distribution.record(black_box(*value));
            }
        }),
        Loop::new("apply/ping-target", PROBES, move || {
            for output in &for_stats {
                stats.apply(black_box(output));
            }
        }),
        // The snapshot that a tick shares is a new one.
        Loop::new("apply-and-fold/agent-target", PROBES, move || {
            for output in &for_series {
                black_box(series.apply(black_box(output)));
            }
            series.tick();
        })
        .allocating(),
        Loop::new("hand-over/results-ring", PROBES, move || {
            for output in &for_ring {
                sender.push((TargetKey(1), *output));
            }
            receiver.drain(|output| {
                black_box(output);
            });
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Counter;

    #[test]
    fn the_replayed_outputs_are_those_of_so_many_probes() {
        let mut stats = TargetStats::new();
        for output in outputs() {
            stats.apply(&output);
        }
        assert_eq!(stats.counter(Counter::Received), PROBES);
        assert_eq!(stats.distribution(base::Quantity::Rtt).count(), PROBES);
    }
}
