//! Runs `netsonde` and its peers in turn and compares them; root, an idle machine.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use netsonde_bench::side::{self, Options};

const HELP: &str = "\
side-by-side --netsonde FILE --json FILE [--readme FILE] [--rounds N] [--seconds N] [--even-if-busy]
    --netsonde      the release build
    --json          where the figures go
    --readme        between whose markers the tables go [default: nowhere]
    --rounds        times that every tool has its turn [default: 3]
    --seconds       of a turn [default: 10]
    --even-if-busy  try the harness out; the figures are marked and go into no README
";

fn main() -> ExitCode {
    match parse().and_then(|options| side::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Options> {
    let mut options = Options {
        netsonde: PathBuf::new(),
        rounds: 3,
        seconds: 10,
        even_if_busy: false,
        readme: None,
        json: PathBuf::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} what?\n{HELP}"))
        };
        match word.as_str() {
            "--netsonde" => options.netsonde = value()?.into(),
            "--json" => options.json = value()?.into(),
            "--readme" => options.readme = Some(value()?.into()),
            "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
            "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
            "--even-if-busy" => options.even_if_busy = true,
            _ => bail!("unknown option {word}\n{HELP}"),
        }
    }
    if options.netsonde == Path::new("") || options.json == Path::new("") {
        bail!("{HELP}");
    }
    Ok(options)
}
