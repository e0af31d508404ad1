//! Faults by the kernel, for rates above what a relay carries: nftables rules with counters.
//!
//! All rules of a host live in one table of ours per family, `netsonde_lab`; named counters
//! say exactly how often each rule acted.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cleanup::checked;
use crate::host::{DEVICE, Host};

const TABLE: &str = "netsonde_lab";

/// Runs an nftables script inside a host.
///
/// # Errors
/// When `nft` is missing or refuses the script.
pub fn run(host: &Host, script: &str) -> Result<()> {
    let mut command = host.command("nft");
    checked(command.args(["-f", "-"]), Some(script))?;
    Ok(())
}

/// Drops every n-th UDP datagram that arrives on the host's device; counter `lost`.
///
/// # Errors
/// As [`run`].
pub fn lose_every(host: &Host, n: u32) -> Result<()> {
    ingress(host, "lost", &format!("numgen inc mod {n} == 0"), "drop")
}

/// Drops this share of the UDP datagrams that arrive, at random, in steps of 1 in 10 000;
/// counter `lost`.
///
/// # Errors
/// As [`run`].
pub fn lose_random(host: &Host, ratio: f64) -> Result<()> {
    let share = (ratio.clamp(0.0, 1.0) * 10_000.0).round();
    ingress(
        host,
        "lost",
        &format!("numgen random mod 10000 < {share}"),
        "drop",
    )
}

/// Sends a copy of every n-th UDP datagram that leaves by the host's device; counter
/// `duplicated`. Copies are not copied again.
///
/// # Errors
/// As [`run`].
pub fn duplicate_every(host: &Host, n: u32) -> Result<()> {
    run(
        host,
        &format!(
            "table netdev {TABLE} {{
                counter duplicated {{}}
                chain egress {{
                    type filter hook egress device {DEVICE} priority 0;
                    meta l4proto udp meta mark != 0x6e73 numgen inc mod {n} == 0 counter name duplicated meta mark set 0x6e73 dup to {DEVICE}
                }}
            }}"
        ),
    )
}

fn ingress(host: &Host, counter: &str, condition: &str, verdict: &str) -> Result<()> {
    run(
        host,
        &format!(
            "table netdev {TABLE} {{
                counter {counter} {{}}
                chain ingress {{
                    type filter hook ingress device {DEVICE} priority 0;
                    meta l4proto udp {condition} counter name {counter} {verdict}
                }}
            }}"
        ),
    )
}

/// Makes a router or host say nothing of packets that are too big (a black hole); counter
/// `silenced`.
///
/// # Errors
/// As [`run`].
pub fn silence_too_big(host: &Host) -> Result<()> {
    run(
        host,
        &format!(
            "table inet {TABLE} {{
                counter silenced {{}}
                chain output {{
                    type filter hook output priority 0;
                    icmp type destination-unreachable icmp code frag-needed counter name silenced drop
                    icmpv6 type packet-too-big counter name silenced drop
                }}
            }}"
        ),
    )
}

/// Packets that a named counter saw.
///
/// # Errors
/// When there is no such counter.
pub fn counter(host: &Host, name: &str) -> Result<u64> {
    let mut command: Command = host.command("nft");
    let text = checked(command.args(["--json", "list", "counters"]), None)?;
    let listed: Value = serde_json::from_str(&text)?;
    let counters = listed["nftables"].as_array().context("nft's JSON")?;
    counters
        .iter()
        .map(|entry| &entry["counter"])
        .find(|counter| counter["name"] == name)
        .and_then(|counter| counter["packets"].as_u64())
        .with_context(|| format!("no counter {name}"))
}
