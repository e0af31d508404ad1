use std::process::Command;
use std::time::Duration;

use base::Passage;

use super::*;
use crate::{DropReason, FileSource, Polled, Source};

/// A folder of this test's own, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("netsonde-write-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the folder").flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(path: impl Into<PathBuf>) -> WriteOptions {
    WriteOptions {
        path: path.into(),
        snaplen: 0,
        device: "eth0".to_owned(),
        link: LinkType::Ethernet,
        filter: String::new(),
        file_bytes: None,
        files: None,
    }
}

/// Time, captured octets, original length, link type and passage of each frame.
type Row = (u64, Vec<u8>, u32, LinkType, Passage);

fn read(path: &Path) -> Vec<Row> {
    let mut source = FileSource::open(path).expect("a capture");
    let mut rows = Vec::new();
    loop {
        let polled = source.poll(Duration::ZERO, |frames| {
            rows.extend(frames.iter().map(|frame| {
                let bytes = frame.bytes.to_vec();
                (
                    frame.at.0,
                    bytes,
                    frame.original_len,
                    frame.link,
                    frame.passage,
                )
            }));
        });
        if polled.expect("a whole file") == Polled::End {
            return rows;
        }
    }
}

/// Frame `index`: its length, passage and link type go through all there are.
fn with_frame(index: u64, give: impl FnOnce(&Frame<'_>)) {
    let bytes: Vec<u8> = (0..index % 300).map(|at| (at ^ index) as u8).collect();
    give(&Frame {
        original_len: bytes.len() as u32 + (index % 3) as u32,
        at: WallNanos(1_700_000_000_123_456_789 + index),
        passage: [Passage::Unknown, Passage::Received, Passage::Sent][index as usize % 3],
        link: [LinkType::Ethernet, LinkType::Raw, LinkType::Ppp][index as usize / 5 % 3],
        ..Frame::ethernet(&bytes, WallNanos(0))
    });
}

fn row(index: u64, snaplen: usize) -> Row {
    let mut row = None;
    with_frame(index, |frame| {
        let bytes = frame.bytes.get(..snaplen).unwrap_or(frame.bytes).to_vec();
        row = Some((
            frame.at.0,
            bytes,
            frame.original_len,
            frame.link,
            frame.passage,
        ));
    });
    row.expect("a frame")
}

fn drops(filtered: u64, lost: u64) -> Drops {
    let mut drops = Drops::default();
    drops.add(DropReason::Filtered, filtered);
    drops.add(DropReason::RingFull, lost);
    drops
}

#[test]
fn what_is_written_is_what_was_given() {
    let folder = Folder::new("given");
    for snaplen in [0, 128] {
        let path = folder.0.join("given.pcapng");
        let mut options = options(&path);
        options.snaplen = snaplen;
        let mut writer = Writer::create(options).expect("a file");
        for index in 0..5000 {
            with_frame(index, |frame| writer.write(&[*frame]));
        }
        let counts = writer.counts();
        assert!(counts.written > 0, "the buffer is not without end");
        assert_eq!(counts.written + counts.buffered, 5000);
        let (counts, result) = writer.finish(5010, drops(7, 3));
        result.expect("written");
        assert_eq!(
            counts,
            Written {
                written: 5000,
                files: 1,
                ..Written::default()
            }
        );
        let limit = if snaplen == 0 {
            usize::MAX
        } else {
            snaplen as usize
        };
        let expected: Vec<_> = (0..5000).map(|index| row(index, limit)).collect();
        assert!(read(&path) == expected);
    }
}

#[test]
fn tshark_reads_it() {
    let folder = Folder::new("tshark");
    let path = folder.0.join("x.pcapng");
    let mut options = options(&path);
    options.filter = "tcp or udp".to_owned();
    let mut writer = Writer::create(options).expect("a file");
    for index in 0..100 {
        with_frame(index, |frame| writer.write(&[*frame]));
    }
    writer.finish(123, drops(20, 3)).1.expect("written");
    let fields = [
        "frame.time_epoch",
        "frame.cap_len",
        "frame.len",
        "frame.interface_name",
        "frame.packet_flags_direction",
    ];
    let mut command = Command::new("tshark");
    command
        .arg("-n")
        .arg("-r")
        .arg(&path)
        .args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let Ok(output) = command.output() else {
        return eprintln!("skipped: no tshark");
    };
    let shown = String::from_utf8_lossy(&output.stdout);
    let expected: Vec<String> = (0..100)
        .map(|index| {
            let (at, bytes, original, _, passage) = row(index, usize::MAX);
            let direction = match passage {
                Passage::Unknown => "",
                Passage::Received => "0x00000001",
                Passage::Sent => "0x00000002",
            };
            let (seconds, fraction) = (at / 1_000_000_000, at % 1_000_000_000);
            format!(
                "{seconds}.{fraction:09}\t{}\t{original}\teth0\t{direction}",
                bytes.len()
            )
        })
        .collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    let output = Command::new("capinfos").arg(&path).output();
    let output = output.expect("capinfos comes with tshark");
    let shown = String::from_utf8_lossy(&output.stdout);
    for line in [
        "Capture application: netsonde",
        "Number of interfaces in file: 3",
        "Name = eth0",
        "Time precision = nanoseconds (9)",
        "Filter string = tcp or udp",
        "Number of stat entries = 1",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
}

/// The statistics block at the end of a file: seen, accepted, dropped.
fn statistics(path: &Path) -> [u64; 3] {
    let bytes = std::fs::read(path).expect("the file");
    let block = &bytes[bytes.len() - block::STATISTICS..];
    assert_eq!(block[..4], 5_u32.to_le_bytes());
    let value = |code: u16| {
        let option = [&code.to_le_bytes()[..], &[8, 0]].concat();
        let at = block.windows(4).position(|window| window == option);
        let at = at.expect("the option") + 4;
        u64::from_le_bytes(block[at..at + 8].try_into().expect("8 octets"))
    };
    [4, 6, 7].map(value)
}

#[test]
fn a_ring_keeps_the_newest_files() {
    let folder = Folder::new("ring");
    let mut ring = options(folder.0.join("ring"));
    ring.file_bytes = Some(10_000);
    ring.files = Some(11);
    let mut writer = Writer::create(ring.clone()).expect("a file");
    let given = 2000;
    for index in 0..given {
        with_frame(index, |frame| writer.write(&[*frame]));
        writer.note(index + 1, drops(0, index));
    }
    let (counts, result) = writer.finish(given, drops(0, given));
    result.expect("written");
    assert_eq!((counts.written, counts.not_written), (given, 0));
    assert!(counts.files > 22, "it went round: {counts:?}");
    let names = folder.names();
    let expected: Vec<_> = (0..11).map(|index| format!("ring{index:02}")).collect();
    assert_eq!(names, expected);
    // The last file and the ten before it, in order, hold the newest frames without a gap.
    let last = (counts.files - 1) % 11;
    let mut rows = Vec::new();
    for offset in 1..=11 {
        let path = folder.0.join(format!("ring{:02}", (last + offset) % 11));
        let length = std::fs::metadata(&path).expect("a file").len();
        assert!(
            (5_000..=10_000).contains(&length) || offset == 11,
            "{length}"
        );
        rows.extend(read(&path));
        // Of the capture up to then: the frames before this file's end.
        let newest = rows.last().expect("a frame").0 - 1_700_000_000_123_456_789;
        assert_eq!(statistics(&path)[0], newest + 1);
    }
    let first = given - rows.len() as u64;
    assert!(
        rows == (first..given)
            .map(|index| row(index, usize::MAX))
            .collect::<Vec<_>>()
    );
}

#[test]
fn names_are_those_of_tcpdump() {
    let mut options = options("x");
    let named = |options: &WriteOptions, count| name(options, count).display().to_string();
    assert_eq!(named(&options, 0), "x");
    options.files = Some(5);
    assert_eq!(named(&options, 0), "x", "no size, no ring");
    options.file_bytes = Some(1);
    for (files, names) in [
        (None, ["x", "x1", "x9", "x10", "x100"]),
        (Some(1), ["x", "x", "x", "x", "x"]),
        (Some(2), ["x0", "x1", "x1", "x0", "x0"]),
        (Some(10), ["x0", "x1", "x9", "x0", "x0"]),
        (Some(11), ["x00", "x01", "x09", "x10", "x01"]),
        (Some(101), ["x000", "x001", "x009", "x010", "x100"]),
    ] {
        options.files = files;
        assert_eq!(
            [0, 1, 9, 10, 100].map(|count| named(&options, count)),
            names
        );
    }
}

#[test]
fn a_full_disk_is_told_once_and_every_frame_counted() {
    // Takes the header of no file.
    let error = Writer::create(options("/dev/full")).err().expect("full");
    assert_eq!(
        error.to_string(),
        "write on /dev/full: No space left on device (os error 28)"
    );
    let error = Writer::create(options("/nowhere/x"))
        .err()
        .expect("nowhere");
    assert!(
        error
            .to_string()
            .starts_with("create on /nowhere/x: No such file")
    );

    // The second file of a ring cannot be created: a folder is in its place.
    let folder = Folder::new("full");
    let path = folder.0.join("x");
    std::fs::create_dir(folder.0.join("x1")).expect("a folder");
    let mut ring = options(&path);
    ring.file_bytes = Some(10_000);
    let mut writer = Writer::create(ring).expect("a file");
    for index in 0..1000 {
        with_frame(index, |frame| writer.write(&[*frame]));
    }
    let told = writer.failure().expect("a failure").to_string();
    assert!(
        told.starts_with("create on ") && told.contains("x1: Is a directory"),
        "{told}"
    );
    assert!(writer.failure().is_none(), "told once");
    with_frame(1000, |frame| writer.write(&[*frame]));
    writer.flush();
    let (counts, result) = writer.finish(1001, Drops::default());
    result.expect("told already");
    assert_eq!(counts.written + counts.not_written, 1001);
    assert_eq!(counts.written, read(&path).len() as u64);
    assert_eq!((counts.files, counts.buffered), (1, 0));
}

/// A small file system, gone at the end.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// A file on a file system of 1 MB: what is left after the failure is whole.
#[test]
fn a_file_on_a_full_disk_stays_whole() {
    let folder = Folder::new("small");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "netsonde-test"])
        .arg(&folder.0)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: cannot mount a small file system");
    }
    let _mounted = Mounted(&folder.0);
    let path = folder.0.join("x.pcapng");
    let mut writer = Writer::create(options(&path)).expect("a file");
    let given = 10_000;
    for index in 0..given {
        with_frame(index, |frame| writer.write(&[*frame]));
    }
    let (counts, result) = writer.finish(given, Drops::default());
    let rows = read(&path);
    let told = result.expect_err("full").to_string();
    assert!(told.contains("No space left on device"), "{told}");
    assert_eq!(counts.written + counts.not_written, given);
    assert!(
        counts.written > 3000 && counts.not_written > 0,
        "{counts:?}"
    );
    assert!(
        rows == (0..counts.written)
            .map(|index| row(index, usize::MAX))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_link_type_without_a_number_is_counted() {
    let folder = Folder::new("other");
    let path = folder.0.join("x");
    let mut options = options(&path);
    options.link = LinkType::Other;
    let mut writer = Writer::create(options).expect("a file");
    let mut other = Frame::ethernet(&[1; 60], WallNanos(1));
    writer.write(&[other]);
    other.link = LinkType::Other;
    writer.write(&[other, other]);
    let (counts, result) = writer.finish(3, Drops::default());
    result.expect("written");
    assert_eq!(
        (counts.written, counts.not_written, counts.unknown_link),
        (1, 2, 2)
    );
    assert_eq!(read(&path).len(), 1);
}
