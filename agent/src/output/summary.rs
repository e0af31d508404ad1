//! The summary of a target for people, at the end of a run.

use std::fmt::Write as _;

use base::units::format_ns;
use base::{Counter, Gauge, Protocol, Quantity, StampPoint, StampSource, WallNanos, Why};
use record::Distribution;

use super::causes;
use super::report::Report;
use super::words;

/// Some lines, each ended; the causes of silence at their end if there is nothing else.
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    head(&mut out, report);
    losses(&mut out, report);
    if report.answered() {
        times(&mut out, report);
        path(&mut out, report);
    }
    sending(&mut out, report);
    if !report.answered() {
        let what = match report.stats.protocol {
            Some((_, Why::StampAnswered)) => "no answer to a counted probe",
            _ => "no answer at all",
        };
        let _ = writeln!(out, "{what}; likely causes, in order:");
        for (index, cause) in causes::of(report).iter().enumerate() {
            let _ = writeln!(out, "  {}. {cause}", index + 1);
        }
    }
    out
}

fn head(out: &mut String, report: &Report<'_>) {
    let protocol = match report.protocol() {
        Some(Protocol::Stamp) => format!("STAMP port {}", report.address.port()),
        Some(Protocol::Icmp) => "ICMP echo".to_owned(),
        None if report.stats.counter(Counter::Uncounted) > 0 => {
            "ended before it was known what answers".to_owned()
        }
        None => "nothing sent".to_owned(),
    };
    let _ = write!(out, "--- {} · {protocol}", report.title());
    if let Some(packet) = report.packet_bytes {
        let payload = packet.saturating_sub(report.header_bytes());
        let _ = write!(out, " · packet {packet} bytes, payload {payload}");
    }
    if report.tos != 0 {
        let _ = write!(out, " · DSCP {}", report.tos >> 2);
    }
    out.push_str(" ---\n");
}

fn losses(out: &mut String, report: &Report<'_>) {
    let stats = report.stats;
    let count = |counter| stats.counter(counter);
    let loss = &stats.loss;
    let lost = count(Counter::Lost);
    let _ = write!(
        out,
        "sent {}, received {}, lost {lost}",
        count(Counter::Sent),
        count(Counter::Received),
    );
    if let Some(ratio) = stats.loss_ratio() {
        let _ = write!(out, " ({}%)", percent(ratio));
    }
    if lost > 0 {
        if loss.directed {
            let _ = write!(out, ": forward {}, reverse {}", loss.forward, loss.reverse);
            let _ = write!(
                out,
                ", local {}, unattributed {}",
                loss.local, loss.unattributed
            );
        } else if loss.local > 0 {
            let _ = write!(
                out,
                ": local {}, direction unknown {}",
                loss.local, loss.unattributed
            );
        } else {
            out.push_str(", direction unknown");
        }
    }
    out.push('\n');
    let discarded: Vec<String> = Counter::DISCARDED
        .iter()
        .filter(|reason| count(**reason) > 0)
        .map(|reason| format!("{} {}", count(*reason), reason.as_str().replace('_', " ")))
        .collect();
    if !discarded.is_empty() {
        let _ = writeln!(
            out,
            "answered without a usable sample: {}",
            discarded.join(", ")
        );
    }
    let runs = stats.distribution(Quantity::LossRun);
    if let Some(longest) = runs.max() {
        let _ = write!(out, "loss runs {}, longest {longest}", runs.count());
        let _ = write!(out, ", outages {}", count(Counter::Outages));
        if let (Some(ns), Some(at)) = (
            stats.gauge(Gauge::LongestOutage),
            stats.gauge(Gauge::LongestOutageAt),
        ) {
            let at = WallNanos(at as u64).rfc3339();
            let _ = write!(out, ", longest {} at {at}", format_ns(ns));
        }
        out.push('\n');
    }
    if report.answered() {
        let way = |forward: Counter, reverse: Counter| {
            if loss.directed {
                format!("forward {} reverse {}", count(forward), count(reverse))
            } else {
                format!("{}", count(forward) + count(reverse))
            }
        };
        let _ = writeln!(
            out,
            "late {}, duplicates {}, reordered {}",
            count(Counter::Late),
            way(Counter::DuplicatesForward, Counter::DuplicatesReverse),
            way(Counter::ReorderedForward, Counter::ReorderedReverse),
        );
    }
}

fn times(out: &mut String, report: &Report<'_>) {
    let stats = report.stats;
    let _ = writeln!(
        out,
        "{:<24}{:>10}{:>10}{:>10}{:>10}",
        "", "min", "p50", "p99", "max"
    );
    for (name, quantity) in [
        ("network", Quantity::Rtt),
        ("as ping would show", Quantity::RoundTrip),
        ("response", Quantity::Response),
        ("reflector dwell", Quantity::Dwell),
        ("forward delay", Quantity::ForwardDelay),
        ("reverse delay", Quantity::ReverseDelay),
        ("forward variation", Quantity::ForwardIpdv),
        ("reverse variation", Quantity::ReverseIpdv),
        ("schedule error", Quantity::ScheduleError),
    ] {
        let distribution = stats.distribution(quantity);
        if distribution.count() > 0 {
            row(out, name, distribution);
        }
    }
    let jitter = (
        stats.gauge(Gauge::JitterForward),
        stats.gauge(Gauge::JitterReverse),
    );
    if jitter.0.is_some() || jitter.1.is_some() {
        let _ = writeln!(
            out,
            "jitter (RFC 3550) forward {}, reverse {}",
            or_dash(jitter.0),
            or_dash(jitter.1)
        );
    }
    if let (Some(1.0..), Some(error)) = (
        stats.gauge(Gauge::ClockSynchronised),
        stats.gauge(Gauge::ClockError),
    ) {
        let _ = writeln!(out, "one-way delays are exact to {}", format_ns(error));
    }
}

fn row(out: &mut String, name: &str, distribution: &Distribution) {
    let summary = distribution.summary();
    let cell = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |ns| format_ns(ns as f64));
    let _ = writeln!(
        out,
        "{name:<24}{:>10}{:>10}{:>10}{:>10}",
        cell(summary.min),
        cell(summary.p50),
        cell(summary.p99),
        cell(summary.max)
    );
}

fn path(out: &mut String, report: &Report<'_>) {
    let stats = report.stats;
    let hops = |gauge| {
        stats
            .gauge(gauge)
            .map_or_else(|| "-".to_owned(), |hops| format!("{hops:.0}"))
    };
    let _ = writeln!(
        out,
        "hops forward {}, reverse {}",
        hops(Gauge::HopsForward),
        hops(Gauge::HopsReverse)
    );
    let sources: Vec<String> = StampPoint::ALL
        .iter()
        .filter_map(|point| {
            let used: Vec<String> = StampSource::ALL
                .iter()
                .filter_map(|source| {
                    let count = stats.stamped[point.index()][source.index()];
                    (count > 0).then(|| format!("{} {count}", source.as_str()))
                })
                .collect();
            (!used.is_empty()).then(|| format!("{} {}", point.as_str(), used.join(" ")))
        })
        .collect();
    if !sources.is_empty() {
        let _ = writeln!(out, "stamps {}", sources.join(", "));
    }
}

/// What went wrong while sending and receiving; nothing if nothing did.
fn sending(out: &mut String, report: &Report<'_>) {
    let stats = report.stats;
    let mut notes: Vec<String> = [
        (Counter::SentLate, "sent late"),
        (Counter::Skipped, "skipped"),
        (Counter::ReceiveOverflows, "dropped at our own socket"),
        (Counter::StrayReplies, "stray replies"),
        (Counter::MalformedReplies, "malformed replies"),
        (Counter::ResizedReplies, "resized replies"),
        (Counter::ReflectorResets, "reflector resets"),
        (Counter::ReflectorOverflows, "reflector overflows"),
        (
            Counter::ReflectorRateLimited,
            "refused by the reflector's rate limit",
        ),
    ]
    .iter()
    .filter(|(counter, _)| stats.counter(*counter) > 0)
    .map(|(counter, words)| format!("{words} {}", stats.counter(*counter)))
    .collect();
    if stats.saturated() > 0 {
        notes.push(format!("values out of range {}", stats.saturated()));
    }
    if !notes.is_empty() {
        let _ = writeln!(out, "{}", notes.join(", "));
    }
    let refused: Vec<(String, u64)> = stats
        .errnos
        .iter()
        .map(|(errno, count)| (words::errno(*errno), *count))
        .collect();
    reasons(
        out,
        "send errors",
        stats.counter(Counter::SendErrors),
        &refused,
    );
    let icmp: Vec<(String, u64)> = stats
        .icmp
        .iter()
        .map(|error| {
            let text = words::icmp(error.from.is_ipv6(), error.kind, error.code);
            (format!("{text} from {}", error.from), error.count)
        })
        .collect();
    reasons(
        out,
        "ICMP errors",
        stats.counter(Counter::IcmpErrors),
        &icmp,
    );
}

/// A line with a count and what it is made of.
fn reasons(out: &mut String, what: &str, count: u64, reasons: &[(String, u64)]) {
    if count == 0 {
        return;
    }
    let list: Vec<String> = match reasons {
        [(text, _)] => vec![text.clone()],
        many => many.iter().map(|(text, n)| format!("{text} {n}")).collect(),
    };
    let _ = writeln!(out, "{what} {count}: {}", list.join(", "));
}

fn or_dash(ns: Option<f64>) -> String {
    ns.map_or_else(|| "-".to_owned(), format_ns)
}

/// A ratio in percent with as many digits as tell it from 0 and from 100.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let text = format!("{:.3}", ratio * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "0" && ratio > 0.0 {
        return "<0.001".to_owned();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;
    use super::*;

    #[test]
    fn a_run_with_everything() {
        let stats = sample::stamp();
        assert_eq!(
            text(&sample::report(&stats)),
            "\
--- db (10.0.0.2) · STAMP port 862 · packet 108 bytes, payload 80 · DSCP 46 ---
sent 1000, received 992, lost 7 (0.7%): forward 5, reverse 2, local 0, unattributed 0
answered without a usable sample: 1 tx stamp lost
loss runs 4, longest 4, outages 1, longest 40.0ms at 2023-11-14T22:13:20.000000Z
late 2, duplicates forward 3 reverse 1, reordered forward 4 reverse 0
                               min       p50       p99       max
network                      100us     105us     110us     110us
as ping would show           120us     125us     130us     130us
response                     150us     155us     160us     160us
reflector dwell             20.0us    20.0us    20.0us    20.0us
forward variation             -1ns       0ns       1ns       1ns
schedule error              25.0us    25.0us    25.0us    25.0us
jitter (RFC 3550) forward 1.50us, reverse 2.50us
hops forward 3, reverse 4
stamps t1 kernel 992, t2 kernel 992, t3 user 992, t4 kernel 992
sent late 5
"
        );
    }

    #[test]
    fn a_silent_target_ends_with_causes() {
        let stats = sample::silent();
        let text = text(&sample::report(&stats));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "sent 8, received 0, lost 8 (100%), direction unknown"
        );
        assert_eq!(lines[2], "no answer at all; likely causes, in order:");
        assert!(lines[3].starts_with("  1. a security group"));
        assert!(lines.len() >= 6);
    }

    #[test]
    fn percentages_are_never_rounded_to_nothing() {
        for (ratio, text) in [
            (0.0, "0"),
            (1.0, "100"),
            (0.05, "5"),
            (0.001_234, "0.123"),
            (0.000_001, "<0.001"),
        ] {
            assert_eq!(percent(ratio), text);
        }
    }
}
