//! Live frames of a Linux host: `AF_PACKET` with TPACKET_V3 rings, one for each worker.
//!
//! Owns: the rings and what they counted. Both directions are seen and nothing is taken from
//! the host. A group's workers share out the frames by innermost flow (`packet_fanout.bpf.c`);
//! frames that GRO merged or TSO will cut come as they are, with the size of their segments.
//! An outermost VLAN tag, which the kernel takes out, is put back before a frame is lent;
//! filters see the frame without it, the tag beside, as those of tcpdump do on a device.
//!
//! Seen = lent + filtered + ring full, exactly. A socket of all devices (`any`) is a raw one
//! too, not a cooked one: each frame says what it begins with, after the type of its device;
//! of a device without link header only the IP packet is lent. What goes over the loopback
//! device is seen once, as it arrives.
//!
//! Privileges: [`open`] needs them, [`AfPacketSource`] none. When the device goes away, `poll`
//! says so once all that was captured was lent; a new set of sockets can then take its place
//! ([`AfPacketSource::reopen`]): a socket that was in a group cannot be bound again. A device
//! that only goes down and up again is waited for.

mod open;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use base::{Frame, WallNanos};
pub use ebpf::fanout::{Fanout, FanoutCounters, Layer};
use ebpf::filter::Rejected;
use sys::ring::{Ring, RingSocket, Waited};

pub use open::{AfPacketOptions, OpenSocket, Opened, open};

use crate::filter::Filter;
use crate::{BATCH, DropReason, Drops, Polled, Source, SourceError};

/// Frames that one call of `poll` lends at most.
const LIMIT: usize = 16 * BATCH;

/// One worker's ring.
pub struct AfPacketSource {
    ring: Ring,
    device: String,
    /// What the kernel does not filter.
    filter: Option<Filter>,
    rejected: Option<Rejected>,
    /// Of the kernel's counters, and of sockets before a [`AfPacketSource::reopen`].
    drops: Drops,
    /// Frames that passed the filter, by the kernel's count.
    seen: u64,
    /// Rejected here, not in the kernel.
    refused: u64,
    /// The device went down: it may be gone.
    down: bool,
    gone: bool,
}

/// A group of sources and what belongs to it.
pub struct AfPacketGroup {
    /// One for each worker.
    pub sources: Vec<AfPacketSource>,
    /// The program that shares out frames; `None`: one worker, or a kernel without.
    pub fanout: Option<Fanout>,
    /// What is not as it should be, one line each.
    pub notes: Vec<String>,
}

/// Makes a ring for a socket; it takes nothing yet.
fn prepare(
    open: &OpenSocket,
    options: &AfPacketOptions,
    workers: u32,
) -> Result<(Ring, Option<Rejected>), SourceError> {
    let failed = |error| options.failed("make a ring for", error);
    let socket = RingSocket::from(open.socket.try_clone().map_err(failed)?);
    let form = options.ring(workers);
    let ring = Ring::new(socket, form).map_err(|error| match error.kind() {
        io::ErrorKind::OutOfMemory => SourceError::Unsupported(format!(
            "no memory in the kernel for a capture ring of {} bytes for {}: ask for a smaller one",
            form.bytes(),
            options.name()
        )),
        _ => failed(error),
    })?;
    let rejected = match &open.rejected {
        Some(fd) => {
            let fd = fd.try_clone().map_err(failed)?;
            Some(Rejected::from_fd(fd).map_err(failed)?)
        }
        None => None,
    };
    Ok((ring, rejected))
}

impl AfPacketSource {
    /// A source of one socket of a group of `workers`; takes frames from now on. Needs no
    /// privilege. `options` are those that the socket was opened with.
    ///
    /// # Errors
    /// When there is no memory for the ring.
    pub fn new(
        open: &OpenSocket,
        options: &AfPacketOptions,
        workers: u32,
    ) -> Result<Self, SourceError> {
        let source = Self::prepared(open, options, workers)?;
        source.start(open, options)?;
        Ok(source)
    }

    fn prepared(
        open: &OpenSocket,
        options: &AfPacketOptions,
        workers: u32,
    ) -> Result<Self, SourceError> {
        let (ring, rejected) = prepare(open, options, workers)?;
        Ok(Self {
            ring,
            device: options.name().to_owned(),
            filter: options.filter.clone().filter(|_| !open.filters()),
            rejected,
            drops: Drops::default(),
            seen: 0,
            refused: 0,
            down: false,
            gone: false,
        })
    }

    fn start(&self, open: &OpenSocket, options: &AfPacketOptions) -> Result<(), SourceError> {
        open.start(self.ring.socket(), options.snaplen)
            .map_err(|error| options.failed("start capture on", error))
    }

    /// Opens a whole group in this process, in the calling thread's network namespace. No
    /// source takes a frame before all can.
    ///
    /// # Errors
    /// As [`open`] and [`AfPacketSource::new`].
    pub fn open_group(
        options: &AfPacketOptions,
        workers: u32,
    ) -> Result<AfPacketGroup, SourceError> {
        let opened = open(options, workers)?;
        let sources = opened
            .sockets
            .iter()
            .map(|socket| Self::prepared(socket, options, workers))
            .collect::<Result<Vec<_>, _>>()?;
        for (source, socket) in sources.iter().zip(&opened.sockets) {
            source.start(socket, options)?;
        }
        Ok(AfPacketGroup {
            sources,
            fanout: opened.fanout,
            notes: opened.notes,
        })
    }

    /// Goes on with a new socket, when the device is back; counters go on too.
    ///
    /// # Errors
    /// As [`AfPacketSource::new`]; the source is then as it was.
    pub fn reopen(
        &mut self,
        open: &OpenSocket,
        options: &AfPacketOptions,
        workers: u32,
    ) -> Result<(), SourceError> {
        let mut fresh = Self::new(open, options, workers)?;
        // All that was counted so far; what the new socket and ring count comes on top.
        fresh.drops = self.drops()?;
        fresh.seen = self.seen;
        *self = fresh;
        Ok(())
    }

    /// Whether the kernel filters, so that what is rejected costs no room in the ring.
    #[must_use]
    pub fn filters_in_kernel(&self) -> bool {
        self.filter.is_none()
    }

    /// Frames that passed the kernel's filter until [`Source::drops`] was called last, by the
    /// kernel's own count: those lent, those still in the ring, and those it had no room for.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Waits for the ring; `Some` says what to answer without looking into it.
    fn wait(&mut self, time: Duration) -> Result<Option<Polled>, SourceError> {
        let waited = self.ring.wait(time).map_err(|error| self.failed(error))?;
        self.down |= waited == Waited::Down;
        if waited == Waited::Ready {
            return Ok(None);
        }
        if self.down && !self.gone {
            self.gone = self.ring.is_gone().map_err(|error| self.failed(error))?;
        }
        if !self.gone {
            return Ok(Some(Polled::Quiet));
        }
        // The block that was being filled is handed over by its timer still.
        let retire = Duration::from_millis(2 * u64::from(self.ring.options().retire_ms) + 10);
        match self.ring.wait(retire).map_err(|error| self.failed(error))? {
            Waited::Ready => Ok(None),
            Waited::Quiet | Waited::Down => Err(self.gone()),
        }
    }

    fn failed(&self, error: io::Error) -> SourceError {
        SourceError::System {
            operation: "capture",
            object: self.device.clone(),
            error,
        }
    }

    fn gone(&self) -> SourceError {
        // ENODEV
        self.failed(io::Error::from_raw_os_error(19))
    }
}

/// Readable when a block is ready: for waiting on several sources at once.
impl AsFd for AfPacketSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Source for AfPacketSource {
    fn poll(
        &mut self,
        wait: Duration,
        lend: impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError> {
        if !self.ring.is_ready()
            && let Some(answer) = self.wait(wait)?
        {
            return Ok(answer);
        }
        let Some(filter) = &self.filter else {
            let lent = self.ring.lend::<BATCH>(LIMIT, lend);
            return Ok(polled(lent));
        };
        let mut refused = 0;
        let wanted = |frame: &Frame<'_>, tag| {
            let matched = filter.matches_beside(frame, tag);
            refused += u64::from(!matched);
            matched
        };
        let lent = self.ring.lend_wanted::<BATCH>(LIMIT, wanted, lend);
        self.refused += refused;
        Ok(polled(lent))
    }

    fn drops(&mut self) -> Result<Drops, SourceError> {
        let counted = self.ring.statistics().map_err(|error| self.failed(error))?;
        // The kernel begins again at 0 with every question; the rest are totals.
        self.seen += u64::from(counted.seen);
        self.drops.add(DropReason::RingFull, counted.dropped.into());
        let mut drops = self.drops;
        let rejected = self.rejected.as_ref().map_or(0, Rejected::count);
        drops.add(DropReason::Filtered, rejected + self.refused);
        drops.add(DropReason::Malformed, self.ring.malformed());
        Ok(drops)
    }

    fn newest(&self) -> Option<WallNanos> {
        self.ring.newest()
    }
}

fn polled(frames: usize) -> Polled {
    if frames == 0 {
        Polled::Quiet
    } else {
        Polled::Frames(frames)
    }
}
