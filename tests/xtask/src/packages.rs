//! Debian packages: which are needed, which are missing, and their installation.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::machine::{as_root, works};

/// What every build needs: libpcap, which compiles filters in tcpdump's language (feature
/// `pcap`).
pub(crate) const BUILD: &[&str] = &["libpcap-dev"];

/// What the lab itself needs; the demo needs no more.
pub(crate) const LAB: &[&str] = &["iproute2", "ethtool"];

/// What only some tests need, and what a distribution may lack: the compiler of the committed
/// eBPF objects, with which they are built again and compared.
pub(crate) const OPTIONAL: &[&str] = &["clang-14", "llvm-14"];

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

/// What live capture is compared with: tcpdump, dumpcap, and testpmd with its AF_XDP driver.
pub(crate) const LIVE_PEERS: &[&str] = &[
    "tcpdump",
    "wireshark-common",
    "dpdk-dev",
    "librte-net-af-xdp23",
];

fn installed(package: &str) -> bool {
    let format = "--showformat=${db:Status-Status}";
    let output = Command::new("dpkg-query")
        .args(["--show", format, package])
        .output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

/// Installs what is missing and to be had; says what is not.
pub(crate) fn install_if_any(wanted: &[&str]) {
    let known = |name: &&&str| {
        let show = Command::new("apt-cache").args(["show", name]).output();
        show.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
    };
    let missing = wanted.iter().filter(|name| !installed(name));
    let (known, unknown): (Vec<&str>, Vec<&str>) = missing.partition(|name| known(name));
    for name in unknown {
        println!("no Debian package {name} here: what needs it says so");
    }
    if let Err(error) = install(&known) {
        println!("{error:#}");
    }
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
