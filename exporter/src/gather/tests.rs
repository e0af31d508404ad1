use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use protobuf::{Message, UnknownValueRef};
use record::series::Bucket;

use super::*;
use crate::encode::{Format, encode};
use crate::sample;

fn text(snapshot: &Snapshot, encoding: &Encoding) -> String {
    let body = encode(snapshot, encoding, &ExportStats::default(), Format::Text);
    String::from_utf8(body.expect("encodes")).expect("is UTF-8")
}

fn all_families(
    snapshot: &Snapshot,
    encoding: &Encoding,
    native: bool,
) -> Vec<proto::MetricFamily> {
    let mut all = Vec::new();
    families(
        snapshot,
        encoding,
        &ExportStats::default(),
        native,
        &mut |family| all.push(family),
    );
    all
}

/// `BLESS=1 cargo test -p netsonde-exporter` writes the file anew; look at its diff.
#[test]
fn text_is_golden() {
    let text = text(&sample::two_targets(), &Encoding::default());
    if std::env::var_os("BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gather/golden.txt");
        std::fs::write(path, &text).expect("writes");
        return;
    }
    let golden = include_str!("golden.txt");
    for (place, (got, want)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(got, want, "line {}", place + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // The end-to-end tests install it and check the live output.
    let Ok(mut child) = child else { return };
    let encoding = Encoding {
        classic: table::histogram_names()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..Encoding::default()
    };
    let mut stdin = child.stdin.take().expect("is piped");
    stdin
        .write_all(text(&sample::two_targets(), &encoding).as_bytes())
        .expect("takes it");
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    let complaints =
        String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
}

#[test]
fn every_metric_of_the_table_can_be_exported() {
    let mut snapshot = sample::two_targets();
    let mut full = (*snapshot.targets[0]).clone();
    full.gauges = full.gauges.map(|value| value.or(Some(1.0)));
    full.series = std::array::from_fn(|_| std::sync::Arc::clone(&full.series[0]));
    snapshot.targets.push(full.into());
    snapshot.reflector.as_mut().expect("is there").notes = vec![("short", 1)];
    let families = all_families(&snapshot, &Encoding::default(), false);
    let names: Vec<_> = families.iter().map(proto::MetricFamily::name).collect();
    let all: Vec<_> = table::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names, all);
}

#[test]
fn every_reason_and_kind_is_there_at_0_from_the_start() {
    let fresh = sample::snapshot(vec![sample::target(0, "a", false)]);
    let text = text(&fresh, &Encoding::default());
    let has = |start: &str, end: &str| {
        assert!(
            text.lines()
                .any(|line| line.starts_with(start) && line.ends_with(end)),
            "{start} … {end}"
        );
    };
    for counter in base::Counter::DISCARDED {
        let word = counter.as_str();
        has(
            "netsonde_probe_discarded_packets_total",
            &format!("reason=\"{word}\",path=\"dx \\\"primary\\\"\\\\\\n\",fleet=\"payments\"}} 0"),
        );
    }
    for direction in ["forward", "reverse", "local", "unattributed"] {
        has(
            "netsonde_probe_lost_packets_total",
            &format!(
                "direction=\"{direction}\",path=\"dx \\\"primary\\\"\\\\\\n\",fleet=\"payments\"}} 0"
            ),
        );
    }
    for kind in base::EventKind::ALL {
        let count = if *kind == base::EventKind::TargetUp {
            3
        } else {
            0
        };
        has(
            &format!("netsonde_events_total{{kind=\"{}\"", kind.as_str()),
            &format!(" {count}"),
        );
    }
    has(
        "netsonde_export_errors_total{sink=\"prometheus\",reason=\"write_timeout\"",
        " 0",
    );
    for class in base::TcpClass::ALL {
        let word = class.as_str();
        has(
            &format!(
                "netsonde_flow_tcp_classified_frames_total{{class=\"{word}\",sender=\"near\",group=\"vpc\""
            ),
            " 0",
        );
    }
    has("netsonde_probe_up{", " 0");
    has("netsonde_probe_rtt_seconds_count{", " 0");
}

/// The discarded counters of the table are those of base, with the same words.
#[test]
fn discarded_reasons_are_complete() {
    let snapshot = sample::two_targets();
    let families = all_families(&snapshot, &Encoding::default(), false);
    let family = families
        .iter()
        .find(|one| one.name() == table::PROBE_DISCARDED.name)
        .expect("is there");
    let reasons: Vec<_> = family.metric[..base::Counter::DISCARDED.len()]
        .iter()
        .map(|one| one.label[3].value())
        .collect();
    let words: Vec<_> = base::Counter::DISCARDED
        .iter()
        .map(|one| one.as_str())
        .collect();
    assert_eq!(reasons, words);
}

#[test]
fn classic_buckets_are_exact_and_only_where_asked() {
    let text = text(&sample::two_targets(), &Encoding::default());
    for (le, bound) in [
        ("0.0002", 200_000),
        ("0.0003", 300_000),
        ("0.0005", 500_000),
        ("0.00075", 750_000),
    ] {
        let want = sample::rtts().iter().filter(|rtt| **rtt <= bound).count();
        let line = text.lines().find(|line| {
            line.starts_with("netsonde_probe_rtt_seconds_bucket")
                && line.contains("10.0.2.10")
                && line.contains(&format!("le=\"{le}\""))
        });
        assert!(
            line.is_some_and(|line| line.ends_with(&format!(" {want}"))),
            "{le}: {want} in {line:?}"
        );
    }
    let others = text
        .lines()
        .filter(|line| line.contains("_bucket{") && !line.starts_with("netsonde_probe_rtt_"));
    for line in others {
        assert!(line.contains("le=\"+Inf\""), "{line}");
    }
}

/// What a reader of the protobuf makes of one histogram.
#[derive(PartialEq, Debug)]
struct Decoded {
    schema: i64,
    zero_threshold: f64,
    zero: u64,
    spans: usize,
    positive: Vec<Bucket>,
    negative: Vec<Bucket>,
}

fn varints(mut bytes: &[u8]) -> Vec<u64> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (mut value, mut shift) = (0, 0);
        loop {
            value |= u64::from(bytes[0] & 0x7f) << shift;
            shift += 7;
            let more = bytes[0] & 0x80 != 0;
            bytes = &bytes[1..];
            if !more {
                break;
            }
        }
        out.push(value);
    }
    out
}

fn signed(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn decode(histogram: &proto::Histogram) -> Decoded {
    let mut decoded = Decoded {
        schema: 0,
        zero_threshold: 0.0,
        zero: 0,
        spans: 0,
        positive: Vec::new(),
        negative: Vec::new(),
    };
    let mut lists = BTreeMap::<u32, Vec<u64>>::new();
    for (field, value) in histogram.special_fields.unknown_fields() {
        match (field, value) {
            (5, UnknownValueRef::Varint(value)) => decoded.schema = signed(value),
            (6, UnknownValueRef::Fixed64(value)) => decoded.zero_threshold = f64::from_bits(value),
            (7, UnknownValueRef::Varint(value)) => decoded.zero = value,
            (9 | 10 | 12 | 13, UnknownValueRef::LengthDelimited(bytes)) => {
                lists.entry(field).or_default().extend(varints(bytes));
            }
            (15, UnknownValueRef::LengthDelimited(_)) => {}
            other => panic!("unexpected field {other:?}"),
        }
    }
    let mut side = |spans: u32, deltas: u32| {
        let spans = lists.remove(&spans).unwrap_or_default();
        let mut deltas = lists.remove(&deltas).unwrap_or_default().into_iter();
        decoded.spans += spans.len() / 4;
        let (mut index, mut count, mut out) = (0i64, 0i64, Vec::new());
        for span in spans.chunks(4) {
            assert_eq!((span[0], span[2]), (1 << 3, 2 << 3), "offset and length");
            index += signed(span[1]);
            for _ in 0..span[3] {
                count += signed(deltas.next().expect("a delta for each bucket"));
                assert!(count >= 0);
                if count > 0 {
                    out.push(Bucket {
                        index: index as i32,
                        count: count as u64,
                    });
                }
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None, "a bucket for each delta");
        out
    };
    decoded.negative = side(9, 10);
    decoded.positive = side(12, 13);
    decoded
}

#[test]
fn protobuf_holds_the_native_histograms() {
    let snapshot = sample::two_targets();
    let body = encode(
        &snapshot,
        &Encoding::default(),
        &ExportStats::default(),
        Format::Protobuf,
    )
    .expect("encodes");
    let mut input = protobuf::CodedInputStream::from_bytes(&body);
    let mut families = BTreeMap::new();
    while !input.eof().expect("readable") {
        let family: proto::MetricFamily = input.read_message().expect("a delimited family");
        families.insert(family.name().to_owned(), family);
    }
    let histogram =
        |name: &str, place: usize| families[name].metric[place].histogram.clone().unwrap();
    let series = |quantity| snapshot.targets[0].series(quantity);

    let rtt = histogram("netsonde_probe_rtt_seconds", 0);
    let want = series(base::Quantity::Rtt);
    assert_eq!(rtt.sample_count(), 100);
    assert!((rtt.sample_sum() - sample::rtts().iter().sum::<i64>() as f64 * 1e-9).abs() < 1e-12);
    assert_eq!(rtt.bucket.len(), 33, "classic beside native");
    let decoded = decode(&rtt);
    assert_eq!(
        (decoded.schema, decoded.zero, decoded.zero_threshold),
        (5, 0, 2f64.powi(-28))
    );
    assert_eq!(decoded.positive, want.positive.iter().collect::<Vec<_>>());
    assert!(decoded.negative.is_empty());
    // By the definition of the buckets, from the values themselves.
    for bucket in &decoded.positive {
        let (low, high) = bucket.bounds();
        let inside = sample::rtts()
            .iter()
            .filter(|rtt| (**rtt as f64 * 1e-9) > low && (**rtt as f64 * 1e-9) <= high)
            .count();
        assert_eq!(bucket.count, inside as u64, "{bucket:?}");
    }

    let ipdv = decode(&histogram("netsonde_probe_ipdv_seconds", 0));
    assert_eq!((ipdv.positive.len(), ipdv.negative.len()), (1, 1));
    assert_eq!(ipdv.positive, ipdv.negative);
    let runs = decode(&histogram("netsonde_probe_loss_run_packets", 0));
    assert_eq!(
        runs.positive,
        [
            Bucket {
                index: 32,
                count: 1
            },
            Bucket {
                index: 51,
                count: 1
            }
        ]
    );
    assert_eq!(runs.spans, 2);

    let empty = histogram("netsonde_probe_rtt_seconds", 1);
    let decoded = decode(&empty);
    assert_eq!(
        (empty.sample_count(), decoded.spans),
        (0, 1),
        "a no-op span marks it as native"
    );
    assert!(decoded.positive.is_empty());
}

#[test]
fn without_native_protobuf_is_classic_only() {
    let encoding = Encoding {
        native: false,
        ..Encoding::default()
    };
    let families = all_families(&sample::two_targets(), &encoding, true);
    let rtt = families
        .iter()
        .find(|one| one.name() == table::PROBE_RTT.name)
        .expect("is there");
    assert_eq!(
        rtt.metric[0]
            .histogram
            .special_fields
            .unknown_fields()
            .iter()
            .count(),
        0
    );
    assert!(rtt.write_to_bytes().is_ok());
}

#[test]
fn targets_above_the_limit_are_folded_and_counted() {
    let snapshot = sample::snapshot(
        (0..10)
            .map(|number| sample::target(number, &format!("t{number}"), true))
            .collect(),
    );
    let encoding = Encoding {
        max_series: 8,
        ..Encoding::default()
    };
    let families = all_families(&snapshot, &encoding, true);
    let family = |metric: &Metric| families.iter().find(|one| one.name() == metric.name);
    // One label set a target: 8 by name, 2 folded.
    let sent = &family(table::PROBE_SENT).expect("is there").metric;
    assert_eq!(sent.len(), 9);
    assert_eq!(sent[8].label[1].value(), OTHER);
    assert_eq!(sent[8].counter.value(), 210.0);
    let total: f64 = sent.iter().map(|one| one.counter.value()).sum();
    assert_eq!(total, 1_050.0);
    // Four label sets a target: 2 by name, 8 folded.
    let lost = &family(table::PROBE_LOST).expect("is there").metric;
    assert_eq!(lost.len(), 12);
    assert_eq!(
        lost.iter().map(|one| one.counter.value()).sum::<f64>(),
        50.0
    );
    let rtt = &family(table::PROBE_RTT).expect("is there").metric;
    assert_eq!(rtt[8].histogram.sample_count(), 200);
    assert_eq!(
        decode(&rtt[8].histogram)
            .positive
            .iter()
            .map(|bucket| bucket.count)
            .sum::<u64>(),
        200
    );
    // Gauges cannot be added.
    let up = &family(table::PROBE_UP).expect("is there").metric;
    assert_eq!(up.len(), 8);
    let overflow = &family(table::SERIES_OVERFLOW).expect("is there").metric;
    let of = |name: &str| {
        overflow
            .iter()
            .find(|one| one.label[0].value() == name)
            .map(|one| one.gauge.value())
    };
    assert_eq!(of(table::PROBE_SENT.name), Some(2.0));
    assert_eq!(of(table::PROBE_LOST.name), Some(32.0));
    assert_eq!(of(table::PROBE_UP.name), Some(2.0));
}

#[test]
fn no_label_comes_twice() {
    let families = all_families(&sample::two_targets(), &Encoding::default(), false);
    for family in &families {
        let mut sets = std::collections::HashSet::new();
        for metric in &family.metric {
            let mut names: Vec<_> = metric.label.iter().map(proto::LabelPair::name).collect();
            assert!(names.contains(&"fleet"), "{}", family.name());
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{}", family.name());
            let set: Vec<_> = metric
                .label
                .iter()
                .map(|label| (label.name().to_owned(), label.value().to_owned()))
                .collect();
            assert!(sets.insert(set), "{} twice", family.name());
        }
    }
}

#[test]
fn groups_above_the_limit_are_folded_and_counted() {
    let mut snapshot = sample::two_targets();
    let capture = snapshot.capture.as_mut().expect("is there");
    let mut second = capture.groups[0].clone();
    second.group = "internet".to_owned();
    let mut third = second.clone();
    third.group = "elsewhere".to_owned();
    capture.groups.extend([second, third]);
    let encoding = Encoding {
        max_series: 3,
        ..Encoding::default()
    };
    let families = all_families(&snapshot, &encoding, false);
    let family = |metric: &Metric| {
        let found = families.iter().find(|family| family.name() == metric.name);
        found.expect("is exported")
    };
    // Two senders of three groups: three stay, three are folded into two.
    let packets = family(table::FLOW_PACKETS);
    assert_eq!(packets.metric.len(), 5);
    let values: Vec<f64> = packets
        .metric
        .iter()
        .map(|metric| metric.counter.value())
        .collect();
    assert_eq!(values, [10.0, 20.0, 10.0, 10.0, 40.0]);
    let folded = packets.metric[4].label.iter();
    let folded: Vec<_> = folded.map(|pair| (pair.name(), pair.value())).collect();
    assert_eq!(folded[1], ("group", OTHER));
    let overflow = family(table::SERIES_OVERFLOW);
    let of = |metric: &Metric| {
        let found = overflow.metric.iter();
        let mut found = found.filter(|one| one.label[0].value() == metric.name);
        found.next().expect("is counted").gauge.value()
    };
    assert_eq!(of(table::FLOW_PACKETS), 3.0);
    assert_eq!(of(table::FLOW_RTT), 0.0);
}
