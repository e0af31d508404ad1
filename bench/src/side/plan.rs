//! The run: which tools with which loads, in turn, each again if it was disturbed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use lab::{Direct, Lab, LinkOptions};
use serde::Serialize;

use super::machine::{CpuUse, Machine, Others, require_idle, version, watch};
use super::peers::{self, Load, Programs, Servers, Tool};
use super::report;
use super::samples::{Figures, Samples};

/// A disturbed run is repeated up to so many times in all,
const ATTEMPTS: u32 = 3;
/// each after waiting for the machine to calm down, for so many times five seconds.
const WATCHES: u32 = 12;

/// Those whose latencies are compared.
const LATENCY: [Tool; 7] = [
    Tool::Stamp,
    Tool::StampRealtime,
    Tool::Irtt,
    Tool::SockperfPingPong,
    Tool::SockperfUnderLoad,
    Tool::Icmp,
    Tool::Ping,
];
/// Those whose schedules are compared.
const SCHEDULE: [Tool; 3] = [Tool::Stamp, Tool::StampRealtime, Tool::Irtt];

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The release build of `netsonde`.
    pub netsonde: PathBuf,
    /// Times that every tool has its turn.
    pub rounds: u32,
    /// Seconds of one turn.
    pub seconds: u64,
    /// Run on a busy machine, for trying the harness out: the result is marked as worthless
    /// and goes nowhere but to `target`.
    pub even_if_busy: bool,
    /// The file between whose markers the tables go; none is changed on a busy machine.
    pub readme: Option<PathBuf>,
    /// Where the JSON goes.
    pub json: PathBuf,
}

/// One turn of one tool.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// Which.
    pub tool: Tool,
    /// With what.
    pub load: Load,
    /// Of how many, from 1.
    pub round: u32,
    /// How often it ran until it was undisturbed.
    pub attempts: u32,
    /// Whether even the last one was not.
    pub disturbed: bool,
    /// What others used meanwhile.
    pub others: Others,
    /// (T4-T1)-(T3-T2).
    pub network_ns: Figures,
    /// T4-T1.
    pub round_trip_ns: Figures,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Where.
    pub machine: Machine,
    /// Of all programs.
    pub versions: BTreeMap<&'static str, String>,
    /// What others used before the first turn.
    pub before: Others,
    /// Whether the figures are worth anything.
    pub undisturbed: bool,
    /// In the order in which they ran.
    pub turns: Vec<Turn>,
    /// Samples of all rounds by load and tool, the latter in their order of the tables.
    #[serde(skip)]
    pub samples: Vec<(Load, Vec<(Tool, Samples)>)>,
}

fn versions(programs: &Programs) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("netsonde", version(&programs.netsonde, "--version")),
        ("iputils", version("ping".as_ref(), "-V")),
        ("irtt", version("irtt".as_ref(), "version")),
        ("sockperf", version("sockperf".as_ref(), "--version")),
    ])
}

/// Runs all, prints the tables, writes JSON and, if it may, the README.
///
/// # Errors
/// When the machine is busy, a tool fails, or a run stayed disturbed.
pub fn run(options: &Options) -> Result<()> {
    if let Some(missing) = lab::cleanup::missing() {
        bail!("{missing}");
    }
    let programs = Programs {
        netsonde: options.netsonde.clone(),
    };
    let versions = versions(&programs);
    for (name, version) in &versions {
        ensure!(version != "missing", "{name} is not installed");
        println!("{version}");
    }
    let machine = Machine::this();
    println!(
        "{}, {} cores, kernel {}",
        machine.cpu, machine.cores, machine.kernel
    );
    let before = if options.even_if_busy {
        watch()?
    } else {
        require_idle()?
    };
    println!("before: {}", before.in_words());

    let lab = Lab::new()?;
    let hosts = Direct::new(&lab, LinkOptions::default())?;
    let _servers = Servers::start(&hosts.b, &programs)?;
    let load = |interval_ns: u64| Load {
        count: options.seconds * 1_000_000_000 / interval_ns,
        interval_ns,
    };
    let mut outcome = Outcome {
        machine,
        versions,
        undisturbed: !before.disturb(),
        before,
        turns: Vec::new(),
        samples: Vec::new(),
    };
    // The latencies at 1 ms are also the first half of the schedules.
    for (load, tools) in [
        (load(1_000_000), LATENCY.as_slice()),
        (load(100_000), SCHEDULE.as_slice()),
    ] {
        let mut all: Vec<(Tool, Samples)> = tools
            .iter()
            .map(|tool| (*tool, Samples::default()))
            .collect();
        for round in 1..=options.rounds {
            // Another one begins in every round, so that none always follows the same one.
            let first = (round - 1) as usize % all.len();
            let (before, after) = all.split_at_mut(first);
            for (tool, known) in after.iter_mut().chain(before) {
                let (turn, samples) = turn(*tool, load, round, &hosts, &programs, options)?;
                outcome.undisturbed &= !turn.disturbed;
                outcome.turns.push(turn);
                known.add(&samples);
            }
        }
        outcome.samples.push((load, all));
    }
    finish(&outcome, options)
}

fn turn(
    tool: Tool,
    load: Load,
    round: u32,
    hosts: &Direct,
    programs: &Programs,
    options: &Options,
) -> Result<(Turn, Samples)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let before = CpuUse::now()?;
        let samples = peers::run(tool, load, &hosts.a, hosts.b.ipv4(), programs)?;
        let others = CpuUse::now()?.since(&before);
        let disturbed = others.disturb();
        let figures = Figures::of(&samples.round_trip_ns);
        println!(
            "{:>6} us, round {round}: {:<28} T4-T1 p50 {:>8} p99 {:>8} ns; {}{}",
            load.interval_ns / 1_000,
            tool.name(),
            figures.p50.unwrap_or(-1),
            figures.p99.unwrap_or(-1),
            others.in_words(),
            if disturbed { "; DISTURBED" } else { "" }
        );
        if disturbed && attempts < ATTEMPTS && !options.even_if_busy {
            calm_down()?;
            continue;
        }
        let turn = Turn {
            tool,
            load,
            round,
            attempts,
            disturbed,
            others,
            network_ns: Figures::of(&samples.network_ns),
            round_trip_ns: figures,
        };
        return Ok((turn, samples));
    }
}

/// Waits until others leave the processors alone, or it takes too long.
fn calm_down() -> Result<()> {
    for _ in 0..WATCHES {
        if !watch()?.disturb() {
            break;
        }
    }
    Ok(())
}

fn finish(outcome: &Outcome, options: &Options) -> Result<()> {
    let tables = report::markdown(outcome);
    println!("\n{tables}");
    if let Some(folder) = options.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.json, report::json(outcome)?)
        .with_context(|| options.json.display().to_string())?;
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
