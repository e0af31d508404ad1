//! A capture thread: it owns its sources, its analyser and a load that is being filled, and
//! runs frames to completion.
//!
//! Once a tick it hands the load over ([`record::handoff`]): no lock, no queue per packet, no
//! clock read per packet. What does not fit a load (lines for files) is counted. At its end it
//! gives its sources back, with what their rings hold if it was told to pass them on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use base::{Frame, MonoNanos, WallNanos};
use capture::{Drops, Polled, Source, Writer};
use measure::passive::{Analyser, Options};
use record::passive::Values;
use record::{Distribution, handoff};
use sys::cache::HostMemory;
use sys::clock::{mono_now, wall_now};

use super::load::{Line, Load, add_drops};
use super::slot::Slot;
use super::source::LiveSource;
use crate::passive::sinks::captured_at;

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
    /// Whether it is wanted how much came when.
    pub windows: bool,
    /// Frames after which it ends.
    pub count: Option<u64>,
}

/// Whether workers are to end, and how.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

impl Stop {
    const END: u8 = 1;
    const PASS_ON: u8 = 2;

    /// They end after what their rings hold.
    pub fn end(&self) {
        // Relaxed, here and below: a flag, nothing is read through it.
        self.0.store(Self::END, Ordering::Relaxed);
    }

    /// They leave what their rings hold to those that get their sources.
    pub fn pass_on(&self) {
        self.0.store(Self::PASS_ON, Ordering::Relaxed);
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn passes_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::PASS_ON
    }
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
    /// The thread itself; it gives its sources back.
    pub thread: std::thread::JoinHandle<Vec<Slot>>,
}

impl<D> Handle<D> {
    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Worker<D> {
    slots: Vec<Slot>,
    analyser: Analyser<HostMemory>,
    writer: Option<Writer>,
    load: handoff::Writer<Load<D>>,
    left: u64,
    /// Frames that were analysed, where lines are wanted.
    analysed: u64,
    setup: Setup,
}

/// Starts the worker of this number.
///
/// # Errors
/// When no thread can be made.
pub fn start<D: Values + Send + 'static>(
    number: usize,
    setup: Setup,
    slots: Vec<Slot>,
    writer: Option<Writer>,
    stop: Arc<Stop>,
) -> std::io::Result<Handle<D>> {
    let groups = setup.options.groups.count();
    let (load, loads) = handoff::pair(1, || Load::new(groups, setup.top, setup.lines));
    let (orders, orders_in) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("cap-{number}"))
        .spawn(move || {
            if let Some(cpu) = setup.cpu {
                // An unpinned thread measures as well.
                let _ = sys::sched::pin(cpu);
            }
            let worker = Worker {
                slots,
                analyser: Analyser::with_memory(setup.options.clone(), HostMemory),
                writer,
                load,
                left: setup.count.unwrap_or(u64::MAX),
                analysed: 0,
                setup,
            };
            worker.run(&orders_in, &stop)
        })?;
    Ok(Handle {
        loads,
        orders,
        thread,
    })
}

impl<D: Values> Worker<D> {
    fn run(mut self, orders: &Receiver<Order>, stop: &Stop) -> Vec<Slot> {
        let mut next_tick = mono_now().plus(TICK_NS);
        // Handed over shortly before the main thread ends its second.
        let every = self.setup.walk_ns.unwrap_or(u64::MAX);
        let mut next_walk = mono_now().plus(every.saturating_sub(2 * TICK_NS));
        while !stop.asked() && self.left > 0 {
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
        if !stop.passes_on() {
            self.drain();
        }
        self.finish()
    }

    fn obey(&mut self, Order::Take(device, source): Order) {
        match self.slots.iter_mut().find(|slot| slot.device == device) {
            Some(slot) => slot.replace(source),
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
            analysed,
            setup,
        } = self;
        let slot = slots.get_mut(at)?;
        let source = slot.source.as_mut()?;
        let load: &mut Load<D> = load;
        let polled = source.poll(wait, |frames| {
            let frames = within(frames, left, setup.count);
            if setup.windows {
                load.tally.frames(frames);
            }
            if let Some(writer) = writer {
                writer.write(frames);
            }
            if setup.lines {
                let before = *analysed;
                *analysed += frames.len() as u64;
                analyser.batch(frames, &mut |number, observation| {
                    load.tally.observe(&observation);
                    let at = captured_at(frames, before, number);
                    load.line(Line {
                        number,
                        at,
                        observation,
                    });
                });
            } else {
                analyser.batch(frames, &mut |_, observation| {
                    load.tally.observe(&observation);
                });
            }
        });
        match polled {
            Ok(Polled::End) => {
                load.gone.push((slot.device, slot.lose(None)));
                None
            }
            Ok(polled) => Some(polled),
            Err(error) => {
                load.gone.push((slot.device, slot.lose(Some(&error))));
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
                load.line(Line {
                    number,
                    at: None,
                    observation,
                });
            }
        });
        load.active = u64::from(self.analyser.active());
        load.counters = Some(self.analyser.counters());
        let open = self.slots.iter().filter(|slot| slot.source.is_some());
        load.reading = open.count();
        load.drops = Drops::default();
        for slot in &mut self.slots {
            add_drops(&mut load.drops, slot.drops());
        }
        if let Some(writer) = &mut self.writer {
            let seen = self.analyser.counters().frames + load.drops.lost();
            writer.note(seen, load.drops);
            writer.flush();
            if let Some(error) = writer.failure() {
                load.unwritten = Some(error.into());
            }
        }
        if now >= *next_walk {
            *next_walk = now.plus(self.setup.walk_ns.unwrap_or(u64::MAX));
            load.walk(self.analyser.flows(), fresh());
        }
    }

    /// Takes what the rings hold still.
    fn drain(&mut self) {
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
    }

    /// Every flow ends, and the last load goes.
    fn finish(mut self) -> Vec<Slot> {
        let mut never = mono_now().plus(u64::MAX);
        self.load.tally.windows.finish();
        self.tick(mono_now(), &mut never);
        let load: &mut Load<D> = &mut self.load;
        let lines = self.setup.lines;
        self.analyser.finish(&mut |number, observation| {
            load.tally.observe(&observation);
            if lines {
                load.line(Line {
                    number,
                    at: None,
                    observation,
                });
            }
        });
        load.counters = Some(self.analyser.counters());
        // They all ended; those that a longer capture would have seen more of are active.
        load.walk(self.analyser.flows(), fresh());
        if let Some(writer) = self.writer.take() {
            let seen = self.analyser.counters().frames + load.drops.lost();
            let (written, result) = writer.finish(seen, load.drops);
            load.written = Some(written);
            if let Err(error) = result {
                load.unwritten = Some(error.into());
            }
        }
        self.load.finish();
        self.slots
    }
}

/// From when on a flow is shown.
fn fresh() -> WallNanos {
    WallNanos(wall_now().0.saturating_sub(FRESH_NS))
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
