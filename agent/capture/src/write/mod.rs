//! Frames to pcapng files: one, or a ring of them.
//!
//! Owns: the file being written and one buffer in front of it; nothing is allocated per
//! frame. Every file is complete in itself: a section, its interfaces, the frames cut to the
//! snaplen, and at its end the statistics of the capture so far with its drops. Times have
//! nanoseconds. Files of a ring are named as tcpdump's `-C` and `-W` name them.
//!
//! What never happens: an error per frame. The first failure (disk full) ends the writing:
//! the file is cut back to the last whole block, [`Writer::failure`] tells it once, and all
//! frames from there on are counted: given = written + not written + buffered, exactly.

mod block;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use base::{Frame, LinkType, WallNanos};

use crate::file::CAPTURED_MAX;
use crate::{Drops, SourceError};

/// Octets that are collected before they are written.
const BUFFER: usize = 256 << 10;

/// What to write, and where to.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// The file, or the beginning of the names of a ring; `-` is standard output.
    pub path: PathBuf,
    /// Octets of each frame that are kept; 0: all.
    pub snaplen: u32,
    /// The device, or what else the frames come from.
    pub device: String,
    /// What frames of that device begin with; others are added when they come.
    pub link: LinkType,
    /// The filter's words; may be empty.
    pub filter: String,
    /// Octets after which the next file begins (`--file-size`); `None`: one file.
    pub file_bytes: Option<u64>,
    /// Files after which the first one is overwritten (`--files`); `None`: no limit.
    pub files: Option<u32>,
}

/// What became of the frames.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Frames in files.
    pub written: u64,
    /// Frames that are in no file: after a failure, or of a link type without a number.
    pub not_written: u64,
    /// Those of `not_written` whose link type is not known.
    pub unknown_link: u64,
    /// Frames that are on their way; none when the writer finished.
    pub buffered: u64,
    /// Files that were begun.
    pub files: u64,
}

/// The files being written.
pub struct Writer {
    options: WriteOptions,
    name: PathBuf,
    file: File,
    /// Octets of `file` that are whole blocks.
    file_len: u64,
    buffer: Vec<u8>,
    interfaces: Interfaces,
    begun: Option<WallNanos>,
    newest: WallNanos,
    seen: u64,
    drops: Drops,
    counts: Written,
    /// Frames in this file, those in the buffer included.
    in_file: u64,
    failed: bool,
    failure: Option<SourceError>,
}

/// The number of the interface of each link type in the current file.
type Interfaces = [Option<u32>; LinkType::COUNT];

impl Writer {
    /// Creates the first file, or empties it, and writes its header.
    ///
    /// # Errors
    /// When it cannot be created or written to.
    pub fn create(options: WriteOptions) -> Result<Self, SourceError> {
        if options.path.as_os_str() == "-" && options.file_bytes.is_some() {
            return Err(SourceError::Unsupported(
                "standard output cannot be a ring of files: name a file with -w".to_owned(),
            ));
        }
        let name = name(&options, 0);
        let mut writer = Self {
            file: open(&name).map_err(|error| system("create", &name, error))?,
            name,
            options,
            file_len: 0,
            buffer: Vec::with_capacity(BUFFER + block::packet_bytes(CAPTURED_MAX)),
            interfaces: Interfaces::default(),
            begun: None,
            newest: WallNanos(0),
            seen: 0,
            drops: Drops::default(),
            counts: Written {
                files: 1,
                ..Written::default()
            },
            in_file: 0,
            failed: false,
            failure: None,
        };
        writer.begin_file();
        writer.flush();
        writer.failure.take().map_or(Ok(writer), Err)
    }

    /// Writes a batch; never fails, see [`Writer::failure`].
    pub fn write(&mut self, frames: &[Frame<'_>]) {
        for frame in frames {
            self.frame(frame);
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let Some(link) = block::link_number(frame.link) else {
            self.counts.not_written += 1;
            self.counts.unknown_link += 1;
            return;
        };
        let limit = match self.options.snaplen {
            0 => usize::MAX,
            snaplen => snaplen as usize,
        };
        let octets = frame.bytes.get(..limit).unwrap_or(frame.bytes);
        if let Some(most) = self.options.file_bytes {
            let full = self.file_len
                + (self.buffer.len() + block::packet_bytes(octets.len()) + block::STATISTICS)
                    as u64;
            // A file with one frame at least, however small the limit.
            if full > most && self.in_file > 0 {
                self.next_file();
            }
        }
        if self.failed {
            self.counts.not_written += 1;
            return;
        }
        let slot = self.interfaces.get(frame.link.index()).copied().flatten();
        let interface = slot.unwrap_or_else(|| self.interface(frame.link, link));
        block::packet(&mut self.buffer, interface, frame, octets);
        self.begun.get_or_insert(frame.at);
        self.newest = self.newest.max(frame.at);
        self.in_file += 1;
        self.counts.buffered += 1;
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    /// What the source says: goes into the statistics at the end of each file. Once per tick.
    pub const fn note(&mut self, seen: u64, drops: Drops) {
        self.seen = seen;
        self.drops = drops;
    }

    /// Hands what is buffered to the system: once per tick, so that others can follow the
    /// file.
    pub fn flush(&mut self) {
        if self.failed {
            return;
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => {
                self.file_len += self.buffer.len() as u64;
                self.counts.written += self.counts.buffered;
            }
            Err(error) => {
                // What was written of the buffer ends within a block. Pipes cannot be cut.
                let _ = self.file.set_len(self.file_len);
                self.fail("write", error);
            }
        }
        self.counts.buffered = 0;
        self.buffer.clear();
    }

    fn fail(&mut self, operation: &'static str, error: io::Error) {
        self.failed = true;
        self.counts.not_written += self.counts.buffered;
        self.counts.buffered = 0;
        self.failure = Some(system(operation, &self.name, error));
    }

    /// Why the writing ended, once.
    pub const fn failure(&mut self) -> Option<SourceError> {
        self.failure.take()
    }

    /// What became of the frames so far.
    #[must_use]
    pub const fn counts(&self) -> Written {
        self.counts
    }

    /// Ends the last file with the statistics of the whole capture.
    ///
    /// # Errors
    /// The failure that [`Writer::failure`] did not tell yet; the counts are right anyway.
    pub fn finish(mut self, seen: u64, drops: Drops) -> (Written, Result<(), SourceError>) {
        self.note(seen, drops);
        self.end_file();
        (self.counts, self.failure.map_or(Ok(()), Err))
    }

    fn begin_file(&mut self) {
        self.interfaces = Interfaces::default();
        self.in_file = 0;
        self.file_len = 0;
        block::section(&mut self.buffer);
        // Also when no frame comes: a file without interface cannot carry statistics.
        if let Some(number) = block::link_number(self.options.link) {
            self.interface(self.options.link, number);
        }
    }

    fn interface(&mut self, link: LinkType, number: u16) -> u32 {
        let next = self.interfaces.iter().flatten().count() as u32;
        if let Some(slot) = self.interfaces.get_mut(link.index()) {
            *slot = Some(next);
        }
        block::interface(&mut self.buffer, number, &self.options);
        next
    }

    fn end_file(&mut self) {
        if self.interfaces.iter().any(Option::is_some) && !self.failed {
            let begun = self.begun.unwrap_or(self.newest);
            block::statistics(&mut self.buffer, begun, self.newest, self.seen, &self.drops);
        }
        self.flush();
    }

    fn next_file(&mut self) {
        self.end_file();
        if self.failed {
            return;
        }
        self.name = name(&self.options, self.counts.files);
        match open(&self.name) {
            Ok(file) => {
                self.file = file;
                self.counts.files += 1;
                self.begin_file();
            }
            Err(error) => self.fail("create", error),
        }
    }
}

/// `-` is a copy of standard output: unlike Rust's own it has no line buffer.
fn open(name: &Path) -> io::Result<File> {
    if name.as_os_str() == "-" {
        return io::stdout().as_fd().try_clone_to_owned().map(File::from);
    }
    File::create(name)
}

/// The name of the file that is begun after `count` others. As tcpdump does it: with a limit
/// of files FILE0, FILE1… with as many digits as the last one needs, and again from 0; without
/// one FILE, FILE1, FILE2…
fn name(options: &WriteOptions, count: u64) -> PathBuf {
    let mut name = options.path.clone().into_os_string();
    match options.files.filter(|_| options.file_bytes.is_some()) {
        Some(files @ 2..) => {
            let digits = (files - 1).ilog10() as usize + 1;
            name.push(format!("{:0digits$}", count % u64::from(files)));
        }
        Some(_) => {}
        None if count > 0 => name.push(count.to_string()),
        None => {}
    }
    name.into()
}

fn system(operation: &'static str, name: &Path, error: io::Error) -> SourceError {
    SourceError::System {
        operation,
        object: name.display().to_string(),
        error,
    }
}
