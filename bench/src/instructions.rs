//! Instructions per packet of the hot loops, by callgrind: the one number here that is the
//! same on a busy machine, so that a change of 2 % shows.
//!
//! Each loop runs in a process of its own under valgrind, warmed up before counting starts.
//! The counts belong to a compiler and an architecture: those of others are printed, not
//! compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Packets before counting.
pub const WARM_UP: u64 = 5_000;
/// Packets counted.
pub const COUNTED: u64 = 20_000;
/// A count may differ from the committed one by this share of it.
pub const TOLERANCE: f64 = 0.02;
/// What callgrind collects: the function of this name in `hot-loops`, and what it calls.
const COLLECTED: &str = "*collected_by_callgrind*";

/// What is committed as `instructions.json`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// `rustc --version` of the build.
    pub rustc: String,
    /// Architecture.
    pub architecture: String,
    /// Instructions per packet by name of the loop.
    pub loops: BTreeMap<String, f64>,
}

/// How a count differs from the committed one.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Change {
    /// By less than [`TOLERANCE`].
    Same,
    /// Fewer instructions, by this share.
    Less(f64),
    /// More instructions, by this share.
    More(f64),
    /// It is not in the committed file.
    New,
    /// It is in the committed file only.
    Gone,
}

impl Counts {
    /// Counts all hot loops with `program` (`hot-loops`) under valgrind.
    ///
    /// # Errors
    /// When valgrind is missing or a run fails.
    pub fn take(program: &Path) -> Result<Self> {
        let mut counts = Self {
            rustc: version_of("rustc")?,
            architecture: std::env::consts::ARCH.to_owned(),
            loops: BTreeMap::new(),
        };
        for hot in crate::loops::hot() {
            let count = count(program, hot.name, hot.packets)?;
            counts.loops.insert(hot.name.to_owned(), count);
        }
        Ok(counts)
    }

    /// Whether the counts of both can be compared.
    #[must_use]
    pub fn comparable(&self, other: &Self) -> bool {
        (&self.rustc, &self.architecture) == (&other.rustc, &other.architecture)
    }

    /// Every loop of either with its change from `committed` to `self`.
    #[must_use]
    pub fn changes<'a>(&'a self, committed: &'a Self) -> Vec<(&'a str, Change)> {
        let names = self.loops.keys().chain(committed.loops.keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        names
            .into_iter()
            .map(|name| {
                let both = (self.loops.get(name), committed.loops.get(name));
                let change = match both {
                    (Some(now), Some(before)) => {
                        let share = (now - before) / before;
                        if share.abs() <= TOLERANCE {
                            Change::Same
                        } else if share > 0.0 {
                            Change::More(share)
                        } else {
                            Change::Less(-share)
                        }
                    }
                    (Some(_), None) => Change::New,
                    _ => Change::Gone,
                };
                (name.as_str(), change)
            })
            .collect()
    }
}

/// The first line of `PROGRAM --version`.
///
/// # Errors
/// When it does not run.
pub fn version_of(program: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("{program} --version"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn count(program: &Path, name: &str, packets_per_pass: u64) -> Result<f64> {
    let file = std::env::temp_dir().join(format!("netsonde-callgrind-{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COLLECTED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let output = command
        .output()
        .context("start valgrind (Debian package valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    let written = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let _ = std::fs::remove_file(&file);
    let total = total(&written).with_context(|| format!("no total in callgrind's file: {said}"))?;
    ensure!(total > 0, "{name}: nothing was collected: {said}");
    let packets = COUNTED.div_ceil(packets_per_pass) * packets_per_pass;
    Ok((total as f64 / packets as f64 * 10.0).round() / 10.0)
}

/// The sum that callgrind wrote at the end (or, by version, the head) of its file.
fn total(written: &str) -> Option<u64> {
    let number = |key: &str| {
        let line = written.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    number("totals:").or_else(|| number("summary:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(loops: &[(&str, f64)]) -> Counts {
        Counts {
            loops: loops
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
            ..Counts::default()
        }
    }

    #[test]
    fn changes_beyond_the_tolerance_show() {
        let before = counts(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("d", 1.0)]);
        let now = counts(&[("a", 101.9), ("b", 103.0), ("c", 90.0), ("e", 1.0)]);
        assert_eq!(
            now.changes(&before),
            [
                ("a", Change::Same),
                ("b", Change::More(0.03)),
                ("c", Change::Less(0.1)),
                ("d", Change::Gone),
                ("e", Change::New),
            ]
        );
    }

    #[test]
    fn the_total_is_read() {
        let text = "version: 1\nevents: Ir\nsummary: 12\n\nfn=x\n1 2\n\ntotals: 3400\n";
        assert_eq!(total(text), Some(3_400));
        assert_eq!(total("summary: 12\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn every_hot_loop_is_in_the_committed_file() {
        let committed: Counts =
            serde_json::from_str(include_str!("../instructions.json")).expect("a count of all");
        let names: Vec<&str> = committed.loops.keys().map(String::as_str).collect();
        let mut hot: Vec<&str> = crate::loops::hot().iter().map(|hot| hot.name).collect();
        hot.sort_unstable();
        assert_eq!(names, hot);
    }
}
