//! Runs `netsonde capture -r` and its peers on the bench's traces; an idle machine.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use netsonde_bench::capture::programs::Places;
use netsonde_bench::capture::{self, Options};
use netsonde_bench::traces::Trace;

const HELP: &str = "\
capture-side-by-side --traces DIR --json FILE --analyse FILE [--netsonde FILE] [--readme FILE]
                     [--rounds N] [--only bulk|short|million] [--even-if-busy]
    --traces        where `traces` put them
    --json          where the figures go; what programs write goes beside it
    --analyse       the release build of the loop
    --netsonde      the release build of the command [default: left out]
    --readme        between whose markers the tables go [default: nowhere]
    --rounds        times that every program runs [default: 5]
    --only          one trace
    --even-if-busy  try the harness out; the figures are marked and go into no README
";

fn main() -> ExitCode {
    match parse().and_then(|options| capture::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capture-side-by-side: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Options> {
    let (mut traces, mut json, mut analyse) = (None, None, None);
    let (mut netsonde, mut readme, mut only) = (None, None, None);
    let (mut rounds, mut even_if_busy) = (5, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} what?\n{HELP}"))
        };
        match word.as_str() {
            "--traces" => traces = Some(PathBuf::from(value()?)),
            "--json" => json = Some(PathBuf::from(value()?)),
            "--analyse" => analyse = Some(PathBuf::from(value()?)),
            "--netsonde" => netsonde = Some(PathBuf::from(value()?)),
            "--readme" => readme = Some(PathBuf::from(value()?)),
            "--rounds" => rounds = value()?.parse().context("--rounds")?,
            "--only" => {
                let name = value()?;
                let found = Trace::ALL.into_iter().find(|trace| trace.name() == name);
                only = Some(found.with_context(|| format!("no trace {name}\n{HELP}"))?);
            }
            "--even-if-busy" => even_if_busy = true,
            _ => bail!("unknown option {word}\n{HELP}"),
        }
    }
    let json = json.context(HELP)?;
    let scratch = json.with_extension("scratch");
    Ok(Options {
        places: Places {
            netsonde,
            analyse: analyse.context(HELP)?,
            scratch,
        },
        traces: traces.context(HELP)?,
        only,
        rounds,
        even_if_busy,
        readme,
        json,
    })
}
