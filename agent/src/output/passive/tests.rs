use base::{
    Address, DontFragment, FlowKey, GroupKey, Leg, LossPlace, Observation, RttMethod, Sender,
    SideSummary, TcpClasses, TcpDetail,
};
use serde_json::{Value, json};

use super::*;

fn flow() -> FlowSummary {
    let side = |packets, bytes, rtt_ns| SideSummary {
        packets,
        bytes,
        retransmissions: 1,
        rtt_ns,
        mss: Some(1460),
        largest_packet_bytes: 1500,
        dont_fragment: (packets == 10).then_some(DontFragment::Mixed),
        detail: (packets == 10).then_some(TcpDetail {
            retransmitted_bytes: 7,
            rtt_samples: 8,
            ..TcpDetail::default()
        }),
    };
    FlowSummary {
        flow: FlowKey(3),
        group: GroupKey(3),
        protocol: 6,
        ends: [
            (Address::v4(0x0a00_0001), 40_000),
            (
                Address::from(
                    "2001:db8::1"
                        .parse::<std::net::IpAddr>()
                        .expect("an address"),
                ),
                443,
            ),
        ],
        first: WallNanos(1_700_000_000_000_000_000),
        last: WallNanos(1_700_000_001_000_000_000),
        rtt_method: Some(RttMethod::Timestamp),
        sides: [side(10, 1_000, Some(250_000)), side(20, 30_000, None)],
    }
}

fn groups() -> Groups {
    let any = std::net::IpAddr::from([0, 0, 0, 0]);
    let names = [(any, 0, "a \"b\"".to_owned())];
    Groups::new(&names, &[(443, "https".to_owned())]).expect("few")
}

#[test]
fn a_flow_is_one_line_of_json() {
    let mut text = String::new();
    lines::flow(&mut text, &flow(), Some(FlowEnd::Idle), &groups());
    assert!(!text.contains('\n'));
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        value,
        json!({
            "flow": 3, "protocol": "tcp", "protocol_number": 6,
            "near": {"address": "10.0.0.1", "port": 40_000, "packets": 10, "bytes": 1_000,
                "retransmitted_frames": 1, "mss": 1460, "largest_packet_bytes": 1500,
                "dont_fragment": "mixed", "retransmitted_bytes": 7, "out_of_order": 0, "duplicate_acks": 0,
                "triple_duplicate_acks": 0, "zero_windows": 0, "zero_window_probes": 0,
                "rtt_samples": 8},
            "remote": {"address": "2001:db8::1", "port": 443, "packets": 20, "bytes": 30_000,
                "retransmitted_frames": 1, "mss": 1460, "largest_packet_bytes": 1500,
                "dont_fragment": null, "retransmitted_bytes": null, "out_of_order": null, "duplicate_acks": null,
                "triple_duplicate_acks": null, "zero_windows": null, "zero_window_probes": null,
                "rtt_samples": null},
            // What the near end saw of its peer is the remote leg.
            "rtt": {"method": "timestamp", "near_ns": null, "remote_ns": 250_000},
            "first_at": "2023-11-14T22:13:20.000000Z", "last_at": "2023-11-14T22:13:21.000000Z",
            "duration_ns": 1_000_000_000, "end": "idle",
            "group": {"prefix": "a \"b\"", "port": "https"},
        })
    );
    assert_eq!(
        summary::name(&flow()),
        "tcp 10.0.0.1:40000 > [2001:db8::1]:443"
    );
}

#[test]
fn a_frame_is_one_line_however_much_it_shows() {
    let mut record = lines::FrameRecord::default();
    let mut text = String::new();
    let mut classes = TcpClasses::NONE;
    classes.insert(TcpClass::Retransmission);
    let (flow, group) = (FlowKey(7), GroupKey(0));
    let rtt = |ns| Observation::Rtt {
        flow,
        group,
        method: RttMethod::Sequence,
        leg: Leg::Near,
        ns,
    };
    let observations = [
        (1, rtt(5)),
        (
            3,
            Observation::Tcp {
                flow,
                group,
                sender: Sender::Remote,
                classes,
                segments: 9,
            },
        ),
        (3, rtt(6)),
        (
            3,
            Observation::Loss {
                flow,
                group,
                sender: Sender::Near,
                place: LossPlace::Before,
                segments: 2,
            },
        ),
        (
            4,
            Observation::BlackHole {
                flow,
                group,
                sender: Sender::Near,
                packet_bytes: 1500,
            },
        ),
    ];
    for (number, observation) in &observations {
        let at = WallNanos(1_700_000_000_000_000_000 + number * 1_000);
        record.take(*number, Some(at), observation, &mut text);
    }
    record.flush(&mut text);
    record.flush(&mut text);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let near = |ns: u64| json!([{"method": "sequence", "leg": "near", "ns": ns}]);
    assert_eq!(
        lines,
        [
            json!({"frame": 1, "at": "2023-11-14T22:13:20.000001Z", "flow": 7, "sender": null, "classes": [], "rtt": near(5), "loss": []}),
            json!({"frame": 3, "at": "2023-11-14T22:13:20.000003Z", "flow": 7, "sender": "remote", "classes": ["retransmissions"], "rtt": near(6),
                "loss": [{"sender": "near", "place": "before", "segments": 2}]}),
        ]
    );
}

#[test]
fn sizes_and_rates_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_600, "1.00 MB"),
        (123_456_789, "123 MB"),
        (u64::MAX, "18446744 TB"),
    ] {
        assert_eq!(summary::octets(bytes), text);
    }
    assert_eq!(summary::rate(1_250_000, 1_000_000_000), "10.0 Mbit/s");
    assert_eq!(summary::rate(1, 0), "-");
    // One packet has a size and no rate.
    assert_eq!(summary::flow_rate(1, 1_500, 408), "-");
}

/// Two analysers' counters add up, and an interval is what came since.
#[test]
fn counters_add_and_subtract() {
    let zero = measure::passive::Analyser::new(crate::passive::smallest()).counters();
    let mut one = zero.clone();
    one.frames = 7;
    one.measured = 5;
    one.undecoded[1] = 2;
    one.ended[3] = 1;
    let mut sum = one.clone();
    add_counters(&mut sum, &one);
    assert_eq!((sum.frames, sum.undecoded[1], sum.ended[3]), (14, 4, 2));
    assert_eq!(sum.balance(), 0);
    subtract_counters(&mut sum, &one);
    assert_eq!(sum, one);
    subtract_counters(&mut sum, &one);
    assert_eq!(sum, zero);
}

/// What comes twice is counted apart and was on the wire once.
#[test]
fn copies_are_counted_and_in_no_rate() {
    use crate::passive::tally::{Origin, Standing, Tally};

    let mut counters = measure::passive::Analyser::new(crate::passive::smallest()).counters();
    (counters.frames, counters.measured) = (4, 4);
    counters.bytes = 4_000;
    (
        counters.capture_duplicates,
        counters.capture_duplicate_bytes,
    ) = (1, 1_000);
    let origin = Origin {
        source_name: "f".to_owned(),
        backend: "file",
        reason: String::new(),
        filter: String::new(),
        notes: Vec::new(),
    };
    let mut tally = Tally::new(1, 0);
    tally.span(WallNanos(1_000_000_000), WallNanos(2_000_000_000));
    let (groups, nothing) = (Groups::default(), Standing::new(1, 0));
    let mut report = tally.report(
        &origin,
        &counters,
        Drops::default(),
        &groups,
        Vec::new(),
        &nothing,
    );
    let text = summary::text(&report);
    assert!(
        text.contains("4 frames, 4.00 kB in 1.00s, 24.0 kbit/s;"),
        "{text}"
    );
    assert!(text.contains("\ncaptured twice: 1 frame\n"), "{text}");
    assert!(!text.contains("no device"), "{text}");
    report.intervals = Intervals {
        all: 3,
        degraded: 0,
        interrupted: 2,
    };
    let text = summary::text(&report);
    assert!(
        text.contains("no device to capture on in 2 of 3 intervals\n"),
        "{text}"
    );
    let body = Value::Object(json::body(&report));
    assert_eq!(body["bytes"], 4_000);
    assert_eq!(body["capture_duplicates"], 1);
    assert_eq!(body["throughput"]["bits_per_second"], 24_000.0);
    assert_eq!(
        body["intervals"],
        json!({"all": 3, "degraded": 0, "interrupted": 2})
    );
    assert_eq!(counters.balance(), 0);
}
