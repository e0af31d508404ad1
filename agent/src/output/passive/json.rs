//! `capture --json`: the body of DESIGN section 4. Every key is always there, every counter
//! at 0 from the start; a value that was not measured is `null`.

use base::{FlowEnd, Leg, LossPlace, RttMethod, Sender, TcpClass, WallNanos};
use capture::DropReason;
use measure::passive::{DatagramEvent, NoSample, Unmeasured};
use record::passive::GroupStats;
use record::{Distribution, Summary};
use serde_json::{Map, Value, json};
use wire::decode::Undecoded;
use wire::quic::NotQuic;

use super::lines;
use super::{Report, retransmitted};
use crate::output::json::{distribution, summary};

/// The body of a document.
#[must_use]
pub fn body(report: &Report<'_>) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    let counters = report.counters;
    put("source_name", report.source_name.into());
    put("backend", report.backend.into());
    put("backend_reason", report.reason.into());
    put("filter", report.filter.into());
    put("notes", json!(report.notes));
    put("interruptions", report.interruptions.into());
    put("frames", counters.frames.into());
    put("bytes", counters.bytes.into());
    put("duration_ns", json!(report.duration_ns()));
    let at = |at: WallNanos| at.rfc3339();
    put("first_at", json!(report.span.map(|(first, _)| at(first))));
    put("last_at", json!(report.span.map(|(_, last)| at(last))));
    put(
        "capture_drops",
        named(DropReason::ALL, |reason| {
            (reason.as_str(), report.drops.get(*reason))
        }),
    );
    put(
        "intervals",
        json!({
            "all": report.intervals.all,
            "degraded": report.intervals.degraded,
            "interrupted": report.intervals.interrupted,
        }),
    );
    put("degraded", (report.intervals.degraded > 0).into());
    put("decoded", counters.decoded().into());
    put(
        "decode",
        named(Undecoded::ALL, |reason| {
            (reason.as_str(), counters.undecoded[reason.index()])
        }),
    );
    put("measured", counters.measured.into());
    put(
        "unmeasured",
        named(Unmeasured::ALL, |reason| {
            (reason.as_str(), counters.unmeasured[reason.index()])
        }),
    );
    // In `measured`, and no packets of flows.
    put("capture_duplicates", counters.capture_duplicates.into());
    put("packets", counters.packets.into());
    put("fragments", counters.fragments.into());
    put("clock_back", counters.clock_back.into());
    put("flows", flows(report));
    put("tcp", tcp(report));
    put("rtt", rtt(&report.total));
    let mut no_sample = named(NoSample::ALL, |reason| {
        (reason.as_str(), counters.no_sample[reason.index()])
    });
    if let Some(map) = no_sample.as_object_mut() {
        for event in DatagramEvent::ALL {
            let count = counters.datagrams[event.index()];
            map.insert(event.as_str().to_owned(), count.into());
        }
    }
    put("no_sample", no_sample);
    put(
        "not_quic",
        named(NotQuic::ALL, |reason| {
            (reason.as_str(), counters.not_quic[reason.index()])
        }),
    );
    put("loss", by_sender(|sender| loss(&report.total, sender)));
    put(
        "reordering",
        by_sender(|sender| {
            json!({
                "late_bytes": values(report.total.late_bytes(sender)),
                "late_ns": values(report.total.late_ns(sender)),
            })
        }),
    );
    put("mtu", mtu(report));
    put("throughput", throughput(report));
    put("written", written(report));
    put("groups", groups(report));
    put("top_flows", top(report));
    map
}

fn named<T>(all: &[T], of: impl Fn(&T) -> (&'static str, u64)) -> Value {
    let map: Map<String, Value> = all
        .iter()
        .map(|each| {
            let (key, count) = of(each);
            (key.to_owned(), count.into())
        })
        .collect();
    Value::Object(map)
}

fn by_sender(of: impl Fn(Sender) -> Value) -> Value {
    let map: Map<String, Value> = Sender::ALL
        .iter()
        .map(|sender| (sender.as_str().to_owned(), of(*sender)))
        .collect();
    Value::Object(map)
}

/// What an empty distribution says.
const NO_VALUES: Summary = Summary {
    count: 0,
    min: None,
    mean: None,
    stddev: None,
    p50: None,
    p90: None,
    p99: None,
    p99_9: None,
    p99_99: None,
    max: None,
};

/// One that was never allocated is an empty one.
fn values(of: Option<&Distribution>) -> Value {
    summary(&of.map_or(NO_VALUES, Distribution::summary))
}

fn flows(report: &Report<'_>) -> Value {
    let counters = report.counters;
    json!({
        "seen": counters.flows,
        "active": report.active,
        "evicted": report.evicted(),
        "ended": named(FlowEnd::ALL, |end| (end.as_str(), counters.ended[end.index()])),
        "segments_forgotten": counters.segments_forgotten,
    })
}

fn tcp(report: &Report<'_>) -> Value {
    let mut map = Map::new();
    map.insert("segments".into(), report.segments().into());
    for class in TcpClass::ALL {
        map.insert(class.as_str().into(), report.total.frames(*class).into());
    }
    map.insert(
        "retransmission_ratio".into(),
        json!(report.retransmission_ratio()),
    );
    for sender in Sender::ALL {
        map.insert(sender.as_str().into(), tcp_of(&report.total, sender));
    }
    Value::Object(map)
}

fn tcp_of(total: &GroupStats, sender: Sender) -> Value {
    let mut map = Map::new();
    map.insert(
        "segments".into(),
        total.traffic.segments[sender.index()].into(),
    );
    for class in TcpClass::ALL {
        let frames = total.counts.classes[sender.index()][class.index()];
        map.insert(class.as_str().into(), frames.into());
    }
    Value::Object(map)
}

fn rtt(total: &GroupStats) -> Value {
    let map: Map<String, Value> = RttMethod::ALL
        .iter()
        .map(|method| {
            let of = json!({
                "near_ns": values(total.rtts(*method, Leg::Near)),
                "remote_ns": values(total.rtts(*method, Leg::Remote)),
            });
            (method.as_str().to_owned(), of)
        })
        .collect();
    Value::Object(map)
}

fn loss(total: &GroupStats, sender: Sender) -> Value {
    named(LossPlace::ALL, |place| {
        (
            place.as_str(),
            total.counts.losses[sender.index()][place.index()],
        )
    })
}

fn mtu(report: &Report<'_>) -> Value {
    let stats = report.stats;
    let side = |sender: Sender| {
        let at = sender.index();
        let largest = stats.largest_packet_bytes[at];
        json!({
            "largest_packet_bytes": (largest > 0).then_some(largest),
            "mss_min": stats.mss[at].map(|(min, _)| min),
            "mss_max": stats.mss[at].map(|(_, max)| max),
        })
    };
    let too_big: Vec<Value> = stats
        .too_big
        .iter()
        .map(|each| {
            json!({
                "from": each.from.to_string(),
                "next_hop_mtu": (each.next_hop_mtu > 0).then_some(each.next_hop_mtu),
                "count": each.count,
            })
        })
        .collect();
    let holes: Vec<Value> = stats
        .black_holes
        .iter()
        .map(|each| {
            json!({
                "sender": each.sender.as_str(),
                "packet_bytes": each.packet_bytes,
                "count": each.count,
            })
        })
        .collect();
    json!({
        "near": side(Sender::Near),
        "remote": side(Sender::Remote),
        "too_big_count": report.total.counts.too_big,
        "too_big": too_big,
        "black_hole_count": report.total.counts.black_holes,
        "black_holes": holes,
        "not_named": stats.unnamed,
    })
}

fn throughput(report: &Report<'_>) -> Value {
    let duration = report.duration_ns().filter(|ns| *ns > 0);
    let rate = duration.map(|ns| report.wire_bytes() as f64 * 8e9 / ns as f64);
    json!({
        "bits_per_second": rate,
        "bytes_per_second_with_traffic": distribution(report.windows.seconds()),
        "bytes_per_millisecond_with_traffic": distribution(report.windows.bursts()),
    })
}

fn written(report: &Report<'_>) -> Value {
    report.written.map_or(Value::Null, |written| {
        json!({
            "frames": written.written,
            "not_written": written.not_written,
            "files": written.files,
        })
    })
}

/// What each group adds up to; groups without any traffic are left out, `[]` without groups.
fn groups(report: &Report<'_>) -> Value {
    let shown = report.shown_groups().map(|(key, stats, traffic)| {
        let (prefix, port) = report.groups.names(key);
        json!({
            "prefix": prefix,
            "port": port,
            "flows_ended": stats.ended.iter().sum::<u64>(),
            "packets": {"near": traffic.packets[0], "remote": traffic.packets[1]},
            "bytes": {"near": traffic.bytes[0], "remote": traffic.bytes[1]},
            "retransmitted_frames": retransmitted(stats),
            "loss": by_sender(|sender| loss(stats, sender)),
            "rtt": rtt(stats),
        })
    });
    shown.collect()
}

fn top(report: &Report<'_>) -> Value {
    let flows = report.top.iter().map(|flow| {
        let mut text = String::new();
        lines::flow(&mut text, flow, None, report.groups);
        let mut value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        // How it ended is in --flows.
        if let Some(map) = value.as_object_mut() {
            map.shift_remove("end");
        }
        value
    });
    flows.collect()
}
