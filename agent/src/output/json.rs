//! The JSON documents of DESIGN section 4. Keys are stable, `snake_case`, with the unit at
//! their end; a value that was not measured is `null`, never 0; every key is always there.

use base::{Counter, Gauge, Protocol, Quantity, Severity, StampPoint, StampSource, WallNanos};
use record::{Distribution, Summary};
use serde_json::{Map, Value, json};

use super::assertion::Outcome;
use super::report::Report;
use super::words;

/// Where a document comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The address that the probes leave from.
    pub address: Option<String>,
    /// The device that they leave by.
    pub device: Option<String>,
}

/// The head of every document; `body` follows it.
#[must_use]
pub fn document(
    command: &[String],
    started: WallNanos,
    ended: WallNanos,
    source: &Source,
    body: Map<String, Value>,
) -> Value {
    let mut head = Map::new();
    head.insert("schema".into(), 1.into());
    head.insert("netsonde".into(), env!("CARGO_PKG_VERSION").into());
    head.insert("command".into(), json!(command));
    head.insert("started_at".into(), started.rfc3339().into());
    head.insert("ended_at".into(), ended.rfc3339().into());
    head.insert(
        "source".into(),
        json!({
            "address": source.address,
            "device": source.device,
            "instance_id": null,
            "az_id": null,
        }),
    );
    head.extend(body);
    Value::Object(head)
}

/// A body with the targets alone.
#[must_use]
pub fn targets(targets: Vec<Value>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("targets".into(), Value::Array(targets));
    body
}

/// One target of `ping --json`.
#[must_use]
pub fn target(report: &Report<'_>, assertions: &[Outcome]) -> Value {
    let mut map = Map::new();
    identity(&mut map, report);
    counters(&mut map, report);
    shape(&mut map, report);
    distributions(&mut map, report);
    evidence(&mut map, report);
    map.insert(
        "assertions".into(),
        assertions.iter().map(Outcome::json).collect(),
    );
    Value::Object(map)
}

fn identity(map: &mut Map<String, Value>, report: &Report<'_>) {
    let protocol = report.protocol();
    map.insert("target".into(), report.name.into());
    map.insert("address".into(), report.address.ip().to_string().into());
    map.insert("protocol".into(), json!(protocol.map(Protocol::as_str)));
    map.insert("protocol_requested".into(), report.requested.into());
    map.insert(
        "protocol_reason".into(),
        json!(report.stats.protocol.map(|(_, why)| why.as_str())),
    );
    // ICMP has no ports.
    map.insert(
        "source_ports".into(),
        json!((protocol != Some(Protocol::Icmp)).then_some(report.source_ports)),
    );
    let header = report.header_bytes();
    map.insert("packet_bytes".into(), json!(report.packet_bytes));
    map.insert(
        "payload_bytes".into(),
        json!(
            report
                .packet_bytes
                .map(|bytes| bytes.saturating_sub(header))
        ),
    );
}

fn counters(map: &mut Map<String, Value>, report: &Report<'_>) {
    let stats = report.stats;
    let loss = &stats.loss;
    let directed = |value: u64| json!(loss.directed.then_some(value));
    let mut count = |counter: Counter| {
        map.insert(counter.as_str().into(), stats.counter(counter).into());
    };
    count(Counter::Sent);
    count(Counter::Received);
    count(Counter::Lost);
    map.insert("lost_forward".into(), directed(loss.forward));
    map.insert("lost_reverse".into(), directed(loss.reverse));
    map.insert("lost_local".into(), loss.local.into());
    map.insert("lost_unattributed".into(), loss.unattributed.into());
    map.insert(
        "discarded".into(),
        Counter::DISCARDED
            .iter()
            .map(|reason| (reason.as_str().to_owned(), stats.counter(*reason).into()))
            .collect::<Map<_, _>>()
            .into(),
    );
    let mut count = |counter: Counter, known: bool| {
        let value = known.then(|| stats.counter(counter));
        map.insert(counter.as_str().into(), json!(value));
    };
    count(Counter::Late, true);
    count(Counter::DuplicatesForward, loss.directed);
    count(Counter::DuplicatesReverse, true);
    count(Counter::ReorderedForward, loss.directed);
    count(Counter::ReorderedReverse, true);
    for counter in [
        Counter::SendErrors,
        Counter::Skipped,
        Counter::SentLate,
        Counter::Uncounted,
        Counter::StrayReplies,
        Counter::MalformedReplies,
        Counter::ResizedReplies,
        Counter::ReceiveOverflows,
        Counter::ReflectorResets,
        Counter::ReflectorOverflows,
        Counter::ReflectorRateLimited,
    ] {
        count(counter, true);
    }
}

/// The shape of loss, and the path.
fn shape(map: &mut Map<String, Value>, report: &Report<'_>) {
    let stats = report.stats;
    let whole = |gauge: Gauge| json!(stats.gauge(gauge).map(|value| value as u64));
    map.insert("loss_ratio".into(), json!(stats.loss_ratio()));
    map.insert(
        "loss_run_packets".into(),
        distribution(stats.distribution(Quantity::LossRun)),
    );
    map.insert("outages".into(), stats.counter(Counter::Outages).into());
    map.insert("longest_outage_ns".into(), whole(Gauge::LongestOutage));
    let at = stats.gauge(Gauge::LongestOutageAt);
    map.insert(
        "longest_outage_at".into(),
        json!(at.map(|at| WallNanos(at as u64).rfc3339())),
    );
    map.insert("hops_forward".into(), whole(Gauge::HopsForward));
    map.insert("hops_reverse".into(), whole(Gauge::HopsReverse));
    map.insert("dscp_sent".into(), (report.tos >> 2).into());
    // Needs the Class of Service TLV (RFC 8972 section 4.4), which is not sent yet.
    map.insert("dscp_at_reflector".into(), Value::Null);
}

fn distributions(map: &mut Map<String, Value>, report: &Report<'_>) {
    let stats = report.stats;
    let of = |quantity: Quantity| distribution(stats.distribution(quantity));
    for (key, quantity) in [
        ("rtt_ns", Quantity::Rtt),
        ("round_trip_ns", Quantity::RoundTrip),
        ("response_ns", Quantity::Response),
        ("reflector_dwell_ns", Quantity::Dwell),
        ("forward_delay_ns", Quantity::ForwardDelay),
        ("reverse_delay_ns", Quantity::ReverseDelay),
    ] {
        map.insert(key.into(), of(quantity));
    }
    for (key, forward, reverse) in [
        ("ipdv_ns", Quantity::ForwardIpdv, Quantity::ReverseIpdv),
        ("pdv_ns", Quantity::ForwardPdv, Quantity::ReversePdv),
    ] {
        map.insert(
            key.into(),
            json!({"forward": of(forward), "reverse": of(reverse)}),
        );
    }
    map.insert(
        "jitter_rfc3550_ns".into(),
        json!({
            "forward": stats.gauge(Gauge::JitterForward),
            "reverse": stats.gauge(Gauge::JitterReverse),
        }),
    );
    map.insert("schedule_error_ns".into(), of(Quantity::ScheduleError));
}

fn evidence(map: &mut Map<String, Value>, report: &Report<'_>) {
    let stats = report.stats;
    map.insert(
        "clock".into(),
        json!({
            "synchronised": stats.gauge(Gauge::ClockSynchronised).map(|value| value > 0.5),
            "error_ns": stats.gauge(Gauge::ClockError).map(|value| value as u64),
        }),
    );
    let points = StampPoint::ALL.iter().map(|point| {
        let sources: Map<String, Value> = StampSource::ALL
            .iter()
            .map(|source| {
                let count = stats.stamped[point.index()][source.index()];
                (source.as_str().to_owned(), count.into())
            })
            .collect();
        (point.as_str().to_owned(), Value::Object(sources))
    });
    map.insert(
        "timestamps".into(),
        Value::Object(points.collect::<Map<_, _>>()),
    );
    let icmp: Vec<Value> = stats
        .icmp
        .iter()
        .map(|error| {
            json!({
                "type": error.kind,
                "code": error.code,
                "text": words::icmp(error.from.is_ipv6(), error.kind, error.code),
                "from": error.from.to_string(),
                "count": error.count,
            })
        })
        .collect();
    map.insert("icmp_errors".into(), Value::Array(icmp));
    let errors: Map<String, Value> = stats
        .errnos
        .iter()
        .map(|(errno, count)| (words::errno_name(*errno), (*count).into()))
        .collect();
    map.insert("send_errors_by_errno".into(), Value::Object(errors));
    let warnings: u64 = base::EventKind::ALL
        .iter()
        .filter(|kind| kind.severity() != Severity::Info)
        .map(|kind| stats.events[kind.index()])
        .sum();
    map.insert("warnings".into(), warnings.into());
}

/// A distribution is always the same object.
#[must_use]
pub fn distribution(distribution: &Distribution) -> Value {
    summary(&distribution.summary())
}

/// The keys of every distribution.
#[must_use]
pub fn summary(summary: &Summary) -> Value {
    let Summary {
        count,
        min,
        mean,
        stddev,
        p50,
        p90,
        p99,
        p99_9,
        p99_99,
        max,
    } = summary;
    json!({
        "count": count,
        "min": min,
        "mean": mean,
        "stddev": stddev,
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "p99_9": p99_9,
        "p99_99": p99_99,
        "max": max,
    })
}

#[cfg(test)]
mod tests {
    use record::TargetStats;

    use super::super::report::sample;
    use super::*;

    /// The keys that DESIGN section 4 promises for one target.
    const PROMISED: &str = "target address protocol protocol_requested source_ports sent received \
        lost lost_forward lost_reverse late duplicates_forward duplicates_reverse \
        reordered_forward reordered_reverse send_errors skipped loss_ratio loss_run_packets \
        outages longest_outage_ns longest_outage_at hops_forward hops_reverse dscp_sent \
        dscp_at_reflector rtt_ns response_ns reflector_dwell_ns forward_delay_ns \
        reverse_delay_ns ipdv_ns pdv_ns jitter_rfc3550_ns schedule_error_ns clock timestamps \
        lost_local lost_unattributed discarded reflector_resets round_trip_ns stray_replies \
        malformed_replies uncounted receive_overflows sent_late reflector_overflows icmp_errors \
        assertions";

    #[test]
    fn every_promised_key_is_there_with_and_without_answers() {
        for stats in [TargetStats::new(), sample::stamp(), sample::silent()] {
            let value = target(&sample::report(&stats), &[]);
            for key in PROMISED.split_whitespace() {
                assert!(value.get(key).is_some(), "{key} is missing");
            }
            for point in ["t1", "t2", "t3", "t4"] {
                assert!(value["timestamps"][point]["kernel"].is_u64());
            }
        }
    }

    /// The order is part of what people see and diff.
    #[test]
    fn keys_come_in_one_order_whatever_was_measured() {
        const ORDER: &str = "target address protocol protocol_requested protocol_reason \
            source_ports packet_bytes payload_bytes sent received lost lost_forward lost_reverse \
            lost_local lost_unattributed discarded late duplicates_forward duplicates_reverse \
            reordered_forward reordered_reverse send_errors skipped sent_late uncounted \
            stray_replies malformed_replies resized_replies receive_overflows reflector_resets \
            reflector_overflows reflector_rate_limited loss_ratio loss_run_packets outages \
            longest_outage_ns longest_outage_at hops_forward hops_reverse dscp_sent \
            dscp_at_reflector rtt_ns round_trip_ns response_ns reflector_dwell_ns \
            forward_delay_ns reverse_delay_ns ipdv_ns pdv_ns jitter_rfc3550_ns schedule_error_ns \
            clock timestamps icmp_errors send_errors_by_errno warnings assertions";
        for stats in [TargetStats::new(), sample::stamp(), sample::silent()] {
            let value = target(&sample::report(&stats), &[]);
            let keys: Vec<&str> = value
                .as_object()
                .expect("an object")
                .keys()
                .map(String::as_str)
                .collect();
            assert_eq!(keys, ORDER.split_whitespace().collect::<Vec<_>>());
        }
        let stats = sample::stamp();
        assert_eq!(
            target(&sample::report(&stats), &[])["reflector_dwell_ns"].to_string(),
            r#"{"count":992,"min":20000,"mean":20000.0,"stddev":0.0,"p50":20000,"p90":20000,"p99":20000,"p99_9":null,"p99_99":null,"max":20000}"#
        );
    }

    #[test]
    fn what_was_not_measured_is_null_and_never_zero() {
        let stats = sample::silent();
        let value = target(&sample::report(&stats), &[]);
        for pointer in [
            "/lost_forward",
            "/lost_reverse",
            "/duplicates_forward",
            "/reordered_forward",
            "/longest_outage_ns",
            "/longest_outage_at",
            "/hops_forward",
            "/dscp_at_reflector",
            "/rtt_ns/p50",
            "/rtt_ns/min",
            "/rtt_ns/mean",
            "/ipdv_ns/forward/p99",
            "/jitter_rfc3550_ns/reverse",
            "/clock/synchronised",
            "/clock/error_ns",
            "/source_ports",
        ] {
            assert_eq!(value.pointer(pointer), Some(&Value::Null), "{pointer}");
        }
        assert_eq!(value["lost_unattributed"], 8);
        assert_eq!(value["loss_ratio"], 1.0);
        let value = target(&sample::report(&TargetStats::new()), &[]);
        assert_eq!(value["protocol"], Value::Null);
        assert_eq!(value["loss_ratio"], Value::Null);
    }

    #[test]
    fn numbers_arrive_where_they_belong() {
        let stats = sample::stamp();
        let value = target(&sample::report(&stats), &[]);
        for (pointer, wanted) in [
            ("/target", json!("db")),
            ("/address", json!("10.0.0.2")),
            ("/protocol", json!("stamp")),
            ("/protocol_requested", json!("auto")),
            ("/sent", json!(1000)),
            ("/received", json!(992)),
            ("/lost", json!(7)),
            ("/lost_forward", json!(5)),
            ("/lost_reverse", json!(2)),
            ("/discarded/tx_stamp_lost", json!(1)),
            ("/discarded/clock_step", json!(0)),
            ("/duplicates_forward", json!(3)),
            ("/duplicates_reverse", json!(1)),
            ("/reordered_forward", json!(4)),
            ("/hops_forward", json!(3)),
            ("/hops_reverse", json!(4)),
            ("/dscp_sent", json!(46)),
            ("/packet_bytes", json!(108)),
            ("/payload_bytes", json!(80)),
            ("/loss_run_packets/max", json!(4)),
            ("/longest_outage_ns", json!(40_000_000)),
            ("/longest_outage_at", json!("2023-11-14T22:13:20.000000Z")),
            ("/rtt_ns/count", json!(992)),
            ("/rtt_ns/min", json!(100_000)),
            ("/rtt_ns/max", json!(109_910)),
            ("/rtt_ns/mean", json!(104_955.0)),
            // 992 * 0.001 is less than one sample: not known.
            ("/rtt_ns/p99_9", Value::Null),
            ("/round_trip_ns/min", json!(120_000)),
            ("/ipdv_ns/forward/min", json!(-1)),
            ("/jitter_rfc3550_ns/forward", json!(1500.0)),
            ("/clock/synchronised", json!(false)),
            ("/timestamps/t3/user", json!(992)),
            ("/timestamps/t3/kernel", json!(0)),
        ] {
            assert_eq!(value.pointer(pointer), Some(&wanted), "{pointer}");
        }
    }

    #[test]
    fn the_head_comes_first_and_in_order() {
        let command = ["netsonde".to_owned(), "ping".to_owned()];
        let source = Source {
            address: Some("10.0.0.1".to_owned()),
            device: None,
        };
        let value = document(
            &command,
            WallNanos(0),
            WallNanos(1_000_000_000),
            &source,
            targets(Vec::new()),
        );
        assert_eq!(
            value.to_string(),
            format!(
                r#"{{"schema":1,"netsonde":"{}","command":["netsonde","ping"],"started_at":"1970-01-01T00:00:00.000000Z","ended_at":"1970-01-01T00:00:01.000000Z","source":{{"address":"10.0.0.1","device":null,"instance_id":null,"az_id":null}},"targets":[]}}"#,
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}
