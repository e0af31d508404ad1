//! What needs privileges: sockets, programs, the fanout group.
//!
//! Owns: nothing that lasts; it makes [`OpenSocket`]s, which may be passed to a process
//! without privileges as three descriptors. What a kernel lacks and can be done otherwise is
//! done otherwise and said in `notes`. Units: bytes, milliseconds.

use std::os::fd::{AsFd, OwnedFd};

use base::LinkType;
use ebpf::fanout::{Fanout, Layer};
use ebpf::filter::{Classic, Filter as KernelFilter, FilterOptions, Programs};
use sys::ring::{self, RingOptions, RingSocket};

use crate::SourceError;
use crate::filter::Filter;

/// Smallest block; a super-packet of 64 KiB must fit with its headers.
const BLOCK_MIN: u32 = 128 << 10;

/// What to capture, and how.
#[derive(Clone, Debug)]
pub struct AfPacketOptions {
    /// The device; `None`: all of this namespace, also those that come later.
    pub device: Option<String>,
    /// Bytes of all rings of the group together.
    pub ring_bytes: u32,
    /// Bytes of one block, a power of two from 128 KiB. A block that is not full is handed over
    /// after `retire_ms` all the same, and then has no room until it is read: a ring bridges
    /// `retire_ms` x its blocks at low rates, however little comes. Many small blocks bridge
    /// more time than few large ones.
    pub block_bytes: u32,
    /// After how many milliseconds a block is handed over that is not full.
    pub retire_ms: u32,
    /// Bytes kept of each frame.
    pub snaplen: u32,
    /// Which frames.
    pub filter: Option<Filter>,
    /// Leave out what this host sends.
    pub ignore_outgoing: bool,
    /// Ask for what GRO merged and TSO will cut, so that wire segments can be counted.
    pub vnet_header: bool,
    /// Which flow of a tunnelled frame decides about its worker.
    pub layer: Layer,
    /// Random: makes it unknown which flows share a worker.
    pub seed: u64,
}

impl Default for AfPacketOptions {
    fn default() -> Self {
        Self {
            device: None,
            ring_bytes: 64 << 20,
            block_bytes: 256 << 10,
            retire_ms: 10,
            snaplen: 256,
            filter: None,
            ignore_outgoing: false,
            vnet_header: true,
            layer: Layer::Innermost,
            seed: 0,
        }
    }
}

impl AfPacketOptions {
    /// The form of one ring of `workers`.
    pub(super) fn ring(&self, workers: u32) -> RingOptions {
        let block_bytes = self
            .block_bytes
            .clamp(BLOCK_MIN, 64 << 20)
            .next_power_of_two();
        let share = self.ring_bytes / workers.max(1);
        RingOptions {
            block_bytes,
            // With one block the kernel would have none while it is read.
            blocks: (share / block_bytes).max(2),
            retire_ms: self.retire_ms.max(1),
            vnet_header: self.vnet_header,
            cut: self.snaplen.max(1),
        }
    }

    /// The device for messages.
    pub(super) fn name(&self) -> &str {
        self.device.as_deref().unwrap_or("any")
    }

    pub(super) fn failed(&self, operation: &'static str, error: std::io::Error) -> SourceError {
        SourceError::System {
            operation,
            object: self.name().to_owned(),
            error,
        }
    }
}

/// A socket that takes nothing yet: bound, in its group, behind a filter that rejects all.
#[derive(Debug)]
pub struct OpenSocket {
    /// The `AF_PACKET` socket.
    pub socket: OwnedFd,
    /// The program to attach; `None`: this kernel or privilege has none, and the filter is run
    /// by whoever reads.
    pub program: Option<OwnedFd>,
    /// Where the program counts what it rejects, if it rejects anything.
    pub rejected: Option<OwnedFd>,
}

/// What [`open`] made.
#[derive(Debug)]
pub struct Opened {
    /// One for each worker.
    pub sockets: Vec<OpenSocket>,
    /// The program that shares out frames, for its counters; the group keeps it loaded.
    pub fanout: Option<Fanout>,
    /// What is not as it should be, one line each.
    pub notes: Vec<String>,
}

/// Opens the sockets of a group of `workers`, in the calling thread's network namespace. Needs
/// `CAP_NET_RAW`, and `CAP_BPF` for the programs.
///
/// # Errors
/// When there is no such device, or the privilege for packet sockets is missing.
pub fn open(options: &AfPacketOptions, workers: u32) -> Result<Opened, SourceError> {
    let mut notes = Vec::new();
    let index = match &options.device {
        None => 0,
        Some(name) => {
            let found = sys::device::index(name);
            found.map_err(|error| options.failed("look up device", error))?
        }
    };
    let fanout = if workers > 1 {
        match Fanout::load(options.layer, options.seed) {
            Ok(fanout) => Some(fanout),
            Err(error) => {
                notes.push(format!(
                    "frames are shared out by the kernel's hash of the outer header, which splits \
                     tunnelled flows, fragments and ICMP errors over workers: {error}"
                ));
                None
            }
        }
    } else {
        None
    };
    let mut sockets = Vec::new();
    let mut group = None;
    for _ in 0..workers.max(1) {
        let socket = RingSocket::open().map_err(|error| options.failed("open", error))?;
        let failed = |error| options.failed("set up", error);
        socket.cut_at(0).map_err(failed)?;
        if options.ignore_outgoing {
            socket.ignore_outgoing().map_err(failed)?;
        }
        socket.bind(index).map_err(failed)?;
        if workers > 1 {
            let joined = join(&socket, group, fanout.as_ref(), options);
            group = Some(joined.map_err(|error| not_joined(options, error))?);
        }
        let (program, rejected) = match load(&socket, options) {
            Ok(loaded) => loaded,
            Err(error) => {
                if sockets.is_empty() {
                    notes.push(format!(
                        "the filter runs in user space, after the ring: {error}"
                    ));
                }
                (None, None)
            }
        };
        sockets.push(OpenSocket {
            socket: socket.into(),
            program,
            rejected,
        });
    }
    Ok(Opened {
        sockets,
        fanout,
        notes,
    })
}

/// The kernel says `EINVAL` to all that can be wrong with a group.
fn not_joined(options: &AfPacketOptions, error: std::io::Error) -> SourceError {
    let up = options.device.as_deref().map(sys::device::is_up);
    if let Some(Ok(false)) = up {
        return SourceError::Unsupported(format!(
            "{} is down: several workers cannot begin on it; bring it up or ask for one worker",
            options.name()
        ));
    }
    options.failed("join fanout group on", error)
}

fn join(
    socket: &RingSocket,
    group: Option<u16>,
    fanout: Option<&Fanout>,
    options: &AfPacketOptions,
) -> std::io::Result<u16> {
    let by = match fanout {
        Some(fanout) => ring::Fanout::Program(fanout.program().map_err(std::io::Error::other)?),
        None => ring::Fanout::Hash,
    };
    socket.join(group, by, options.ignore_outgoing)
}

type Loaded = (Option<OwnedFd>, Option<OwnedFd>);

/// Loads the program of one socket.
fn load(socket: &RingSocket, options: &AfPacketOptions) -> Result<Loaded, String> {
    let classic = |link| {
        let instructions = options.filter.as_ref()?.instructions(link)?;
        let same = instructions.iter().map(|one| Classic {
            code: one.code,
            jt: one.jt,
            jf: one.jf,
            k: one.k,
        });
        Some(same.collect::<Vec<_>>())
    };
    let (ethernet, raw) = (classic(LinkType::Ethernet), classic(LinkType::Raw));
    let programs = if options.filter.is_none() {
        Programs::All
    } else {
        match (socket.link(), &ethernet, &raw) {
            (Some(LinkType::Ethernet), Some(program), _)
            | (Some(LinkType::Raw), _, Some(program)) => Programs::One(program),
            _ => Programs::Either {
                ethernet: ethernet.as_deref(),
                raw: raw.as_deref(),
            },
        }
    };
    let form = FilterOptions {
        snaplen: options.snaplen.max(1),
        // Each frame passes a packet socket twice there.
        loopback_once: !options.ignore_outgoing,
    };
    let filter = KernelFilter::load(programs, form).map_err(|error| error.to_string())?;
    let (program, rejected) = filter.into_parts();
    let rejected = rejected.map(|rejected| rejected.to_fd()).transpose();
    Ok((Some(program), rejected.map_err(|error| error.to_string())?))
}

impl OpenSocket {
    /// Whether the kernel filters.
    #[must_use]
    pub fn filters(&self) -> bool {
        self.program.is_some()
    }

    /// Takes frames from now on.
    pub(super) fn start(&self, socket: &RingSocket, snaplen: u32) -> std::io::Result<()> {
        match &self.program {
            Some(program) => socket.attach(program.as_fd()),
            None => socket.cut_at(snaplen.max(1)),
        }
    }
}
