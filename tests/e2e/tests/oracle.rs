//! Passive measurement against those whom everybody trusts, on the same captures: tshark for
//! classes and single round trips, tcptrace for counts, the lab's relay for losses.
//!
//! Public captures are looked for in `../shared/pcaps` (or `NETSONDE_PCAPS`); fresh ones are
//! real TCP through the lab. Arguments as of any Rust test: a filter, `--list`, `--exact`.

#![forbid(unsafe_code)]

#[path = "oracle/captures.rs"]
mod captures;
#[path = "oracle/classes.rs"]
mod classes;
#[path = "oracle/differences.rs"]
mod differences;
#[path = "oracle/loss.rs"]
mod loss;
#[path = "oracle/ours.rs"]
mod ours;
#[path = "oracle/parsers.rs"]
mod parsers;
#[path = "oracle/rtt.rs"]
mod rtt;
#[path = "oracle/tcptrace.rs"]
mod tcptrace;
#[path = "oracle/tshark.rs"]
mod tshark;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share fresh captures, and some are large.
    arguments.test_threads = Some(1);
    let registry: &[fn() -> Vec<Trial>] =
        &[parsers::trials, classes::trials, rtt::trials, loss::trials];
    let trials = registry.iter().flat_map(|trials| trials()).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
