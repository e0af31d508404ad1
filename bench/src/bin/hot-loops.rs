//! `hot-loops NAME` runs one hot loop; `hot-loops --instructions FILE [--update]` counts the
//! instructions of all under valgrind and compares them with FILE.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use netsonde_bench::instructions::{COUNTED, Change, Counts, WARM_UP};
use netsonde_bench::loops::{self, Loop};

/// Callgrind counts while this runs, by its name.
#[inline(never)]
fn collected_by_callgrind(hot: &mut Loop) -> u64 {
    hot.packets_at_least(COUNTED)
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hot-loops: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--instructions", file] => instructions(Path::new(file), false),
        ["--instructions", file, "--update"] => instructions(Path::new(file), true),
        [name] if !name.starts_with('-') => {
            let found = loops::hot().into_iter().find(|hot| hot.name == *name);
            let mut hot = found.with_context(|| format!("no loop is called {name}"))?;
            hot.packets_at_least(WARM_UP);
            println!("{} packets", collected_by_callgrind(&mut hot));
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("usage: hot-loops NAME | --instructions FILE [--update]"),
    }
}

fn instructions(file: &Path, update: bool) -> Result<ExitCode> {
    let taken = Counts::take(&std::env::current_exe()?)?;
    let committed: Counts = match std::fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| file.display().to_string())?,
        Err(_) if update => Counts::default(),
        Err(error) => bail!("{}: {error} (make it with --update)", file.display()),
    };
    let comparable = taken.comparable(&committed);
    let mut more = 0;
    println!("instructions per packet");
    for (name, change) in taken.changes(&committed) {
        let number = |counts: &Counts| {
            let count = counts.loops.get(name);
            count.map_or_else(|| "-".to_owned(), |count| format!("{count:.1}"))
        };
        let word = match change {
            Change::Same => String::new(),
            Change::Less(share) => format!("{:.1} % fewer", share * 100.0),
            Change::More(share) => format!("{:.1} % MORE", share * 100.0),
            Change::New => "new".to_owned(),
            Change::Gone => "gone".to_owned(),
        };
        more += u32::from(change != Change::Same);
        println!(
            "{name:<32} {:>10} {:>10}  {word}",
            number(&taken),
            number(&committed)
        );
    }
    if update {
        let text = serde_json::to_string_pretty(&taken)? + "\n";
        std::fs::write(file, text).with_context(|| file.display().to_string())?;
        println!("written to {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !comparable {
        println!(
            "not compared: {} on {} here, {} on {} in the file",
            taken.rustc, taken.architecture, committed.rustc, committed.architecture
        );
        return Ok(ExitCode::SUCCESS);
    }
    if more > 0 {
        println!("{more} differ: if that is meant, commit the file that --update writes");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
