//! tcpdump as the witness: what frames it captured on a device, and how that differs from ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use capture::{FileSource, Polled, Source, SourceError};
use lab::{Host, Running};

use crate::commands::PATIENCE;

/// Octets and length of frames, and how often each was there.
pub(super) type Seen = BTreeMap<(Vec<u8>, u32), u32>;

/// tcpdump on a host.
pub(super) struct Tcpdump {
    running: Running,
    pub(super) path: PathBuf,
}

impl Tcpdump {
    pub(super) fn start(host: &Host, device: &str, snaplen: u32, filter: &str) -> Result<Self> {
        let name =
            format!("{device} {snaplen} {filter}").replace(|one: char| !one.is_alphanumeric(), "-");
        let path = host.file(&format!("tcpdump-{name}.pcap"))?;
        let (snaplen, file) = (snaplen.to_string(), path.to_string_lossy());
        let mut args = vec!["-i", device, "-s", &snaplen, "-w", &file, "-Z", "root"];
        args.extend(["-n", "-U", "-B", "4096", "-p"]);
        args.extend(Some(filter).filter(|filter| !filter.is_empty()));
        let running = host.spawn("tcpdump", &args)?;
        running.wait_error_line("listening on", PATIENCE)?;
        Ok(Self { running, path })
    }

    /// What it captured: when it has so many frames, or has had time for them.
    pub(super) fn stop(self, frames: u64) -> Result<Seen> {
        let limit = Instant::now() + Duration::from_secs(5);
        while count(&read(&self.path)?) < frames && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        let finished = self.running.stop("INT", PATIENCE)?;
        let lost = !finished.stderr.contains("0 packets dropped by kernel");
        ensure!(finished.code() == 0 && !lost, "{}", finished.stderr);
        read(&self.path)
    }
}

pub(super) fn add(seen: &mut Seen, frame: &base::Frame<'_>) {
    let key = (frame.bytes.to_vec(), frame.original_len);
    *seen.entry(key).or_default() += 1;
}

pub(super) fn count(seen: &Seen) -> u64 {
    seen.values().map(|count| u64::from(*count)).sum()
}

/// The frames of a file that may still be written to.
pub(super) fn read(path: &Path) -> Result<Seen> {
    let mut seen = Seen::new();
    let mut source = FileSource::open(path)?;
    loop {
        let polled = source.poll(Duration::ZERO, |frames| {
            frames.iter().for_each(|frame| add(&mut seen, frame));
        });
        match polled {
            Ok(Polled::End) | Err(SourceError::Corrupt { .. }) => return Ok(seen),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What one has and the other has not, for messages.
pub(super) fn difference(ours: &Seen, theirs: &Seen) -> String {
    let only = |one: &Seen, other: &Seen| {
        let lacking = one
            .iter()
            .filter(|(frame, count)| other.get(*frame) != Some(*count));
        let shown: Vec<_> = lacking
            .clone()
            .take(3)
            .map(|((bytes, length), count)| {
                format!("{count} x {length}: {:02x?}", &bytes[..bytes.len().min(50)])
            })
            .collect();
        format!("{} of {}: {shown:?}", lacking.count(), count(one))
    };
    let (ours, theirs) = (only(ours, theirs), only(theirs, ours));
    format!("only ours {ours}; only tcpdump's {theirs}")
}
