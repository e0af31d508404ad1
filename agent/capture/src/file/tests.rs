use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::os::fd::AsRawFd;

use proptest::prelude::*;

use super::*;

/// A frame, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    at: u64,
    bytes: Vec<u8>,
    original: u32,
    link: LinkType,
    passage: Passage,
}

/// Everything that is lent, and how it ended.
fn drain(source: &mut FileSource) -> (Vec<Seen>, Result<(), SourceError>) {
    let mut seen = Vec::new();
    loop {
        let before = seen.len();
        let polled = source.poll(Duration::ZERO, |frames| {
            assert!((1..=BATCH).contains(&frames.len()));
            seen.extend(frames.iter().map(|frame| Seen {
                at: frame.at.0,
                bytes: frame.bytes.to_vec(),
                original: frame.original_len,
                link: frame.link,
                passage: frame.passage,
            }));
        });
        match polled {
            Ok(Polled::Frames(count)) => assert_eq!(count, seen.len() - before),
            Ok(Polled::End) => return (seen, Ok(())),
            Ok(Polled::Quiet) => panic!("quiet, but nothing to wait for"),
            Err(error) => {
                // Told once; the end is the end.
                let again = source.poll(Duration::ZERO, |_| panic!("lent after an error"));
                assert_eq!(again.expect("no second error"), Polled::End);
                return (seen, Err(error));
            }
        }
    }
}

fn read(file: &[u8]) -> (Vec<Seen>, Result<(), SourceError>) {
    let reader = Cursor::new(file.to_vec());
    drain(&mut FileSource::from_reader("file", reader).expect("a capture"))
}

fn refused(file: &[u8]) -> String {
    match FileSource::from_reader("FILE", Cursor::new(file.to_vec())) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

/// Writes files in either byte order.
#[derive(Clone, Default)]
struct Builder {
    out: Vec<u8>,
    big: bool,
}

impl Builder {
    fn new(big: bool) -> Self {
        Self {
            out: Vec::new(),
            big,
        }
    }

    fn u8s(mut self, octets: &[u8]) -> Self {
        self.out.extend_from_slice(octets);
        self
    }

    fn u16(self, value: u16) -> Self {
        let octets = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.u8s(&octets)
    }

    fn u32(self, value: u32) -> Self {
        let octets = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.u8s(&octets)
    }

    fn pad(mut self) -> Self {
        while !self.out.len().is_multiple_of(4) {
            self.out.push(0);
        }
        self
    }

    fn pcap(self, magic: u32, link: u32) -> Self {
        let head = self.u32(magic).u16(2).u16(4);
        head.u32(0).u32(0).u32(96).u32(link)
    }

    fn record(self, seconds: u32, fraction: u32, original: u32, octets: &[u8]) -> Self {
        let head = self.u32(seconds).u32(fraction);
        head.u32(octets.len() as u32).u32(original).u8s(octets)
    }

    /// A block around what `body` writes.
    fn block(self, kind: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let body = body(Self::new(self.big)).pad().out;
        let length = body.len() as u32 + 12;
        self.u32(kind).u32(length).u8s(&body).u32(length)
    }

    fn option(self, code: u16, value: &[u8]) -> Self {
        self.u16(code).u16(value.len() as u16).u8s(value).pad()
    }

    fn section(self) -> Self {
        self.block(0x0a0d_0d0a, |body| {
            let head = body.u32(0x1a2b_3c4d).u16(1).u16(0);
            head.u32(u32::MAX).u32(u32::MAX).option(4, b"odd").u32(0)
        })
    }

    fn interface(self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Self {
        self.block(1, |body| {
            let mut body = body.u16(link).u16(0).u32(snaplen);
            for (code, value) in options {
                body = body.option(*code, value);
            }
            body.u32(0)
        })
    }

    fn enhanced(self, interface: u32, units: u64, octets: &[u8], flags: Option<u32>) -> Self {
        self.block(6, |body| {
            let head = body.u32(interface).u32((units >> 32) as u32);
            let head = head.u32(units as u32).u32(octets.len() as u32);
            let body = head.u32(octets.len() as u32 + 7).u8s(octets).pad();
            match flags {
                // A comment before it, and no end of options: both are allowed.
                Some(flags) => body.option(1, b"x").u16(2).u16(4).u32(flags),
                None => body,
            }
        })
    }
}

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for big in [false, true] {
        for (magic, fraction_ns) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1), (0xa1b2_cd34, 1000)] {
            let mut file = Builder::new(big).pcap(magic, 101);
            let mut expected = Vec::new();
            // More than one batch, and than one poll; lengths from 0 on.
            for index in 0..1500_u32 {
                let bytes = vec![index as u8; index as usize % 200];
                let original = index % 200 + index % 3;
                file = if magic == 0xa1b2_cd34 {
                    let head = file.u32(index).u32(999_999);
                    let head = head.u32(bytes.len() as u32).u32(original);
                    head.u32(3).u16(8).u8s(&[4, 0]).u8s(&bytes)
                } else {
                    file.record(index, 999_999, original, &bytes)
                };
                expected.push(Seen {
                    at: u64::from(index) * 1_000_000_000 + 999_999 * fraction_ns,
                    bytes,
                    original,
                    link: LinkType::Raw,
                    passage: Passage::Unknown,
                });
            }
            let (seen, end) = read(&file.out);
            end.expect("whole");
            assert_eq!(seen, expected, "{big} {magic:x}");
        }
    }
}

/// Gives one octet, then two, and so on: records end anywhere in a read.
struct Dribble(Cursor<Vec<u8>>, usize);

impl Read for Dribble {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 300 + 1;
        let most = self.1.min(room.len());
        self.0.read(&mut room[..most])
    }
}

#[test]
fn pcapng_with_everything() {
    for first_big in [false, true] {
        let mut file = Builder::new(first_big);
        for big in [first_big, !first_big] {
            file.big = big;
            let offset = if big {
                (-3_i64).to_be_bytes()
            } else {
                (-3_i64).to_le_bytes()
            };
            file = file
                .section()
                .interface(1, 0, &[(2, b"eth0")])
                .interface(101, 0, &[(9, &[9])])
                .interface(276, 0, &[(9, &[0x80 | 20]), (14, &offset)])
                .interface(1, 4, &[(9, &[12])])
                .block(4, |body| body.u32(0))
                .enhanced(0, 5_000_001, b"micro", None)
                .enhanced(1, 7_000_000_001, b"nano", Some(1))
                .enhanced(2, 9 << 20 | 1 << 19, &[0; 21], Some(2))
                .enhanced(3, 11_000_000_002_999, b"pico", Some(3))
                // Custom, skipped: larger than the window.
                .block(0x0bad, |body| body.u8s(&vec![0; 900_000]))
                .block(3, |body| body.u32(6).u8s(b"simple"))
                .block(2, |body| {
                    let head = body.u16(1).u16(77).u32(1).u32(2);
                    head.u32(3)
                        .u32(9)
                        .u8s(b"old")
                        .pad()
                        .option(2, &[1, 0, 0, 1])
                })
                // Everything a section forgets: its interfaces.
                .section()
                .interface(113, 3, &[])
                .block(3, |body| body.u32(6).u8s(b"\0\x04i"))
                .enhanced(0, 1, &[0, 3], None);
        }
        let seen = |at, bytes: &[u8], original, link, passage| Seen {
            at,
            bytes: bytes.to_vec(),
            original,
            link,
            passage,
        };
        use LinkType::{Ethernet, LinuxCooked, LinuxCooked2, Raw};
        use Passage::{Received, Sent, Unknown};
        let once = [
            seen(5_000_001_000, b"micro", 12, Ethernet, Unknown),
            seen(7_000_000_001, b"nano", 11, Raw, Received),
            // 9.5 s - 3 s.
            seen(6_500_000_000, &[0; 21], 28, LinuxCooked2, Sent),
            seen(11_000_000_002, b"pico", 11, Ethernet, Unknown),
            // The time of the one before.
            seen(11_000_000_002, b"simple", 6, Ethernet, Unknown),
            seen(1 << 32 | 2, b"old", 9, Raw, Received),
            seen(1 << 32 | 2, b"\0\x04i", 6, LinuxCooked, Sent),
            seen(1000, &[0, 3], 9, LinuxCooked, Unknown),
        ];
        let expected = [once.clone(), once].concat();
        let (found, end) = read(&file.out);
        end.expect("whole");
        assert_eq!(found, expected);
        let slow = Dribble(Cursor::new(file.out), 0);
        let (found, end) = drain(&mut FileSource::from_reader("slow", slow).expect("pcapng"));
        end.expect("whole");
        assert_eq!(found, expected);
    }
}

#[test]
fn resolutions() {
    // What a unit of 10^-e or 2^-e seconds is, reckoned with 128 bits.
    for octet in 0..=255_u8 {
        let exponent = u32::from(octet & 0x7f);
        for units in [0, 1, 999_999_999, 1_700_000_000_123_456_789, u64::MAX] {
            let ns = u128::from(units) * 1_000_000_000;
            let exact = if octet & 0x80 == 0 {
                10_u128.checked_pow(exponent).map_or(0, |each| ns / each)
            } else {
                ns.checked_shr(exponent).unwrap_or(0)
            };
            let exact = u64::try_from(exact).unwrap_or(u64::MAX);
            let found = pcapng::nanoseconds(octet, units);
            assert_eq!(found, exact, "{octet:#x} {units}");
        }
    }
}

#[test]
fn contradictions() {
    let pcap = Builder::new(false)
        .pcap(0xa1b2_c3d4, 1)
        .record(1, 0, 60, b"good");
    // An original length below the captured one: the octets are there.
    let (seen, end) = read(&pcap.clone().record(2, 0, 0, b"octets").out);
    end.expect("whole");
    assert_eq!((seen[1].bytes.len(), seen[1].original), (6, 6));

    let length = pcap.out.len() as u64;
    let corrupt = |file: Builder| {
        let (seen, end) = read(&file.out);
        assert_eq!(seen.len(), 1, "what comes before is lent");
        end.expect_err("corrupt").to_string()
    };
    let impossible = pcap.clone().u32(0).u32(0).u32(0x8000_0000).u32(60);
    assert_eq!(
        corrupt(impossible),
        format!("file: a record of impossible length at byte {length}")
    );
    let cut = pcap.clone().u32(0).u32(0).u32(100).u32(60).u8s(b"not 100");
    assert_eq!(
        corrupt(cut),
        format!("file: the file ends within a record at byte {length}")
    );
    let cut = pcap.u8s(b"abc");
    assert_eq!(
        corrupt(cut),
        format!("file: the file ends within a record's header at byte {length}")
    );

    let whole = Builder::new(false).section().interface(1, 0, &[]);
    let whole = whole.enhanced(0, 1, b"good", None);
    let length = whole.out.len();
    let block = |kind, length: u32| whole.clone().u32(kind).u32(length);
    for (file, what) in [
        (block(6, 13), "a block of impossible length"),
        (block(6, 8), "a block of impossible length"),
        (block(6, 0x7fff_fff0), "a block of impossible length"),
        (
            block(9, 0x7fff_fff0).u8s(&[0; 50]),
            "the file ends within a block",
        ),
        (
            block(9, 16).u32(0).u32(20),
            "a block whose two lengths differ",
        ),
        (
            block(6, 16).u32(0).u32(16),
            "a block too short for what it is",
        ),
        (block(1, 12).u32(12), "a block too short for what it is"),
        (
            block(0x0a0d_0d0a, 28).u32(7),
            "a section without byte order",
        ),
        (block(6, 64), "the file ends within a block"),
        (whole.clone().u8s(&[1]), "the file ends within a block"),
    ] {
        let expected = format!("file: {what} at byte {length}");
        assert_eq!(corrupt(file), expected);
    }
    let foreign = whole.clone().enhanced(1, 1, b"whose?", None);
    assert_eq!(
        corrupt(foreign),
        format!("file: a packet of an interface that was not described at byte {length}")
    );
}

#[test]
fn what_is_no_capture_says_the_way_out() {
    for (begin, words) in [
        (&b""[..], "empty: nothing was captured into it"),
        (
            b"\x1f\x8b\x08\0\0\0\0\0",
            "gunzip -c FILE | netsonde capture -r -",
        ),
        (b"\x28\xb5\x2f\xfd....", "zstd -dc"),
        (b"\xfd7zXZ\0\0\0", "xz -dc"),
        (b"BZh91AY", "bzip2 -dc"),
        (b"GET / HTTP/1.1\r\n\r\n", "editcap -F pcapng"),
        (b"\xd4", "editcap -F pcapng"),
        (
            b"\xd4\xc3\xb2\xa1\x02\0\x04\0",
            "only a part of a file header",
        ),
    ] {
        let message = refused(begin);
        assert!(message.contains(words), "{message}");
        assert!(message.starts_with("FILE: ") && !message.contains('\n'));
    }
    let missing = FileSource::open("/nowhere/x.pcap").err().expect("missing");
    assert!(
        missing
            .to_string()
            .starts_with("open on /nowhere/x.pcap: No such file")
    );
    let folder = FileSource::open("/tmp").err().expect("a folder");
    assert!(
        folder
            .to_string()
            .starts_with("read on /tmp: Is a directory")
    );
}

#[test]
fn a_pipe_is_waited_for() {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let file = Builder::new(false).pcap(0xa1b2_c3d4, 1);
    let whole = file.clone().record(1, 0, 9, b"one").record(2, 0, 9, b"two");
    let (head, tail) = whole.out.split_at(24 + 16 + 3 + 5);
    writer.write_all(head).expect("room");
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let mut source = FileSource::open(path).expect("a pipe with a header");
    let mut lent = Vec::new();
    let mut poll = |wait| {
        source
            .poll(wait, |frames| {
                lent.extend(frames.iter().map(|frame| frame.at.0));
            })
            .expect("no error")
    };
    // What is whole is lent at once, the rest waited for.
    assert_eq!(poll(Duration::ZERO), Polled::Frames(1));
    assert_eq!(poll(Duration::ZERO), Polled::Quiet);
    writer.write_all(tail).expect("room");
    assert_eq!(poll(Duration::from_secs(10)), Polled::Frames(1));
    assert_eq!(poll(Duration::ZERO), Polled::Quiet);
    drop(writer);
    assert_eq!(poll(Duration::from_secs(10)), Polled::End);
    assert_eq!(lent, [1_000_000_000, 2_000_000_000]);
}

#[test]
fn a_file_cut_under_the_reader_ends_there() {
    let path = std::env::temp_dir().join(format!("netsonde-cut-{}", std::process::id()));
    let mut file = Builder::new(false).pcap(0xa1b2_c3d4, 1);
    for index in 0..40_000 {
        file = file.record(index, 0, 100, &[0; 100]);
    }
    std::fs::write(&path, &file.out).expect("written");
    let mut source = FileSource::open(&path).expect("a capture");
    assert_eq!(
        source.poll(Duration::ZERO, |_| {}).expect("frames"),
        Polled::Frames(512)
    );
    File::create(&path).expect("truncated");
    let (seen, end) = drain(&mut source);
    std::fs::remove_file(path).expect("removed");
    assert!(seen.len() < 39_488 && end.is_err());
}

/// A file of either format, and where its records end.
fn any_file() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let frame = (0..300_usize, any::<u32>(), prop::option::of(any::<u32>()));
    let frames = prop::collection::vec(frame, 0..80);
    (any::<bool>(), any::<bool>(), frames).prop_map(|(ng, big, frames)| {
        let mut file = Builder::new(big);
        file = if ng {
            file.section().interface(1, 0, &[])
        } else {
            file.pcap(0xa1b2_3c4d, 1)
        };
        let mut ends = vec![file.out.len()];
        if ng {
            ends.push(Builder::new(big).section().out.len());
        }
        for (length, time, flags) in frames {
            let bytes = vec![time as u8; length];
            file = match (ng, flags) {
                (false, _) => file.record(time, time, length as u32, &bytes),
                (true, Some(flags)) if flags % 5 == 0 => {
                    file.block(flags | 0x100, |body| body.u8s(&bytes))
                }
                (true, flags) => file.enhanced(0, u64::from(time), &bytes, flags),
            };
            ends.push(file.out.len());
        }
        (file.out, ends)
    })
}

proptest! {
    #[test]
    fn a_truncated_file_gives_a_prefix((file, ends) in any_file(), at in any::<prop::sample::Index>()) {
        let (whole, end) = read(&file);
        prop_assert!(end.is_ok());
        let at = at.index(file.len() + 1);
        let cut = FileSource::from_reader("cut", Cursor::new(file[..at].to_vec()));
        let header = if file[0] == 0x0a { 4 } else { 24 };
        prop_assert_eq!(cut.is_ok(), at >= header);
        if let Ok(mut source) = cut {
            let (seen, end) = drain(&mut source);
            prop_assert!(whole.starts_with(&seen));
            prop_assert_eq!(end.is_ok(), ends.contains(&at));
            if let Err(SourceError::Corrupt { at: broken, .. }) = end {
                // It says the end of the last whole record.
                let last = ends.iter().filter(|end| **end <= at).max().copied().unwrap_or(0);
                prop_assert_eq!(broken, last as u64);
            }
        }
    }

    #[test]
    fn a_damaged_file_ends_or_is_refused(
        (mut file, _) in any_file(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (at, octet) in damage {
            let at = at.index(file.len());
            file[at] = octet;
        }
        if let Ok(mut source) = FileSource::from_reader("damaged", Cursor::new(file.clone())) {
            let (seen, _) = drain(&mut source);
            // Nothing is lent twice: every frame has its place and its header in the file.
            let octets: usize = seen.iter().map(|frame| frame.bytes.len() + 16).sum();
            prop_assert!(octets <= file.len());
            prop_assert!(seen.iter().all(|frame| frame.original as usize >= frame.bytes.len()));
        }
    }
}
