//! The capture threads as the supervisor sees them, and the collector that the publisher
//! asks once a tick.
//!
//! Sockets are opened before privileges are dropped, and again by the opener when a device
//! comes back; making rings of them takes no privilege. A device that is not there, or may
//! not be captured, is a matter of health and not of starting. Threads are those of
//! `netsonde capture` ([`crate::passive::live::worker`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use base::MonoNanos;
use capture::afpacket::{self, AfPacketSource, OpenSocket};
use capture::{AfPacketOptions, Filter, SourceError};
use measure::passive::Options;
use record::series::Interval;
use record::snapshot::Health;

use crate::cli::BackendArg;
use crate::config::Capture;
use crate::passive::live::devices::{self, Wanted};
use crate::passive::live::source::{LiveSource, OpenedDevice, Settings};
use crate::passive::live::worker::{self, Order, Setup};
use crate::passive::plan::usual_workers;

mod collect;

pub use collect::Collector;

/// How often the flow table is walked for what the flows in it sent.
const WALK_NS: u64 = 5_000_000_000;
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

/// Octets kept of each frame: the headers inside two tunnels.
const KEPT: u32 = 256;
/// How often a device that is gone is looked for.
const LOOK_NS: u64 = 1_000_000_000;
/// For so long after frames were lost or flows evicted the capture is not well.
const RECENT_NS: u64 = 60_000_000_000;

/// Threads.
pub fn workers(config: &Capture) -> u32 {
    config.workers.unwrap_or_else(usual_workers)
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
            .resolve(&there, devices::is_inner)
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
        filter_text: config.filter.join(" "),
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

fn names(config: &Capture) -> io::Result<Vec<String>> {
    let wanted =
        Wanted::new(&config.interface).map_err(|failure| io::Error::other(failure.message))?;
    Ok(wanted.resolve(&sys::device::list()?, devices::is_inner))
}

/// Opens a group on a device, by whoever calls: the opener, or the agent itself.
///
/// # Errors
/// When it is not there or may not be captured.
pub fn open(config: &Capture, device: &str) -> io::Result<Vec<Option<OwnedFd>>> {
    let options = options(&settings(config), config, device);
    let opened = afpacket::open(&options, workers(config)).map_err(system)?;
    let mut all = Vec::with_capacity(descriptors(config));
    for socket in opened.sockets {
        all.push(Some(socket.socket));
        all.push(socket.program);
        all.push(socket.rejected);
    }
    Ok(all)
}

fn system(error: SourceError) -> io::Error {
    match error {
        SourceError::System { error, .. } => error,
        other => io::Error::other(other.to_string()),
    }
}

/// A device with what was opened of it; an error is why it was not.
struct Prepared {
    name: String,
    opened: Result<OpenedDevice, String>,
}

/// Everything that needs privileges, done.
pub struct Ready {
    devices: Vec<Prepared>,
    /// Why there is no device at all.
    problem: Option<String>,
}

/// Opens every device; `open` opens groups ([`open`], or the opener).
pub fn prepare(
    config: &Capture,
    open: impl Fn(&Capture, &str) -> io::Result<Vec<Option<OwnedFd>>>,
) -> Ready {
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

fn device(
    config: &Capture,
    name: &str,
    open: &impl Fn(&Capture, &str) -> io::Result<Vec<Option<OwnedFd>>>,
) -> Result<OpenedDevice, String> {
    let settings = settings(config);
    match config.backend {
        BackendArg::Auto | BackendArg::Afpacket => {
            let options = options(&settings, config, name);
            let descriptors = open(config, name).map_err(|error| said(&error))?;
            let sources = rings(descriptors, &options, settings.workers)?;
            Ok(OpenedDevice {
                sources,
                backend: "afpacket",
                reason: "sees both directions and takes nothing from the host".to_owned(),
                notes: Vec::new(),
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

/// What threads and publisher tell the supervisor.
#[derive(Debug, Default)]
pub struct Told {
    /// Frames that the capture lost.
    lost: AtomicU64,
    /// Flows that were evicted.
    evicted: AtomicU64,
}

struct Device {
    name: String,
    /// Workers that read it.
    readers: usize,
    /// Why it is not read.
    problem: Option<String>,
}

/// See the module.
pub struct Capturing {
    config: Capture,
    devices: Vec<Device>,
    orders: Vec<Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    gone: Receiver<usize>,
    told: Arc<Told>,
    /// What was told last, and when it grew.
    seen: (u64, u64),
    grew: Option<(MonoNanos, String)>,
    next_look: MonoNanos,
    problem: Option<String>,
}

impl Capturing {
    /// Starts the threads; gives what the publisher asks.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        config: &Capture,
        ready: Ready,
        bounds: &record::series::ClassicBounds,
    ) -> io::Result<(Self, Collector)> {
        let count = workers(config);
        let groups = config.groups();
        let (gone_out, gone) = channel();
        let told = Arc::new(Told::default());
        let mut capturing = Self {
            config: config.clone(),
            devices: Vec::new(),
            orders: Vec::new(),
            threads: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            gone,
            told: Arc::clone(&told),
            seen: (0, 0),
            grew: None,
            next_look: MonoNanos(0),
            problem: ready.problem,
        };
        let mut sources: Vec<Vec<(usize, LiveSource)>> = (0..count).map(|_| Vec::new()).collect();
        let mut backend = ("none", "no device could be opened yet".to_owned());
        for (number, device) in ready.devices.into_iter().enumerate() {
            let (readers, problem) = match device.opened {
                Ok(opened) => {
                    for note in &opened.notes {
                        tracing::warn!(device = device.name, "capture: {note}");
                    }
                    backend = (opened.backend, opened.reason);
                    let readers = opened.sources.len();
                    for (worker, source) in sources.iter_mut().zip(opened.sources) {
                        worker.push((number, source));
                    }
                    (readers, None)
                }
                Err(problem) => (0, Some(problem)),
            };
            capturing.devices.push(Device {
                name: device.name,
                readers,
                problem,
            });
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut loads = Vec::new();
        for (number, sources) in sources.into_iter().enumerate() {
            let flows = (config.max_flows / count).max(16);
            let setup = Setup {
                options: Options {
                    classifier: config.classifier,
                    layer: config.layer,
                    duplicates: config.duplicates,
                    flows,
                    segments: flows.saturating_mul(2),
                    groups: groups.clone(),
                    ..Options::new(crate::passive::seed())
                },
                top: 0,
                walk_ns: Some(WALK_NS),
                cpu: config.dedicated.then_some(number % cpus),
                lines: false,
                count: None,
            };
            let stop = Arc::clone(&capturing.stop);
            let handle = worker::start::<Interval>(number, setup, sources, None, stop)?;
            loads.push(handle.loads);
            capturing.orders.push(handle.orders);
            capturing.threads.push(handle.thread);
        }
        let names: Vec<&str> = capturing
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect();
        let collector = Collector::new(collect::Begin {
            loads,
            groups,
            bounds: bounds.clone(),
            device: names.join(","),
            backend: backend.0,
            reason: backend.1,
            capacity: u64::from((config.max_flows / count).max(16)) * u64::from(count),
            gone: gone_out,
            told,
        });
        Ok((capturing, collector))
    }

    /// What it runs on.
    pub const fn config(&self) -> &Capture {
        &self.config
    }

    /// Whether all threads are there.
    pub fn alive(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Once a second: opens what came back; says how well it is.
    pub fn look(
        &mut self,
        now: MonoNanos,
        open: impl Fn(&Capture, &str) -> io::Result<Vec<Option<OwnedFd>>>,
    ) -> Option<(Health, String)> {
        if now < self.next_look {
            return None;
        }
        self.next_look = now.plus(LOOK_NS);
        while let Ok(number) = self.gone.try_recv() {
            if let Some(device) = self.devices.get_mut(number) {
                device.readers = device.readers.saturating_sub(1);
                device.problem = Some("it is gone; waiting for it".to_owned());
            }
        }
        if let Ok(names) = names(&self.config) {
            self.problem = None;
            for name in names {
                if !self.devices.iter().any(|device| device.name == name) {
                    self.devices.push(Device {
                        name,
                        readers: 0,
                        problem: Some("it is new".to_owned()),
                    });
                }
            }
        }
        for number in 0..self.devices.len() {
            self.open_again(number, &open);
        }
        Some(self.health(now))
    }

    fn open_again(
        &mut self,
        number: usize,
        open: &impl Fn(&Capture, &str) -> io::Result<Vec<Option<OwnedFd>>>,
    ) {
        let Some(waiting) = self
            .devices
            .get_mut(number)
            .filter(|device| device.problem.is_some() && device.readers == 0)
        else {
            return;
        };
        if sys::device::index(&waiting.name).is_err() {
            return;
        }
        match device(&self.config, &waiting.name, open) {
            Ok(opened) => {
                for (orders, source) in self.orders.iter().zip(opened.sources) {
                    let sent = orders.send(Order::Take(number, source));
                    waiting.readers += usize::from(sent.is_ok());
                }
                waiting.problem = None;
            }
            Err(problem) => waiting.problem = Some(problem),
        }
    }

    fn health(&mut self, now: MonoNanos) -> (Health, String) {
        // Relaxed: counters, nothing is read through them.
        let lost = self.told.lost.load(Ordering::Relaxed);
        let evicted = self.told.evicted.load(Ordering::Relaxed);
        let (lost_before, evicted_before) = self.seen;
        if lost > lost_before {
            let text = "frames were dropped by the capture in the last minute, so losses of these seconds are degraded; give it a larger ring, more workers or a filter";
            self.grew = Some((now, text.to_owned()));
        } else if evicted > evicted_before {
            let text = "flows had to leave the table before their end in the last minute; raise capture.max_flows";
            self.grew = Some((now, text.to_owned()));
        }
        self.seen = (lost, evicted);
        let troubled = self.devices.iter().filter_map(|device| {
            let problem = device.problem.as_ref()?;
            Some(format!("{}: {problem}", device.name))
        });
        let troubled: Vec<String> = troubled.chain(self.problem.clone()).collect();
        if !troubled.is_empty() {
            let all = self.devices.iter().all(|device| device.problem.is_some());
            let health = if all {
                Health::Failed
            } else {
                Health::Degraded
            };
            return (health, troubled.join("; "));
        }
        match &self.grew {
            Some((when, text)) if now.since(*when) < RECENT_NS => (Health::Degraded, text.clone()),
            _ => (Health::Healthy, String::new()),
        }
    }

    /// Ends the threads, after what their rings held; false if one had died.
    pub fn stop(self) -> bool {
        // Relaxed: a flag, nothing is read through it.
        self.stop.store(true, Ordering::Relaxed);
        let mut well = true;
        for thread in self.threads {
            well &= thread.join().is_ok();
        }
        well
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn of(text: &str) -> Capture {
        let config = Config::parse("f", &format!("[capture]\n{text}\n")).unwrap();
        config.capture.unwrap()
    }

    #[test]
    fn what_only_the_analysis_needs_changes_without_a_restart() {
        let old = of("interface = 'eth0'");
        for (text, same) in [
            ("interface = 'eth0'\ngroup_by = ['10.0.0.0/8=vpc']", true),
            (
                "interface = 'eth0'\nmax_flows = 1000\nclassifier = 'tcptrace'",
                true,
            ),
            (
                "interface = 'eth0'\nduplicates = 'classify'\ndedicated = true",
                true,
            ),
            ("interface = 'eth1'", false),
            ("interface = 'eth0'\nfilter = 'tcp'", false),
            ("interface = 'eth0'\nworkers = 3", false),
            ("interface = 'eth0'\nring = '1M'", false),
            ("interface = 'eth0'\nlayer = 'outer'", false),
            ("interface = 'eth0'\nbackend = 'pcap'", false),
        ] {
            assert_eq!(same_sockets(&old, &of(text)), same, "{text}");
        }
        let xdp = of("interface = 'eth0'\nbackend = 'afxdp'");
        assert!(!same_sockets(&xdp, &xdp.clone()));
    }

    #[test]
    fn a_device_that_is_not_there_is_waited_for() {
        let config = of("interface = 'nosuchdevice0'\nworkers = 2");
        let ready = prepare(&config, |_, _| Err(io::Error::from_raw_os_error(19)));
        let bounds = record::series::ClassicBounds::default();
        let (mut capturing, mut collector) = Capturing::start(&config, ready, &bounds).unwrap();
        let look = capturing.look(MonoNanos(1), |_, _| Err(io::Error::from_raw_os_error(19)));
        let (health, detail) = look.expect("it is time");
        assert_eq!(health, Health::Failed);
        assert!(
            detail.contains("nosuchdevice0: No such device (ENODEV)"),
            "{detail}"
        );
        // Not again within the second.
        assert!(
            capturing
                .look(MonoNanos(2), |_, _| unreachable!())
                .is_none()
        );
        let snapshot = collector.snapshot();
        assert_eq!((snapshot.frames, snapshot.intervals), (0, 1));
        assert_eq!(snapshot.dropped.len(), capture::DropReason::COUNT);
        assert_eq!(snapshot.groups.len(), 1);
        assert_eq!(
            (&*snapshot.groups[0].group, snapshot.backend),
            ("none", "none")
        );
        assert!(capturing.alive());
        assert!(capturing.stop());
    }
}
