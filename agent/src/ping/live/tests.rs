use base::{EventKind, LossTotals, Protocol, Sample, SessionEvent, Why};
use serde_json::Value;

use super::*;
use crate::cli::{Cli, Command};
use crate::ping::{host, plan};

const WALL: WallNanos = WallNanos(1_700_000_000_000_000_000);

fn planned(line: &str, terminal: bool) -> Plan {
    use clap::Parser as _;
    let words = ["netsonde", "ping"]
        .into_iter()
        .chain(line.split_whitespace());
    let Command::Ping(args) = Cli::try_parse_from(words).expect(line).command else {
        panic!("not ping");
    };
    plan::plan(&args, terminal, host::resolve).expect(line)
}

fn live(plan: &Plan, assertions: &[&str]) -> Live<'static> {
    let plan: &'static Plan = Box::leak(Box::new(plan.clone()));
    let template = crate::ping::template();
    let assertions = assertions
        .iter()
        .map(|expr| Assertion::parse(expr, &template).expect(expr))
        .collect();
    let head = Head {
        command: vec!["netsonde".to_owned(), "ping".to_owned()],
        source: Source::default(),
        started: WALL,
    };
    Live::new(plan, assertions, head, None, MonoNanos(0))
}

/// `sent` probes, all but `lost` answered after 1 ms.
fn second(live: &mut Live<'_>, key: u32, sent: u64, lost: u64) {
    let mut take = |output: Output| live.take(TargetKey(key), &output);
    take(Output::Count(Counter::Sent, sent));
    take(Output::Count(Counter::Received, sent - lost));
    for _ in 0..sent - lost {
        take(Output::Sample(Sample {
            quantity: Quantity::Rtt,
            value: 1_000_000,
        }));
    }
    if lost > 0 {
        take(Output::Count(Counter::Lost, lost));
    }
}

fn text(out: &[u8]) -> &str {
    std::str::from_utf8(out).expect("text")
}

#[test]
fn lines_are_of_their_second_and_the_summary_of_the_run() {
    let plan = planned("127.0.0.1 ::1", false);
    let mut live = live(&plan, &[]);
    let mut out = Vec::new();
    live.take(
        TargetKey(0),
        &Output::Protocol(Protocol::Stamp, Why::Requested),
    );
    second(&mut live, 0, 100, 1);
    live.tick(MonoNanos(SECOND_NS - 1), WALL.offset(1), &mut out)
        .expect("writes");
    assert_eq!(
        text(&out),
        "127.0.0.1: STAMP on UDP port 862, as asked for\n"
    );
    out.clear();
    live.tick(MonoNanos(SECOND_NS), WALL.offset(1_000_000_000), &mut out)
        .expect("writes");
    assert_eq!(
        text(&out),
        "2023-11-14T22:13:21Z 127.0.0.1: sent 100, lost 1, p50 1.00ms, p99 -, max 1.00ms\n"
    );
    out.clear();
    live.take(
        TargetKey(1),
        &Output::Protocol(Protocol::Icmp, Why::StampSilent),
    );
    second(&mut live, 0, 50, 0);
    live.take(TargetKey(1), &Output::Errno(101));
    live.take(TargetKey(1), &Output::Count(Counter::SendErrors, 2));
    live.tick(
        MonoNanos(2 * SECOND_NS),
        WALL.offset(2_000_000_000),
        &mut out,
    )
    .expect("writes");
    let lines: Vec<&str> = text(&out).lines().collect();
    assert!(lines[0].starts_with("::1: ICMP echo, since"));
    assert!(lines[1].ends_with("127.0.0.1: sent 50, lost 0, p50 1.00ms, p99 -, max 1.00ms"));
    assert!(
        lines[2].ends_with("::1: sent 0, lost 0, p50 -, p99 -, max -, send errors 2 (ENETUNREACH)")
    );
    out.clear();
    let exit = live
        .end(WALL.offset(2_500_000_000), &mut out)
        .expect("writes");
    assert!(text(&out).contains("sent 150, received 149, lost 1"));
    assert!(text(&out).contains("no answer at all"));
    assert_eq!(exit, Exit::NoAnswer);
}

#[test]
fn a_stream_adds_up_to_its_last_document() {
    let plan = planned("127.0.0.1 --json-stream", false);
    let mut live = live(&plan, &["lost<=2", "rtt.p50<1us"]);
    let mut out = Vec::new();
    live.take(
        TargetKey(0),
        &Output::Protocol(Protocol::Stamp, Why::Requested),
    );
    live.take(TargetKey(0), &Output::Gauge(Gauge::HopsForward, 2.0));
    live.take(TargetKey(0), &Output::Gauge(Gauge::PacketBytes, 108.0));
    for (index, (sent, lost)) in [(10, 1), (20, 0), (5, 2)].into_iter().enumerate() {
        second(&mut live, 0, sent, lost);
        let total = live.tracked[0].total.counter(Counter::Lost);
        let loss = LossTotals {
            lost: total,
            forward: total,
            directed: true,
            ..LossTotals::default()
        };
        live.take(TargetKey(0), &Output::Loss(loss));
        if index < 2 {
            let seconds = index as u64 + 1;
            let wall = WALL.offset(1_000_000_000 * seconds.cast_signed());
            live.tick(MonoNanos(SECOND_NS * seconds), wall, &mut out)
                .expect("writes");
        }
    }
    let exit = live
        .end(WALL.offset(2_300_000_000), &mut out)
        .expect("writes");
    let documents: Vec<Value> = text(&out)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(documents.len(), 4);
    let value = |index: usize, key: &str| documents[index]["targets"][0][key].as_u64();
    for (key, wanted) in [
        ("sent", [10, 20, 5, 35]),
        ("received", [9, 20, 3, 32]),
        ("lost", [1, 0, 2, 3]),
        ("lost_forward", [1, 0, 2, 3]),
        ("hops_forward", [2, 2, 2, 2]),
        ("packet_bytes", [108, 108, 108, 108]),
        ("payload_bytes", [80, 80, 80, 80]),
    ] {
        for (index, wanted) in wanted.into_iter().enumerate() {
            assert_eq!(value(index, key), Some(wanted), "{key} of line {index}");
        }
    }
    assert_eq!(documents[1]["started_at"], "2023-11-14T22:13:21.000000Z");
    assert_eq!(documents[1]["ended_at"], "2023-11-14T22:13:22.000000Z");
    assert_eq!(documents[2]["ended_at"], "2023-11-14T22:13:22.300000Z");
    assert_eq!(documents[3]["started_at"], "2023-11-14T22:13:20.000000Z");
    let assertions = &documents[3]["targets"][0]["assertions"];
    assert_eq!(
        assertions.to_string(),
        r#"[{"expr":"lost<=2","value":3,"ok":false},{"expr":"rtt.p50<1us","value":1000000,"ok":false}]"#
            .replace("1000000", &assertions[1]["value"].to_string())
    );
    assert_eq!(exit, Exit::Assertion);
    assert_eq!(live.complaints().len(), 2);
}

#[test]
fn news_stand_above_the_table() {
    let plan = planned("127.0.0.1", true);
    let mut live = live(&plan, &[]);
    let mut out = Vec::new();
    let event = |kind, old, new| Output::Event(SessionEvent { kind, old, new });
    live.take(
        TargetKey(0),
        &Output::Protocol(Protocol::Stamp, Why::Requested),
    );
    live.take(TargetKey(0), &event(EventKind::TargetUp, 0, 1));
    live.take(TargetKey(0), &event(EventKind::HopsForwardChanged, 3, 4));
    live.tick(MonoNanos(FRAME_NS), WALL, &mut out)
        .expect("writes");
    let drawn = text(&out);
    assert!(drawn.starts_with("\r\x1b[J127.0.0.1: STAMP on UDP port 862, as asked for\r\n127.0.0.1: hops forward changed from 3 to 4\r\n"));
    assert!(!drawn.contains("answers again"));
    assert!(drawn.contains("target"));
    out.clear();
    live.take(TargetKey(0), &event(EventKind::TargetDown, 1, 0));
    live.take(TargetKey(0), &event(EventKind::TargetUp, 0, 1));
    live.tick(MonoNanos(FRAME_NS + 1), WALL, &mut out)
        .expect("writes");
    assert!(text(&out).contains("no longer answers\r\n127.0.0.1: answers again\r\n"));
    out.clear();
    live.end(WALL, &mut out).expect("writes");
    assert!(
        text(&out).contains("\x1b[?25h"),
        "the cursor is shown again"
    );
}

#[test]
fn unknown_keys_are_ignored_and_the_end_is_seen() {
    let plan = planned("127.0.0.1 ::1 --json", true);
    let mut live = live(&plan, &[]);
    live.take(TargetKey(9), &Output::Finished);
    live.take(TargetKey(0), &Output::Finished);
    assert!(!live.finished());
    live.take(TargetKey(1), &Output::Finished);
    assert!(live.finished());
}

#[test]
fn a_host_that_cannot_send_says_so_once_and_when_it_can_again() {
    let plan = planned("127.0.0.1", false);
    let mut live = live(&plan, &[]);
    let mut out = Vec::new();
    let take = |live: &mut Live<'_>, output: Output| live.take(TargetKey(0), &output);
    let refuse = |live: &mut Live<'_>, times: u32| {
        for _ in 0..times {
            live.take(TargetKey(0), &Output::Errno(100));
            live.take(TargetKey(0), &Output::Count(Counter::SendErrors, 1));
        }
    };
    // A full queue now and then is no news.
    refuse(&mut live, 2);
    take(&mut live, Output::Count(Counter::Sent, 1));
    refuse(&mut live, 2);
    take(&mut live, Output::Count(Counter::Sent, 1));
    live.tick(MonoNanos(1), WALL, &mut out).expect("writes");
    assert_eq!(text(&out), "");
    refuse(&mut live, 200);
    take(&mut live, Output::Count(Counter::Sent, 1));
    take(&mut live, Output::Count(Counter::Sent, 1));
    live.tick(MonoNanos(2), WALL, &mut out).expect("writes");
    assert_eq!(
        text(&out),
        "127.0.0.1: this host cannot send: Network is down (ENETDOWN)\n\
         127.0.0.1: this host sends again\n"
    );
    out.clear();
    live.end(WALL, &mut out).expect("writes");
    assert!(text(&out).contains("\nsend errors 204: Network is down (ENETDOWN)\n"));
}

#[test]
fn what_never_answered_does_not_answer_again() {
    let plan = planned("127.0.0.1", false);
    let mut live = live(&plan, &[]);
    let mut out = Vec::new();
    for (kind, old, new) in [
        (EventKind::TargetDown, 0, 0),
        (EventKind::TargetUp, 0, 1),
        (EventKind::TargetDown, 1, 0),
        (EventKind::TargetUp, 0, 1),
    ] {
        let event = SessionEvent { kind, old, new };
        live.take(TargetKey(0), &Output::Event(event));
    }
    live.tick(MonoNanos(1), WALL, &mut out).expect("writes");
    let said: Vec<&str> = text(&out)
        .lines()
        .map(|line| line.trim_start_matches("127.0.0.1: "))
        .collect();
    assert_eq!(
        said,
        [
            "does not answer",
            "answers now",
            "no longer answers",
            "answers again"
        ]
    );
}

#[test]
fn seconds_without_anything_have_no_line() {
    let plan = planned("127.0.0.1 -W 5", false);
    let mut live = live(&plan, &[]);
    let mut out = Vec::new();
    live.take(
        TargetKey(0),
        &Output::Protocol(Protocol::Stamp, Why::Requested),
    );
    live.tick(MonoNanos(SECOND_NS), WALL, &mut out)
        .expect("writes");
    assert_eq!(text(&out).lines().count(), 1, "{}", text(&out));
    out.clear();
    live.ending();
    live.tick(MonoNanos(SECOND_NS + 1), WALL, &mut out)
        .expect("writes");
    assert_eq!(
        text(&out),
        "waiting up to 5.00s for the probes in flight; Ctrl-C again ends at once\n"
    );
}
