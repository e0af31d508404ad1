//! The commands of the project: `cargo xtask test [--long]`, `cargo xtask demo`,
//! `cargo xtask bench`.
//!
//! Each does everything it needs on a fresh Debian or Ubuntu with a Rust toolchain, as root
//! or with sudo, and says what it installs before it does.
#![forbid(unsafe_code)]

mod bench;
mod demo;
mod machine;
mod packages;
mod report;
mod steps;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask test [--long] [--checked]   every test, cheap ones first
    --long      adds minutes of fuzzing and the long lab tests
    --checked   leaves out fmt, clippy and rustdoc (the caller ran them)
cargo xtask check                       fmt, clippy and rustdoc alone
cargo xtask demo [--port N]             two lab hosts, a bad link, everything shown
cargo xtask bench [PART …]              the benchmarks and the comparison with others
    --time | --instructions | --side-by-side   one part, with its own options
cargo xtask tools                       installs what tests compare with, prints where
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test", options @ ..] => test::run(&test::Options::parse(options)?),
        ["check"] => test::check(),
        ["demo"] => demo::run(0),
        ["demo", "--port", port] => demo::run(port.parse()?),
        ["bench", rest @ ..] => bench::run(rest),
        ["tools"] => tools::run(),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("unknown: {}\n{HELP}", other.join(" ")),
    }
}
