//! The programs: their command lines, and one run of one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sys::process::{Exit, Pid, Usage, wait_with_usage};

use crate::traces::Trace;

/// One of them.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The command, as a user runs it.
    Netsonde,
    /// The file source and the analyser alone (`analyse`).
    Loop,
    /// Everything about every TCP connection, round trips too.
    Tcptrace,
    /// NetFlow: packets and bytes per flow.
    Softflowd,
    /// NetFlow, written to a file; of nfdump.
    Nfpcapd,
}

/// Where ours are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// The release build of `netsonde`; without it that row is left out.
    pub netsonde: Option<PathBuf>,
    /// The release build of `analyse`.
    pub analyse: PathBuf,
    /// For what a program insists on writing.
    pub scratch: PathBuf,
}

/// What one run took.
#[derive(Copy, Clone, PartialEq, Debug, Serialize)]
pub struct Taken {
    /// From start to end.
    pub wall_ns: u64,
    /// Of all its threads, in user mode and in the kernel.
    pub processor_ns: u64,
    /// At its peak.
    pub peak_rss_bytes: u64,
}

impl Program {
    /// Ours first.
    pub const ALL: [Self; 5] = [
        Self::Netsonde,
        Self::Loop,
        Self::Tcptrace,
        Self::Softflowd,
        Self::Nfpcapd,
    ];

    /// In tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netsonde => "netsonde capture",
            Self::Loop => "netsonde, source and analyser alone",
            Self::Tcptrace => "tcptrace",
            Self::Softflowd => "softflowd",
            Self::Nfpcapd => "nfpcapd",
        }
    }

    /// Whether it is ours.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Netsonde | Self::Loop)
    }

    /// How its version is asked for, and of which Debian package it is.
    #[must_use]
    pub const fn package(self) -> Option<&'static str> {
        match self {
            Self::Netsonde | Self::Loop => None,
            Self::Tcptrace => Some("tcptrace"),
            Self::Softflowd => Some("softflowd"),
            Self::Nfpcapd => Some("nfdump"),
        }
    }

    /// The one place for command lines.
    #[must_use]
    pub fn words(self, trace: Trace, file: &Path, places: &Places) -> Option<Vec<String>> {
        let file = file.to_string_lossy();
        let scratch = places.scratch.to_string_lossy();
        // Ours has a fixed table: room for all flows of the trace, as peers make it as they go.
        let room = match trace {
            Trace::Million => " --max-flows 1310720",
            Trace::Bulk | Trace::Short => "",
        };
        let line = match self {
            Self::Netsonde => {
                let netsonde = places.netsonde.as_ref()?.to_string_lossy();
                format!("{netsonde} capture -r {file} --json{room}")
            }
            Self::Loop => format!(
                "{} -r {file} --json{room}",
                places.analyse.to_string_lossy()
            ),
            Self::Tcptrace => format!("tcptrace -n -l -r {file}"),
            // Statistics only: it exports to nobody, which is its fastest.
            Self::Softflowd => {
                format!("softflowd -r {file} -m 2000000 -c none -p {scratch}/softflowd.pid")
            }
            Self::Nfpcapd => format!("nfpcapd -r {file} -w {scratch}"),
        };
        Some(line.split(' ').map(str::to_owned).collect())
    }

    /// Whether its output is kept and says how many frames it read.
    const fn tells_frames(self) -> bool {
        // A line per connection and more: not worth a gigabyte on a disk.
        !matches!(self, Self::Tcptrace)
    }
}

/// Runs one to its end; it must have read all `frames`.
///
/// # Errors
/// When it fails, or read fewer frames.
pub fn run(program: Program, words: &[String], frames: u64, places: &Places) -> Result<Taken> {
    let (name, arguments) = words.split_first().context("a command")?;
    let said = places.scratch.join("said");
    let output = || -> Result<Stdio> {
        Ok(if program.tells_frames() {
            File::options()
                .append(true)
                .create(true)
                .open(&said)?
                .into()
        } else {
            Stdio::null()
        })
    };
    let _ = std::fs::remove_file(&said);
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(output()?).stderr(output()?);
    let started = Instant::now();
    let child = command.spawn().with_context(|| name.clone())?;
    let pid = Pid(child.id().cast_signed());
    let (exit, usage) = wait_with_usage(pid)?;
    let wall_ns = u64::try_from(started.elapsed().as_nanos())?;
    let text = std::fs::read_to_string(&said).unwrap_or_default();
    ensure!(
        exit == Exit::Code(0),
        "{}: {exit:?}: {text}",
        words.join(" ")
    );
    if program.tells_frames() {
        let told = frames_told(&text);
        ensure!(
            told == Some(frames),
            "{}: read {told:?} of {frames} frames: {text}",
            words.join(" ")
        );
    }
    let Usage {
        user_ns,
        system_ns,
        peak_rss_bytes,
    } = usage;
    Ok(Taken {
        wall_ns,
        processor_ns: user_ns + system_ns,
        peak_rss_bytes,
    })
}

/// `"frames":N` of ours, `Packets processed: N` of softflowd, `Processed: N` of nfpcapd.
fn frames_told(text: &str) -> Option<u64> {
    ["\"frames\":", "Packets processed: ", "Processed: "]
        .iter()
        .find_map(|before| {
            let (_, rest) = text.split_once(before)?;
            let rest = rest.trim_start();
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest[..end].parse().ok()
        })
}

/// Empties the folder that programs write to.
///
/// # Errors
/// When it cannot be.
pub fn clear(places: &Places) -> Result<()> {
    for entry in std::fs::read_dir(&places.scratch)?.flatten() {
        if entry.file_type()?.is_dir() {
            bail!("{} is no scratch folder", places.scratch.display());
        }
        std::fs::remove_file(entry.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_how_much_it_read() {
        assert_eq!(frames_told("{\"frames\":12,\"bytes\":3}"), Some(12));
        assert_eq!(frames_told("{\n  \"frames\": 12,\n}"), Some(12));
        assert_eq!(
            frames_told("x\nPackets processed: 25388\nFragments: 0"),
            Some(25_388)
        );
        assert_eq!(frames_told("Processed: 25388, skipped: 0"), Some(25_388));
        assert_eq!(frames_told("nothing"), None);
    }

    #[test]
    fn command_lines() {
        let places = Places {
            netsonde: None,
            analyse: "analyse".into(),
            scratch: "tmp".into(),
        };
        let line = |program: Program| {
            let words = program.words(Trace::Million, Path::new("million.pcap"), &places);
            words.map(|words| words.join(" "))
        };
        assert_eq!(line(Program::Netsonde), None);
        assert_eq!(
            line(Program::Tcptrace).as_deref(),
            Some("tcptrace -n -l -r million.pcap")
        );
    }
}
