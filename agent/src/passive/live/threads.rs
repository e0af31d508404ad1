//! The capture threads of a command, and the devices that they read, from the main thread.

use std::sync::Arc;

use anyhow::Context as _;
use base::{LinkType, MonoNanos};
use capture::SourceError;
use sys::clock::{mono_now, wall_now};
use sys::poll::{Events, Interest, Poller};
use sys::signal::SignalFd;

use super::devices::{self, Wanted};
use super::merged::Merged;
use super::show::Shown;
use super::slot::Slot;
use super::source::{OpenedDevice, Settings, errno, refused};
use super::watched::Watched;
use super::worker::{self, Handle, Setup, Stop};
use crate::exit::Failure;
use crate::output::words;
use crate::passive::plan::Plan;
use crate::passive::sinks::Sinks;
use crate::passive::tally::Origin;
use crate::passive::write::{Unwritten, writer};

/// How often the main thread looks after loads.
const PERIOD_NS: u64 = 50_000_000;
/// How often a device that is gone is looked for, and new ones where a pattern may fit them.
const LOOK_NS: u64 = 1_000_000_000;

/// Of a device that was not there at the start.
const NEW: &str = "it is new";

/// See the module.
pub struct Threads {
    settings: Settings,
    wanted: Wanted,
    watched: Watched,
    workers: Vec<Handle>,
    stop: Arc<Stop>,
}

/// How a run ended.
#[derive(Default)]
pub struct Ended {
    /// A thread died.
    pub died: bool,
    /// Why frames could not be written.
    pub unwritten: Option<Unwritten>,
}

impl Threads {
    /// Opens the devices and starts the threads.
    ///
    /// # Errors
    /// When there is nothing to capture, or a device that was named cannot be captured.
    pub fn start(
        plan: &Plan,
        settings: Settings,
        wanted: Wanted,
        sinks: &Sinks,
    ) -> anyhow::Result<(Self, Origin)> {
        let names = wanted.resolve(&sys::device::list()?, devices::is_left_out);
        if names.is_empty() {
            return Err(Failure::usage(format!(
                "-i {}: no device fits; ip link shows which there are",
                wanted.text()
            ))
            .into());
        }
        let mut origin = Origin {
            source_name: names.join(","),
            backend: "",
            reason: String::new(),
            filter: plan.filter.join(" "),
            notes: Vec::new(),
        };
        let filter = settings.filter.as_ref();
        origin
            .notes
            .extend(filter.and_then(crate::passive::built_in));
        let mut slots: Vec<Vec<Slot>> = (0..settings.workers.max(1)).map(|_| Vec::new()).collect();
        let mut watched = Watched::default();
        for name in &names {
            let place = watched.add(name, NEW);
            match settings.open(name, names.len()) {
                Ok(opened) => {
                    tell(&mut origin, name, &opened);
                    watched.begin(place, opened.sources, &mut slots);
                }
                // Of several devices some may be down or gone by now: they are looked for.
                Err(error) if names.len() > 1 && waits(&error, wanted.names(name)) => {
                    let why = words::errno(errno(&error).unwrap_or(0));
                    origin.notes.push(format!("{name}: {why}; waiting for it"));
                    watched.refused(place, why);
                }
                Err(error) => return Err(refused(&error, name).into()),
            }
        }
        // Backends with one source, and one device: one worker.
        slots.retain(|slots| !slots.is_empty());
        if slots.is_empty() {
            return Err(Failure::usage(format!(
                "-i {}: no device can be captured",
                origin.source_name
            ))
            .into());
        }
        let mut threads = Self {
            settings,
            wanted,
            watched,
            workers: Vec::new(),
            stop: Arc::new(Stop::default()),
        };
        let setup = Setup {
            options: crate::passive::share(&plan.options, slots.len()),
            top: plan.top,
            walk_ns: plan.show.has_intervals().then_some(worker::WALK_NS),
            cpu: None,
            lines: sinks.wanted(),
            windows: true,
            count: plan.count,
        };
        let mut writer = writer(plan, &origin.source_name, LinkType::Ethernet)?;
        for (number, slots) in slots.into_iter().enumerate() {
            let (setup, stop) = (setup.clone(), Arc::clone(&threads.stop));
            let handle = worker::start(number, setup, slots, writer.take(), stop)?;
            threads.workers.push(handle);
        }
        Ok((threads, origin))
    }

    /// How many.
    pub const fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Until the end.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn watch(
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
        let mut told = false;
        let shown_all = loop {
            self.collect(merged, shown, sinks);
            if let Some(unwritten) = &merged.unwritten
                && !told
            {
                if unwritten.unwanted {
                    break Ok(());
                }
                told = true;
                shown.warn(&format!("{}; the capture goes on", unwritten.why));
            }
            let now = mono_now();
            if now >= next_look {
                next_look = now.plus(LOOK_NS);
                self.look(shown);
            }
            let over = deadline.is_some_and(|deadline| now >= deadline);
            // The last interval ends below, when all of it was handed over.
            let last = deadline.is_some_and(|deadline| now.plus(PERIOD_NS) >= deadline);
            let result = if last {
                Ok(())
            } else {
                shown.tick(now, wall_now(), merged)
            };
            // Nothing ends before it was asked to but a worker that has its count, or died.
            if result.is_err() || over || self.workers.iter().any(Handle::is_finished) {
                break result;
            }
            poller.wait(&mut events, Some(pause(now, deadline)))?;
            if signals.read()?.is_some() {
                break Ok(());
            }
        };
        self.stop.end();
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
        let shown_all = shown_all.and_then(|()| shown.last(wall_now(), merged));
        shown_all.context("cannot write to standard output")?;
        Ok(ended)
    }

    /// Takes what the workers handed over.
    fn collect(&mut self, merged: &mut Merged, shown: &mut Shown<'_>, sinks: &mut Sinks) {
        let watched = &mut self.watched;
        for (number, worker) in self.workers.iter_mut().enumerate() {
            worker.loads.take(|load| {
                for (place, why) in &load.gone {
                    let first = watched.lost(*place, why);
                    if let Some(device) = watched.get(*place).filter(|_| first) {
                        merged.interruptions += 1;
                        shown.note(&format!("{}: {why}; waiting for it\n", device.name));
                    }
                }
                for line in &load.lines {
                    sinks.take(line.number, line.at, &line.observation);
                }
                merged.take(number, load);
                load.clear();
            });
        }
        sinks.flush();
    }

    /// Opens what came back, and what is new.
    fn look(&mut self, shown: &mut Shown<'_>) {
        if self.wanted.is_open()
            && let Ok(there) = sys::device::list()
        {
            let fitting = self.wanted.resolve(&there, devices::is_left_out);
            for name in self.watched.unknown(fitting) {
                self.watched.add(&name, NEW);
            }
        }
        for (place, name) in self.watched.back() {
            let devices = self.watched.iter().len();
            if let Ok(opened) = self.settings.open(&name, devices) {
                let problem = self.watched.get(place).map(|device| &device.problem);
                let new = problem.is_some_and(|problem| problem.as_deref() == Some(NEW));
                let what = if new { NEW } else { "it is back" };
                shown.note(&format!("{name}: {what}\n"));
                let workers = self.workers.iter().map(|worker| &worker.orders);
                self.watched.give(place, opened.sources, workers);
            }
        }
    }
}

/// What a device that was opened adds to the first lines.
fn tell(origin: &mut Origin, name: &str, opened: &OpenedDevice) {
    if origin.backend.is_empty() {
        origin.backend = opened.backend;
        origin.reason.clone_from(&opened.reason);
    } else if origin.backend != opened.backend {
        origin.backend = "several";
        let note = format!("{name}: {}: {}", opened.backend, opened.reason);
        origin.notes.push(note);
    }
    let notes = opened.notes.iter().map(|note| format!("{name}: {note}"));
    origin.notes.extend(notes);
}

/// Whether it may come: a device that is down, or one that a pattern found a moment ago. A
/// name that no device has was mistyped.
fn waits(error: &SourceError, named: bool) -> bool {
    match errno(error) {
        // ENETDOWN
        Some(100) => true,
        // ENODEV
        Some(19) => !named,
        _ => false,
    }
}

fn pause(now: MonoNanos, deadline: Option<MonoNanos>) -> u64 {
    match deadline {
        Some(deadline) => deadline.since(now).min(PERIOD_NS),
        None => PERIOD_NS,
    }
}
