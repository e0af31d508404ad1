//! What tests compare with and Debian does not have, kept under `target/`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::{machine, packages};

/// The version of the independent STAMP peer.
const STAMP_SUITE: &str = "0.8.0";
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
    packages::install(&[packages::LAB, packages::TEST].concat())?;
    for (name, path) in environment() {
        println!("{name}={}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
