//! The analysis of a capture file without the command around it: the file source and the
//! analyser in one loop, on one thread.
//!
//! Takes the words of `netsonde capture -r` that matter for measurements (`--json`,
//! `--records`, `--flows`, `--classifier`, `--duplicates`), so that benches and oracle tests
//! can run either; with `--json` alone nothing is kept but counts.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base::flow::{Observation, RttMethod, Sender, TcpClass};
use capture::file::FileSource;
use capture::{Polled, Source};
use measure::passive::{Analyser, Classifier, Duplicates, Options};
use serde_json::{Value, json};

struct Words {
    file: PathBuf,
    records: Option<PathBuf>,
    flows: Option<PathBuf>,
    options: Options,
}

fn parse() -> Result<Words> {
    let mut words = std::env::args().skip(1).peekable();
    words.next_if(|word| word == "capture");
    let mut options = Options::new([
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
        0x4528_21e6_38d0_1377,
        0xbe54_66cf_34e9_0c6c,
        0xc0ac_29b7_c97c_50dd,
        0x3f84_d5b5_b547_0917,
    ]);
    let (mut file, mut records, mut flows) = (None, None, None);
    while let Some(word) = words.next() {
        if word == "--json" {
            continue;
        }
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match (word.as_str(), value.as_str()) {
            ("-r", path) => file = Some(PathBuf::from(path)),
            ("--records", path) => records = Some(PathBuf::from(path)),
            ("--flows", path) => flows = Some(PathBuf::from(path)),
            ("--max-flows", number) => {
                options.flows = number.parse()?;
                // As the command does.
                options.segments = options.flows.saturating_mul(2);
            }
            ("--max-segments", number) => options.segments = number.parse()?,
            ("--classifier", "tshark") => options.classifier = Classifier::Tshark,
            ("--classifier", "tcptrace") => options.classifier = Classifier::Tcptrace,
            ("--duplicates", "apart") => options.duplicates = Duplicates::Apart,
            ("--duplicates", "classify") => options.duplicates = Duplicates::Classify,
            _ => bail!("unknown: {word} {value}"),
        }
    }
    Ok(Words {
        file: file.context("-r FILE is missing")?,
        records,
        flows,
        options,
    })
}

/// Counts in place of the program's recorder.
#[derive(Default)]
struct Counts {
    tcp: [u64; TcpClass::COUNT],
    rtt: [u64; RttMethod::COUNT],
    loss: BTreeMap<(usize, &'static str), u64>,
    others: u64,
}

impl Counts {
    fn add(&mut self, observation: &Observation) {
        match observation {
            Observation::Tcp { classes, .. } => {
                for class in classes.iter() {
                    self.tcp[class.index()] += 1;
                }
            }
            Observation::Rtt { method, .. } => self.rtt[method.index()] += 1,
            Observation::Loss {
                sender,
                place,
                segments,
                ..
            } => {
                let key = (sender.index(), place.as_str());
                *self.loss.entry(key).or_default() += u64::from(*segments);
            }
            _ => self.others += 1,
        }
    }
}

/// What one end of a flow that lives did.
#[derive(Copy, Clone, Default)]
struct Side {
    tcp: [u64; TcpClass::COUNT],
    sequence_samples: u64,
}

/// Writes lines for frames and flows.
#[derive(Default)]
struct Lines {
    records: Option<BufWriter<File>>,
    flows: Option<BufWriter<File>>,
    frame: u64,
    line: BTreeMap<&'static str, Vec<Value>>,
    live: BTreeMap<u32, [Side; 2]>,
}

impl Lines {
    fn wanted(&self) -> bool {
        self.records.is_some() || self.flows.is_some()
    }

    fn flush(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        if let Some(file) = self.records.as_mut().filter(|_| !line.is_empty()) {
            let mut document = json!({ "frame": self.frame });
            for (key, values) in line {
                document[key] = values.into();
            }
            writeln!(file, "{document}")?;
        }
        Ok(())
    }

    fn add(&mut self, frame: u64, observation: &Observation) -> Result<()> {
        if frame != self.frame {
            self.flush()?;
            self.frame = frame;
        }
        let mut value = |key, value| self.line.entry(key).or_default().push(value);
        match observation {
            Observation::Tcp {
                flow,
                sender,
                classes,
                ..
            } => {
                let side = &mut self.live.entry(flow.0).or_default()[sender.index()];
                for class in classes.iter() {
                    value("classes", class.as_str().into());
                    side.tcp[class.index()] += 1;
                }
            }
            Observation::Rtt {
                flow,
                method,
                leg,
                ns,
                ..
            } => {
                value(
                    "rtt",
                    json!({ "method": method.as_str(), "leg": leg.as_str(), "ns": ns }),
                );
                if *method == RttMethod::Sequence {
                    let of = Sender::ALL.iter().find(|of| of.leg_to_peer() == *leg);
                    let sides = self.live.entry(flow.0).or_default();
                    sides[of.map_or(0, |of| of.index())].sequence_samples += 1;
                }
            }
            Observation::Loss {
                sender,
                place,
                segments,
                ..
            } => {
                let of = ["near", "remote"][sender.index()];
                value(
                    "loss",
                    json!({ "sender": of, "place": place.as_str(), "segments": segments }),
                );
            }
            Observation::Ended { summary, .. } => {
                let sides = self.live.remove(&summary.flow.0).unwrap_or_default();
                let Some(file) = &mut self.flows else {
                    return Ok(());
                };
                let side = |sender: Sender| {
                    let (address, port) = summary.ends[sender.index()];
                    let (seen, known) = (&sides[sender.index()], &summary.sides[sender.index()]);
                    let count = |class: TcpClass| seen.tcp[class.index()];
                    json!({
                        "address": address.to_string(), "port": port, "packets": known.packets,
                        "retransmissions": count(TcpClass::Retransmission)
                            + count(TcpClass::FastRetransmission)
                            + count(TcpClass::SpuriousRetransmission),
                        // Only the command knows these.
                        "retransmitted_bytes": null,
                        "triple_duplicate_acks": null,
                        "out_of_order": count(TcpClass::OutOfOrder),
                        "duplicate_acks": count(TcpClass::DuplicateAck),
                        "zero_windows": count(TcpClass::ZeroWindow),
                        "zero_window_probes": count(TcpClass::ZeroWindowProbe),
                        "rtt_samples": seen.sequence_samples,
                    })
                };
                let protocol = match summary.protocol {
                    6 => "tcp".to_owned(),
                    17 => "udp".to_owned(),
                    other => other.to_string(),
                };
                let line = json!({ "protocol": protocol, "near": side(Sender::Near), "remote": side(Sender::Remote) });
                writeln!(file, "{line}")?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let words = parse()?;
    let create = |path: Option<PathBuf>| -> Result<Option<BufWriter<File>>> {
        Ok(match path {
            Some(path) => Some(BufWriter::new(File::create(path)?)),
            None => None,
        })
    };
    let mut lines = Lines {
        records: create(words.records)?,
        flows: create(words.flows)?,
        ..Lines::default()
    };
    let mut counts = Counts::default();
    let mut failed = None;
    let mut source = FileSource::open(&words.file)?;
    let mut analyser = Analyser::new(words.options);
    let wanted = lines.wanted();
    let mut take = |frame: u64, observation: Observation| {
        counts.add(&observation);
        if wanted && failed.is_none() {
            failed = lines.add(frame, &observation).err();
        }
    };
    let started = Instant::now();
    while !matches!(
        source.poll(Duration::ZERO, |frames| analyser.batch(frames, &mut take))?,
        Polled::End
    ) {
        if let Some(newest) = source.newest() {
            analyser.tick(newest, &mut take);
        }
    }
    let loop_ns = started.elapsed().as_nanos() as u64;
    analyser.finish(&mut take);
    if let Some(error) = failed {
        return Err(error);
    }
    lines.flush()?;
    let counters = analyser.counters();
    let named = |names: &[&str], values: &[u64]| -> serde_json::Map<String, Value> {
        let pairs = names.iter().zip(values);
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect()
    };
    let classes: Vec<&str> = TcpClass::ALL.iter().map(|class| class.as_str()).collect();
    let methods: Vec<&str> = RttMethod::ALL
        .iter()
        .map(|method| method.as_str())
        .collect();
    let loss = |sender: usize| {
        let mut places = json!({});
        for place in base::flow::LossPlace::ALL {
            let count = counts.loss.get(&(sender, place.as_str()));
            places[place.as_str()] = count.copied().unwrap_or(0).into();
        }
        places
    };
    let report = json!({
        "frames": counters.frames,
        "bytes": counters.bytes,
        "loop_ns": loop_ns,
        "tcp": named(&classes, &counts.tcp),
        "rtt_samples": named(&methods, &counts.rtt),
        "loss": { "near": loss(0), "remote": loss(1) },
        "counters": format!("{counters:?}"),
    });
    println!("{report}");
    Ok(())
}
