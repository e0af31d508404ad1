//! `netsonde capture`: what was typed becomes a plan, frames become flows, flows a report.
//!
//! [`plan`] is pure; [`offline`] runs a file through the analyser in this thread, [`live`]
//! captures with threads of its own; [`sinks`] are the files of lines, [`mod@write`] those of frames. Both end in one report
//! ([`tally`], [`finish`]).

pub mod finish;
pub mod live;
pub mod offline;
pub mod plan;
pub mod sinks;
pub mod tally;
pub mod write;

use std::hash::BuildHasher as _;
use std::io::IsTerminal as _;

use serde_json::Value;

use crate::cli::CaptureArgs;
use crate::exit::{Exit, Failure};
use crate::output::assertion::Assertion;
use plan::Input;

/// Runs the command.
///
/// # Errors
/// With a [`Failure`] for everything that is not a result.
pub fn capture(args: &CaptureArgs) -> anyhow::Result<Exit> {
    // Signals are read from a descriptor; blocked before the first thread starts.
    sys::signal::block(&crate::ping::SIGNALS)?;
    let template = template();
    let assertions = args
        .assertions
        .iter()
        .map(|expr| Assertion::parse(expr, &template))
        .collect::<Result<Vec<_>, Failure>>()?;
    let plan = plan::plan(args, std::io::stdout().is_terminal())?;
    match &plan.input {
        Input::File(path) => offline::run(&plan, path, &assertions),
        Input::Devices(typed) => live::run(&plan, typed, &assertions),
    }
}

/// Random numbers for the key of a hash table: outputs of SipHash under a key that the
/// standard library takes from the kernel for this purpose, and that never leaves here.
#[must_use]
pub fn seed() -> [u64; 8] {
    let keyed = std::hash::RandomState::new();
    std::array::from_fn(|number| keyed.hash_one(number))
}

/// What to say of a filter that libpcap did not compile.
#[must_use]
pub fn built_in(filter: &capture::Filter) -> Option<String> {
    filter.is_built_in().then(|| {
        format!(
            "the filter \"{}\" is compiled by the built-in parser: libpcap did not take it, or is not in this build",
            filter.text()
        )
    })
}

/// What of these options each of so many analysers gets: they share the flows out.
#[must_use]
pub fn share(options: &measure::passive::Options, workers: usize) -> measure::passive::Options {
    let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
    measure::passive::Options {
        flows: (options.flows / workers).max(LEAST_FLOWS),
        segments: (options.segments / workers).max(2 * LEAST_FLOWS),
        ..options.clone()
    }
}

/// A table for fewer is none.
const LEAST_FLOWS: u32 = 16;

/// Options of an analyser that sees nothing.
#[must_use]
pub fn smallest() -> measure::passive::Options {
    measure::passive::Options {
        flows: 1,
        segments: 1,
        ..measure::passive::Options::new([0; 8])
    }
}

/// A body with every key, to check assertions against.
fn template() -> Value {
    let analyser = measure::passive::Analyser::new(smallest());
    let tally = tally::Tally::new(1, 0);
    let origin = tally::Origin {
        source_name: String::new(),
        backend: "",
        reason: String::new(),
        filter: String::new(),
        notes: Vec::new(),
    };
    let counters = analyser.counters();
    let report = tally.report(
        &origin,
        &counters,
        capture::Drops::default(),
        &analyser.options().groups,
        Vec::new(),
        &tally::Standing::new(1, 0),
    );
    Value::Object(crate::output::passive::json::body(&report))
}
