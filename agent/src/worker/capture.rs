//! The capture threads as the supervisor sees them, and the collector that the publisher
//! asks once a tick.
//!
//! Sockets are opened before privileges are dropped, and again by the opener when a device
//! comes back; making rings of them takes no privilege. A device that is not there, or may
//! not be captured, is a matter of health and not of starting. Threads are those of
//! `netsonde capture` ([`crate::passive::live::worker`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use base::MonoNanos;
use record::series::{ClassicBounds, Interval};
use record::snapshot::Health;

use crate::config::Capture;
use crate::passive::live::slot::Slot;
use crate::passive::live::source::{LiveSource, OpenedDevice};
use crate::passive::live::watched::Watched;
use crate::passive::live::worker::{self, Order, Setup, Stop};

mod collect;
mod open;
#[cfg(test)]
mod tests;

pub use collect::{Collector, Described, NONE};
pub use open::{Group, Ready, descriptors, is_wanted, open, prepare, same_sockets, table_bytes};

use open::{analysis, device, names, workers};

/// How often the flow table is walked for what the flows in it sent.
const WALK_NS: u64 = 5_000_000_000;
/// How often a device that is gone is looked for.
const LOOK_NS: u64 = 1_000_000_000;
/// For so long after frames were lost or flows evicted the capture is not well.
const RECENT_NS: u64 = 60_000_000_000;

/// What threads and publisher tell the supervisor.
#[derive(Debug, Default)]
pub struct Told {
    /// Frames that the capture lost.
    lost: AtomicU64,
    /// Flows that were evicted.
    evicted: AtomicU64,
}

/// See the module.
pub struct Capturing {
    config: Capture,
    watched: Watched,
    orders: Vec<Sender<Order>>,
    threads: Vec<JoinHandle<Vec<Slot>>>,
    stop: Arc<Stop>,
    /// Readers that could not go on, from the collector; and its end, for the next one.
    gone: Receiver<usize>,
    gone_in: Sender<usize>,
    told: Arc<Told>,
    /// What was told last, and when it grew.
    seen: (u64, u64),
    grew: Option<(MonoNanos, String)>,
    next_look: MonoNanos,
    problem: Option<String>,
    /// How the devices are captured, and why so; and whether that is news.
    how: (&'static str, String),
    described: Option<Described>,
}

impl Capturing {
    /// Starts the threads; gives what the publisher asks.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        config: &Capture,
        ready: Ready,
        bounds: &ClassicBounds,
    ) -> io::Result<(Self, Collector)> {
        let (gone_in, gone) = channel();
        let mut capturing = Self {
            config: config.clone(),
            watched: Watched::default(),
            orders: Vec::new(),
            threads: Vec::new(),
            stop: Arc::new(Stop::default()),
            gone,
            gone_in,
            told: Arc::new(Told::default()),
            seen: (0, 0),
            grew: None,
            next_look: MonoNanos(0),
            problem: ready.problem,
            how: ("none", "no device could be opened yet".to_owned()),
            described: None,
        };
        let mut slots: Vec<Vec<Slot>> = (0..workers(config)).map(|_| Vec::new()).collect();
        for device in ready.devices {
            match device.opened {
                Ok(opened) => {
                    let place = capturing.watched.add(&device.name, "");
                    let sources = capturing.opened(&device.name, opened);
                    capturing.watched.begin(place, sources, &mut slots);
                }
                Err(problem) => {
                    capturing.watched.add(&device.name, &problem);
                }
            }
        }
        let collector = capturing.spawn(slots, bounds)?;
        Ok((capturing, collector))
    }

    /// Ends the threads and starts others on the same sources, for a configuration that needs
    /// no other ones. What comes meanwhile waits in the rings. The collector shall succeed the
    /// one before.
    ///
    /// # Errors
    /// When a thread had died, or there can be none.
    pub fn succeed(
        mut self,
        config: &Capture,
        bounds: &ClassicBounds,
    ) -> io::Result<(Self, Collector)> {
        self.stop.pass_on();
        let mut slots = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            let ended = thread.join();
            slots.push(ended.map_err(|_| io::Error::other("a capture thread died"))?);
        }
        self.stop = Arc::new(Stop::default());
        self.orders.clear();
        self.config = config.clone();
        let collector = self.spawn(slots, bounds)?;
        Ok((self, collector))
    }

    /// A thread for each list of sources.
    fn spawn(&mut self, slots: Vec<Vec<Slot>>, bounds: &ClassicBounds) -> io::Result<Collector> {
        let config = &self.config;
        let options = analysis(config, slots.len());
        let groups = options.groups.clone();
        let capacity = u64::from(options.flows) * slots.len() as u64;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut loads = Vec::new();
        for (number, slots) in slots.into_iter().enumerate() {
            let setup = Setup {
                options: options.clone(),
                top: 0,
                walk_ns: Some(WALK_NS),
                cpu: config.dedicated.then_some(number % cpus),
                lines: false,
                windows: false,
                count: None,
            };
            let reading = slots.iter().filter(|slot| slot.source.is_some()).count();
            let stop = Arc::clone(&self.stop);
            let handle = worker::start::<Interval>(number, setup, slots, None, stop)?;
            loads.push((handle.loads, reading));
            self.orders.push(handle.orders);
            self.threads.push(handle.thread);
        }
        let described = self.describe();
        self.described = Some(described.clone());
        Ok(Collector::new(collect::Begin {
            loads,
            groups,
            bounds: bounds.clone(),
            described,
            capacity,
            gone: self.gone_in.clone(),
            told: Arc::clone(&self.told),
        }))
    }

    /// Notes how a device was opened; gives its sources.
    fn opened(&mut self, device: &str, opened: OpenedDevice) -> Vec<LiveSource> {
        for note in &opened.notes {
            tracing::warn!(device, "capture: {note}");
        }
        self.how = (opened.backend, opened.reason);
        opened.sources
    }

    fn describe(&self) -> Described {
        let (backend, reason) = self.how.clone();
        Described {
            device: self.watched.names(),
            backend,
            reason,
        }
    }

    /// What is captured, how and why so, if that is not what it was.
    pub fn news(&mut self) -> Option<Described> {
        let now = self.describe();
        if self.described.as_ref() == Some(&now) {
            return None;
        }
        self.described = Some(now.clone());
        Some(now)
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
        open: impl Fn(&Capture, &str) -> io::Result<Group>,
    ) -> Option<(Health, String)> {
        if now < self.next_look {
            return None;
        }
        self.next_look = now.plus(LOOK_NS);
        while let Ok(place) = self.gone.try_recv() {
            self.watched.lost(place, "it is gone");
        }
        if let Ok(names) = names(&self.config) {
            self.problem = None;
            for name in self.watched.unknown(names) {
                self.watched.add(&name, "it is new");
            }
        }
        for (place, name) in self.watched.back() {
            match device(&self.config, &name, &open) {
                Ok(opened) => {
                    let sources = self.opened(&name, opened);
                    self.watched.give(place, sources, self.orders.iter());
                }
                Err(problem) => self.watched.refused(place, problem),
            }
        }
        Some(self.health(now))
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
        let troubled = self.watched.iter().filter_map(|device| {
            let problem = device.problem.as_ref()?;
            Some(format!("{}: {problem}", device.name))
        });
        let troubled: Vec<String> = troubled.chain(self.problem.clone()).collect();
        if !troubled.is_empty() {
            let all = self.watched.iter().all(|device| device.problem.is_some());
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
        self.stop.end();
        let mut well = true;
        for thread in self.threads {
            well &= thread.join().is_ok();
        }
        well
    }
}
