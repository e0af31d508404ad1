//! `--records FILE`: one JSON line per probe.
//!
//! A thread of its own takes results from their ring and writes them through a buffer, so
//! that a slow disk delays no probe. It keeps draining after a write error, so that the
//! ring does not fill, and tells of the first error at the end.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base::{ProbeResult, StampPoint, TargetKey};
use record::results::Receiver;

use crate::exit::Failure;

/// How long the writer rests when the ring is empty.
const REST: Duration = Duration::from_millis(5);
const BUFFER_BYTES: usize = 256 << 10;

/// A line without its end. Written by hand, since there may be 10 000 a second.
pub fn line(text: &mut String, target: &str, result: &ProbeResult) {
    text.clear();
    text.push_str("{\"target\":");
    text.push_str(target);
    let _ = write!(text, ",\"seq\":{}", result.sequence);
    number(text, "reflector_seq", result.reflector_sequence);
    number(
        text,
        "source_port",
        (result.source_port != 0).then_some(result.source_port),
    );
    for point in StampPoint::ALL {
        let stamp = result.stamps[point.index()];
        let _ = write!(text, ",\"{}_ns\":", point.as_str());
        or_null(text, stamp.map(|stamp| stamp.at.0));
        let _ = write!(text, ",\"{}_source\":", point.as_str());
        let ours = matches!(point, StampPoint::T1 | StampPoint::T4);
        match stamp.filter(|_| ours || result.reflector_sources_known) {
            Some(stamp) => {
                let _ = write!(text, "\"{}\"", stamp.source.as_str());
            }
            None => text.push_str("null"),
        }
    }
    number(text, "ttl_forward", result.ttl_forward);
    number(text, "ttl_reverse", result.ttl_reverse);
    let _ = write!(text, ",\"verdict\":\"{}\"", result.verdict.as_str());
    number(text, "rtt_ns", result.rtt_ns);
    number(text, "schedule_error_ns", result.schedule_error_ns);
    text.push('}');
}

fn number(text: &mut String, key: &str, value: Option<impl std::fmt::Display>) {
    let _ = write!(text, ",\"{key}\":");
    or_null(text, value);
}

fn or_null(text: &mut String, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => {
            let _ = write!(text, "{value}");
        }
        None => text.push_str("null"),
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Recorder {
    thread: JoinHandle<io::Result<u64>>,
    stop: Arc<AtomicBool>,
    path: PathBuf,
}

/// Makes the file, before anything is measured.
///
/// # Errors
/// With the usage code if it cannot be made.
pub fn create(path: &Path, option: &str) -> Result<File, Failure> {
    File::create(path).map_err(|error| {
        Failure::usage(format!(
            "cannot write {option} {}: {error}; name a file that can be made",
            path.display()
        ))
    })
}

impl Recorder {
    /// Starts to write what comes from the ring.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(
        file: File,
        path: &Path,
        names: &[String],
        ring: Receiver<(TargetKey, ProbeResult)>,
    ) -> io::Result<Self> {
        // Quoted once, not for every line.
        let names: Vec<String> = names
            .iter()
            .map(|name| serde_json::Value::from(name.as_str()).to_string())
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || write_all(file, &names, ring, &stopped))?;
        Ok(Self {
            thread,
            stop,
            path: path.to_owned(),
        })
    }

    /// Writes what is left; the measuring thread must have ended before.
    ///
    /// # Errors
    /// With the code for "incomplete" if a line could not be written or did not fit the ring.
    pub fn finish(self) -> Result<(), Failure> {
        // Release: pairs with the Acquire in `write_all`; the last results are on the ring.
        self.stop.store(true, Ordering::Release);
        let path = self.path.display();
        match self.thread.join() {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(dropped)) => Err(Failure::incomplete(format!(
                "--records {path} lacks {dropped} probes that came faster than the disk took them; use a longer -i or a faster disk"
            ))),
            Ok(Err(error)) => Err(Failure::incomplete(format!(
                "cannot write --records {path}: {error}; the file is incomplete"
            ))),
            Err(_) => Err(Failure::incomplete(format!(
                "the writer of --records {path} died; the file is incomplete"
            ))),
        }
    }
}

fn write_all(
    file: File,
    names: &[String],
    mut ring: Receiver<(TargetKey, ProbeResult)>,
    stop: &AtomicBool,
) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut text = String::with_capacity(512);
    let mut result = Ok(());
    loop {
        // Acquire: pairs with the Release in `finish`. Read before draining, so that the
        // last round sees everything.
        let last = stop.load(Ordering::Acquire);
        let drained = ring.drain(|(key, probe)| {
            if result.is_ok() {
                let name = names.get(key.0 as usize);
                let name = name.map_or("null", String::as_str);
                line(&mut text, name, &probe);
                text.push('\n');
                result = out.write_all(text.as_bytes());
            }
        });
        if last {
            break;
        }
        if drained == 0 {
            std::thread::sleep(REST);
        }
    }
    result?;
    out.flush()?;
    Ok(ring.dropped())
}

#[cfg(test)]
mod tests {
    use base::{Counter, Stamp, StampSource, Verdict, WallNanos};
    use serde_json::{Value, json};

    use super::*;

    fn probe(sequence: u32) -> ProbeResult {
        let stamp = |at, source| {
            Some(Stamp {
                at: WallNanos(at),
                source,
            })
        };
        ProbeResult {
            reflector_sources_known: true,
            sequence,
            reflector_sequence: Some(sequence + 2),
            source_port: 40_000,
            stamps: [
                stamp(1_000, StampSource::Kernel),
                stamp(1_700_000_000_123_456_789, StampSource::Hardware),
                stamp(3_000, StampSource::User),
                None,
            ],
            rtt_ns: Some(-5),
            schedule_error_ns: None,
            ttl_forward: Some(253),
            ttl_reverse: None,
            verdict: Verdict::Discarded(Counter::DiscardedClockStep),
        }
    }

    #[test]
    fn a_line_is_json_with_every_key() {
        let mut text = "rubbish".to_owned();
        line(&mut text, "\"d\\\"b\"", &probe(7));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value,
            json!({
                "target": "d\"b", "seq": 7, "reflector_seq": 9, "source_port": 40_000,
                "t1_ns": 1000, "t1_source": "kernel",
                "t2_ns": 1_700_000_000_123_456_789_u64, "t2_source": "hardware",
                "t3_ns": 3000, "t3_source": "user", "t4_ns": null, "t4_source": null,
                "ttl_forward": 253, "ttl_reverse": null, "verdict": "clock_step",
                "rtt_ns": -5, "schedule_error_ns": null,
            })
        );
    }

    #[test]
    fn everything_on_the_ring_is_written() {
        let path = std::env::temp_dir().join(format!("netsonde-records-{}", std::process::id()));
        let file = create(&path, "--records").expect("a file");
        let (mut sender, receiver) = record::results::channel(4096);
        let names = ["db".to_owned()];
        let recorder = Recorder::start(file, &path, &names, receiver).expect("a thread");
        for sequence in 0..4096 {
            assert!(sender.push((TargetKey(0), probe(sequence))));
        }
        recorder.finish().expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        std::fs::remove_file(&path).expect("removed");
        let sequences: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_u64())
            .map(|seq| seq.expect("a number"))
            .collect();
        assert_eq!(sequences, (0..4096).collect::<Vec<u64>>());
    }

    #[test]
    fn a_full_disk_and_a_full_ring_are_told() {
        let file = create(Path::new("/dev/full"), "--records").expect("opens");
        let (mut sender, receiver) = record::results::channel(8);
        let recorder = Recorder::start(file, Path::new("/dev/full"), &["a".to_owned()], receiver)
            .expect("a thread");
        sender.push((TargetKey(0), probe(1)));
        let failure = recorder.finish().expect_err("no space");
        assert_eq!(failure.exit, crate::exit::Exit::Incomplete);
        assert!(failure.message.contains("No space left"), "{failure}");
        assert!(create(Path::new("/nowhere/x"), "--records").is_err());
    }
}
