//! Makes the captures that the benches read, where they are not there yet: `traces FOLDER`.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, Result};
use netsonde_bench::traces::Trace;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.context("traces FOLDER")?;
    for trace in Trace::ALL {
        let made = trace.ensure(&folder)?;
        println!("{}: {made:?}", trace.name());
    }
    Ok(())
}
