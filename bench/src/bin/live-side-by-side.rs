//! Runs `netsonde capture -i` and its peers against frames made in the kernel; root, an idle
//! machine with two processors.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use netsonde_bench::live::receivers::{Places, Receiver};
use netsonde_bench::live::{self, Options};

const HELP: &str = "\
live-side-by-side --json FILE [--netsonde FILE] [--rounds N] [--frames N] [--rate N]
                  [--only af_packet|af_xdp|tcpdump|dumpcap|testpmd] [--even-if-busy]
    --json          where the figures go
    --netsonde      the release build of the command [default: only peers]
    --rounds        times that every receiver has its turn [default: 5]
    --frames        of a turn, at most [default: 10000000]
    --rate          only this one, in frames per second
    --only          one receiver
    --even-if-busy  try the harness out
";

fn main() -> ExitCode {
    match parse().and_then(|options| live::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live-side-by-side: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Options> {
    let mut options = Options {
        places: Places { netsonde: None },
        only: None,
        rate: None,
        rounds: 5,
        frames: 10_000_000,
        even_if_busy: false,
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
            "--json" => options.json = value()?.into(),
            "--netsonde" => options.places.netsonde = Some(value()?.into()),
            "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
            "--frames" => options.frames = value()?.parse().context("--frames")?,
            "--rate" => options.rate = Some(value()?.parse().context("--rate")?),
            "--only" => {
                options.only = Some(match value()?.as_str() {
                    "af_packet" => Receiver::AfPacket,
                    "af_xdp" => Receiver::AfXdp,
                    "tcpdump" => Receiver::Tcpdump,
                    "dumpcap" => Receiver::Dumpcap,
                    "testpmd" => Receiver::Testpmd,
                    other => bail!("no receiver {other}\n{HELP}"),
                });
            }
            "--even-if-busy" => options.even_if_busy = true,
            _ => bail!("unknown option {word}\n{HELP}"),
        }
    }
    if options.json.as_os_str().is_empty() {
        bail!("{HELP}");
    }
    Ok(options)
}
