//! Tables for people, JSON for programs.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::json;

use super::machine::BUSY;
use super::peers::{PACKET_BYTES, Tool, shown};
use super::plan::Outcome;
use super::samples::{Figures, Samples};

const BEGIN: &str = "<!-- side-by-side: begin -->";
const END: &str = "<!-- side-by-side: end -->";
/// Where the far end is in the lab.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Puts `tables` in the place of what is between the markers; `None` without markers.
#[must_use]
pub fn between_markers(text: &str, tables: &str) -> Option<String> {
    let (head, rest) = text.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{tables}{END}{tail}"))
}

fn us(ns: Option<i64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.1}", ns as f64 / 1e3))
}

/// Theirs as a multiple of ours.
fn ratio(theirs: Option<i64>, ours: Option<i64>) -> String {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if ours > 0 => format!("{:.2}", theirs as f64 / ours as f64),
        _ => "-".to_owned(),
    }
}

fn percent(part: Option<u64>, whole: u64) -> String {
    match part {
        Some(part) if whole > 0 => format!("{:.2} %", part as f64 / whole as f64 * 100.0),
        _ => "-".to_owned(),
    }
}

fn latency(text: &mut String, all: &[(Tool, Samples)]) {
    let figures: Vec<(Tool, &Samples, Figures, Figures)> = all
        .iter()
        .map(|(tool, samples)| {
            let network = Figures::of(&samples.network_ns);
            let round_trip = Figures::of(&samples.round_trip_ns);
            (*tool, samples, network, round_trip)
        })
        .collect();
    let _ = writeln!(
        text,
        "| tool | answered | network p50, us | p99 | T4-T1 p50, us | p99 | network: theirs / ours, p50 | p99 | T4-T1: theirs / ours, p50 | p99 |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    for (tool, samples, network, round_trip) in &figures {
        let ours = tool
            .counterpart()
            .and_then(|ours| figures.iter().find(|(known, ..)| *known == ours));
        let (our_network, our_round_trip) = ours
            .map_or_else(Default::default, |(_, _, network, round_trip)| {
                (*network, *round_trip)
            });
        // The kernel answers ICMP: "network" is T4-T1, and one comparison is enough.
        let network_too = matches!(tool, Tool::Irtt);
        let hide = |cell: String| if network_too { cell } else { "-".to_owned() };
        let _ = writeln!(
            text,
            "| {} | {} of {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            tool.name(),
            samples.round_trip_ns.len(),
            samples.sent,
            us(network.p50),
            us(network.p99),
            us(round_trip.p50),
            us(round_trip.p99),
            hide(ratio(network.p50, our_network.p50)),
            hide(ratio(network.p99, our_network.p99)),
            ratio(round_trip.p50, our_round_trip.p50),
            ratio(round_trip.p99, our_round_trip.p99),
        );
    }
}

fn schedule(text: &mut String, outcome: &Outcome) {
    let _ = writeln!(
        text,
        "| interval | tool | sent of those intended | sent within 50 us of the intended time |\n|---|---|---|---|"
    );
    for (load, all) in &outcome.samples {
        // ping does not say when it sends; sockperf's ping-pong waits for answers.
        let told = all
            .iter()
            .filter(|(tool, _)| matches!(tool, Tool::Stamp | Tool::StampRealtime | Tool::Irtt));
        for (tool, samples) in told {
            let _ = writeln!(
                text,
                "| {} us | {} | {} | {} |",
                load.interval_ns / 1_000,
                tool.name(),
                percent(Some(samples.sent), samples.intended),
                percent(samples.on_time, samples.intended),
            );
        }
    }
}

/// Both tables, with where and how they were made.
#[must_use]
pub fn markdown(outcome: &Outcome) -> String {
    let mut text = String::new();
    let machine = &outcome.machine;
    let busiest = outcome
        .turns
        .iter()
        .map(|turn| turn.others.processes_ratio + turn.others.stolen_ratio)
        .fold(0.0, f64::max);
    let repeated: u32 = outcome.turns.iter().map(|turn| turn.attempts - 1).sum();
    if !outcome.undisturbed {
        let _ = writeln!(
            text,
            "**From a busy machine: these figures are worth nothing.**\n"
        );
    }
    let _ = writeln!(
        text,
        "{}, {} cores{}, {}, kernel {}; one veth pair between two network namespaces, {PACKET_BYTES}-byte IP packets. \
         Others used at most {:.1} % of a core during any run ({repeated} runs repeated because of more than {:.0} %).\n",
        machine.cpu,
        machine.cores,
        if machine.virtual_machine {
            ", a virtual machine"
        } else {
            ""
        },
        machine.system,
        machine.kernel,
        busiest * 100.0,
        BUSY * 100.0,
    );
    for (load, all) in outcome.samples.iter().take(1) {
        let rounds = outcome.turns.iter().map(|turn| turn.round).max();
        let _ = writeln!(
            text,
            "Latency at one probe per {} us, {} rounds of {} probes, tools in turn:\n",
            load.interval_ns / 1_000,
            rounds.unwrap_or(0),
            load.count
        );
        latency(&mut text, all);
    }
    let _ = writeln!(text, "\nSchedule, in the same run:\n");
    schedule(&mut text, outcome);
    let _ = writeln!(text, "\nVersions and command lines:\n\n```");
    for version in outcome.versions.values() {
        let _ = writeln!(text, "{version}");
    }
    for (load, all) in &outcome.samples {
        for (tool, _) in all {
            let _ = writeln!(text, "$ {}", shown(*tool, *load, FAR));
        }
    }
    let _ = writeln!(text, "```");
    text
}

/// The same and every turn.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn json(outcome: &Outcome) -> Result<String> {
    let figures: Vec<_> = outcome
        .samples
        .iter()
        .flat_map(|(load, all)| {
            all.iter().map(move |(tool, samples)| {
                json!({
                    "tool": tool,
                    "load": load,
                    "command": shown(*tool, *load, FAR),
                    "intended": samples.intended,
                    "sent": samples.sent,
                    "on_time": samples.on_time,
                    "network_ns": Figures::of(&samples.network_ns),
                    "round_trip_ns": Figures::of(&samples.round_trip_ns),
                })
            })
        })
        .collect();
    let mut document = serde_json::to_value(outcome)?;
    document["figures"] = figures.into();
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = between_markers(&text, "new\n").expect("markers");
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(between_markers("a\n", "new\n"), None);
    }

    #[test]
    fn the_readme_has_the_markers() {
        let readme = include_str!("../../README.md");
        assert!(between_markers(readme, "").is_some());
    }

    #[test]
    fn ratios_are_theirs_over_ours() {
        let set = |network: &[i64], round_trip: &[i64]| Samples {
            intended: 2,
            sent: 2,
            network_ns: network.to_vec(),
            round_trip_ns: round_trip.to_vec(),
            on_time: Some(1),
        };
        let all = [
            (Tool::Stamp, set(&[2_000, 4_000], &[10_000, 20_000])),
            (Tool::Irtt, set(&[5_000, 6_000], &[30_000, 30_000])),
            (Tool::Ping, set(&[5_000, 6_000], &[5_000, 6_000])),
        ];
        let mut text = String::new();
        latency(&mut text, &all);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| netsonde, STAMP | 2 of 2 | 2.0 | 4.0 | 10.0 | 20.0 | - | - | - | - |",
                "| irtt | 2 of 2 | 5.0 | 6.0 | 30.0 | 30.0 | 2.50 | 1.50 | 3.00 | 1.50 |",
                "| iputils ping | 2 of 2 | 5.0 | 6.0 | 5.0 | 6.0 | - | - | - | - |",
            ]
        );
    }
}
