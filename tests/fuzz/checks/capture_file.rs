//! Any octets as a capture file: no frame from outside of it, each after the one before,
//! nothing lent twice, one end; and the same in one read as in many.
//!
//! Input: one octet, how much each read gives (0: everything), then the file.

use std::io::{self, Cursor, Read};
use std::time::Duration;

use base::{LinkType, Passage};
use capture::{BATCH, DropReason, FileSource, Polled, Source, SourceError};

/// Gives so many octets at most at a time.
struct Slow(Cursor<Vec<u8>>, usize);

impl Read for Slow {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(room.len());
        self.0.read(&mut room[..most])
    }
}

/// What of a frame must not depend on how it was read, and how the file ended.
type Row = (u64, usize, u32, LinkType, Passage);
type End = Result<(), (&'static str, u64)>;

fn read(file: &[u8], most: usize) -> Option<(Vec<Row>, End)> {
    let reader = Slow(Cursor::new(file.to_vec()), most);
    let mut source = match FileSource::from_reader("file", reader) {
        Ok(source) => source,
        Err(SourceError::NotACapture { why, .. }) => {
            assert!(!why.contains('\n'));
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let mut rows: Vec<Row> = Vec::new();
    // Where the next frame can be at the earliest.
    let mut from = 0;
    let end = loop {
        let before = rows.len();
        let polled = source.poll(Duration::ZERO, |frames| {
            assert!((1..=BATCH).contains(&frames.len()));
            for frame in frames {
                assert!(frame.original_len as usize >= frame.bytes.len());
                if let len @ 1.. = frame.bytes.len() {
                    let mut places = file[from..].windows(len);
                    let at = places.position(|octets| octets == frame.bytes);
                    from += at.expect("it is in the file, after the one before") + len;
                }
                let (len, link) = (frame.bytes.len(), frame.link);
                rows.push((frame.at.0, len, frame.original_len, link, frame.passage));
            }
        });
        let newest = rows.iter().map(|row| row.0).max();
        assert_eq!(source.newest().map(|at| at.0), newest);
        match polled {
            Ok(Polled::Frames(count)) => {
                assert!(count > 0 && count == rows.len() - before);
            }
            Ok(Polled::End) => break Ok(()),
            Ok(Polled::Quiet) => panic!("there is nothing to wait for"),
            Err(SourceError::Corrupt { what, at, .. }) => {
                assert_eq!(rows.len(), before, "frames are reported before the error");
                break Err((what, at));
            }
            Err(error) => panic!("{error}"),
        }
    };
    let again = source.poll(Duration::ZERO, |_| panic!("lent after the end"));
    assert_eq!(again.expect("one error at most"), Polled::End);
    let drops = source.drops().expect("no system to ask");
    assert!(DropReason::ALL.iter().all(|reason| drops.get(*reason) == 0));
    // Every frame has at least a simple packet block's 16 octets around it.
    let octets: usize = rows.iter().map(|row| row.1 + 16).sum();
    assert!(octets <= file.len());
    if let Err((_, at)) = end {
        assert!(at <= file.len() as u64);
    }
    Some((rows, end))
}

pub(crate) fn check(data: &[u8]) {
    let Some((&most, file)) = data.split_first() else {
        return;
    };
    let whole = read(file, usize::MAX);
    if most > 0 {
        assert_eq!(read(file, usize::from(most)), whole);
    }
}
