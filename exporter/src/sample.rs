//! A small snapshot with known values, for tests.

use std::sync::Arc;

use base::{
    Counter, Event, EventKind, Gauge, Leg, LossPlace, LossTotals, Output, Protocol, Quantity,
    RttMethod, Sample, StampPoint, StampSource, TargetKey, TcpClass, WallNanos, Why,
};
use record::passive::{GroupCounts, Traffic};
use record::series::ClassicBounds;
use record::snapshot::{
    BuildInfo, CaptureGroup, CaptureSnapshot, Component, Health, Labels, ProcessStats,
    ReflectorSnapshot, TargetSnapshot,
};
use record::{EventLog, Series, Snapshot, TargetSeries};

const START: WallNanos = WallNanos(1_800_000_000_000_000_000);

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// RTTs of a target, in ns: 100 values from 200 us up.
pub(crate) fn rtts() -> Vec<i64> {
    (0..100).map(|step| 200_000 + step * step * 50).collect()
}

pub(crate) fn target(number: u32, name: &str, answers: bool) -> TargetSnapshot {
    let second = 1_000_000_000;
    let mut series = TargetSeries::new(second, second, &ClassicBounds::default());
    series.apply(&Output::Count(Counter::Sent, 105));
    if answers {
        for (place, rtt) in rtts().into_iter().enumerate() {
            series.apply(&Output::Sample(Sample {
                quantity: Quantity::Rtt,
                value: rtt,
            }));
            let value = if place % 2 == 0 { 1_000 } else { -1_000 };
            series.apply(&Output::Sample(Sample {
                quantity: Quantity::ForwardIpdv,
                value,
            }));
            series.apply(&Output::Stamped(StampPoint::T1, StampSource::Kernel));
            series.tick();
        }
        series.apply(&Output::Sample(Sample {
            quantity: Quantity::LossRun,
            value: 3,
        }));
        series.apply(&Output::Sample(Sample {
            quantity: Quantity::LossRun,
            value: 2,
        }));
        series.apply(&Output::Count(Counter::Received, 100));
        series.apply(&Output::Count(Counter::Lost, 5));
        series.apply(&Output::Gauge(Gauge::Up, 1.0));
        series.apply(&Output::Gauge(Gauge::HopsForward, 3.0));
        series.apply(&Output::Gauge(Gauge::JitterForward, 1_500.0));
        series.apply(&Output::Loss(LossTotals {
            lost: 5,
            forward: 3,
            reverse: 2,
            directed: true,
            ..LossTotals::default()
        }));
        series.apply(&Output::Protocol(Protocol::Stamp, Why::StampAnswered));
    }
    series.tick();
    TargetSnapshot {
        key: TargetKey(number),
        probe: Arc::from("az-b"),
        target: Arc::from(name),
        labels: labels(&[("path", "dx \"primary\"\\\n")]),
        address: answers.then(|| "10.0.2.10".to_owned()),
        az_id: String::new(),
        protocol_requested: "auto",
        protocol: series.protocol.map(|(protocol, _)| protocol),
        why: series.protocol.map(|(_, why)| why),
        interval_ns: second,
        since: START,
        counters: series.counters,
        gauges: series.gauges,
        stamped: series.stamped,
        loss: series.loss,
        settled_loss: series.settled_loss(),
        problem: if answers {
            String::new()
        } else {
            "does not resolve".to_owned()
        },
        series: series.snapshot(),
    }
}

pub(crate) fn snapshot(targets: Vec<TargetSnapshot>) -> Snapshot {
    let build = BuildInfo {
        version: "0.1.0".to_owned(),
        revision: "abc".to_owned(),
        rustc: "1.95.0".to_owned(),
    };
    let mut events = EventLog::default();
    for new in ["a", "b", "c"] {
        events.push(Event {
            time: START,
            kind: EventKind::TargetUp,
            probe: "az-b".to_owned(),
            target: new.to_owned(),
            old: String::new(),
            new: new.to_owned(),
        });
    }
    Snapshot {
        labels: labels(&[("fleet", "payments"), ("probe", "ignored")]),
        not_ready: Vec::new(),
        components: vec![Component {
            name: "prober",
            health: Health::Healthy,
            detail: String::new(),
            since: START,
        }],
        targets: targets.into_iter().map(Arc::new).collect(),
        reflector: Some(ReflectorSnapshot {
            received: 7,
            reflected: 6,
            dropped: vec![("too_short", 1), ("rate_limited", 0)],
            sessions: 1,
            session_capacity: 1024,
            ..ReflectorSnapshot::default()
        }),
        capture: Some(capture()),
        process: ProcessStats {
            resident_bytes: 20 << 20,
            cpu_ns: 1_500_000_000,
            open_fds: 20,
            max_fds: 1024,
            threads: 4,
        },
        event_counts: *events.counts(),
        events: events.list(),
        ..Snapshot::starting(build, START)
    }
}

/// One group with something of everything.
pub(crate) fn capture() -> CaptureSnapshot {
    let mut series = Series::new(Quantity::Rtt, 8.0, &ClassicBounds::default());
    rtts().into_iter().for_each(|rtt| series.record(rtt));
    series.tick();
    let mut group = CaptureGroup {
        group: "vpc".to_owned(),
        service: "https".to_owned(),
        traffic: Traffic {
            packets: [10, 20],
            bytes: [1_000, 30_000],
            segments: [9, 19],
        },
        counts: GroupCounts {
            too_big: 1,
            black_holes: 2,
            ..GroupCounts::default()
        },
        rtt: vec![(RttMethod::Timestamp, Leg::Remote, series.snapshot())],
        late: [None, Some(series.snapshot())],
    };
    group.counts.classes[1][TcpClass::Retransmission.index()] = 3;
    group.counts.losses[1][LossPlace::After.index()] = 2;
    CaptureSnapshot {
        device: "eth0".to_owned(),
        backend: "afpacket",
        reason: "sees both directions and takes nothing from the host".to_owned(),
        since: START,
        frames: 30,
        bytes: 31_500,
        dropped: vec![("filtered", 4), ("ring_full", 0)],
        undecoded: vec![("arp", 1)],
        unmeasured: vec![("orphan_fragment", 0)],
        duplicates: 5,
        no_sample: vec![("ambiguous", 1)],
        flows_active: 2,
        flows_capacity: 131_072,
        flows: 3,
        flows_ended: vec![("closed", 1), ("evicted", 0)],
        intervals: 60,
        degraded_intervals: 1,
        interrupted_intervals: 2,
        groups: vec![group],
        ..CaptureSnapshot::default()
    }
}

pub(crate) fn two_targets() -> Snapshot {
    snapshot(vec![
        target(0, "10.0.2.10", true),
        target(1, "db.internal", false),
    ])
}
