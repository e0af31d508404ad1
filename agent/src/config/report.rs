//! What `agent --check` says: what is configured, what it sends, and what it costs in
//! memory and series.

use std::fmt::Write as _;

use record::series::ClassicBounds;

use super::{Config, Probe};
use crate::worker::capture as capturing;
use crate::worker::export::SeriesCount;
use crate::worker::probe::memory_bytes;

/// How often the publisher folds, ns.
pub const TICK_NS: u64 = 1_000_000_000;
/// Resident memory of the agent and its opener without any target.
const BASE_BYTES: usize = 10 << 20;
/// A session of the reflector: its replay window of 4096 bits, counters and index.
const REFLECTOR_SESSION_BYTES: usize = 672;

/// The cost of one target of a probe, in bytes.
struct Cost {
    /// Its histograms and counters: typical and at most.
    series: record::memory::Footprint,
    /// What the prober remembers of its probes.
    sessions: usize,
}

impl Cost {
    fn of(probe: &Probe, bounds: &ClassicBounds) -> Self {
        // All sessions of a target fill the same series.
        let sessions = u64::from(probe.how.sessions().max(1));
        let interval_ns = probe.how.interval_ns / sessions;
        Self {
            series: record::memory::per_target(interval_ns, TICK_NS, bounds),
            sessions: memory_bytes(&probe.how),
        }
    }
}

/// The whole report, lines that end in a line end.
pub fn report(path: &str, config: &Config, series: SeriesCount) -> String {
    let bounds = config.prometheus.bounds();
    let mut text = format!("{path}: valid, sha256 {}\n", config.sha256);
    let mut typical = BASE_BYTES;
    let mut upper = BASE_BYTES;
    for probe in &config.probes {
        let targets = probe.targets.len();
        let cost = Cost::of(probe, &bounds);
        typical += targets * (cost.series.typical + cost.sessions);
        upper += targets * (cost.series.upper + cost.sessions);
        let _ = writeln!(
            text,
            "probe {}: {targets} targets, {:.3} packets/s, each target {} of series ({} at most) + {} of probes in flight",
            probe.name,
            probe.packets_per_second(),
            kib(cost.series.typical),
            kib(cost.series.upper),
            kib(cost.sessions),
        );
    }
    if let Some(reflector) = &config.reflector {
        let sessions = reflector.max_sessions as usize;
        let bytes = sessions * REFLECTOR_SESSION_BYTES;
        typical += bytes;
        upper += bytes;
        let _ = writeln!(
            text,
            "reflector: {sessions} sessions x {REFLECTOR_SESSION_BYTES} B = {}",
            kib(bytes),
        );
    }
    if let Some(capture) = &config.capture {
        let flows = capture.max_flows;
        let table = capturing::table_bytes(capture);
        let rings = capture.ring_bytes as usize;
        typical += table + rings;
        upper += table + rings;
        let _ = writeln!(
            text,
            "capture: {flows} flows = {}, rings {}, {} groups",
            kib(table),
            kib(rings),
            capture.groups().count(),
        );
    }
    let _ = writeln!(
        text,
        "memory: {} + targets x (series + probes in flight) + reflector + capture = {} typical, {} at most",
        kib(BASE_BYTES),
        kib(typical),
        kib(upper),
    );
    let _ = writeln!(
        text,
        "series: {} with native histograms, {} with classic ones",
        series.native, series.classic
    );
    for warning in &config.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_its_lines() {
        let config = Config::parse(
            "f",
            "[[probe]]\nname='a'\ntargets=['x','y']\n[[probe]]\nname='b'\ntargets=['x']\ninterval='1ms'\n",
        )
        .unwrap();
        let series = SeriesCount {
            native: 7,
            classic: 99,
        };
        let text = report("f", &config, series);
        let numbers = |start: &str| -> Vec<usize> {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.split(' ')
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        // "probe a: N targets, R packets/s, each target S KiB of series (M KiB at most) + F KiB"
        let (a, b) = (numbers("probe a"), numbers("probe b"));
        assert_eq!((a[0], b[0]), (2, 1), "{text}");
        let sum = BASE_BYTES / 1024 + 2 * (a[1] + a[2]) + b[1] + b[2];
        let memory = numbers("memory:");
        // Each number is rounded up to a KiB by itself.
        assert!(memory[1].abs_diff(sum) <= 4, "{text}");
        assert!(
            b[1] > a[1] && b[2] > a[2],
            "a fast probe keeps more: {text}"
        );
        assert!(
            text.contains("series: 7 with native histograms, 99 with"),
            "{text}"
        );
        assert!(
            text.contains("warning: limits.packets_per_second"),
            "{text}"
        );
    }
}
