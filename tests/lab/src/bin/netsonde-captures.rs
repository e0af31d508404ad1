//! Fresh captures of real TCP for people: `netsonde-captures FOLDER [SEED [NAME]]` runs the
//! scenarios of `lab::tcp` and leaves their captures and the relay's logs as text.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use netsonde_lab::Lab;
use netsonde_lab::tcp::scenarios;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = "netsonde-captures FOLDER [SEED [NAME]]";
    let folder = PathBuf::from(words.next().context(usage)?);
    let seed = words.next().map_or(Ok(1), |word| word.parse())?;
    let only = words.next();
    let lab = Lab::new()?;
    for scenario in scenarios::all(seed) {
        if only.as_ref().is_some_and(|name| *name != scenario.name) {
            continue;
        }
        let captured = scenario.run(&lab, &folder)?;
        let path = folder.join(format!("{}.lost", scenario.name));
        let mut lost = std::io::BufWriter::new(std::fs::File::create(&path)?);
        for record in captured.log.records.iter().filter(|record| !record.left()) {
            if let Some(tcp) = record.tcp {
                writeln!(
                    lost,
                    "{:?} {} {}:{} {} sequence {} payload {} flags {:#x}",
                    record.direction,
                    record.in_ns,
                    record.source,
                    record.ports.0,
                    record.ports.1,
                    tcp.sequence,
                    tcp.payload,
                    tcp.flags
                )?;
            }
        }
        lost.flush()?;
        println!("{}: {:?}", scenario.name, captured.log.totals);
    }
    Ok(())
}
