//! `netsonde ping`: what was typed becomes a plan, the plan a run, the run a summary.
//!
//! [`host`] and [`plan`] are pure but for the resolver, [`preflight`] finds out what cannot
//! work before the first probe, [`live`] holds the numbers and what is shown of them, and
//! only [`run`] touches the prober, clocks and signals.

pub mod host;
pub mod live;
pub mod plan;
pub mod preflight;
mod run;
pub use run::SIGNALS;
pub mod tracked;

use std::io::IsTerminal as _;

use record::TargetStats;
use serde_json::Value;

use crate::cli::PingArgs;
use crate::exit::{Exit, Failure};
use crate::output::assertion::Assertion;
use crate::output::hlog::HdrLog;
use crate::output::report::Report;
use crate::output::{json, records};

/// Runs the command.
///
/// # Errors
/// With a [`Failure`] for everything that is not a result.
pub fn ping(args: &PingArgs) -> anyhow::Result<Exit> {
    // Signals are read from a descriptor; blocked before the first thread starts.
    sys::signal::block(&SIGNALS)?;
    let template = template();
    let assertions = args
        .assertions
        .iter()
        .map(|expr| Assertion::parse(expr, &template))
        .collect::<Result<Vec<_>, Failure>>()?;
    let terminal = std::io::stdout().is_terminal();
    let plan = plan::plan(args, terminal, host::resolve)?;
    let source = preflight::check(&plan)?;
    let names: Vec<String> = plan
        .targets
        .iter()
        .map(|target| target.name.clone())
        .collect();
    let records = plan
        .records
        .as_deref()
        .map(|path| records::create(path, "--records"))
        .transpose()?;
    let started = sys::clock::wall_now();
    let hlog = plan
        .hlog
        .as_deref()
        .map(|path| HdrLog::create(path, &names, started))
        .transpose()?;
    let head = live::Head {
        command: crate::command_line(),
        source,
        started,
    };
    let live = live::Live::new(&plan, assertions, head, hlog, sys::clock::mono_now());
    run::run(&plan, live, records, &names)
}

/// A document of one target with every key, to check assertions against.
#[must_use]
pub fn template() -> Value {
    let stats = TargetStats::new();
    json::target(
        &Report {
            name: "",
            address: std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
            requested: "",
            source_ports: 1,
            tos: 0,
            device: None,
            packet_bytes: None,
            stats: &stats,
        },
        &[],
    )
}
