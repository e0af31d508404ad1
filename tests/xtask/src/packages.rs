//! Debian packages: which are needed, which are missing, and their installation.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::machine::{as_root, works};

/// What the lab itself needs; the demo needs no more.
pub(crate) const LAB: &[&str] = &["iproute2", "ethtool"];

/// What the tests need besides: peers, oracles and independent dissectors.
pub(crate) const TEST: &[&str] = &[
    "curl",
    "iputils-ping",
    "nftables",
    "tcpdump",
    "tcptrace",
    "tshark",
    "irtt",
    "sockperf",
    "prometheus",
    "python3-venv",
];

/// What the benches compare with.
pub(crate) const PEERS: &[&str] = &["iputils-ping", "irtt", "sockperf"];

/// What `netsonde capture` is compared with, and what makes its traces.
pub(crate) const CAPTURE_PEERS: &[&str] = &["tcpdump", "tcptrace", "softflowd", "nfdump"];

fn installed(package: &str) -> bool {
    let format = "--showformat=${db:Status-Status}";
    let output = Command::new("dpkg-query")
        .args(["--show", format, package])
        .output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

/// Installs what is missing, and says what; touches nothing if all is there.
pub(crate) fn install(wanted: &[&str]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        works(Command::new("apt-get").arg("--version")),
        "this is no Debian or Ubuntu: install {} yourself",
        missing.join(" ")
    );
    println!("installing Debian packages: {}", missing.join(" "));
    let update = as_root("apt-get").args(["update", "--quiet=2"]).status()?;
    ensure!(update.success(), "apt-get update failed");
    let install = as_root("env")
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "--yes",
            "--quiet=2",
        ])
        .args(["--no-install-recommends", "-o", "Dpkg::Use-Pty=0"])
        .args(&missing)
        .status()?;
    ensure!(
        install.success(),
        "apt-get install {} failed",
        missing.join(" ")
    );
    Ok(())
}
