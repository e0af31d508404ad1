//! Classic pcap files with nanoseconds, little-endian, Ethernet: written and read back.
//!
//! A few lines of our own, so that traces do not depend on what is measured with them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Of a file with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;
/// Octets before the first record.
pub const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;
const SECOND_NS: u64 = 1_000_000_000;

/// What was written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Records.
    pub frames: u64,
    /// Octets that the frames had on the wire.
    pub wire_bytes: u64,
}

/// The writing end.
#[derive(Debug)]
pub struct Writer<W = BufWriter<File>> {
    file: W,
    snaplen: usize,
    written: Written,
}

impl Writer {
    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path, snaplen: u16) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Self::to(BufWriter::with_capacity(1 << 20, file), snaplen)
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file that is written to anything.
    ///
    /// # Errors
    /// When it takes nothing.
    pub fn to(mut file: W, snaplen: u16) -> Result<Self> {
        let words = [MAGIC, 2 | 4 << 16, 0, 0, snaplen.into(), ETHERNET];
        for word in words {
            file.write_all(&word.to_le_bytes())?;
        }
        Ok(Self {
            file,
            snaplen: snaplen.into(),
            written: Written::default(),
        })
    }

    /// Adds a frame of which `bytes` are there, and which had `wire_len` on the wire.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(&mut self, at_ns: u64, bytes: &[u8], wire_len: u32) -> Result<()> {
        let kept = bytes.get(..self.snaplen).unwrap_or(bytes);
        let words = [
            u32::try_from(at_ns / SECOND_NS)?,
            u32::try_from(at_ns % SECOND_NS)?,
            u32::try_from(kept.len())?,
            wire_len,
        ];
        let mut head = [0; RECORD_BYTES];
        for (place, word) in head.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.file.write_all(&head)?;
        self.file.write_all(kept)?;
        self.written.frames += 1;
        self.written.wire_bytes += u64::from(wire_len);
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn finish(mut self) -> Result<Written> {
        self.file.flush()?;
        Ok(self.written)
    }
}

/// A frame of a file.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When it was captured.
    pub at_ns: u64,
    /// What is kept of it.
    pub bytes: &'a [u8],
    /// Octets that it had.
    pub wire_len: u32,
}

/// The frames of a file that is in memory.
///
/// # Errors
/// When it is none of ours, or cut short.
pub fn records(file: &[u8]) -> Result<Vec<Record<'_>>> {
    let word = |at: usize| -> Result<u32> {
        let bytes = file.get(at..at + 4).context("cut short")?;
        Ok(u32::from_le_bytes(*bytes.first_chunk().context("a word")?))
    };
    ensure!(word(0)? == MAGIC && word(20)? == ETHERNET, "another format");
    let mut records = Vec::new();
    let mut at = HEADER_BYTES;
    while at < file.len() {
        let length = word(at + 8)? as usize;
        let start = at + RECORD_BYTES;
        records.push(Record {
            at_ns: u64::from(word(at)?) * SECOND_NS + u64::from(word(at + 4)?),
            bytes: file.get(start..start + length).context("cut short")?,
            wire_len: word(at + 12)?,
        });
        at = start + length;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("netsonde-pcap-{}", std::process::id()));
        let mut writer = Writer::create(&path, 4).expect("create");
        let at_ns = 1_700_000_000 * SECOND_NS + 999_999_999;
        writer.write(at_ns, &[1, 2, 3], 3).expect("write");
        writer
            .write(at_ns + 1, &[1, 2, 3, 4, 5, 6], 60)
            .expect("write");
        let written = writer.finish().expect("finish");
        assert_eq!((written.frames, written.wire_bytes), (2, 63));
        let file = std::fs::read(&path).expect("read");
        std::fs::remove_file(&path).expect("remove");
        let record = |at_ns, bytes, wire_len| Record {
            at_ns,
            bytes,
            wire_len,
        };
        let wanted = [
            record(at_ns, &[1, 2, 3][..], 3),
            record(at_ns + 1, &[1, 2, 3, 4], 60),
        ];
        assert_eq!(records(&file).expect("whole"), wanted);
        assert!(records(&file[..file.len() - 1]).is_err());
    }
}
