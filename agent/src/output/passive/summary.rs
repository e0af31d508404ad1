//! The summary of a capture for people.

use std::fmt::Write as _;

use base::units::format_ns;
use base::{FlowSummary, Leg, LossPlace, RttMethod, Sender, TcpClass};
use capture::DropReason;
use measure::passive::Unmeasured;
use wire::decode::Undecoded;

use super::{Report, protocol};
use crate::output::words::plural;

/// Some lines, each ended.
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    head(&mut out, report);
    undecoded(&mut out, report);
    copies(&mut out, report);
    drops(&mut out, report);
    tcp(&mut out, report);
    losses(&mut out, report);
    times(&mut out, report);
    sizes(&mut out, report);
    super::groups::table(&mut out, report);
    top(&mut out, &report.top);
    hints(&mut out, report);
    out
}

/// Octets for people: `999 B`, `1.23 kB`, `45.6 MB`; powers of ten, as links are sold.
#[must_use]
pub fn octets(count: u64) -> String {
    scaled(count as f64, "B")
}

/// A rate for people, `1.23 Gbit/s`.
#[must_use]
pub fn rate(bytes: u64, ns: u64) -> String {
    if ns == 0 {
        return "-".to_owned();
    }
    scaled(bytes as f64 * 8e9 / ns as f64, "bit/s")
}

/// The rate of a flow; one packet has none.
#[must_use]
pub fn flow_rate(packets: u64, bytes: u64, ns: u64) -> String {
    if packets < 2 {
        return "-".to_owned();
    }
    rate(bytes, ns)
}

fn scaled(value: f64, unit: &str) -> String {
    for (scale, letter) in [(1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')] {
        if value >= scale * 0.9995 {
            let value = value / scale;
            let digits = usize::from(value < 99.95) + usize::from(value < 9.995);
            return format!("{value:.digits$} {letter}{unit}");
        }
    }
    format!("{value:.0} {unit}")
}

fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return String::new();
    }
    let ratio = part as f64 / whole as f64;
    format!(" ({}%)", crate::output::summary::percent(ratio))
}

fn head(out: &mut String, report: &Report<'_>) {
    let counters = report.counters;
    let _ = writeln!(out, "--- {} · {} ---", report.source_name, report.backend);
    let _ = write!(
        out,
        "{}, {}",
        plural(counters.frames, "frame"),
        octets(counters.bytes)
    );
    if let Some(ns) = report.duration_ns() {
        let _ = write!(out, " in {}", format_ns(ns as f64));
        if ns > 0 {
            let _ = write!(out, ", {}", rate(report.wire_bytes(), ns));
        }
    }
    let _ = writeln!(
        out,
        "; {} seen, {} active",
        plural(counters.flows, "flow"),
        report.active
    );
}

/// `key n, key n…` of all that is not 0; empty if all are.
fn counts<'a>(all: impl Iterator<Item = (&'a str, u64)>) -> String {
    let parts: Vec<String> = all
        .filter(|(_, count)| *count > 0)
        .map(|(key, count)| format!("{} {count}", key.replace('_', " ")))
        .collect();
    parts.join(", ")
}

fn undecoded(out: &mut String, report: &Report<'_>) {
    let counters = report.counters;
    let decode = Undecoded::ALL
        .iter()
        .map(|reason| (reason.as_str(), counters.undecoded[reason.index()]));
    let other = Unmeasured::ALL
        .iter()
        .map(|reason| (reason.as_str(), counters.unmeasured[reason.index()]));
    for (what, text) in [
        ("not decoded", counts(decode)),
        ("in no flow", counts(other)),
    ] {
        if !text.is_empty() {
            let _ = writeln!(out, "{what}: {text}");
        }
    }
}

/// Frames that were captured twice: of TCP they are a class too, of others in this line alone.
fn copies(out: &mut String, report: &Report<'_>) {
    let copies = report.counters.capture_duplicates;
    if copies > 0 {
        let _ = writeln!(out, "captured twice: {}", plural(copies, "frame"));
    }
}

fn drops(out: &mut String, report: &Report<'_>) {
    let filtered = report.drops.get(DropReason::Filtered);
    if filtered > 0 {
        let _ = writeln!(out, "refused by the filter: {filtered}");
    }
    if report.drops.lost() > 0 {
        let reasons = DropReason::ALL
            .iter()
            .filter(|reason| !matches!(reason, DropReason::Filtered))
            .map(|reason| (reason.as_str(), report.drops.get(*reason)));
        let _ = writeln!(
            out,
            "dropped by the capture: {}; losses of {} of {} are degraded: some may be the capture's own",
            counts(reasons),
            report.intervals.degraded,
            plural(report.intervals.all, "interval"),
        );
    }
    if report.intervals.interrupted > 0 {
        let _ = writeln!(
            out,
            "no device to capture on in {} of {}",
            report.intervals.interrupted,
            plural(report.intervals.all, "interval"),
        );
    }
}

fn tcp(out: &mut String, report: &Report<'_>) {
    let segments = report.segments();
    if segments == 0 {
        return;
    }
    let retransmissions = report.retransmissions();
    let _ = write!(
        out,
        "tcp: {}, retransmitted {retransmissions}{}",
        plural(segments, "segment"),
        share(retransmissions, segments)
    );
    if retransmissions > 0 {
        let _ = write!(
            out,
            ": fast {}, spurious {}",
            report.total.frames(TcpClass::FastRetransmission),
            report.total.frames(TcpClass::SpuriousRetransmission)
        );
    }
    out.push('\n');
    let others = TcpClass::ALL
        .iter()
        .filter(|class| !super::RETRANSMISSIONS.contains(class))
        .map(|class| (class.as_str(), report.total.frames(*class)));
    let text = counts(others);
    if !text.is_empty() {
        let _ = writeln!(out, "     {text}");
    }
}

/// Where segments were lost, as seen from here.
fn losses(out: &mut String, report: &Report<'_>) {
    for sender in Sender::ALL {
        let of = |place: LossPlace| report.total.counts.losses[sender.index()][place.index()];
        let text = counts(LossPlace::ALL.iter().map(|place| {
            let words = match place {
                LossPlace::After => "lost after the probe",
                LossPlace::Before => "lost before the probe",
                LossPlace::Reordered => "reordered before the probe",
                LossPlace::Capture => "missed by the capture",
                LossPlace::Spurious => "sent again although arrived",
            };
            (words, of(*place))
        }));
        if !text.is_empty() {
            let _ = writeln!(out, "loss, sent by {}: {text}", sender.as_str());
        }
    }
}

fn times(out: &mut String, report: &Report<'_>) {
    let mut rows = Vec::new();
    for method in RttMethod::ALL {
        for leg in Leg::ALL {
            let values = report.total.rtts(*method, *leg);
            if let Some(values) = values.filter(|values| values.count() > 0) {
                rows.push((*method, *leg, values.summary()));
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "{:<22}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "round trip", "samples", "min", "p50", "p90", "p99", "max"
    );
    for (method, leg, summary) in rows {
        let name = format!("{} {}", method.as_str().replace('_', " "), leg.as_str());
        let _ = write!(out, "{name:<22}{:>9}", summary.count);
        for value in [
            summary.min,
            summary.p50,
            summary.p90,
            summary.p99,
            summary.max,
        ] {
            let text = value.map_or_else(|| "-".to_owned(), |ns| format_ns(ns as f64));
            let _ = write!(out, "{text:>9}");
        }
        out.push('\n');
    }
}

fn sizes(out: &mut String, report: &Report<'_>) {
    let stats = report.stats;
    let largest = stats.largest_packet_bytes;
    if largest != [0; 2] {
        let _ = write!(
            out,
            "largest packet: near {}, remote {} bytes",
            largest[0], largest[1]
        );
        for sender in Sender::ALL {
            if let Some((low, high)) = stats.mss[sender.index()] {
                let _ = write!(out, "; mss of {} {low}", sender.as_str());
                if high != low {
                    let _ = write!(out, " to {high}");
                }
            }
        }
        out.push('\n');
    }
    for each in &stats.too_big {
        let size = match each.next_hop_mtu {
            0 => "without a size".to_owned(),
            mtu => format!("next hop takes {mtu} bytes"),
        };
        let _ = writeln!(
            out,
            "too big, says {}: {size} ({})",
            each.from,
            plural(each.count, "time")
        );
    }
    if report.total.counts.black_holes > 0 {
        let sizes = stats.black_holes.iter().map(|hole| hole.packet_bytes);
        let bytes = sizes.max().unwrap_or(0);
        let _ = writeln!(
            out,
            "black hole suspected {}: packets of {bytes} bytes do not get through while smaller ones do; netsonde ping -M do -s {bytes} HOST tells",
            plural(report.total.counts.black_holes, "time"),
        );
    }
}

fn top(out: &mut String, flows: &[FlowSummary]) {
    if flows.is_empty() {
        return;
    }
    let names: Vec<String> = flows.iter().map(name).collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(12, 64);
    let _ = writeln!(
        out,
        "{:<width$} {:>9} {:>9} {:>12} {:>6} {:>8} {:>8}",
        "largest flows", "packets", "bytes", "rate", "retr", "rtt near", "remote"
    );
    for (flow, name) in flows.iter().zip(names) {
        let [near, remote] = &flow.sides;
        let time =
            |ns: Option<u32>| ns.map_or_else(|| "-".to_owned(), |ns| format_ns(f64::from(ns)));
        let bytes = near.bytes + remote.bytes;
        let ns = flow.last.delta(flow.first).max(0).cast_unsigned();
        let _ = writeln!(
            out,
            "{name:<width$} {:>9} {:>9} {:>12} {:>6} {:>8} {:>8}",
            near.packets + remote.packets,
            octets(bytes),
            flow_rate(near.packets + remote.packets, bytes, ns),
            u64::from(near.retransmissions) + u64::from(remote.retransmissions),
            time(remote.rtt_ns),
            time(near.rtt_ns),
        );
    }
}

/// `tcp 10.0.0.1:4242 > 10.0.0.2:443`.
#[must_use]
pub fn name(flow: &FlowSummary) -> String {
    let end = |at: usize| {
        let (address, port) = flow.ends[at];
        match (address.is_v4(), port) {
            (_, 0) => address.to_string(),
            (true, port) => format!("{address}:{port}"),
            (false, port) => format!("[{address}]:{port}"),
        }
    };
    let number;
    let word = match protocol(flow.protocol) {
        Some(word) => word,
        None => {
            number = format!("ip {}", flow.protocol);
            &number
        }
    };
    format!("{word} {} > {}", end(0), end(1))
}

/// What limits the numbers above, and the way out.
fn hints(out: &mut String, report: &Report<'_>) {
    if report.evicted() > 0 {
        let _ = writeln!(
            out,
            "{} had to leave before their end, for want of room: --max-flows gives more",
            plural(report.evicted(), "flow")
        );
    }
    if report.counters.clock_back > 0 {
        let _ = writeln!(
            out,
            "time went back {} (the clock was set, or queues came together): no round trip is taken over such a step",
            plural(report.counters.clock_back, "time")
        );
    }
    if report.counters.segments_forgotten > 0 {
        let _ = writeln!(
            out,
            "{} were not remembered until their ACK, for want of room: --max-flows gives more",
            plural(report.counters.segments_forgotten, "segment")
        );
    }
    if let Some(written) = report.written {
        let _ = writeln!(
            out,
            "{} written to {}{}",
            plural(written.written, "frame"),
            plural(written.files, "file"),
            match written.not_written {
                0 => String::new(),
                lost => format!(", {lost} not written"),
            }
        );
    }
}
