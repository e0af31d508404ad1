//! What tests compare with and Debian does not have, kept under `target/`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::{machine, packages};

/// The version of the independent STAMP peer.
const STAMP_SUITE: &str = "0.8.0";
/// The version of cargo-fuzz that CI builds where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// The version of scapy with a STAMP layer.
const SCAPY: &str = "2.6.1";

/// The independent STAMP peer, built once.
pub(crate) fn stamp_suite() -> Result<PathBuf> {
    let folder = machine::target().join("tools");
    let program = folder.join("bin/stamp-suite");
    if !program.exists() {
        println!("building stamp-suite {STAMP_SUITE}, the independent STAMP peer");
        let mut cargo = machine::cargo();
        cargo
            .args([
                "install",
                "stamp-suite",
                "--locked",
                "--quiet",
                "--version",
                STAMP_SUITE,
            ])
            .arg("--root")
            .arg(&folder)
            // Beside our own artefacts, so that a cached target folder keeps it.
            .arg("--target-dir")
            .arg(folder.join("build"));
        ensure!(
            cargo.status()?.success(),
            "cargo install stamp-suite failed"
        );
    }
    Ok(program)
}

/// The cargo-fuzz on the path, or the one of [`install_cargo_fuzz`], on a nightly toolchain.
pub(crate) fn cargo_fuzz() -> Command {
    let mut cargo = machine::cargo_nightly();
    let own = machine::target().join("tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([own]);
    if let Ok(path) = std::env::join_paths(folders) {
        cargo.env("PATH", path);
    }
    cargo.arg("fuzz");
    cargo
}

/// Builds cargo-fuzz where a cached target folder keeps it.
pub(crate) fn install_cargo_fuzz() -> Command {
    let folder = machine::target().join("tools");
    let mut cargo = machine::cargo();
    cargo
        .args(["install", "cargo-fuzz", "--locked", "--quiet"])
        .args(["--version", CARGO_FUZZ, "--root"])
        .arg(&folder)
        .arg("--target-dir")
        .arg(folder.join("build"));
    cargo
}

/// A Python that has scapy; in an environment of its own.
pub(crate) fn scapy() -> Result<PathBuf> {
    let folder = machine::target().join("scapy");
    let python = folder.join("bin/python");
    let works =
        |python: &PathBuf| machine::works(Command::new(python).args(["-c", "import scapy"]));
    if !works(&python) {
        println!("installing scapy {SCAPY} into {}", folder.display());
        let made = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&folder)
            .status()?;
        ensure!(
            made.success(),
            "python3 -m venv failed (package python3-venv)"
        );
        let wanted = format!("scapy=={SCAPY}");
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            &wanted,
        ];
        ensure!(
            Command::new(&python).args(pip).status()?.success(),
            "pip install scapy failed"
        );
    }
    Ok(python)
}

/// What the lab tests find in their environment. What cannot be had is named and left out:
/// its tests are then ignored, or fail in CI.
pub(crate) fn environment() -> Vec<(&'static str, PathBuf)> {
    let wanted = [
        ("NETSONDE_STAMP_SUITE", stamp_suite()),
        ("NETSONDE_SCAPY_PYTHON", scapy()),
    ];
    let mut found = Vec::new();
    for (name, tool) in wanted {
        match tool {
            Ok(path) => found.push((name, path)),
            Err(error) => println!("{name} is not set: {error:#}"),
        }
    }
    found
}

pub(crate) fn run() -> Result<ExitCode> {
    packages::install(&[packages::BUILD, packages::LAB, packages::TEST].concat())?;
    for (name, path) in environment() {
        println!("{name}={}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
