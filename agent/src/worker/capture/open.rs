//! What needs privileges, by whoever has them: the start, or the opener.

use std::io;
use std::os::fd::OwnedFd;

use capture::afpacket::{self, AfPacketSource, OpenSocket};
use capture::{AfPacketOptions, Filter, SourceError};

use measure::passive::Options;

use crate::cli::BackendArg;
use crate::config::Capture;
use crate::passive::live::devices::{self, Wanted};
use crate::passive::live::source::{LiveSource, OpenedDevice, Settings};
use crate::passive::plan::usual_workers;

/// Octets kept of each frame: the headers inside two tunnels.
const KEPT: u32 = 256;

/// Whether a change needs no other sockets: the opener opens what the configuration at start
/// says, and other backends are opened at start alone.
pub fn same_sockets(old: &Capture, new: &Capture) -> bool {
    let afpacket = matches!(new.backend, BackendArg::Auto | BackendArg::Afpacket);
    let like_old = Capture {
        group_by: old.group_by.clone(),
        group_by_port: old.group_by_port.clone(),
        classifier: old.classifier,
        duplicates: old.duplicates,
        max_flows: old.max_flows,
        dedicated: old.dedicated,
        ..new.clone()
    };
    afpacket && like_old == *old
}

/// Threads.
pub fn workers(config: &Capture) -> u32 {
    match config.backend {
        BackendArg::Auto | BackendArg::Afpacket => config.workers.unwrap_or_else(usual_workers),
        // They have one source for each device.
        BackendArg::Afxdp | BackendArg::Pcap => 1,
    }
}

/// How each of so many workers analyses.
pub(super) fn analysis(config: &Capture, workers: usize) -> Options {
    let all = Options {
        classifier: config.classifier,
        layer: config.layer,
        duplicates: config.duplicates,
        flows: config.max_flows,
        segments: config.max_flows.saturating_mul(2),
        groups: config.groups(),
        ..Options::new(crate::passive::seed())
    };
    crate::passive::share(&all, workers)
}

/// Octets of the flow tables of all workers.
pub fn table_bytes(config: &Capture) -> usize {
    let workers = workers(config) as usize;
    let each = usize::try_from(analysis(config, workers).bytes());
    each.unwrap_or(usize::MAX).saturating_mul(workers)
}

/// Descriptors of a group: of each worker a socket, its program and its counter.
pub fn descriptors(config: &Capture) -> usize {
    3 * workers(config) as usize
}

/// Whether a device is one of those that the configuration names.
pub fn is_wanted(config: &Capture, device: &str) -> bool {
    let there = [device.to_owned()];
    Wanted::new(&config.interface).is_ok_and(|wanted| {
        wanted
            .resolve(&there, devices::is_left_out)
            .iter()
            .any(|name| name == device)
    })
}

fn filter(config: &Capture) -> Option<Filter> {
    // Checked when the configuration was read.
    let words = Some(&config.filter).filter(|words| !words.is_empty())?;
    Filter::compile(words, &[]).ok()
}

fn settings(config: &Capture) -> Settings {
    Settings {
        backend: config.backend,
        filter: filter(config),
        snaplen: KEPT,
        ring_bytes: config.ring_bytes,
        ignore_outgoing: config.ignore_outgoing,
        layer: config.layer,
        xdp_mode: config.xdp_mode,
        xdp_take: config.xdp_take,
        workers: workers(config),
        seed: crate::passive::seed()[0],
    }
}

/// How many devices share the memory for rings: as many as there are now.
fn options(settings: &Settings, config: &Capture, device: &str) -> AfPacketOptions {
    settings.packet_options(device, names(config).map_or(1, |names| names.len()))
}

pub(super) fn names(config: &Capture) -> io::Result<Vec<String>> {
    let wanted =
        Wanted::new(&config.interface).map_err(|failure| io::Error::other(failure.message))?;
    Ok(wanted.resolve(&sys::device::list()?, devices::is_left_out))
}

/// What was opened of a device.
#[derive(Debug, Default)]
pub struct Group {
    /// Of each worker its socket, its program and its counter; `None`: there is none.
    pub descriptors: Vec<Option<OwnedFd>>,
    /// What is not as it should be, one line each.
    pub notes: Vec<String>,
}

/// Opens a group on a device, by whoever calls: the opener, or the agent itself.
///
/// # Errors
/// When it is not there or may not be captured.
pub fn open(config: &Capture, device: &str) -> io::Result<Group> {
    let options = options(&settings(config), config, device);
    let opened = afpacket::open(&options, workers(config)).map_err(system)?;
    let mut all = Vec::with_capacity(descriptors(config));
    for socket in opened.sockets {
        all.push(Some(socket.socket));
        all.push(socket.program);
        all.push(socket.rejected);
    }
    Ok(Group {
        descriptors: all,
        notes: opened.notes,
    })
}

fn system(error: SourceError) -> io::Error {
    match error {
        SourceError::System { error, .. } => error,
        other => io::Error::other(other.to_string()),
    }
}

/// A device with what was opened of it; an error is why it was not.
pub(super) struct Prepared {
    pub(super) name: String,
    pub(super) opened: Result<OpenedDevice, String>,
}

/// Everything that needs privileges, done.
pub struct Ready {
    pub(super) devices: Vec<Prepared>,
    /// Why there is no device at all.
    pub(super) problem: Option<String>,
}

/// Opens every device; `open` opens groups ([`open`], or the opener).
pub fn prepare(config: &Capture, open: impl Fn(&Capture, &str) -> io::Result<Group>) -> Ready {
    let names = match names(config) {
        Ok(names) => names,
        Err(error) => {
            return Ready {
                devices: Vec::new(),
                problem: Some(error.to_string()),
            };
        }
    };
    let devices = names
        .into_iter()
        .map(|name| Prepared {
            opened: device(config, &name, &open),
            name,
        })
        .collect();
    Ready {
        devices,
        problem: None,
    }
}

pub(super) fn device(
    config: &Capture,
    name: &str,
    open: &impl Fn(&Capture, &str) -> io::Result<Group>,
) -> Result<OpenedDevice, String> {
    let settings = settings(config);
    match config.backend {
        BackendArg::Auto | BackendArg::Afpacket => {
            let options = options(&settings, config, name);
            let group = open(config, name).map_err(|error| said(&error))?;
            let sources = rings(group.descriptors, &options, settings.workers)?;
            Ok(OpenedDevice {
                sources,
                backend: "afpacket",
                reason: "sees both directions and takes nothing from the host".to_owned(),
                notes: group.notes,
            })
        }
        BackendArg::Afxdp | BackendArg::Pcap => {
            let opened = settings.open(name, 1);
            opened.map_err(|error| format!("{error}; restart the agent as root to try again"))
        }
    }
}

fn said(error: &io::Error) -> String {
    sys::call::errno_of(error).map_or_else(|| error.to_string(), crate::output::words::errno)
}

/// Rings for the sockets of a group.
fn rings(
    descriptors: Vec<Option<OwnedFd>>,
    options: &AfPacketOptions,
    workers: u32,
) -> Result<Vec<LiveSource>, String> {
    let mut sources = Vec::new();
    let mut all = descriptors.into_iter();
    while let Some(socket) = all.next() {
        let (program, rejected) = (all.next().flatten(), all.next().flatten());
        let socket = socket.ok_or("the opener sent no socket")?;
        let open = OpenSocket {
            socket,
            program,
            rejected,
        };
        let source = AfPacketSource::new(&open, options, workers);
        sources.push(LiveSource::AfPacket(
            source.map_err(|error| error.to_string())?,
        ));
    }
    Ok(sources)
}
