//! Capture files as a source: pcap and pcapng, from a path or from standard input.
//!
//! Owns: the file, and one window of it into which it is read; frames are lent out of
//! the window, never copied, and nothing is allocated per frame. Why it is read and not
//! mapped: `sys::map`.
//!
//! What is read where:
//! * pcap in both byte orders, with micro- and nanoseconds, and Kuznetzov's variant. The
//!   header's snaplen is not believed.
//! * pcapng in both byte orders, several sections, interfaces with their own link type, time
//!   resolution and offset; enhanced, simple and obsolete packet blocks; other blocks are
//!   skipped. A simple packet block has no time: it gets that of the frame before it.
//!
//! Rules for records that contradict themselves: an original length below the captured one
//! is taken as the captured one (the octets are there); a captured length above
//! [`CAPTURED_MAX`] means that the reader is out of step, and the file is corrupt from there
//! on. Everything before the place where a file breaks is lent first; the error comes once,
//! and [`Polled::End`] after it. A file that grows is read as far as it is when the reader
//! gets there; one that is cut under the reader ends there. Offsets in errors are bytes from
//! the beginning of the file.

mod pcap;
mod pcapng;
#[cfg(test)]
mod tests;
mod window;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use base::{Frame, LinkType, Passage, WallNanos};
use sys::poll::{Events, Interest, Poller};

use crate::{BATCH, Drops, Polled, Source, SourceError};
use window::{Refill, Window};

/// Captured octets that one record may have: twice what tcpdump and Wireshark take, for
/// packets of BIG TCP (`gso_max_size` goes up to 524 280).
pub const CAPTURED_MAX: usize = 1 << 19;

/// Frames after which [`Source::poll`] returns.
const POLL_FRAMES: usize = 16 * BATCH;

/// A capture file, opened.
pub struct FileSource {
    name: String,
    window: Window,
    /// For pipes and terminals: regular files are always ready.
    waiter: Option<(Poller, Events)>,
    format: Format,
    newest: Option<WallNanos>,
    ended: bool,
}

enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

/// What one pass over the window came to.
struct Walked {
    /// Octets that are done with.
    used: usize,
    /// Frames that were filled in.
    frames: usize,
    /// Why it ended before the batch was full.
    stop: Option<Stop>,
}

/// Why a walk cannot go on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stop {
    /// The next record has at least so many octets.
    Needs {
        /// From its first octet on.
        bytes: usize,
        /// What it is called when the file ends within it.
        cut: &'static str,
    },
    /// A block that nothing is read from: to be passed over.
    Skip(u64),
    /// The record at the end of what was used is not possible.
    Corrupt(&'static str),
}

impl FileSource {
    /// Opens a capture file; `-` is standard input. Its first header is read, so that what
    /// is no capture file is refused here. A pipe is waited for.
    ///
    /// # Errors
    /// When it cannot be opened or is no capture file; the message says what it seems to be.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        if path.as_os_str() == "-" {
            let name = "standard input".to_owned();
            let opened = std::io::stdin().as_fd().try_clone_to_owned();
            return match opened {
                Ok(fd) => Self::from_file(name, File::from(fd)),
                Err(error) => Err(system("dup", &name, error)),
            };
        }
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::from_file(name, file),
            Err(error) => Err(system("open", &name, error)),
        }
    }

    fn from_file(name: String, file: File) -> Result<Self, SourceError> {
        sys::map::advise_sequential(&file);
        // epoll refuses what is always ready: regular files.
        let waiter = Poller::new().ok().and_then(|poller| {
            poller.add(&file, 0, Interest::Read).ok()?;
            Some((poller, Events::new(1)))
        });
        Self::begin(name, Box::new(file), waiter)
    }

    /// Reads from anything; `name` is for messages. It is never waited for: `read` blocks.
    ///
    /// # Errors
    /// As [`FileSource::open`].
    pub fn from_reader(
        name: impl Into<String>,
        reader: impl Read + Send + 'static,
    ) -> Result<Self, SourceError> {
        Self::begin(name.into(), Box::new(reader), None)
    }

    fn begin(
        name: String,
        reader: Box<dyn Read + Send>,
        waiter: Option<(Poller, Events)>,
    ) -> Result<Self, SourceError> {
        let mut window = Window::new(reader);
        let mut need = |bytes| -> Result<bool, SourceError> {
            while window.bytes().len() < bytes {
                match window.refill(bytes) {
                    Ok(Refill::More) => {}
                    Ok(Refill::End) => return Ok(false),
                    Err(error) => return Err(system("read", &name, error)),
                }
            }
            Ok(true)
        };
        need(4)?;
        let whole = need(pcap::HEADER_BYTES)?;
        let begin = window.bytes();
        let refuse = |why: &str| SourceError::NotACapture {
            file: name.clone(),
            why: why.to_owned(),
        };
        let format = if pcapng::begins(begin) {
            Format::Pcapng(pcapng::Section::default())
        } else if !pcap::begins(begin) {
            return Err(refuse(what_it_seems(begin)));
        } else if whole && let Some(header) = pcap::Header::parse(begin) {
            window.consume(pcap::HEADER_BYTES);
            Format::Pcap(header)
        } else {
            return Err(refuse(
                "only a part of a file header: nothing was captured into it, or its writer was stopped too early",
            ));
        };
        Ok(Self {
            name,
            window,
            waiter,
            format,
            newest: None,
            ended: false,
        })
    }

    /// What the frames that were lent so far, or will be next, begin with: for filters that
    /// do not fit every link type. A pcapng file may name more later.
    #[must_use]
    pub fn links(&self) -> Vec<LinkType> {
        match &self.format {
            Format::Pcap(header) => vec![header.link()],
            Format::Pcapng(section) => section.links().to_vec(),
        }
    }

    /// How the file is written.
    #[must_use]
    pub fn format(&self) -> &'static str {
        match self.format {
            Format::Pcap(_) => "pcap",
            Format::Pcapng(_) => "pcapng",
        }
    }

    /// Bytes of the file that were read through so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.window.position()
    }

    /// Whether something can be read at once, after waiting so long for it.
    fn ready(&mut self, wait: Duration) -> Result<bool, SourceError> {
        let Some((poller, events)) = &mut self.waiter else {
            return Ok(true);
        };
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        match poller.wait(events, Some(wait_ns)) {
            Ok(ready) => Ok(ready > 0),
            Err(error) => Err(system("epoll_pwait2", &self.name, error)),
        }
    }

    fn corrupt(&mut self, what: &'static str) -> SourceError {
        self.ended = true;
        SourceError::Corrupt {
            file: self.name.clone(),
            what,
            at: self.window.skipping().unwrap_or(self.window.position()),
        }
    }

    /// Lends what is in the window; says why it stopped, if that was not the limit.
    fn lend(&mut self, lent: &mut usize, lend: &mut impl FnMut(&[Frame<'_>])) -> Option<Stop> {
        let bytes = self.window.bytes();
        let mut frames = [Frame::ethernet(&[], WallNanos(0)); BATCH];
        let mut done = 0;
        let mut newest = self.newest;
        let stop = loop {
            let rest = bytes.get(done..).unwrap_or_default();
            let walked = match &mut self.format {
                Format::Pcap(header) => header.walk(rest, &mut frames),
                Format::Pcapng(section) => section.walk(rest, &mut frames),
            };
            done += walked.used;
            if let Some(batch @ [_, ..]) = frames.get(..walked.frames) {
                // Not the last one: merged captures step back.
                newest = newest.max(batch.iter().map(|frame| frame.at).max());
                lend(batch);
                *lent += walked.frames;
            }
            if walked.stop.is_some() || *lent >= POLL_FRAMES {
                break walked.stop;
            }
        };
        self.window.consume(done);
        self.newest = newest;
        stop
    }
}

impl Source for FileSource {
    fn poll(
        &mut self,
        wait: Duration,
        mut lend: impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError> {
        if self.ended {
            return Ok(Polled::End);
        }
        let mut lent = 0;
        loop {
            let stop = self.lend(&mut lent, &mut lend);
            // What was lent is reported first; the same stop is found again by the next call.
            if lent > 0 {
                return Ok(Polled::Frames(lent));
            }
            match stop {
                None => {}
                Some(Stop::Corrupt(what)) => return Err(self.corrupt(what)),
                Some(Stop::Skip(bytes)) => self.window.skip(bytes),
                Some(Stop::Needs { bytes, cut }) => {
                    if !self.ready(wait)? {
                        return Ok(Polled::Quiet);
                    }
                    match self.window.refill(bytes) {
                        Ok(Refill::More) => {}
                        Ok(Refill::End)
                            if self.window.bytes().is_empty()
                                && self.window.skipping().is_none() =>
                        {
                            self.ended = true;
                            return Ok(Polled::End);
                        }
                        Ok(Refill::End) => return Err(self.corrupt(cut)),
                        Err(error) => {
                            self.ended = true;
                            return Err(system("read", &self.name, error));
                        }
                    }
                }
            }
        }
    }

    fn drops(&mut self) -> Result<Drops, SourceError> {
        Ok(Drops::default())
    }

    fn newest(&self) -> Option<WallNanos> {
        self.newest
    }
}

/// The packet type of Linux cooked captures says which way a frame went
/// (`PACKET_HOST` 0, `_BROADCAST` 1, `_MULTICAST` 2, `_OTHERHOST` 3, `_OUTGOING` 4).
#[inline]
pub(crate) fn cooked_passage(frame: &mut Frame<'_>) {
    let kind = match frame.link {
        LinkType::LinuxCooked => frame.bytes.get(1),
        LinkType::LinuxCooked2 => frame.bytes.get(10),
        _ => return,
    };
    if frame.passage == Passage::Unknown {
        frame.passage = match kind {
            Some(0..=2) => Passage::Received,
            Some(4) => Passage::Sent,
            _ => Passage::Unknown,
        };
    }
}

/// What a file that is no capture file seems to be, and the way out.
fn what_it_seems(begin: &[u8]) -> &'static str {
    const KNOWN: &[(&[u8], &str)] = &[
        (
            b"\x1f\x8b",
            "compressed with gzip: try `gunzip -c FILE | netsonde capture -r -`",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "compressed with zstd: try `zstd -dc FILE | netsonde capture -r -`",
        ),
        (
            b"\xfd7zXZ",
            "compressed with xz: try `xz -dc FILE | netsonde capture -r -`",
        ),
        (
            b"BZh",
            "compressed with bzip2: try `bzip2 -dc FILE | netsonde capture -r -`",
        ),
        (
            b"\x04\x22\x4d\x18",
            "compressed with lz4: try `lz4 -dc FILE | netsonde capture -r -`",
        ),
        (b"PK\x03\x04", "a zip archive: unpack it first"),
    ];
    if begin.is_empty() {
        return "empty: nothing was captured into it, or its writer was stopped before its header";
    }
    KNOWN
        .iter()
        .find(|(magic, _)| begin.starts_with(magic))
        .map_or(
            "neither pcap nor pcapng: `editcap -F pcapng FILE OUT` converts other capture formats",
            |(_, why)| why,
        )
}

fn system(operation: &'static str, object: &str, error: std::io::Error) -> SourceError {
    SourceError::System {
        operation,
        object: object.to_owned(),
        error,
    }
}
