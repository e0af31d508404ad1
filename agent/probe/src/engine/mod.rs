//! The `probe` thread: one loop for all targets.
//!
//! Sends go by absolute deadlines and never wait for answers. The thread sleeps until just
//! before the next deadline or until packets arrive; when the next deadline is close it
//! sleeps through arrivals, since the kernel has stamped them. With `realtime` the last
//! microseconds are spun. No lock, and no allocation once targets are added.

mod limit;
mod outbox;
mod paths;
mod receive;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::mpsc;

use base::{EventKind, Gauge, MonoNanos, Output, ProbeResult, SessionEvent, TargetKey, Why};
use measure::session::{Action, Emission, MAX_PAYLOAD, Transmit};
use record::results::Sender;
use sys::clock::{self, StepWatch};
use sys::poll::{Events, Interest, Poller, Waker};
use sys::socket::{Batch, ErrorBatch};

use crate::clock::KernelClock;
use crate::prober::{Command, Message};
use limit::Limit;
use outbox::{Outbox, forward, keep};
pub(crate) use paths::{NewPath, NewTarget};
use paths::{Path, Target};

/// Nearer to a deadline than this, arrivals do not wake the thread.
const CLOSE_NS: u64 = 150_000;
/// After a send, what it brings is read this much later, all together.
const COALESCE_NS: u64 = 1_000_000;
/// Woken so much later than asked, the thread reads before it sends and decides.
const STALL_NS: u64 = 1_000_000;
/// With `realtime`: spun before a deadline, at most. A timer wakes a virtual CPU up to 100 us
/// late: of sends at 1 ms, 98.6-99.3 % left within 50 us of their time with 60 us of
/// spinning, and 99.4-99.9 % with 150 (three runs each, two cores, otherwise idle).
const SPIN_NS: u64 = 150_000;
const BATCH: usize = 64;
/// Octets of a quoted packet that are kept: all, where stamps come with their packet.
const QUOTED: usize = MAX_PAYLOAD + 128;
/// Batches read from one socket before the others have their turn.
const ROUNDS: usize = 16;
/// A limit that goes on biting is an event once in so long.
const LIMIT_QUIET_NS: u64 = 60_000_000_000;
const WAKER: u64 = u64::MAX;
const STEPS: u64 = u64::MAX - 1;

/// See the module.
pub(crate) struct Engine {
    inbox: mpsc::Receiver<Command>,
    waker: Waker,
    outbox: Outbox,
    poller: Poller,
    steps: StepWatch,
    paths: Vec<Option<Path>>,
    targets: HashMap<usize, Target>,
    next_target: usize,
    due: BinaryHeap<Reverse<(MonoNanos, usize)>>,
    replies: Batch,
    errors: ErrorBatch,
    packet: Box<[u8; MAX_PAYLOAD]>,
    clock: KernelClock,
    spin: bool,
    interval_ns: u64,
    finishing: bool,
    /// Something was sent since the sockets were read.
    unread: bool,
    limit: Limit,
}

impl Engine {
    pub(crate) fn new(
        inbox: mpsc::Receiver<Command>,
        waker: Waker,
        results: Sender<Message>,
        records: Option<Sender<(TargetKey, ProbeResult)>>,
        realtime: bool,
        packets_per_second: u32,
    ) -> io::Result<Self> {
        if realtime {
            sys::sched::set_fifo(crate::REALTIME_PRIORITY)?;
        }
        // The default slack of 50 us would be most of what a send is late.
        sys::sched::set_timer_slack(1)?;
        let poller = Poller::new()?;
        poller.add(&waker, WAKER, Interest::Read)?;
        let steps = StepWatch::new()?;
        poller.add(&steps, STEPS, Interest::Read)?;
        Ok(Self {
            inbox,
            waker,
            outbox: Outbox { results, records },
            poller,
            steps,
            paths: Vec::new(),
            targets: HashMap::new(),
            next_target: 0,
            due: BinaryHeap::new(),
            replies: Batch::new(BATCH, MAX_PAYLOAD),
            errors: ErrorBatch::new(BATCH, QUOTED),
            packet: Box::new([0; MAX_PAYLOAD]),
            clock: KernelClock::new(),
            spin: realtime,
            interval_ns: u64::MAX,
            finishing: false,
            unread: false,
            limit: Limit::new(packets_per_second),
        })
    }

    pub(crate) fn run(&mut self) {
        let mut events = Events::new(256);
        loop {
            self.obey();
            let now = clock::mono_now();
            self.clock.refresh(now);
            self.send_due(now);
            if self.finishing && self.paths.iter().flatten().all(|path| path.done) {
                return;
            }
            self.sleep(&mut events);
        }
    }

    /// Waits for the next deadline or for packets, and reads what has come.
    fn sleep(&mut self, events: &mut Events) {
        let now = clock::mono_now();
        let wake = self
            .due
            .peek()
            .map_or(now.plus(1_000_000_000), |entry| entry.0.0);
        let spin_ns = if self.spin {
            SPIN_NS.min(self.interval_ns / 5 * 2)
        } else {
            0
        };
        let left = wake.since(now).saturating_sub(spin_ns);
        if left > CLOSE_NS && std::mem::take(&mut self.unread) {
            // A stamp and a reply are about to come, each stamped by the kernel: one wake-up
            // for both, and for those of other targets, instead of one for each.
            // Half the time at most, so that reading is done well before the next deadline.
            clock::sleep_until(now.plus((left / 2).min(COALESCE_NS)));
            self.read_now(events);
            return;
        }
        if left > CLOSE_NS {
            if self.poller.wait(events, Some(left)).is_ok() {
                self.read_ready(events);
            }
            return;
        }
        // Close to a deadline: first what has come already, then nothing but the deadline.
        self.read_now(events);
        let until = wake.minus(spin_ns);
        if clock::mono_now() < until {
            clock::sleep_until(until);
        }
        while spin_ns > 0 && clock::mono_now() < wake {
            std::hint::spin_loop();
        }
        if clock::mono_now().since(wake) > STALL_NS {
            // What came in time must not be called lost because we come late.
            self.read_now(events);
        }
    }

    fn read_now(&mut self, events: &mut Events) {
        if self
            .poller
            .wait(events, Some(0))
            .is_ok_and(|ready| ready > 0)
        {
            self.read_ready(events);
        }
    }

    fn read_ready(&mut self, events: &Events) {
        let mut stepped = false;
        for ready in events.iter() {
            match ready.token {
                WAKER => {
                    self.waker.drain();
                }
                STEPS => stepped |= self.steps.stepped(),
                token => {
                    let Ok(index) = usize::try_from(token) else {
                        continue;
                    };
                    self.read_path(index);
                }
            }
        }
        if stepped {
            self.clock_stepped();
        }
    }

    fn clock_stepped(&mut self) {
        let Self {
            paths,
            outbox,
            targets,
            ..
        } = self;
        for path in paths.iter_mut().flatten() {
            let Some(target) = targets.get(&path.target) else {
                continue;
            };
            let key = target.key;
            path.session
                .clock_stepped(&mut |emission| forward(outbox, key, emission));
            let event = SessionEvent {
                kind: EventKind::ClockStepped,
                old: 0,
                new: 0,
            };
            outbox.output(key, Output::Event(event));
        }
    }

    fn obey(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Add(target)) => self.add(*target),
                Ok(Command::Remove(key)) => self.remove(key),
                Ok(Command::Finish) | Err(mpsc::TryRecvError::Disconnected) => {
                    if !self.finishing {
                        self.finish();
                    }
                    return;
                }
                Err(mpsc::TryRecvError::Empty) => return,
            }
        }
    }

    fn send_due(&mut self, mut now: MonoNanos) {
        while let Some(Reverse((wake, index))) = self.due.peek().copied() {
            if wake > now {
                return;
            }
            self.due.pop();
            let current = self
                .paths
                .get(index)
                .and_then(Option::as_ref)
                .map(|path| path.wake);
            if current != Some(wake) {
                continue;
            }
            self.poll_path(index, now);
            now = clock::mono_now();
        }
    }

    /// Does what the session wants now, and notes when it wants something again.
    fn poll_path(&mut self, index: usize, mut now: MonoNanos) {
        loop {
            let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                return;
            };
            let Some(target) = self.targets.get_mut(&path.target) else {
                return;
            };
            let outbox = &mut self.outbox;
            let mut loss = None;
            let action = path.session.poll(now, &mut |emission| {
                keep(&mut loss, outbox, target.key, emission);
            });
            if let Some(output) = loss {
                self.merge(index, output);
            }
            let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                return;
            };
            if path.session.is_silent() && self.fall_back(index, Why::StampSilent) {
                return;
            }
            match action {
                Action::Send(transmit) => {
                    self.send(index, &transmit);
                    now = clock::mono_now();
                }
                Action::Wait(until) => {
                    let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                        return;
                    };
                    path.wake = until.max(now.plus(1));
                    self.due.push(Reverse((path.wake, index)));
                    return;
                }
                Action::Done => {
                    self.path_done(index);
                    return;
                }
            }
        }
    }

    fn send(&mut self, index: usize, transmit: &Transmit) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(target) = self.targets.get(&path.target) else {
            return;
        };
        let (outbox, key) = (&mut self.outbox, target.key);
        let mut out = |emission| forward(outbox, key, emission);
        let now = clock::mono_now();
        if !self.limit.admits(transmit.copies, now) {
            path.session.skipped(transmit, now, &mut out);
            // One event for all: a limit that bites bites everybody.
            if now >= self.limit.quiet_until {
                self.limit.quiet_until = now.plus(LIMIT_QUIET_NS);
                let event = SessionEvent {
                    kind: EventKind::LimitReached,
                    old: 0,
                    new: 1,
                };
                out(Emission::Output(Output::Event(event)));
            }
            return;
        }
        let t1 = clock::wall_now();
        let now = clock::mono_now();
        let (len, echo) = path
            .session
            .emit(transmit, &mut self.packet, t1, self.clock.state);
        let packet = &self.packet[..len];
        let mut result = Err(0);
        for _ in 0..transmit.copies {
            let sent = path.link.send(packet, transmit.sequence);
            // One copy is enough; if none left, the newest reason counts.
            result = result.or(sent);
        }
        match result {
            Ok(()) => path.session.sent(transmit, now, t1, len, echo, &mut out),
            Err(errno) => path.session.failed(transmit, now, errno, &mut out),
        }
        self.unread = true;
        let packet_bytes = len + path.link.headers();
        if transmit.kind.is_counted() && path.packet_bytes != packet_bytes {
            path.packet_bytes = packet_bytes;
            #[expect(clippy::cast_precision_loss, reason = "at most 64 KiB")]
            out(Emission::Output(Output::Gauge(
                Gauge::PacketBytes,
                packet_bytes as f64,
            )));
        }
    }
}
