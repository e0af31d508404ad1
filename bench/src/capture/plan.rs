//! The run: every program on every trace, one after another, again if it was disturbed.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::programs::{Places, Program, Taken, clear, run as run_once};
use super::report;
use crate::side::machine::{CpuUse, Machine, Others, require_idle, watch};
use crate::traces::{Made, Trace};

/// A disturbed run is repeated up to so many times in all.
const ATTEMPTS: u32 = 3;
/// A program that takes longer than this is run only once more.
const LONG_NS: u64 = 20_000_000_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the programs are.
    pub places: Places,
    /// Where the traces are, or will be.
    pub traces: PathBuf,
    /// Which.
    pub only: Option<Trace>,
    /// Times that every program runs.
    pub rounds: u32,
    /// Run on a busy machine, for trying the harness out.
    pub even_if_busy: bool,
    /// The file between whose markers the tables go.
    pub readme: Option<PathBuf>,
    /// Where the JSON goes.
    pub json: PathBuf,
}

/// One program on one trace.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    pub program: Program,
    /// On what.
    pub trace: Trace,
    /// With which words; files without their folders.
    pub command: String,
    /// Every run.
    pub runs: Vec<Taken>,
    /// Whether others used the processor too much.
    pub disturbed: bool,
}

impl Row {
    /// Whether it is of those that are run twice in all.
    fn is_long(&self) -> bool {
        let slow = matches!(
            (self.program, self.trace),
            (Program::Tcptrace, Trace::Million)
        );
        slow || self.runs.iter().any(|run| run.wall_ns > LONG_NS)
    }

    /// The median of one of its figures.
    #[must_use]
    pub fn median(&self, of: impl Fn(&Taken) -> u64) -> u64 {
        let mut all: Vec<u64> = self.runs.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Where.
    pub machine: Machine,
    /// Name and version of the peers' packages.
    pub versions: Vec<(String, String)>,
    /// What others used before.
    pub before: Others,
    /// Whether the figures are worth anything.
    pub undisturbed: bool,
    /// What was read.
    pub traces: Vec<(Trace, Made)>,
    /// In the order of the tables.
    pub rows: Vec<Row>,
}

fn versions() -> Vec<(String, String)> {
    let packages = Program::ALL.iter().filter_map(|program| program.package());
    packages
        .map(|package| {
            let format = "--showformat=${Version}";
            let output = std::process::Command::new("dpkg-query")
                .args(["--show", format, package])
                .output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            (package.to_owned(), text.unwrap_or_default())
        })
        .collect()
}

/// Runs all, prints the tables, writes JSON and, if it may, the README.
///
/// # Errors
/// When the machine is busy, a program fails, or a run stayed disturbed.
pub fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.places.scratch)?;
    let wanted = |trace: &Trace| options.only.is_none_or(|only| only == *trace);
    let mut traces = Vec::new();
    for trace in Trace::ALL.into_iter().filter(wanted) {
        // Made by a process of its own: what a child's parent used counts as the child's.
        let made = trace.known(&options.traces);
        let made = made.with_context(|| {
            format!(
                "no trace {}: run `traces {}`",
                trace.name(),
                options.traces.display()
            )
        })?;
        traces.push((trace, made));
    }
    let before = if options.even_if_busy {
        watch()?
    } else {
        require_idle()?
    };
    println!("before: {}", before.in_words());
    let mut outcome = Outcome {
        machine: Machine::this(),
        versions: versions(),
        undisturbed: !before.disturb(),
        before,
        traces,
        rows: Vec::new(),
    };
    for (trace, made) in outcome.traces.clone() {
        let path = trace.path(&options.traces);
        let mut rows = rows(trace, &path, options);
        for (row, words) in &mut rows {
            warm(&path)?;
            if !row.is_long() {
                // A virtual machine may have given its free memory back to its host, and getting
                // it again takes longer than the work: everybody has it from a first run.
                clear(&options.places)?;
                run_once(row.program, words, made.frames, &options.places)?;
            }
            for _ in 0..options.rounds {
                if row.is_long() && row.runs.len() > 1 {
                    break;
                }
                turn(row, words, made.frames, options)?;
            }
        }
        outcome.rows.extend(rows.into_iter().map(|(row, _)| row));
    }
    outcome.undisturbed &= outcome.rows.iter().all(|row| !row.disturbed);
    finish(&outcome, options)
}

fn rows(trace: Trace, path: &Path, options: &Options) -> Vec<(Row, Vec<String>)> {
    let shown = Places {
        netsonde: options.places.netsonde.as_ref().map(|_| "netsonde".into()),
        analyse: "analyse".into(),
        scratch: "scratch".into(),
    };
    let name = trace.path(Path::new(""));
    Program::ALL
        .into_iter()
        .filter_map(|program| {
            let words = program.words(trace, path, &options.places)?;
            let row = Row {
                program,
                trace,
                command: program.words(trace, &name, &shown)?.join(" "),
                runs: Vec::new(),
                disturbed: false,
            };
            Some((row, words))
        })
        .collect()
}

fn turn(row: &mut Row, words: &[String], frames: u64, options: &Options) -> Result<()> {
    for attempt in 1..=ATTEMPTS {
        clear(&options.places)?;
        let before = CpuUse::now()?;
        let taken = run_once(row.program, words, frames, &options.places)?;
        let others = CpuUse::now()?.since(&before);
        let disturbed = others.disturb();
        println!(
            "{}, {}: {:.2} s, {:.2} M frames/s, {:.0} MB; {}{}",
            row.trace.name(),
            row.program.name(),
            taken.wall_ns as f64 / 1e9,
            frames as f64 / taken.wall_ns as f64 * 1e3,
            taken.peak_rss_bytes as f64 / 1e6,
            others.in_words(),
            if disturbed { "; DISTURBED" } else { "" }
        );
        if disturbed && attempt < ATTEMPTS && !options.even_if_busy {
            watch()?;
            continue;
        }
        row.disturbed |= disturbed;
        row.runs.push(taken);
        break;
    }
    Ok(())
}

/// Reads a file from the disk into the page cache, without keeping it in this process. What
/// was just written, or has been there for long, lies in small pieces of memory there, which
/// takes every program several times as long to read.
fn warm(path: &Path) -> Result<()> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    file.sync_all()?;
    sys::map::advise_unneeded(&file);
    let mut window = vec![0; 1 << 20];
    while file.read(&mut window)? > 0 {}
    Ok(())
}

fn finish(outcome: &Outcome, options: &Options) -> Result<()> {
    let tables = report::markdown(outcome);
    println!("\n{tables}");
    if let Some(folder) = options.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.json, serde_json::to_string_pretty(outcome)? + "\n")?;
    println!("written: {}", options.json.display());
    ensure!(
        outcome.undisturbed || options.even_if_busy,
        "runs were disturbed even when repeated: these figures are not reported"
    );
    if let Some(readme) = options.readme.as_ref().filter(|_| outcome.undisturbed) {
        let text = std::fs::read_to_string(readme).with_context(|| readme.display().to_string())?;
        let text = report::between_markers(&text, &tables)
            .with_context(|| format!("{} has not the markers", readme.display()))?;
        std::fs::write(readme, text)?;
        println!("written: {}", readme.display());
    }
    Ok(())
}
