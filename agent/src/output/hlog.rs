//! `--hlog FILE`: an HDR interval log (V2, deflated), readable by every HdrHistogram tool.
//!
//! One line per distribution and second, tagged `QUANTITY@TARGET`; values are nanoseconds
//! (packets for `loss_run`). HDR takes no negative values: those of a signed distribution
//! are kept by size in a line of their own, tagged `QUANTITY.negative@TARGET`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Output, Quantity, WallNanos};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::exit::Failure;

const DIGITS: u8 = 3;

/// One distribution of one target in the running interval.
struct Lane {
    tag: String,
    values: Histogram<u64>,
}

/// The log and its running interval.
pub struct HdrLog<W: Write = BufWriter<File>> {
    out: W,
    path: PathBuf,
    serializer: V2DeflateSerializer,
    /// By target, quantity and sign; made when first used.
    lanes: Vec<Option<Lane>>,
    targets: Vec<String>,
    since: WallNanos,
    failed: Option<String>,
}

impl HdrLog {
    /// Makes the file, before anything is measured.
    ///
    /// # Errors
    /// With the usage code if it cannot be made.
    pub fn create(path: &Path, targets: &[String], now: WallNanos) -> Result<Self, Failure> {
        let file = super::records::create(path, "--hlog")?;
        Ok(Self::new(BufWriter::new(file), path, targets, now))
    }
}

impl<W: Write> HdrLog<W> {
    fn new(out: W, path: &Path, targets: &[String], now: WallNanos) -> Self {
        let mut log = Self {
            out,
            path: path.to_owned(),
            serializer: V2DeflateSerializer::new(),
            lanes: Vec::new(),
            // What a tag must not hold.
            targets: targets
                .iter()
                .map(|name| name.replace([',', ' ', '\r', '\n'], "_"))
                .collect(),
            since: now,
            failed: None,
        };
        log.lanes
            .resize_with(targets.len() * Quantity::COUNT * 2, || None);
        // No legend line: readers differ about it, and none needs it.
        let head = format!(
            "#[Logged with netsonde {}]\n#[Histogram log format version 1.3]\n",
            env!("CARGO_PKG_VERSION")
        );
        let result = log.out.write_all(head.as_bytes());
        log.note(result.map_err(|error| error.to_string()));
        log
    }

    /// Takes a value of the target with this number.
    pub fn apply(&mut self, target: usize, output: &Output) {
        let Output::Sample(sample) = output else {
            return;
        };
        let negative = sample.value < 0;
        let place =
            (target * Quantity::COUNT + sample.quantity.index()) * 2 + usize::from(negative);
        let Some(slot) = self.lanes.get_mut(place) else {
            return;
        };
        let lane = slot.get_or_insert_with(|| Lane {
            tag: format!(
                "{}{}@{}",
                sample.quantity.as_str(),
                if negative { ".negative" } else { "" },
                self.targets[target]
            ),
            values: Histogram::new_with_bounds(1, record::distribution::HIGHEST, DIGITS)
                .expect("constant bounds that HDR accepts"),
        });
        lane.values.saturating_record(sample.value.unsigned_abs());
    }

    /// Ends the running interval and writes it.
    pub fn tick(&mut self, now: WallNanos) {
        let length = u64::try_from(now.delta(self.since)).unwrap_or(0);
        let start = Duration::from_nanos(self.since.0);
        self.since = now;
        let mut text = Vec::new();
        for lane in self.lanes.iter_mut().flatten() {
            if lane.values.is_empty() {
                continue;
            }
            // The builder's log borrows its writer, so each line has a short-lived one.
            let result = IntervalLogWriterBuilder::new()
                .begin_log_with(&mut text, &mut self.serializer)
                .map_err(|error| error.to_string())
                .and_then(|mut log| {
                    let tag = Tag::new(&lane.tag);
                    log.write_histogram(&lane.values, start, Duration::from_nanos(length), tag)
                        .map_err(|error| error.to_string())
                });
            lane.values.reset();
            if let Err(error) = result {
                self.failed.get_or_insert(error);
            }
        }
        let result = self.out.write_all(&text).map_err(|error| error.to_string());
        self.note(result);
    }

    fn note(&mut self, result: Result<(), String>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }

    /// Writes the last interval.
    ///
    /// # Errors
    /// With the code for "incomplete" if anything could not be written.
    pub fn finish(mut self, now: WallNanos) -> Result<(), Failure> {
        self.tick(now);
        let result = self.out.flush().map_err(|error| error.to_string());
        self.note(result);
        match self.failed {
            None => Ok(()),
            Some(error) => Err(Failure::incomplete(format!(
                "cannot write --hlog {}: {error}; the file is incomplete",
                self.path.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Sample;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    fn sample(quantity: Quantity, value: i64) -> Output {
        Output::Sample(Sample { quantity, value })
    }

    #[test]
    fn a_log_reads_back_by_tag_and_second() {
        let path = std::env::temp_dir().join(format!("netsonde-hlog-{}", std::process::id()));
        let names = ["a b".to_owned(), "::1".to_owned()];
        let at = |second: u64| WallNanos((1_700_000_000 + second) * 1_000_000_000);
        let mut log = HdrLog::create(&path, &names, at(0)).expect("a file");
        for value in 1..=100 {
            log.apply(0, &sample(Quantity::Rtt, value * 1000));
        }
        log.apply(1, &sample(Quantity::ForwardDelay, -7));
        log.apply(1, &Output::Finished);
        log.apply(9, &sample(Quantity::Rtt, 1));
        log.tick(at(1));
        log.apply(0, &sample(Quantity::Rtt, 5_000_000));
        log.finish(at(2)).expect("written");
        let bytes = std::fs::read(&path).expect("readable");
        std::fs::remove_file(&path).expect("removed");
        let mut seen = Vec::new();
        for entry in IntervalLogIterator::new(&bytes) {
            if let Ok(LogEntry::Interval(interval)) = entry {
                let encoded = base64_decode(interval.encoded_histogram());
                let values: Histogram<u64> = Deserializer::new()
                    .deserialize(&mut encoded.as_slice())
                    .expect("a histogram");
                seen.push((
                    interval
                        .tag()
                        .map(|tag| tag.as_str().to_owned())
                        .expect("a tag"),
                    interval.start_timestamp().as_secs() - 1_700_000_000,
                    values.len(),
                    values.max(),
                ));
            }
        }
        let summary: Vec<(&str, u64, u64)> = seen
            .iter()
            .map(|(tag, start, count, _)| (tag.as_str(), *start, *count))
            .collect();
        assert_eq!(
            summary,
            [
                ("rtt@a_b", 0, 100),
                ("forward_delay.negative@::1", 0, 1),
                ("rtt@a_b", 1, 1),
            ]
        );
        assert!((99_900..=100_100).contains(&seen[0].3));
        assert_eq!(seen[1].3, 7);
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let path = Path::new("/dev/full");
        let mut log = HdrLog::create(path, &["a".to_owned()], WallNanos(0)).expect("opens");
        log.apply(0, &sample(Quantity::Rtt, 1));
        let failure = log.finish(WallNanos(1)).expect_err("no space");
        assert_eq!(failure.exit, crate::exit::Exit::Incomplete);
        assert!(failure.message.contains("--hlog /dev/full"));
    }

    /// RFC 4648 section 4, enough for the test.
    fn base64_decode(text: &str) -> Vec<u8> {
        let digit = |c: u8| {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                .iter()
                .position(|known| *known == c)
        };
        let mut out = Vec::new();
        let (mut bits, mut held) = (0_u32, 0);
        for value in text.bytes().filter_map(digit) {
            bits = bits << 6 | u32::try_from(value).expect("six bits");
            held += 6;
            if held >= 8 {
                held -= 8;
                out.push((bits >> held) as u8);
            }
        }
        out
    }
}
