//! A live capture: the main thread opens, shows and ends; workers capture and analyse.
//!
//! [`devices`] says which devices, [`source`] opens them, [`worker`] is a capture thread,
//! [`show`] is what is seen while it runs. The main thread alone touches standard output, the
//! files of lines and the signals.

pub mod devices;
mod merged;
mod show;
pub mod source;
pub mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use base::MonoNanos;
use capture::{Filter, SourceError, WriteOptions, Writer};
use sys::clock::{mono_now, wall_now};
use sys::netns::Namespace;
use sys::poll::{Events, Interest, Poller};
use sys::signal::SignalFd;

use super::finish;
use super::plan::Plan;
use super::sinks::Sinks;
use super::tally::Origin;
use crate::exit::{Exit, Failure};
use crate::output::assertion::Assertion;
use crate::output::json::Source as Head;
use devices::Wanted;
use merged::Merged;
use show::Shown;
use source::{LiveSource, Settings, errno, refused};
use worker::{Handle, Order, Setup};

/// How often the main thread looks after loads.
const PERIOD_NS: u64 = 50_000_000;
/// How often a device that is gone is looked for, and new ones where a pattern may fit them.
const LOOK_NS: u64 = 1_000_000_000;

/// A device of the capture.
struct Device {
    name: String,
    /// So many workers read it.
    readers: usize,
    gone: bool,
}

/// The threads and what they read.
struct Capture {
    settings: Settings,
    wanted: Wanted,
    devices: Vec<Device>,
    workers: Vec<Handle>,
    stop: Arc<AtomicBool>,
}

/// Captures until a limit or a signal, and shows it.
///
/// # Errors
/// When nothing can be captured, a worker dies, or a file cannot be written.
pub fn run(plan: &Plan, typed: &[String], assertions: &[Assertion]) -> anyhow::Result<Exit> {
    // Threads that start from here on are in the same namespace.
    let namespace = plan.netns.as_deref().map(namespace).transpose()?;
    let _inside = namespace
        .as_ref()
        .map(|namespace| {
            namespace.enter().map_err(|error| {
                Failure::privilege(format!(
                    "cannot enter network namespace {}: {error}; needs CAP_SYS_ADMIN: run as root",
                    namespace.name()
                ))
            })
        })
        .transpose()?;
    let filter = if plan.filter.is_empty() {
        None
    } else {
        let filter = Filter::compile(&plan.filter, &[]);
        Some(filter.map_err(|error| Failure::usage(error.to_string()))?)
    };
    let settings = Settings {
        backend: plan.backend,
        filter,
        snaplen: kept(plan),
        ring_bytes: plan.ring_bytes,
        ignore_outgoing: plan.ignore_outgoing,
        layer: plan.options.layer,
        xdp_mode: plan.xdp_mode,
        xdp_take: plan.xdp_take,
        workers: plan.workers,
        seed: super::seed()[0],
    };
    let wanted = Wanted::new(typed)?;
    let mut sinks = Sinks::create(plan)?;
    let (capture, origin) = Capture::start(plan, settings, wanted, &sinks)?;
    let mut merged = Merged::new(plan, capture.workers.len());
    let mut shown = Shown::new(plan, &origin);
    shown.first_lines()?;
    let begun = mono_now();
    let ended = capture.watch(plan, &mut merged, &mut shown, &mut sinks)?;
    let watched_ns = mono_now().since(begun);
    shown.leave()?;
    let mut report = merged.report(&origin);
    report.watched_ns = Some(watched_ns);
    let head = Head {
        address: None,
        device: Some(origin.source_name.clone()),
    };
    let exit = finish::show(plan, &report, assertions, &head, shown.started())
        .context("cannot write to standard output")?;
    drop(report);
    sinks.finish()?;
    if let Some(why) = ended.unwritten {
        return Err(Failure::incomplete(why).into());
    }
    if ended.died {
        return Err(Failure::incomplete(
            "a capture thread died; the numbers above are those until then",
        )
        .into());
    }
    if merged.lines_lost > 0 {
        return Err(Failure::incomplete(format!(
            "{} lines of --flows and --records came faster than they could be written, and are missing there",
            merged.lines_lost
        ))
        .into());
    }
    Ok(exit)
}

/// A namespace by name or by one of its processes.
fn namespace(text: &str) -> Result<Namespace, Failure> {
    let opened = match text.parse::<u32>() {
        Ok(pid) => Namespace::of_process(pid),
        Err(_) => Namespace::open(text),
    };
    opened.map_err(|error| {
        Failure::usage(format!(
            "--netns {text}: {error}; give a process id, or a name that ip netns list shows"
        ))
    })
}

/// Octets that are kept of a frame: enough for the headers inside two tunnels, and for what
/// is written.
fn kept(plan: &Plan) -> u32 {
    const HEADERS: u32 = 256;
    match plan.write.as_ref().map(|write| write.snaplen) {
        None => HEADERS,
        Some(0) => capture::file::CAPTURED_MAX as u32,
        Some(snaplen) => snaplen.max(HEADERS),
    }
}

/// How a run ended.
#[derive(Default)]
struct Ended {
    died: bool,
    unwritten: Option<String>,
}

impl Capture {
    fn start(
        plan: &Plan,
        settings: Settings,
        wanted: Wanted,
        sinks: &Sinks,
    ) -> anyhow::Result<(Self, Origin)> {
        let there = sys::device::list()?;
        let names = wanted.resolve(&there, devices::is_inner);
        if names.is_empty() {
            return Err(Failure::usage(format!(
                "-i {}: no device fits; ip link shows which there are",
                wanted.text()
            ))
            .into());
        }
        let setup = Setup {
            options: plan.options.clone(),
            top: plan.top,
            walk_ns: plan.show.has_intervals().then_some(worker::WALK_NS),
            cpu: None,
            lines: sinks.wanted(),
            count: plan.count,
        };
        let mut sources: Vec<Vec<(usize, LiveSource)>> =
            (0..settings.workers.max(1)).map(|_| Vec::new()).collect();
        let mut capture = Self {
            settings,
            wanted,
            devices: Vec::new(),
            workers: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let mut origin = Origin {
            source_name: names.join(","),
            backend: "",
            reason: String::new(),
            filter: plan.filter.join(" "),
            notes: Vec::new(),
        };
        let filter = capture.settings.filter.as_ref();
        origin.notes.extend(filter.and_then(super::built_in));
        let several = names.len() > 1;
        for name in &names {
            let opened = match capture.settings.open(name, names.len()) {
                Ok(opened) => opened,
                // Of several devices some may be down or gone by now: they are looked for.
                Err(error) if several && waits(&error) => {
                    origin.notes.push(format!("{name}: not there yet: {error}"));
                    capture.devices.push(Device {
                        name: name.clone(),
                        readers: 0,
                        gone: true,
                    });
                    continue;
                }
                Err(error) => return Err(refused(&error, name).into()),
            };
            if origin.backend.is_empty() {
                origin.backend = opened.backend;
                origin.reason = opened.reason;
            } else if origin.backend != opened.backend {
                origin.backend = "several";
                origin
                    .notes
                    .push(format!("{name}: {}: {}", opened.backend, opened.reason));
            }
            origin.notes.extend(
                opened
                    .notes
                    .into_iter()
                    .map(|note| format!("{name}: {note}")),
            );
            let device = capture.devices.len();
            capture.devices.push(Device {
                name: name.clone(),
                readers: opened.sources.len(),
                gone: false,
            });
            for (worker, source) in sources.iter_mut().zip(opened.sources) {
                worker.push((device, source));
            }
        }
        // Backends with one source, and one device: one worker.
        sources.retain(|sources| !sources.is_empty());
        if sources.is_empty() {
            return Err(Failure::usage(format!(
                "-i {}: no device can be captured",
                origin.source_name
            ))
            .into());
        }
        let mut writer = writer(plan, &origin)?;
        for (number, sources) in sources.into_iter().enumerate() {
            let handle = worker::start(
                number,
                setup.clone(),
                sources,
                writer.take(),
                Arc::clone(&capture.stop),
            )?;
            capture.workers.push(handle);
        }
        Ok((capture, origin))
    }

    /// Until the end.
    fn watch(
        mut self,
        plan: &Plan,
        merged: &mut Merged,
        shown: &mut Shown<'_>,
        sinks: &mut Sinks,
    ) -> anyhow::Result<Ended> {
        let signals = SignalFd::new(&crate::ping::SIGNALS)?;
        let poller = Poller::new()?;
        poller.add(&signals, 0, Interest::Read)?;
        let mut events = Events::new(1);
        let begun = mono_now();
        let deadline = plan.duration_ns.map(|ns| begun.plus(ns));
        let mut next_look = begun.plus(LOOK_NS);
        let shown_all = loop {
            self.collect(merged, shown, sinks);
            let now = mono_now();
            if now >= next_look {
                next_look = now.plus(LOOK_NS);
                self.look(shown);
            }
            let result = shown.tick(now, wall_now(), merged);
            let over = deadline.is_some_and(|deadline| now >= deadline);
            if result.is_err() || over || self.workers.iter().all(Handle::is_finished) {
                break result;
            }
            poller.wait(&mut events, Some(pause(now, deadline)))?;
            if signals.read()?.is_some() {
                break Ok(());
            }
        };
        // Relaxed: a flag, nothing is read through it.
        self.stop.store(true, Ordering::Relaxed);
        while !self.workers.iter().all(Handle::is_finished) {
            self.collect(merged, shown, sinks);
            poller.wait(&mut events, Some(PERIOD_NS / 10))?;
            // A second signal changes nothing: the rest takes a second at most.
            while signals.read()?.is_some() {}
        }
        self.collect(merged, shown, sinks);
        let mut ended = Ended {
            died: false,
            unwritten: merged.unwritten.take(),
        };
        for worker in self.workers {
            ended.died |= worker.thread.join().is_err();
        }
        merged.end_interval();
        shown_all.context("cannot write to standard output")?;
        Ok(ended)
    }

    /// Takes what the workers handed over.
    fn collect(&mut self, merged: &mut Merged, shown: &mut Shown<'_>, sinks: &mut Sinks) {
        let devices = &mut self.devices;
        for (number, worker) in self.workers.iter_mut().enumerate() {
            worker.loads.take(|load| {
                for (device, why) in &load.gone {
                    if let Some(device) = devices.get_mut(*device) {
                        if !device.gone {
                            merged.interruptions += 1;
                            shown.note(&format!("{}: {why}; waiting for it\n", device.name));
                        }
                        device.gone = true;
                        device.readers = device.readers.saturating_sub(1);
                    }
                }
                for (number, observation) in &load.lines {
                    sinks.take(*number, observation);
                }
                merged.take(number, load);
                load.clear();
            });
        }
        sinks.flush();
    }

    /// Opens what came back, and what is new.
    fn look(&mut self, shown: &mut Shown<'_>) {
        let count = self.devices.len().max(1);
        for at in 0..self.devices.len() {
            let Some(device) = self
                .devices
                .get(at)
                .filter(|device| device.gone && device.readers == 0)
            else {
                continue;
            };
            let name = device.name.clone();
            if sys::device::index(&name).is_err() {
                continue;
            }
            if let Ok(opened) = self.settings.open(&name, count) {
                shown.note(&format!("{name}: it is back\n"));
                self.give(at, opened.sources);
            }
        }
        if self.wanted.is_open()
            && let Ok(there) = sys::device::list()
        {
            for name in self.wanted.resolve(&there, devices::is_inner) {
                if self.devices.iter().any(|device| device.name == name) {
                    continue;
                }
                if let Ok(opened) = self.settings.open(&name, count + 1) {
                    shown.note(&format!("{name}: it is new\n"));
                    let at = self.devices.len();
                    self.devices.push(Device {
                        name,
                        readers: 0,
                        gone: false,
                    });
                    self.give(at, opened.sources);
                }
            }
        }
    }

    fn give(&mut self, at: usize, sources: Vec<LiveSource>) {
        let mut readers = 0;
        for (worker, source) in self.workers.iter().zip(sources) {
            // A worker that is gone is noticed elsewhere.
            readers += usize::from(worker.orders.send(Order::Take(at, source)).is_ok());
        }
        if let Some(device) = self.devices.get_mut(at) {
            device.readers = readers;
            device.gone = false;
        }
    }
}

/// ENODEV, ENETDOWN: it may come.
fn waits(error: &SourceError) -> bool {
    matches!(errno(error), Some(19 | 100))
}

fn pause(now: MonoNanos, deadline: Option<MonoNanos>) -> u64 {
    match deadline {
        Some(deadline) => deadline.since(now).min(PERIOD_NS),
        None => PERIOD_NS,
    }
}

fn writer(plan: &Plan, origin: &Origin) -> Result<Option<Writer>, Failure> {
    let Some(write) = &plan.write else {
        return Ok(None);
    };
    let options = WriteOptions {
        path: write.path.clone(),
        snaplen: write.snaplen,
        device: origin.source_name.clone(),
        link: base::LinkType::Ethernet,
        filter: origin.filter.clone(),
        file_bytes: write.file_bytes,
        files: write.files,
    };
    Writer::create(options)
        .map(Some)
        .map_err(|error| Failure::usage(format!("-w: {error}; name a file that can be made")))
}
