//! Any frames, at any times, through the analyser: none gets lost, and no flow does.
//!
//! Records: an octet of passage, link and merging, the time since the last one in
//! microseconds (signed), the length, the frame.

use base::{FlowEnd, Frame, LinkType, Observation, Passage, WallNanos};
use measure::passive::{Analyser, Classifier, Counters, Duplicates, Options};

struct Record<'a> {
    about: u8,
    step_us: i32,
    frame: &'a [u8],
}

fn records(data: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (&[about, t0, t1, t2, t3, l0, l1], after) = rest.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes([l0, l1])).min(after.len());
        let (frame, after) = after.split_at(len);
        rest = after;
        let step_us = i32::from_le_bytes([t0, t1, t2, t3]);
        Some(Record {
            about,
            step_us,
            frame,
        })
    })
}

fn frames(data: &[u8]) -> Vec<Frame<'_>> {
    let mut now = 1_700_000_000_000_000_000u64;
    let mut all = Vec::new();
    for record in records(data) {
        now = now.wrapping_add_signed(i64::from(record.step_us) * 1000);
        all.push(Frame {
            bytes: record.frame,
            original_len: record.frame.len() as u32,
            at: WallNanos(now),
            segment_bytes: if record.about & 4 == 0 { 0 } else { 536 },
            link: LinkType::ALL[usize::from(record.about >> 3) % LinkType::COUNT],
            passage: match record.about & 3 {
                1 => Passage::Received,
                2 => Passage::Sent,
                _ => Passage::Unknown,
            },
        });
    }
    all
}

fn run(options: Options, frames: &[Frame<'_>], batch: usize) -> (Counters, Vec<String>) {
    let flows = options.flows;
    let mut analyser = Analyser::new(options);
    let mut said = Vec::new();
    let mut ended = [0; FlowEnd::COUNT];
    let mut newest = 0;
    let mut emit = |number: u64, one: Observation| {
        newest = newest.max(number);
        if let Observation::Ended { end, .. } = one {
            ended[end.index()] += 1;
        }
        said.push(format!("{number} {one:?}"));
    };
    for frames in frames.chunks(batch) {
        analyser.batch(frames, &mut emit);
        assert_eq!(analyser.counters().balance(), 0);
        assert!(analyser.active() <= flows);
        assert_eq!(analyser.flows().count(), analyser.active() as usize);
    }
    if let Some(last) = frames.last() {
        analyser.tick(last.at, &mut emit);
    }
    analyser.finish(&mut emit);
    let counters = analyser.counters();
    assert_eq!(counters.frames, frames.len() as u64);
    assert!(newest <= counters.frames);
    assert_eq!(counters.ended, ended);
    assert_eq!(counters.flows, ended.iter().sum::<u64>());
    assert_eq!(analyser.active(), 0);
    (counters, said)
}

/// The same for a fuzzer, for random octets and for what once went wrong.
pub(crate) fn check(data: &[u8]) {
    let frames = frames(data);
    for (flows, segments) in [(3, 16), (200, 1000)] {
        for (classifier, duplicates) in [
            (Classifier::Tshark, Duplicates::Apart),
            (Classifier::Tcptrace, Duplicates::Classify),
        ] {
            let mut options = Options::new([7; 8]);
            options.classifier = classifier;
            options.duplicates = duplicates;
            (options.flows, options.segments) = (flows, segments);
            let once = run(options.clone(), &frames, 32);
            let again = run(options, &frames, 32);
            assert!(once == again, "not the same twice");
        }
    }
}
