//! Where segments were lost: ours against the relays' logs, and against frames that only the
//! capture lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base::Direction::{self, Forward, Reverse};
use lab::RelayLog;
use lab::relay::{Record, Verdict};
use lab::tcp::{Captured, Place, Scenario};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, trial};

use crate::captures::{fresh, scenarios, scratch};
use crate::ours::{self, Analysed, analyse};
use crate::tshark;

/// At most this share may be placed wrongly or not at all.
const LIMIT: f64 = 0.01;
/// Octets that a SYN or a FIN takes (RFC 9293 section 3.4).
const SYN: u8 = 0x02;
const FIN: u8 = 0x01;

/// Scenarios in which the relay loses what was sent.
const LOSSY: &[&str] = &[
    "loss",
    "loss-both",
    "loss-plain",
    "loss-no-timestamps",
    "loss-bbr",
    "near",
    "both-ways",
    "middle",
];

/// Where the packets do not say what happened, and why.
const UNKNOWABLE: &[(&str, Place, &str)] = &[(
    "loss-plain",
    Place::Client,
    "without SACK and timestamps nothing tells a needless retransmission from a needed one",
)];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for scenario in scenarios() {
        if LOSSY.contains(&scenario.name.as_str()) {
            let title = format!("loss::placed_{}", scenario.name);
            trials.push(trial(&title, missing, move || placed(&scenario)));
        } else if scenario.name == "clean" {
            trials.push(trial(
                "loss::what_only_the_capture_lost_is_no_loss",
                missing,
                move || capture_drops(&scenario),
            ));
        }
    }
    trials
}

/// A lost segment: the port of the client names the flow.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Lost {
    port: u16,
    start: u32,
    length: u32,
}

fn segment(record: &Record) -> Option<Lost> {
    let tcp = record.tcp?;
    let flags = u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
    let length = u32::from(tcp.payload) + flags;
    let port = match record.direction {
        Forward => record.ports.0,
        Reverse => record.ports.1,
    };
    (length > 0).then_some(Lost {
        port,
        start: tcp.sequence,
        length,
    })
}

/// All that were lost behind the probe: each was seen there.
fn lost_after(log: &RelayLog, direction: Direction) -> Vec<Lost> {
    log.lost(direction).filter_map(segment).collect()
}

/// Those that left a hole at a probe behind these relays. A copy that is lost of what passed
/// before, or of what was lost before, leaves none.
fn lost_before(logs: &[&RelayLog], direction: Direction) -> Vec<Lost> {
    let records = logs.iter().flat_map(|log| log.of(direction));
    let mut records: Vec<&Record> = records.filter(|record| record.copy == 0).collect();
    records.sort_by_key(|record| record.in_ns);
    // What passed a first relay and is lost at the second has not passed both.
    let mut passes: BTreeMap<(u16, u32), usize> = BTreeMap::new();
    let mut holes = BTreeSet::new();
    let mut lost = Vec::new();
    for record in records {
        let Some(segment) = segment(record) else {
            continue;
        };
        let key = (segment.port, segment.start);
        let passed = passes.entry(key).or_default();
        if record.verdict == Verdict::Lost {
            // As often as there are relays: there.
            if *passed < logs.len() && holes.insert(key) {
                lost.push(segment);
            }
            *passed = 0;
        } else if *passed < logs.len() {
            *passed += 1;
        }
    }
    lost
}

/// How many of those may not show: a flight's tail, behind which nothing passed until it was
/// sent again, comes in order to a probe behind the relays.
fn tails(logs: &[&RelayLog], direction: Direction, lost: &[Lost]) -> u64 {
    let records = logs.iter().flat_map(|log| log.of(direction));
    let mut records: Vec<&Record> = records.filter(|record| record.copy == 0).collect();
    records.sort_by_key(|record| record.in_ns);
    let hidden = |hole: &&Lost| {
        let mut begun = false;
        for record in &records {
            let Some(segment) = segment(record).filter(|one| one.port == hole.port) else {
                continue;
            };
            let gone = record.verdict == Verdict::Lost;
            let behind = segment.start.wrapping_sub(hole.start);
            if behind == 0 {
                if begun && !gone {
                    return true;
                }
                begun |= gone;
            } else if begun && !gone && behind < 1 << 31 {
                return false;
            }
        }
        true
    };
    lost.iter().filter(hidden).count() as u64
}

/// What happened to the data of the client (forward) or the server (reverse), seen from a
/// place: lost before it
/// (and how many of these may not show), lost after it.
fn truth(captured: &Captured, place: Place, direction: Direction) -> ((Vec<Lost>, u64), Vec<Lost>) {
    let (first, second) = (&captured.log, &captured.second);
    let after = |logs: &[&RelayLog]| {
        let all = logs.iter().flat_map(|log| lost_after(log, direction));
        all.collect::<Vec<Lost>>()
    };
    let before = |logs: &[&RelayLog]| {
        let lost = lost_before(logs, direction);
        let hidden = tails(logs, direction, &lost);
        (lost, hidden)
    };
    // Without a second relay its log is empty, and it passes nothing on.
    let both: &[&RelayLog] = if second.records.is_empty() {
        &[first]
    } else {
        &[first, second]
    };
    match (place, direction) {
        (Place::Client, Forward) | (Place::Server, Reverse) => ((Vec::new(), 0), after(both)),
        (Place::Server, Forward) | (Place::Client, Reverse) => (before(both), Vec::new()),
        (Place::Middle, Forward) => (before(&[first]), after(&[second])),
        (Place::Middle, Reverse) => (before(&[second]), after(&[first])),
    }
}

fn allowed(count: usize) -> u64 {
    // One more than the share: a FIN may be lost last.
    (count as f64 * LIMIT).floor() as u64 + 1
}

fn placed(scenario: &Scenario) -> Result<()> {
    let captured = fresh(scenario)?;
    let mut wrong = Vec::new();
    for (place, path) in &captured.files {
        let unknowable = UNKNOWABLE
            .iter()
            .any(|(name, known, _)| *name == scenario.name && known == place);
        if unknowable {
            continue;
        }
        let ours = analyse(path, ours::DEFAULT)?;
        for (sender, direction) in [("near", Forward), ("remote", Reverse)] {
            let ((before, tails), after) = truth(&captured, *place, direction);
            let count = |name: &str| ours.number(&["loss", sender, name]);
            for (name, wanted, hidden) in [
                ("before", before.len(), tails),
                ("after", after.len(), 0),
                ("capture", 0, 0),
            ] {
                let got = count(name)?;
                let (most, off) = (wanted as u64, allowed(wanted));
                if got > most + off || got + hidden + off < most {
                    wrong.push(format!(
                        "at the {}, sent by {sender}: {name} {got}, the relay says {wanted} ({})",
                        place.name(),
                        ours.report["loss"][sender]
                    ));
                }
            }
            if !ours.placed.is_empty() {
                for (name, wanted, hidden) in [("before", &before, tails), ("after", &after, 0)] {
                    let found = one_by_one(path, &ours, direction, name, wanted, hidden)
                        .with_context(|| format!("at the {}", place.name()))?;
                    wrong.extend(found);
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Each placed loss has a lost segment, and the other way round; what does not fit, in words.
fn one_by_one(
    path: &Path,
    ours: &Analysed,
    direction: Direction,
    name: &str,
    wanted: &[Lost],
    hidden: u64,
) -> Result<Option<String>> {
    let frames = tshark::segments(path)?;
    let mut open = wanted.to_vec();
    let mut surplus = 0u64;
    let sender = match direction {
        Forward => "near",
        Reverse => "remote",
    };
    let of_ours = ours.placed.iter();
    for placed in of_ours.filter(|placed| placed.place == name && placed.sender == sender) {
        let segment = frames.get(&placed.frame).context("a frame with TCP")?;
        let from_client = segment.ports.1 == lab::tcp::PORT;
        let by_sender = from_client == (direction == Forward);
        let port = if from_client {
            segment.ports.0
        } else {
            segment.ports.1
        };
        for _ in 0..placed.segments {
            let fits = open.iter().position(|lost| {
                // Shown by an acknowledgement: that it covers it is all that can be said.
                let covered = segment.acknowledged.wrapping_sub(lost.start) < 1 << 31;
                // Shown by a copy: they overlap; both are short against 2^31.
                let behind = segment.sequence.wrapping_sub(lost.start) < lost.length;
                let ahead = lost.start.wrapping_sub(segment.sequence) < segment.length.max(1);
                lost.port == port && if by_sender { behind || ahead } else { covered }
            });
            match fits {
                Some(at) => drop(open.remove(at)),
                None => surplus += 1,
            }
        }
    }
    let allowed = allowed(wanted.len());
    let missed = open.len() as u64;
    Ok((missed > allowed + hidden || surplus > allowed).then(|| {
        format!(
            "{name}: of {} lost segments {missed} are not placed, {surplus} are too many",
            wanted.len()
        )
    }))
}

/// One frame in a hundred is missing from captures of traffic that lost nothing.
fn capture_drops(scenario: &Scenario) -> Result<()> {
    let captured = fresh(scenario)?;
    for (place, path) in &captured.files {
        let thinned = thin(path, 100)?;
        let whole = analyse(path, ours::DEFAULT)?;
        let ours = analyse(&thinned, ours::DEFAULT)?;
        for sender in ["near", "remote"] {
            let attributed = |to: &Analysed| -> Result<u64> {
                let count = |name: &str| to.number(&["loss", sender, name]);
                Ok(count("before")? + count("after")? + count("reordered")?)
            };
            // A kernel that was held up may send something again though nothing was lost.
            ensure!(
                attributed(&ours)? <= attributed(&whole)?,
                "at the {}, sent by {sender}: {}, of the whole capture {}",
                place.name(),
                ours.report["loss"][sender],
                whole.report["loss"][sender]
            );
        }
        // The data are the client's.
        let seen = ours.number(&["loss", "near", "capture"])?;
        ensure!(seen > 0, "the capture's losses are not seen at all");
        std::fs::remove_file(thinned)?;
    }
    Ok(())
}

/// A copy of a classic pcap file without one record in `every`, chosen at random but for the
/// first ones, by which a connection is known.
fn thin(path: &Path, every: u64) -> Result<PathBuf> {
    const HEADER: usize = 24;
    const RECORD: usize = 16;
    let bytes = std::fs::read(path)?;
    let mut kept = bytes.get(..HEADER).context("cut short")?.to_vec();
    let mut at = HEADER;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut number = 0;
    while at < bytes.len() {
        let length = bytes.get(at + 8..at + 12).context("cut short")?;
        let length = u32::from_le_bytes(*length.first_chunk().context("a word")?) as usize;
        let record = bytes.get(at..at + RECORD + length).context("cut short")?;
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if number < 20 || !state.is_multiple_of(every) {
            kept.extend(record);
        }
        number += 1;
        at += record.len();
    }
    let name = path.file_name().context("a file")?.to_string_lossy();
    let thinned = scratch()?.join(format!("thinned-{name}"));
    std::fs::write(&thinned, kept)?;
    Ok(thinned)
}
