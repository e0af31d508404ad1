//! What `agent --check` says: what is configured, what it sends, and what it costs in
//! memory and series.

use std::fmt::Write as _;

use record::series::ClassicBounds;

use super::{Config, Probe};
use crate::worker::export::SeriesCount;

/// How often the publisher folds, ns.
pub const TICK_NS: u64 = 1_000_000_000;
/// Resident memory of the agent and its opener without any target.
const BASE_BYTES: usize = 10 << 20;
/// A session: its matcher, its window of probes in flight, and its sockets' kernel memory
/// is not counted.
const SESSION_BYTES: usize = 24 << 10;
/// A session of the reflector: state and replay window.
const REFLECTOR_SESSION_BYTES: usize = 640;

/// The cost of one target of a probe, in bytes.
pub fn bytes_per_target(probe: &Probe, bounds: &ClassicBounds) -> (usize, usize) {
    let sessions = usize::from(probe.how.sessions());
    // All sessions of a target fill the same series.
    let interval_ns = probe.how.interval_ns / sessions.max(1) as u64;
    let record = record::memory::per_target(interval_ns, TICK_NS, bounds);
    let own = sessions * SESSION_BYTES;
    (record.typical + own, record.upper + own)
}

/// The whole report, lines that end in a line end.
pub fn report(path: &str, config: &Config, series: SeriesCount) -> String {
    let bounds = config.prometheus.bounds();
    let mut text = format!("{path}: valid, sha256 {}\n", config.sha256);
    let mut typical = BASE_BYTES;
    let mut upper = BASE_BYTES;
    for probe in &config.probes {
        let targets = probe.targets.len();
        let (each, most) = bytes_per_target(probe, &bounds);
        typical += targets * each;
        upper += targets * most;
        let _ = writeln!(
            text,
            "probe {}: {targets} targets, {:.3} packets/s, {targets} x {} typical, {targets} x {} at most",
            probe.name,
            probe.packets_per_second(),
            kib(each),
            kib(most),
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
    let _ = writeln!(
        text,
        "memory: {} + targets x (series + {} a session) = {} typical, {} at most",
        kib(BASE_BYTES),
        kib(SESSION_BYTES),
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
        let (a, b) = (numbers("probe a"), numbers("probe b"));
        let sum = BASE_BYTES / 1024 + 2 * a[2] + b[2];
        let memory = numbers("memory:");
        // Each line is rounded up to a KiB by itself.
        assert!(memory[2].abs_diff(sum) <= 4, "{text}");
        assert!(b[2] > a[2], "a fast probe keeps more: {text}");
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
