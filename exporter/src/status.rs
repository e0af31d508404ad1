//! The JSON of `/api/v1/status` and `/api/v1/events`: pure functions of a snapshot.
//!
//! snake_case, units in the keys, `null` for what was not measured, the distribution
//! object of every other JSON of the project. The agent's distributions are native
//! buckets: quantiles hold to 2.2 %, and there is no standard deviation.

use base::{Counter, Gauge, Protocol, Quantity, WallNanos, Why};
use record::snapshot::{CaptureSnapshot, Health, TargetSnapshot};
use record::{SeriesSnapshot, Snapshot};
use serde_json::{Map, Value, json};

fn time(at: WallNanos) -> Value {
    if at.0 == 0 {
        Value::Null
    } else {
        at.rfc3339().into()
    }
}

/// Empty is unknown.
fn text(value: &str) -> Value {
    if value.is_empty() {
        Value::Null
    } else {
        value.into()
    }
}

fn distribution(series: &SeriesSnapshot) -> Value {
    let quantile = |q| series.quantile(q).map(|value| value.round() as i64);
    json!({
        "count": series.count,
        "min": series.min,
        "mean": series.mean(),
        "stddev": null,
        "p50": quantile(0.5),
        "p90": quantile(0.9),
        "p99": quantile(0.99),
        "p99_9": quantile(0.999),
        "p99_99": quantile(0.9999),
        "max": series.max,
    })
}

fn target(target: &TargetSnapshot) -> Value {
    let mut whole = Map::new();
    for part in [identity(target), counts(target), measured(target)] {
        if let Value::Object(part) = part {
            whole.extend(part);
        }
    }
    Value::Object(whole)
}

fn whole(target: &TargetSnapshot, gauge: Gauge) -> Option<i64> {
    target.gauge(gauge).map(|value| value.round() as i64)
}

fn identity(target: &TargetSnapshot) -> Value {
    json!({
        "probe": &*target.probe,
        "target": &*target.target,
        "address": target.address,
        "protocol": target.protocol.map(Protocol::as_str),
        "protocol_requested": target.protocol_requested,
        "protocol_reason": target.why.map(Why::as_str),
        "interval_ns": target.interval_ns,
        "since": time(target.since),
        "up": target.gauge(Gauge::Up).map(|up| up > 0.0),
        "problem": text(&target.problem),
    })
}

fn counts(target: &TargetSnapshot) -> Value {
    let count = |counter| target.counter(counter);
    let lost = count(Counter::Lost);
    let discarded: u64 = Counter::DISCARDED.iter().map(|one| count(*one)).sum();
    let decided = count(Counter::Received) + lost + discarded;
    let directed = |value: u64| target.loss.directed.then_some(value);
    let reasons: Map<String, Value> = Counter::DISCARDED
        .iter()
        .map(|one| (one.as_str().to_owned(), count(*one).into()))
        .collect();
    json!({
        "sent": count(Counter::Sent),
        "received": count(Counter::Received),
        "lost": lost,
        "lost_forward": directed(target.loss.forward),
        "lost_reverse": directed(target.loss.reverse),
        "lost_local": target.loss.local,
        "lost_unattributed": target.loss.unattributed,
        "late": count(Counter::Late),
        "duplicates_forward": count(Counter::DuplicatesForward),
        "duplicates_reverse": count(Counter::DuplicatesReverse),
        "reordered_forward": count(Counter::ReorderedForward),
        "reordered_reverse": count(Counter::ReorderedReverse),
        "discarded": reasons,
        "send_errors": count(Counter::SendErrors),
        "skipped": count(Counter::Skipped),
        "loss_ratio": (decided > 0).then(|| lost as f64 / decided as f64),
        "outages": count(Counter::Outages),
        "longest_outage_ns": whole(target, Gauge::LongestOutage),
        "reflector_resets": count(Counter::ReflectorResets),
    })
}

fn measured(target: &TargetSnapshot) -> Value {
    let series = |quantity| distribution(target.series(quantity));
    let whole = |gauge| whole(target, gauge);
    json!({
        "hops_forward": whole(Gauge::HopsForward),
        "hops_reverse": whole(Gauge::HopsReverse),
        "rtt_ns": series(Quantity::Rtt),
        "response_ns": series(Quantity::Response),
        "reflector_dwell_ns": series(Quantity::Dwell),
        "forward_delay_ns": series(Quantity::ForwardDelay),
        "reverse_delay_ns": series(Quantity::ReverseDelay),
        "ipdv_ns": {"forward": series(Quantity::ForwardIpdv), "reverse": series(Quantity::ReverseIpdv)},
        "pdv_ns": {"forward": series(Quantity::ForwardPdv), "reverse": series(Quantity::ReversePdv)},
        "jitter_rfc3550_ns": {"forward": whole(Gauge::JitterForward), "reverse": whole(Gauge::JitterReverse)},
        "schedule_error_ns": series(Quantity::ScheduleError),
        "clock": {
            "synchronised": target.gauge(Gauge::ClockSynchronised).map(|value| value > 0.0),
            "error_ns": whole(Gauge::ClockError),
        },
    })
}

/// What is wrong, in words; empty: the agent is healthy. A target that does not answer is
/// a result, not a problem of the agent.
#[must_use]
pub fn problems(snapshot: &Snapshot) -> Vec<String> {
    let mut problems: Vec<String> = snapshot
        .not_ready
        .iter()
        .map(|reason| format!("not ready: {reason}"))
        .collect();
    for component in &snapshot.components {
        if component.health != Health::Healthy {
            let (name, health) = (component.name, component.health.as_str());
            problems.push(format!("{name} is {health}: {}", component.detail));
        }
    }
    if !snapshot.config.last_reload_ok {
        problems.push(format!(
            "the configuration was refused: {}",
            snapshot.config.last_reload_error
        ));
    } else if snapshot.config.last_valid_in_force {
        problems.push("the last valid configuration is in force, not the present one".to_owned());
    }
    for target in snapshot
        .targets
        .iter()
        .filter(|one| !one.problem.is_empty())
    {
        problems.push(format!(
            "{} of probe {}: {}",
            target.target, target.probe, target.problem
        ));
    }
    problems
}

/// Adds a problem that the snapshot cannot know of.
pub fn add_problem(status: &mut Value, problem: &str) {
    status["healthy"] = false.into();
    if let Some(problems) = status["problems"].as_array_mut() {
        problems.push(problem.into());
    }
}

/// The capture in sum; its groups are in the metrics.
fn capture(one: &CaptureSnapshot) -> Value {
    let reasons = |list: &[(&'static str, u64)]| -> Map<String, Value> {
        list.iter()
            .map(|(reason, count)| ((*reason).to_owned(), (*count).into()))
            .collect()
    };
    json!({
        "device": one.device,
        "backend": one.backend,
        "reason": one.reason,
        "since": time(one.since),
        "frames": one.frames,
        "bytes": one.bytes,
        "capture_drops": reasons(&one.dropped),
        "decode": reasons(&one.undecoded),
        "unmeasured": reasons(&one.unmeasured),
        "capture_duplicates": one.duplicates,
        "flows": {
            "seen": one.flows,
            "active": one.flows_active,
            "capacity": one.flows_capacity,
            "ended": reasons(&one.flows_ended),
            "segments_forgotten": one.segments_forgotten,
        },
        "intervals": {
            "all": one.intervals,
            "degraded": one.degraded_intervals,
            "interrupted": one.interrupted_intervals,
        },
        "interruptions": one.interruptions,
    })
}

/// The document of `/api/v1/status`.
#[must_use]
pub fn status(snapshot: &Snapshot) -> Value {
    let problems = problems(snapshot);
    let down = snapshot
        .targets
        .iter()
        .filter(|one| one.gauge(Gauge::Up).is_some_and(|up| up <= 0.0))
        .count();
    let reasons = |list: &[(&'static str, u64)]| -> Map<String, Value> {
        list.iter()
            .map(|(reason, count)| ((*reason).to_owned(), (*count).into()))
            .collect()
    };
    let components: Vec<Value> = snapshot
        .components
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "health": one.health.as_str(),
                "detail": text(&one.detail),
                "since": time(one.since),
            })
        })
        .collect();
    json!({
        "schema": 1,
        "netsonde": snapshot.build.version,
        "taken_at": time(snapshot.taken_at),
        "started_at": time(snapshot.started_at),
        "source": {
            "host": text(&snapshot.source.host),
            "address": text(&snapshot.source.address),
            "device": text(&snapshot.source.device),
            "instance_id": text(&snapshot.source.instance_id),
            "az_id": text(&snapshot.source.az_id),
        },
        "healthy": problems.is_empty(),
        "ready": snapshot.unready().next().is_none(),
        "problems": problems,
        "components": components,
        "config": {
            "path": text(&snapshot.config.path),
            "sha256": text(&snapshot.config.sha256),
            "last_reload_successful": snapshot.config.last_reload_ok,
            "last_reload_error": text(&snapshot.config.last_reload_error),
            "last_success_at": time(snapshot.config.last_success_at),
            "last_valid_in_force": snapshot.config.last_valid_in_force,
        },
        "targets_down": down,
        "targets": snapshot.targets.iter().map(|one| target(one)).collect::<Vec<_>>(),
        "reflector": snapshot.reflector.as_ref().map(|one| json!({
            "listen": one.listen,
            "received": one.received,
            "reflected": one.reflected,
            "dropped": reasons(&one.dropped),
            "notes": reasons(&one.notes),
            "sessions": one.sessions,
            "session_capacity": one.session_capacity,
            "sessions_expired": one.sessions_expired,
        })),
        "capture": snapshot.capture.as_ref().map(capture),
        "results_dropped": snapshot.results_dropped,
        "process": {
            "resident_bytes": snapshot.process.resident_bytes,
            "cpu_ns": snapshot.process.cpu_ns,
            "open_fds": snapshot.process.open_fds,
            "max_fds": snapshot.process.max_fds,
            "threads": snapshot.process.threads,
        },
    })
}

/// The document of `/api/v1/events`: those with a number above `after`, of which the
/// newest `limit`, oldest first.
#[must_use]
pub fn events(snapshot: &Snapshot, after: u64, limit: usize) -> Value {
    let from = snapshot.events.partition_point(|one| one.number <= after);
    let fitting = &snapshot.events[from..];
    let shown = &fitting[fitting.len() - limit.min(fitting.len())..];
    let list: Vec<Value> = shown
        .iter()
        .map(|one| {
            json!({
                "number": one.number,
                "time": one.event.time.rfc3339(),
                "kind": one.event.kind.as_str(),
                "severity": one.event.kind.severity().as_str(),
                "probe": text(&one.event.probe),
                "target": text(&one.event.target),
                "old": text(&one.event.old),
                "new": text(&one.event.new),
            })
        })
        .collect();
    json!({
        "schema": 1,
        "netsonde": snapshot.build.version,
        "last": snapshot.events.last().map_or(0, |one| one.number),
        "evicted": snapshot.events_evicted,
        "events": list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn status_tells_what_was_measured() {
        let status = status(&sample::two_targets());
        let answering = &status["targets"][0];
        assert_eq!(answering["up"], true);
        assert_eq!(
            (&answering["sent"], &answering["lost"]),
            (&105.into(), &5.into())
        );
        assert_eq!(answering["lost_forward"], 3);
        assert_eq!(answering["rtt_ns"]["count"], 100);
        assert_eq!(answering["rtt_ns"]["min"], 200_000);
        assert_eq!(answering["rtt_ns"]["max"], 200_000 + 99 * 99 * 50);
        let mut sorted = sample::rtts();
        sorted.sort_unstable();
        for (key, rank) in [("p50", 50), ("p90", 90), ("p99", 99)] {
            let got = answering["rtt_ns"][key].as_f64().expect("a number");
            let want = sorted[rank - 1] as f64;
            assert!((got / want - 1.0).abs() < 0.022, "{key}: {got} for {want}");
        }
        assert_eq!(answering["rtt_ns"]["p99_9"], Value::Null);
        assert_eq!(answering["forward_delay_ns"]["mean"], Value::Null);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let status = status(&sample::two_targets());
        let silent = &status["targets"][1];
        for key in [
            "up",
            "address",
            "protocol",
            "loss_ratio",
            "hops_forward",
            "lost_forward",
            "longest_outage_ns",
        ] {
            assert_eq!(silent[key], Value::Null, "{key}");
        }
        assert_eq!(silent["rtt_ns"]["p50"], Value::Null);
    }

    #[test]
    fn problems_are_named() {
        let mut snapshot = sample::two_targets();
        assert_eq!(
            problems(&snapshot),
            ["db.internal of probe az-b: does not resolve"]
        );
        snapshot.targets.truncate(1);
        assert_eq!(status(&snapshot)["healthy"], true);
        snapshot.components[0].health = Health::Degraded;
        snapshot.components[0].detail = "user clock stamps".to_owned();
        snapshot.config.last_reload_ok = false;
        snapshot.config.last_reload_error = "unknown key".to_owned();
        let status = status(&snapshot);
        assert_eq!(status["healthy"], false);
        assert_eq!(
            status["problems"][0],
            "prober is degraded: user clock stamps"
        );
        assert_eq!(
            status["problems"][1],
            "the configuration was refused: unknown key"
        );
    }

    #[test]
    fn events_after_and_limit() {
        let snapshot = sample::two_targets();
        let numbers = |after, limit| -> Vec<u64> {
            let value = events(&snapshot, after, limit);
            let list = value["events"].as_array().expect("a list");
            list.iter()
                .filter_map(|one| one["number"].as_u64())
                .collect()
        };
        assert_eq!(numbers(0, usize::MAX), [1, 2, 3]);
        assert_eq!(numbers(1, usize::MAX), [2, 3]);
        assert_eq!(numbers(0, 2), [2, 3]);
        assert!(numbers(3, 5).is_empty() && numbers(9, 5).is_empty() && numbers(0, 0).is_empty());
        assert_eq!(events(&snapshot, 0, 1)["last"], 3);
    }
}
