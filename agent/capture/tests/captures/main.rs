//! The file reader and the writer against what tshark says of the public captures.
//! And the seeds of the fuzz targets, replayed.
#![forbid(unsafe_code)]

// By this name the checks of the fuzz targets know the crate.
extern crate netsonde_capture as capture;

#[path = "../../../../tests/fuzz/checks/capture_file.rs"]
mod capture_file;
#[path = "../../../../tests/fuzz/checks/filter.rs"]
mod filter;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::LinkType;
use capture::{Drops, FileSource, Polled, Source, WriteOptions, Writer};

/// What tshark 4.0.17 says: see `table.py`.
const TABLE: &str = include_str!("table.txt");

/// The public captures, or `None` with a word about it.
fn captures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/pcaps");
    let folder = std::env::var_os("NETSONDE_PCAPS").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no captures");
    None
}

/// tshark's number of an encapsulation (frame.encap_type).
fn encapsulation(link: LinkType) -> u8 {
    match link {
        LinkType::Ethernet => 1,
        LinkType::Ppp => 4,
        LinkType::Raw => 7,
        other => panic!("{other:?} is in no capture"),
    }
}

/// A line as in the table, and all that was lent up to the end.
fn summary(name: &str, source: &mut FileSource) -> String {
    let (mut frames, mut captured, mut original) = (0_u64, 0_usize, 0_u64);
    let (mut first, mut last) = (None, 0);
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut line = String::new();
    loop {
        let mut lent = 0;
        let polled = source.poll(Duration::ZERO, |batch| {
            lent += batch.len();
            for frame in batch {
                frames += 1;
                captured += frame.bytes.len();
                original += u64::from(frame.original_len);
                first.get_or_insert(frame.at.0);
                last = frame.at.0;
                line.clear();
                let link = encapsulation(frame.link);
                writeln!(
                    line,
                    "{last} {} {} {link}",
                    frame.bytes.len(),
                    frame.original_len
                )
                .expect("a string takes everything");
                for octet in line.bytes() {
                    digest = (digest ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
                }
            }
        });
        match polled.expect("a whole file") {
            Polled::End => break,
            Polled::Frames(count) => assert_eq!(count, lent),
            Polled::Quiet => panic!("a file is never quiet"),
        }
    }
    let first = first.unwrap_or(0);
    format!("{name} {frames} {captured} {original} {first} {last} {digest:016x}")
}

#[test]
fn every_frame_is_as_tshark_shows_it() {
    let Some(folder) = captures() else { return };
    for expected in TABLE.lines() {
        let name = expected.split(' ').next().expect("a name");
        let mut source = FileSource::open(folder.join(name)).expect("a capture");
        assert_eq!(summary(name, &mut source), expected);
    }
    let there = std::fs::read_dir(&folder).expect("the folder").flatten();
    let there = there.filter(|entry| entry.file_name().to_string_lossy().contains(".pcap"));
    assert_eq!(there.count(), TABLE.lines().count());
}

#[test]
fn what_is_written_reads_back_the_same() {
    let Some(folder) = captures() else { return };
    let path = std::env::temp_dir().join(format!("netsonde-written-{}", std::process::id()));
    for expected in TABLE.lines() {
        let name = expected.split(' ').next().expect("a name");
        let mut source = FileSource::open(folder.join(name)).expect("a capture");
        let mut writer = Writer::create(WriteOptions {
            path: path.clone(),
            snaplen: 0,
            device: name.to_owned(),
            link: LinkType::Ethernet,
            filter: String::new(),
            file_bytes: None,
            files: None,
        })
        .expect("a file");
        let mut given = 0;
        while source
            .poll(Duration::ZERO, |frames| {
                given += frames.len() as u64;
                writer.write(frames);
            })
            .expect("a whole file")
            != Polled::End
        {}
        let (counts, result) = writer.finish(given, Drops::default());
        result.expect("written");
        assert_eq!((counts.written, counts.not_written), (given, 0), "{name}");
        let mut written = FileSource::open(&path).expect("what was written");
        assert_eq!(summary(name, &mut written), expected);
    }
    std::fs::remove_file(path).expect("removed");
}

/// Runs a check on every seed of its fuzz target.
fn replay(target: &str, least: usize, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    let seeds = std::fs::read_dir(corpus.join(target)).expect("the corpus");
    let mut count = 0;
    for seed in seeds {
        check(&std::fs::read(seed.expect("an entry").path()).expect("a seed"));
        count += 1;
    }
    assert!(count >= least, "{count} seeds");
}

#[test]
fn the_seeds_of_the_file_reader() {
    replay("capture_file", 15, capture_file::check);
    for path in captures().into_iter().flat_map(std::fs::read_dir).flatten() {
        let file = std::fs::read(path.expect("an entry").path()).expect("a file");
        // A part of it: the check looks for every frame.
        capture_file::check(&[&[77], &file[..file.len().min(20_000)]].concat());
    }
}

#[test]
fn the_seeds_of_the_filter() {
    replay("filter", 20, filter::check);
}
