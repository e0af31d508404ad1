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
use measure::passive::Options;
use record::series::Interval;
use record::snapshot::Health;

use crate::config::Capture;
use crate::passive::live::source::LiveSource;
use crate::passive::live::worker::{self, Order, Setup};

mod collect;
mod open;
#[cfg(test)]
mod tests;

pub use collect::Collector;
pub use open::{Ready, descriptors, is_wanted, open, prepare, same_sockets};

use open::{device, names, workers};

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
