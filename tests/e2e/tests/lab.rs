//! Tests in the lab, one after another, since they are about time. Arguments as of any
//! Rust test: a filter, `--list`, `--exact`.
//!
//! A module in `lab/` has one function `trials() -> Vec<Trial>`; add it below.

#![forbid(unsafe_code)]

#[path = "lab/accuracy.rs"]
mod accuracy;
#[path = "lab/capture_afpacket.rs"]
mod capture_afpacket;
#[path = "lab/capture_afxdp.rs"]
mod capture_afxdp;
#[path = "lab/capture_equal.rs"]
mod capture_equal;
#[path = "lab/capture_survives.rs"]
mod capture_survives;
#[path = "lab/cleanup.rs"]
mod cleanup;
#[path = "lab/cli.rs"]
mod cli;
#[path = "lab/commands.rs"]
mod commands;
#[path = "lab/dissect.rs"]
mod dissect;
#[path = "lab/dump.rs"]
mod dump;
#[path = "lab/exact.rs"]
mod exact;
#[path = "lab/faults.rs"]
mod faults;
#[path = "lab/firewall.rs"]
mod firewall;
#[path = "lab/hostile.rs"]
mod hostile;
#[path = "lab/interop.rs"]
mod interop;
#[path = "lab/kernel.rs"]
mod kernel;
#[path = "lab/memory.rs"]
mod memory;
#[path = "lab/prometheus.rs"]
mod prometheus;
#[path = "lab/relay.rs"]
mod relay;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    // Run again by a test of its own, to die in the middle (see `cleanup`).
    if let Some(end) = std::env::var_os("NETSONDE_LAB_VICTIM") {
        cleanup::victim(&end.to_string_lossy());
    }
    // And by another, to be killed (see `capture_afxdp`).
    if let Some(attach) = std::env::var_os("NETSONDE_AFXDP_VICTIM") {
        capture_afxdp::victim(&attach.to_string_lossy());
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let registry: &[fn() -> Vec<Trial>] = &[
        cleanup::trials,
        relay::trials,
        kernel::trials,
        accuracy::trials,
        memory::trials,
        exact::trials,
        interop::trials,
        faults::trials,
        dissect::trials,
        hostile::trials,
        firewall::trials,
        prometheus::trials,
        capture_afpacket::trials,
        cli::trials,
        capture_afxdp::trials,
        capture_equal::trials,
        capture_survives::trials,
    ];
    let trials = registry.iter().flat_map(|trials| trials()).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
