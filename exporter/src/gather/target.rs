//! What is exported per target.

use base::{Counter, Direction, Gauge, Quantity, StampPoint, StampSource, Why};
use record::SeriesSnapshot;

use super::{Gather, Value};
use crate::table::{self, Metric};

const FORWARD: &str = Direction::Forward.as_str();
const REVERSE: &str = Direction::Reverse.as_str();

/// Histograms that are there from the start.
const ALWAYS: &[(&Metric, Quantity)] = &[
    (table::PROBE_RTT, Quantity::Rtt),
    (table::PROBE_ROUND_TRIP, Quantity::RoundTrip),
    (table::PROBE_RESPONSE, Quantity::Response),
    (table::PROBE_SCHEDULE_ERROR, Quantity::ScheduleError),
    (table::PROBE_LOSS_RUN, Quantity::LossRun),
];

/// Histograms by direction, exported once they have a value: many paths never have.
const DIRECTED: &[(&Metric, Quantity, Quantity)] = &[
    (
        table::PROBE_OWD,
        Quantity::ForwardDelay,
        Quantity::ReverseDelay,
    ),
    (
        table::PROBE_IPDV,
        Quantity::ForwardIpdv,
        Quantity::ReverseIpdv,
    ),
    (table::PROBE_PDV, Quantity::ForwardPdv, Quantity::ReversePdv),
];

const COUNTERS: &[(&Metric, Counter)] = &[
    (table::PROBE_SENT, Counter::Sent),
    (table::PROBE_RECEIVED, Counter::Received),
    (table::PROBE_LATE, Counter::Late),
    (table::PROBE_SEND_ERRORS, Counter::SendErrors),
    (table::PROBE_SKIPPED, Counter::Skipped),
    (table::PROBE_SENT_LATE, Counter::SentLate),
    (table::PROBE_UNCOUNTED, Counter::Uncounted),
    (table::PROBE_RECEIVE_OVERFLOWS, Counter::ReceiveOverflows),
    (table::PROBE_ICMP_ERRORS, Counter::IcmpErrors),
    (table::PROBE_RESETS, Counter::ReflectorResets),
    (table::PROBE_OUTAGES, Counter::Outages),
    (
        table::PROBE_REFLECTOR_OVERFLOWS,
        Counter::ReflectorOverflows,
    ),
    (
        table::PROBE_REFLECTOR_LIMITED,
        Counter::ReflectorRateLimited,
    ),
];

/// Counters with one label: its value and the counter.
const LABELLED: &[(&Metric, &[(&str, Counter)])] = &[
    (
        table::PROBE_DUPLICATES,
        &[
            (FORWARD, Counter::DuplicatesForward),
            (REVERSE, Counter::DuplicatesReverse),
        ],
    ),
    (
        table::PROBE_REORDERED,
        &[
            (FORWARD, Counter::ReorderedForward),
            (REVERSE, Counter::ReorderedReverse),
        ],
    ),
    (
        table::PROBE_DISCARDED,
        &[
            ("tx_stamp_lost", Counter::DiscardedTxStampLost),
            ("clock_step", Counter::DiscardedClockStep),
            ("negative_dwell", Counter::DiscardedNegativeDwell),
            ("excessive_dwell", Counter::DiscardedExcessiveDwell),
            ("mixed_clocks", Counter::DiscardedMixedClocks),
            ("session_ended", Counter::DiscardedSessionEnded),
        ],
    ),
    (
        table::PROBE_UNUSABLE,
        &[
            ("stray", Counter::StrayReplies),
            ("malformed", Counter::MalformedReplies),
            ("resized", Counter::ResizedReplies),
        ],
    ),
];

/// Gauges with their factor to the exported unit.
const GAUGES: &[(&Metric, Gauge, f64)] = &[
    (table::PROBE_IN_FLIGHT, Gauge::InFlight, 1.0),
    (table::PROBE_LONGEST_OUTAGE, Gauge::LongestOutage, 1e-9),
    (table::PROBE_CLOCK_ERROR, Gauge::ClockError, 1e-9),
    (table::PROBE_CLOCKS, Gauge::ClockSynchronised, 1.0),
];

const DIRECTED_GAUGES: &[(&Metric, [Gauge; 2], f64)] = &[
    (
        table::PROBE_JITTER,
        [Gauge::JitterForward, Gauge::JitterReverse],
        1e-9,
    ),
    (
        table::PATH_HOPS,
        [Gauge::HopsForward, Gauge::HopsReverse],
        1.0,
    ),
];

pub(super) fn gather(gather: &mut Gather<'_, '_>) {
    histograms(gather);
    counters(gather);
    gauges(gather);
    gather.per_target(table::TARGET_INFO, 1, |target, put| {
        put(
            &[
                target.address.as_deref().unwrap_or_default(),
                &target.az_id,
                target.protocol_requested,
                target.why.map_or("", Why::as_str),
            ],
            Value::Number(1.0),
        );
    });
}

fn histograms(gather: &mut Gather<'_, '_>) {
    for (metric, quantity) in ALWAYS {
        gather.per_target(metric, 1, |target, put| {
            put(&[], Value::Series(target.series(*quantity)));
        });
    }
    gather.per_target(table::PROBE_DWELL, 1, |target, put| {
        if let Some(series) = some(target.series(Quantity::Dwell)) {
            put(&[], series);
        }
    });
    for (metric, forward, reverse) in DIRECTED {
        gather.per_target(metric, 2, |target, put| {
            for (direction, quantity) in [(FORWARD, forward), (REVERSE, reverse)] {
                if let Some(series) = some(target.series(*quantity)) {
                    put(&[direction], series);
                }
            }
        });
    }
}

fn some(series: &SeriesSnapshot) -> Option<Value<'_>> {
    (series.count > 0).then_some(Value::Series(series))
}

fn counters(gather: &mut Gather<'_, '_>) {
    for (metric, counter) in COUNTERS {
        gather.per_target(metric, 1, |target, put| {
            put(&[], Value::Number(target.counter(*counter) as f64));
        });
    }
    for (metric, values) in LABELLED {
        gather.per_target(metric, values.len(), |target, put| {
            for (value, counter) in *values {
                put(&[value], Value::Number(target.counter(*counter) as f64));
            }
        });
    }
    gather.per_target(table::PROBE_LOST, 4, |target, put| {
        let loss = &target.settled_loss;
        for (direction, count) in [
            (FORWARD, loss.forward),
            (REVERSE, loss.reverse),
            ("local", loss.local),
            ("unattributed", loss.unattributed),
        ] {
            put(&[direction], Value::Number(count as f64));
        }
    });
    gather.per_target(table::PROBE_SATURATED, 1, |target, put| {
        let saturated: u64 = target.series.iter().map(|series| series.saturated).sum();
        put(&[], Value::Number(saturated as f64));
    });
    gather.per_target(table::PROBE_STAMPS, 16, |target, put| {
        for point in StampPoint::ALL {
            for source in StampSource::ALL {
                let count = target.stamped[point.index()][source.index()];
                if count > 0 {
                    put(
                        &[point.as_str(), source.as_str()],
                        Value::Number(count as f64),
                    );
                }
            }
        }
    });
}

fn gauges(gather: &mut Gather<'_, '_>) {
    gather.per_target(table::PROBE_UP, 1, |target, put| {
        // A target that never answered is down, not unknown.
        let up = target.gauge(Gauge::Up).unwrap_or(0.0);
        put(&[], Value::Number(up));
    });
    for (metric, gauge, factor) in GAUGES {
        gather.per_target(metric, 1, |target, put| {
            if let Some(value) = target.gauge(*gauge) {
                put(&[], Value::Number(value * factor));
            }
        });
    }
    for (metric, both, factor) in DIRECTED_GAUGES {
        gather.per_target(metric, 2, |target, put| {
            for (direction, gauge) in [FORWARD, REVERSE].into_iter().zip(both) {
                if let Some(value) = target.gauge(*gauge) {
                    put(&[direction], Value::Number(value * factor));
                }
            }
        });
    }
}
