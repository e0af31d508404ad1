//! The part of a file that is in memory: one buffer, refilled from the front.
//!
//! Owns: the reader and the buffer. What was consumed is dropped, the rest moves to the
//! front, and as much as fits is read behind it. The buffer grows only for a record that
//! does not fit, up to the largest one that is taken.

use std::io::{self, ErrorKind, Read};

/// The size at first: stays in the second-level cache, so that the walk after the read
/// finds everything there.
const BYTES: usize = 256 << 10;

/// What asking for more came to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Refill {
    /// At least one octet more, or skipped some.
    More,
    /// The end of the file.
    End,
}

/// The buffer, and the place in the file where it is.
pub(super) struct Window {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset in the file of `buffer[start]`.
    position: u64,
    /// Octets to pass over before anything counts again.
    skip: u64,
    /// Where passing over began.
    skip_from: u64,
}

impl Window {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self {
            reader,
            buffer: vec![0; BYTES],
            start: 0,
            end: 0,
            position: 0,
            skip: 0,
            skip_from: 0,
        }
    }

    /// What is read and not consumed.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Offset of [`Window::bytes`] in the file.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Gives up the first octets.
    #[inline]
    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.end - self.start);
        self.start += bytes;
        self.position += bytes as u64;
    }

    /// Passes over octets that may not have been read yet.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.skip = bytes;
        self.skip_from = self.position;
        self.pass_over();
    }

    /// Offset of the first one, if some of them were not there yet.
    pub(super) fn skipping(&self) -> Option<u64> {
        (self.skip > 0).then_some(self.skip_from)
    }

    fn pass_over(&mut self) {
        let here = self.skip.min((self.end - self.start) as u64);
        self.skip -= here;
        self.consume(usize::try_from(here).unwrap_or(usize::MAX));
    }

    /// Reads once, with room for a record of at least `record` octets.
    pub(super) fn refill(&mut self, record: usize) -> io::Result<Refill> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < record {
            self.buffer.resize(record.next_power_of_two(), 0);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = loop {
            match self.reader.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += read.min(room.len());
        self.pass_over();
        Ok(if read == 0 { Refill::End } else { Refill::More })
    }
}
