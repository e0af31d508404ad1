//! A capture thread: it owns its sources, its analyser and a load that is being filled, and
//! runs frames to completion.
//!
//! Once a tick it hands the load over ([`record::handoff`]): no lock, no queue per packet, no
//! clock read per packet. What does not fit a load (lines for files) is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use base::{Frame, MonoNanos, Observation, WallNanos};
use capture::{Drops, Polled, Source, SourceError, Writer, Written};
use measure::passive::{Analyser, Counters, Options};
use record::passive::Values;
use record::{Distribution, handoff};
use sys::cache::HostMemory;
use sys::clock::{mono_now, wall_now};

use super::source::{LiveSource, errno};
use crate::passive::tally::{Standing, Tally};

/// How often a load is handed over.
pub const TICK_NS: u64 = 200_000_000;
/// How often the flow table is walked for the largest flows, where they are shown.
pub const WALK_NS: u64 = 1_000_000_000;
/// A flow is shown as long as it was heard of so lately.
const FRESH_NS: u64 = 2_000_000_000;
/// One of several sources is waited for so long at most before the next has its turn.
const TURN: Duration = Duration::from_millis(5);
/// What a ring held when the end came must show within this time.
const LAST: Duration = Duration::from_millis(30);
/// Lines for files that a load takes.
const MOST_LINES: usize = 1 << 16;

/// What a worker hands over. Sums are since the load was empty, the rest is of now.
pub struct Load<D = Distribution> {
    /// Observations, sizes and times.
    pub tally: Tally<D>,
    /// What the analyser counted since it began.
    pub counters: Option<Counters>,
    /// What the sources did not lend since they began.
    pub drops: Drops,
    /// Flows in the table.
    pub active: u64,
    /// The flows in the table in sum, as they were when the table was walked last.
    pub standing: Standing,
    /// Whether it was walked for this load.
    pub walked: bool,
    /// For `--flows` and `--records`.
    pub lines: Vec<(u64, Observation)>,
    /// Lines that did not fit.
    pub lines_lost: u64,
    /// Devices that cannot be read any more, and why.
    pub gone: Vec<(usize, String)>,
    /// At the end: what became of frames that were to be written.
    pub written: Option<(Written, Option<String>)>,
}

impl<D: Values> Load<D> {
    fn new(setup: &Setup) -> Self {
        Self {
            tally: Tally::new(setup.options.groups.count(), setup.top),
            counters: None,
            drops: Drops::default(),
            active: 0,
            standing: Standing::new(setup.options.groups.count(), 4 * setup.top),
            walked: false,
            lines: Vec::with_capacity(if setup.lines { MOST_LINES } else { 0 }),
            lines_lost: 0,
            gone: Vec::new(),
            written: None,
        }
    }

    /// Empties it; keeps the memory.
    pub fn clear(&mut self) {
        self.tally.clear();
        self.walked = false;
        self.lines.clear();
        self.lines_lost = 0;
        self.gone.clear();
    }

    /// Walks the table, for what is in it and what of that moves.
    fn walk(&mut self, analyser: &Analyser<HostMemory>) {
        let fresh = WallNanos(wall_now().0.saturating_sub(FRESH_NS));
        self.standing.walk(analyser.flows(), fresh);
        self.walked = true;
    }

    #[inline]
    fn line(&mut self, number: u64, observation: Observation) {
        if self.lines.len() < MOST_LINES {
            self.lines.push((number, observation));
        } else {
            self.lines_lost += 1;
        }
    }
}

/// How a worker works.
#[derive(Clone)]
pub struct Setup {
    /// For its analyser.
    pub options: Options,
    /// So many of the largest flows.
    pub top: usize,
    /// How often the table is walked for what the flows in it sent; `None`: at the end only.
    pub walk_ns: Option<u64>,
    /// Pin the thread to this CPU.
    pub cpu: Option<usize>,
    /// Whether lines for files are wanted.
    pub lines: bool,
    /// Frames after which it ends.
    pub count: Option<u64>,
}

/// What a worker is told.
pub enum Order {
    /// Read this device from now on, instead of a source that is gone.
    Take(usize, LiveSource),
}

/// What the main thread keeps of a worker.
pub struct Handle<D = Distribution> {
    /// Loads come here.
    pub loads: handoff::Reader<Load<D>>,
    /// Orders go there.
    pub orders: std::sync::mpsc::Sender<Order>,
    /// The thread itself.
    pub thread: std::thread::JoinHandle<()>,
}

impl<D> Handle<D> {
    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Slot {
    device: usize,
    /// `None`: gone.
    source: Option<LiveSource>,
    /// What sources of this device that are gone did not lend.
    before: Drops,
    now: Drops,
}

struct Worker<D> {
    slots: Vec<Slot>,
    analyser: Analyser<HostMemory>,
    writer: Option<Writer>,
    load: handoff::Writer<Load<D>>,
    left: u64,
    setup: Setup,
}

/// Starts the worker of this number.
///
/// # Errors
/// When no thread can be made.
pub fn start<D: Values + Send + 'static>(
    number: usize,
    setup: Setup,
    sources: Vec<(usize, LiveSource)>,
    writer: Option<Writer>,
    stop: Arc<AtomicBool>,
) -> std::io::Result<Handle<D>> {
    let (load, loads) = handoff::pair(1, || Load::new(&setup));
    let (orders, orders_in) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("cap-{number}"))
        .spawn(move || {
            if let Some(cpu) = setup.cpu {
                // An unpinned thread measures as well.
                let _ = sys::sched::pin(cpu);
            }
            let worker = Worker {
                slots: sources
                    .into_iter()
                    .map(|(device, source)| Slot::new(device, source))
                    .collect(),
                analyser: Analyser::with_memory(setup.options.clone(), HostMemory),
                writer,
                load,
                left: setup.count.unwrap_or(u64::MAX),
                setup,
            };
            worker.run(&orders_in, &stop);
        })?;
    Ok(Handle {
        loads,
        orders,
        thread,
    })
}

impl Slot {
    fn new(device: usize, source: LiveSource) -> Self {
        Self {
            device,
            source: Some(source),
            before: Drops::default(),
            now: Drops::default(),
        }
    }

    /// What was not lent; the kernel's last answer if it gives none any more.
    fn drops(&mut self) -> Drops {
        if let Some(Ok(now)) = self.source.as_mut().map(Source::drops) {
            self.now = now;
        }
        sum(self.before, self.now)
    }
}

fn sum(one: Drops, other: Drops) -> Drops {
    let mut sum = one;
    for reason in capture::DropReason::ALL {
        sum.add(*reason, other.get(*reason));
    }
    sum
}

impl<D: Values> Worker<D> {
    fn run(mut self, orders: &Receiver<Order>, stop: &AtomicBool) {
        let mut next_tick = mono_now().plus(TICK_NS);
        // Handed over shortly before the main thread ends its second.
        let every = self.setup.walk_ns.unwrap_or(u64::MAX);
        let mut next_walk = mono_now().plus(every.saturating_sub(2 * TICK_NS));
        // Relaxed: a flag, nothing is read through it.
        while !stop.load(Ordering::Relaxed) && self.left > 0 {
            let now = mono_now();
            if now >= next_tick {
                next_tick = now.plus(TICK_NS);
                while let Ok(order) = orders.try_recv() {
                    self.obey(order);
                }
                self.tick(now, &mut next_walk);
                let open = self.load.tally.windows.open();
                if self.load.exchange() {
                    self.load.tally.windows.resume(open);
                }
            }
            self.round(Duration::from_nanos(next_tick.since(now)));
        }
        // What came back since the last tick has frames too.
        while let Ok(order) = orders.try_recv() {
            self.obey(order);
        }
        self.end();
    }

    fn obey(&mut self, Order::Take(device, source): Order) {
        match self.slots.iter_mut().find(|slot| slot.device == device) {
            Some(slot) => {
                slot.before = slot.drops();
                slot.now = Drops::default();
                slot.source = Some(source);
            }
            None => self.slots.push(Slot::new(device, source)),
        }
    }

    /// Every source once; waits if none has anything.
    fn round(&mut self, wait: Duration) {
        let alone = self.slots.len() == 1;
        let mut busy = false;
        let mut there = false;
        for at in 0..self.slots.len() {
            let wait = if alone { wait } else { Duration::ZERO };
            match self.poll(at, wait) {
                Some(Polled::Frames(_)) => {
                    busy = true;
                    there = true;
                }
                Some(_) => there = true,
                None => {}
            }
        }
        if !there {
            std::thread::sleep(wait.min(TURN));
        } else if !busy && !alone {
            let wait = wait.min(TURN);
            let each = wait / u32::try_from(self.slots.len()).unwrap_or(1);
            for at in 0..self.slots.len() {
                self.poll(at, each);
            }
        }
    }

    fn poll(&mut self, at: usize, wait: Duration) -> Option<Polled> {
        let Self {
            slots,
            analyser,
            writer,
            load,
            left,
            setup,
        } = self;
        let slot = slots.get_mut(at)?;
        let source = slot.source.as_mut()?;
        let load: &mut Load<D> = load;
        let polled = source.poll(wait, |frames| {
            let frames = within(frames, left, setup.count);
            load.tally.frames(frames);
            if let Some(writer) = writer {
                writer.write(frames);
            }
            if setup.lines {
                analyser.batch(frames, &mut |number, observation| {
                    load.tally.observe(&observation);
                    load.line(number, observation);
                });
            } else {
                analyser.batch(frames, &mut |_, observation| {
                    load.tally.observe(&observation);
                });
            }
        });
        match polled {
            Ok(Polled::End) => {
                slot.drops();
                slot.source = None;
                load.gone.push((slot.device, "it ended".to_owned()));
                None
            }
            Ok(polled) => Some(polled),
            Err(error) => {
                slot.drops();
                slot.source = None;
                load.gone.push((slot.device, why(&error)));
                None
            }
        }
    }

    /// Fills in what is of now.
    fn tick(&mut self, now: MonoNanos, next_walk: &mut MonoNanos) {
        let load: &mut Load<D> = &mut self.load;
        let lines = self.setup.lines;
        self.analyser.tick(wall_now(), &mut |number, observation| {
            load.tally.observe(&observation);
            if lines {
                load.line(number, observation);
            }
        });
        load.active = u64::from(self.analyser.active());
        load.counters = Some(self.analyser.counters());
        load.drops = self
            .slots
            .iter_mut()
            .fold(Drops::default(), |all, slot| sum(all, slot.drops()));
        if let Some(writer) = &mut self.writer {
            let seen = self.analyser.counters().frames + load.drops.lost();
            writer.note(seen, load.drops);
            writer.flush();
        }
        if now >= *next_walk {
            *next_walk = now.plus(self.setup.walk_ns.unwrap_or(u64::MAX));
            load.walk(&self.analyser);
        }
    }

    /// What the rings hold still, then every flow ends.
    fn end(mut self) {
        let deadline = mono_now().plus(1_000_000_000);
        let end = wall_now();
        for source in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.source.as_mut())
        {
            source.cease();
        }
        for at in 0..self.slots.len() {
            while self.left > 0 && mono_now() < deadline {
                let newest = self
                    .slots
                    .get(at)
                    .and_then(|slot| slot.source.as_ref()?.newest());
                if newest.is_some_and(|newest| newest > end)
                    || !matches!(self.poll(at, LAST), Some(Polled::Frames(_)))
                {
                    break;
                }
            }
        }
        let mut never = mono_now().plus(u64::MAX);
        self.load.tally.windows.finish();
        self.tick(mono_now(), &mut never);
        let load: &mut Load<D> = &mut self.load;
        let lines = self.setup.lines;
        self.analyser.finish(&mut |number, observation| {
            load.tally.observe(&observation);
            if lines {
                load.line(number, observation);
            }
        });
        load.counters = Some(self.analyser.counters());
        // They all ended; those that a longer capture would have seen more of are active.
        load.walk(&self.analyser);
        if let Some(writer) = self.writer.take() {
            let seen = self.analyser.counters().frames + load.drops.lost();
            let (written, result) = writer.finish(seen, load.drops);
            load.written = Some((written, result.err().map(|error| error.to_string())));
        }
        self.load.finish();
    }
}

/// The frames that `-c` leaves.
fn within<'f, 'b>(frames: &'f [Frame<'b>], left: &mut u64, count: Option<u64>) -> &'f [Frame<'b>] {
    if count.is_none() {
        return frames;
    }
    let most = usize::try_from(*left).unwrap_or(usize::MAX);
    let frames = frames.get(..most).unwrap_or(frames);
    *left -= frames.len() as u64;
    frames
}

fn why(error: &SourceError) -> String {
    match errno(error) {
        // ENODEV, ENETDOWN
        Some(19 | 100) => "it is gone".to_owned(),
        _ => error.to_string(),
    }
}
