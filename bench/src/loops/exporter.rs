//! What a scrape costs: encoding a snapshot that is ready.

use std::hint::black_box;
use std::sync::Arc;

use ::exporter::Encoding;
use ::exporter::encode::{Format, encode};
use ::exporter::http::ExportStats;
use ::record::series::ClassicBounds;
use ::record::snapshot::{BuildInfo, TargetSnapshot};
use ::record::{Snapshot, TargetSeries};
use base::{Output, TargetKey, WallNanos};

use super::Loop;
use super::record::outputs;

const NOW: WallNanos = WallNanos(1_800_000_000_000_000_000);

fn target(number: u32, outputs: &[Output]) -> TargetSnapshot {
    let second = 1_000_000_000;
    let mut series = TargetSeries::new(second, second, &ClassicBounds::default());
    // No two targets have the same buckets.
    let from = number as usize * 97 % (outputs.len() / 2);
    for output in &outputs[from..from + outputs.len() / 2] {
        series.apply(output);
    }
    series.tick();
    TargetSnapshot {
        key: TargetKey(number),
        probe: Arc::from("az-b"),
        target: Arc::from(format!("host-{number}.example")),
        labels: Arc::from([("path".to_owned(), "dx-primary".to_owned())]),
        address: Some("10.0.2.10".to_owned()),
        az_id: String::new(),
        protocol_requested: "auto",
        protocol: series.protocol.map(|(protocol, _)| protocol),
        why: series.protocol.map(|(_, why)| why),
        interval_ns: second,
        since: NOW,
        counters: series.counters,
        gauges: series.gauges,
        stamped: series.stamped,
        loss: series.loss,
        settled_loss: series.settled_loss(),
        problem: String::new(),
        series: series.snapshot(),
    }
}

fn snapshot(targets: u32, outputs: &[Output]) -> Snapshot {
    Snapshot {
        not_ready: Vec::new(),
        targets: (0..targets)
            .map(|number| Arc::new(target(number, outputs)))
            .collect(),
        ..Snapshot::starting(BuildInfo::default(), NOW)
    }
}

/// The body of a scrape in an encoding, and its octets.
fn body(snapshot: &Snapshot, stats: &ExportStats, format: Format) -> usize {
    let body = encode(snapshot, &Encoding::default(), stats, format);
    body.map_or(0, |body| black_box(body).len())
}

/// Text and protobuf, of 20 and of 1000 targets; throughput in targets.
#[must_use]
pub fn exporter() -> Vec<Loop> {
    let outputs = outputs();
    let few = Arc::new(snapshot(20, &outputs));
    let many = Arc::new(snapshot(1_000, &outputs));
    [
        ("encode/text-20-targets", &few, Format::Text),
        ("encode/protobuf-20-targets", &few, Format::Protobuf),
        ("encode/text-1000-targets", &many, Format::Text),
        ("encode/protobuf-1000-targets", &many, Format::Protobuf),
    ]
    .into_iter()
    .map(|(name, snapshot, format)| {
        let snapshot = Arc::clone(snapshot);
        let stats = ExportStats::default();
        Loop::new(name, snapshot.targets.len() as u64, move || {
            black_box(body(&snapshot, &stats, format));
        })
        .allocating()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_in_the_body() {
        let snapshot = snapshot(20, &outputs());
        let stats = ExportStats::default();
        let text = encode(&snapshot, &Encoding::default(), &stats, Format::Text);
        let text = String::from_utf8(text.expect("encodes")).expect("text");
        for number in 0..20 {
            assert!(text.contains(&format!("host-{number}.example")));
        }
        assert!(body(&snapshot, &stats, Format::Protobuf) > 10_000);
    }
}
