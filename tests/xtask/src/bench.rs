//! `cargo xtask bench`: everything is built and installed first, so that nothing compiles
//! while something is measured.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

use crate::machine::{as_root, cargo, release, root, target};
use crate::packages;
use crate::steps::{Counts, Steps};

/// Which benchmarks, with their own options.
#[derive(Copy, Clone)]
struct Parts<'a> {
    instructions: Option<&'a [&'a str]>,
    capture: Option<&'a [&'a str]>,
    live: Option<&'a [&'a str]>,
    side_by_side: Option<&'a [&'a str]>,
    time: Option<&'a [&'a str]>,
}

impl<'a> Parts<'a> {
    fn parse(words: &'a [&'a str]) -> Result<Self> {
        let none = Self {
            instructions: None,
            capture: None,
            live: None,
            side_by_side: None,
            time: None,
        };
        Ok(match words {
            [] => Self {
                instructions: Some(&[]),
                capture: Some(&[]),
                live: Some(&[]),
                side_by_side: Some(&[]),
                time: Some(&[]),
            },
            ["--instructions", options @ ..] => Self {
                instructions: Some(options),
                ..none
            },
            ["--capture", options @ ..] => Self {
                capture: Some(options),
                ..none
            },
            ["--live", options @ ..] => Self {
                live: Some(options),
                ..none
            },
            ["--side-by-side", options @ ..] => Self {
                side_by_side: Some(options),
                ..none
            },
            ["--time", options @ ..] => Self {
                time: Some(options),
                ..none
            },
            [other, ..] => {
                bail!(
                    "unknown option {other} (--time, --instructions, --capture, --live, --side-by-side)"
                )
            }
        })
    }
}

/// Runs what is asked for; each part has its verdict.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode> {
    let parts = Parts::parse(words)?;
    let mut wanted: Vec<&str> = Vec::new();
    if parts.instructions.is_some() {
        wanted.extend(["valgrind"]);
    }
    if parts.side_by_side.is_some() {
        wanted.extend(packages::LAB);
        wanted.extend(packages::PEERS);
    }
    if parts.capture.is_some() {
        wanted.extend(packages::LAB);
        wanted.extend(packages::CAPTURE_PEERS);
    }
    wanted.extend(packages::BUILD);
    if parts.live.is_some() {
        wanted.extend(packages::LAB);
        wanted.extend(packages::LIVE_PEERS);
    }
    packages::install(&wanted)?;
    build(&parts)?;

    let mut steps = Steps::default();
    let folder = root().join("bench");
    if let Some(options) = parts.instructions {
        let mut command = std::process::Command::new(release("hot-loops"));
        command
            .current_dir(root())
            .arg("--instructions")
            .arg(folder.join("instructions.json"))
            .args(options);
        steps.command("instructions per packet", Counts::AsOne, &mut command);
    }
    if let Some(options) = parts.capture {
        capture(&mut steps, options)?;
    }
    if let Some(options) = parts.live {
        std::fs::create_dir_all(target().join("bench"))?;
        let mut command = as_root(&release("live-side-by-side").to_string_lossy());
        command.arg("--netsonde").arg(release("netsonde"));
        command.arg("--json").arg(target().join("bench/live.json"));
        command.args(options);
        steps.command("live capture side by side", Counts::AsOne, &mut command);
    }
    if let Some(options) = parts.side_by_side {
        // Made by us, so that it is ours when the program below runs by sudo.
        std::fs::create_dir_all(target().join("bench"))?;
        let program = release("side-by-side");
        let mut command = as_root(&program.to_string_lossy());
        command
            .current_dir(root())
            .arg("--netsonde")
            .arg(release("netsonde"))
            .arg("--json")
            .arg(target().join("bench/side-by-side.json"))
            .arg("--readme")
            .arg(folder.join("README.md"))
            .args(options);
        steps.command("side by side", Counts::AsOne, &mut command);
    }
    if let Some(options) = parts.time {
        let mut command = benches();
        command.arg("--").args(options);
        steps.command("time", Counts::AsOne, &mut command);
    }
    Ok(steps.finish())
}

/// Traces by a process of its own, as root; then the runs, as whoever we are.
fn capture(steps: &mut Steps, options: &[&str]) -> Result<()> {
    let folder = target().join("bench-traces");
    std::fs::create_dir_all(&folder)?;
    std::fs::create_dir_all(target().join("bench"))?;
    let mut traces = as_root(&release("traces").to_string_lossy());
    traces.arg(&folder);
    if !steps.command("traces", Counts::AsOne, &mut traces) {
        return Ok(());
    }
    let mut command = std::process::Command::new(release("capture-side-by-side"));
    command.current_dir(root());
    for (option, path) in [
        ("--traces", folder),
        ("--json", target().join("bench/capture.json")),
        ("--analyse", release("analyse")),
        ("--netsonde", release("netsonde")),
        ("--readme", root().join("bench/README.md")),
    ] {
        command.arg(option).arg(path);
    }
    command.args(options);
    steps.command("capture side by side", Counts::AsOne, &mut command);
    Ok(())
}

fn benches() -> std::process::Command {
    let mut cargo = cargo();
    cargo.args(["bench", "--locked", "--package", "netsonde-bench"]);
    cargo.args(["--benches"]);
    cargo
}

fn build(parts: &Parts<'_>) -> Result<()> {
    println!("building the benches (release)");
    let args = ["build", "--release", "--locked", "--bins"];
    let mut build = cargo();
    build.args(args).args(["--package", "netsonde-bench"]);
    if parts.side_by_side.is_some() || parts.capture.is_some() || parts.live.is_some() {
        build.args(["--package", "netsonde"]);
    }
    if parts.capture.is_some() {
        // The relay, for the traces.
        build.args(["--package", "netsonde-lab"]);
    }
    ensure!(build.status()?.success(), "the build failed");
    if parts.time.is_some() {
        let built = benches().arg("--no-run").status()?;
        ensure!(built.success(), "the build failed");
    }
    Ok(())
}
