//! The `probe` thread: one loop for all targets.
//!
//! Sends go by absolute deadlines and never wait for answers. The thread sleeps until just
//! before the next deadline or until packets arrive; when the next deadline is close it
//! sleeps through arrivals, since the kernel has stamped them. With `realtime` the last
//! microseconds are spun. No lock, and no allocation once targets are added.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::mpsc;

use base::{
    Counter, EventKind, Gauge, LossTotals, MonoNanos, Output, ProbeResult, Protocol, SessionEvent,
    TargetKey, Why,
};
use measure::session::{
    Action, ClockState, Codec, Config, Datagram, Emission, MAX_PAYLOAD, Session, Transmit,
};
use record::results::Sender;
use sys::clock::{self, StepWatch};
use sys::poll::{Events, Interest, Poller, Waker};
use sys::socket::{Batch, ErrorBatch, ErrorItem};

use crate::link::{AddError, Link};
use crate::prober::{Command, Message};
use crate::target::{Choice, TargetSpec};

/// Nearer to a deadline than this, arrivals do not wake the thread.
const CLOSE_NS: u64 = 150_000;
/// With `realtime`: spun before a deadline, at most (kernel-and-lab E9).
const SPIN_NS: u64 = 60_000;
const REALTIME_PRIORITY: i32 = 50;
const BATCH: usize = 64;
/// Quoted octets of an ICMP error that are kept.
const QUOTED: usize = 256;
/// Batches read from one socket before the others have their turn.
const ROUNDS: usize = 16;
const WAKER: u64 = u64::MAX;
const STEPS: u64 = u64::MAX - 1;

/// A session with its socket, ready to run.
pub(crate) struct NewPath {
    pub(crate) session: Config,
    pub(crate) codec: Codec,
    pub(crate) protocol: Protocol,
    pub(crate) link: Link,
}

/// A target, ready to run.
pub(crate) struct NewTarget {
    pub(crate) spec: TargetSpec,
    pub(crate) paths: Vec<NewPath>,
    pub(crate) fallback: Option<Result<NewPath, AddError>>,
}

struct Path {
    target: usize,
    session: Session,
    link: Link,
    protocol: Protocol,
    /// The heap's entry that counts; others are out of date.
    wake: MonoNanos,
    loss: LossTotals,
    up: bool,
    in_flight: f64,
    /// IP packet of the last counted probe, as published; 0 before the first.
    packet_bytes: usize,
    done: bool,
}

struct Target {
    key: TargetKey,
    paths: Vec<usize>,
    fallback: Option<Result<NewPath, AddError>>,
    chosen: bool,
    wanted: Choice,
    limited: MonoNanos,
}

/// Where results go.
struct Outbox {
    results: Sender<Message>,
    records: Option<Sender<(TargetKey, ProbeResult)>>,
}

impl Outbox {
    fn output(&mut self, target: TargetKey, output: Output) {
        // A full ring is counted by the ring.
        self.results.push(Message { target, output });
    }
}

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
    clock: ClockState,
    clock_read: MonoNanos,
    spin: bool,
    interval_ns: u64,
    finishing: bool,
    limit: Limit,
}

/// Packets per second of all targets together (GCRA).
struct Limit {
    cost_ns: u64,
    full_at: MonoNanos,
}

impl Limit {
    const BURST_NS: u64 = 50_000_000;

    fn admits(&mut self, packets: u32, now: MonoNanos) -> bool {
        if self.cost_ns == 0 {
            return true;
        }
        let cost = self.cost_ns * u64::from(packets);
        let from = self.full_at.max(now);
        if from.since(now) + cost > Self::BURST_NS.max(cost) {
            return false;
        }
        self.full_at = from.plus(cost);
        true
    }
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
            sys::sched::set_fifo(REALTIME_PRIORITY)?;
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
            clock: ClockState {
                synchronised: false,
                error_ns: u64::MAX,
                tai_offset: 0,
            },
            clock_read: MonoNanos(0),
            spin: realtime,
            interval_ns: u64::MAX,
            finishing: false,
            limit: Limit {
                cost_ns: 1_000_000_000u64
                    .checked_div(u64::from(packets_per_second))
                    .unwrap_or(0),
                full_at: MonoNanos(0),
            },
        })
    }

    pub(crate) fn run(&mut self) {
        let mut events = Events::new(256);
        loop {
            self.obey();
            let now = clock::mono_now();
            self.read_clock(now);
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
            SPIN_NS.min(self.interval_ns * 2 / 5)
        } else {
            0
        };
        let left = wake.since(now).saturating_sub(spin_ns);
        if left > CLOSE_NS {
            if self.poller.wait(events, Some(left)).is_ok() {
                self.read_ready(events);
            }
            return;
        }
        // Close to a deadline: first what has come already, then nothing but the deadline.
        if self
            .poller
            .wait(events, Some(0))
            .is_ok_and(|ready| ready > 0)
        {
            self.read_ready(events);
        }
        let until = wake.minus(spin_ns);
        if clock::mono_now() < until {
            clock::sleep_until(until);
        }
        while spin_ns > 0 && clock::mono_now() < wake {
            std::hint::spin_loop();
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

    fn read_clock(&mut self, now: MonoNanos) {
        if now.since(self.clock_read) < 1_000_000_000 && self.clock_read != MonoNanos(0) {
            return;
        }
        self.clock_read = now;
        if let Ok(state) = clock::clock_state() {
            self.clock = ClockState {
                synchronised: state.synchronised,
                error_ns: state.error_ns,
                tai_offset: state.tai_offset_s,
            };
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

    fn add(&mut self, new: NewTarget) {
        let id = self.next_target;
        self.next_target += 1;
        let mut target = Target {
            key: new.spec.key,
            paths: Vec::with_capacity(new.paths.len()),
            fallback: new.fallback,
            chosen: false,
            wanted: new.spec.protocol,
            limited: MonoNanos(0),
        };
        for path in new.paths {
            if target.wanted != Choice::Auto && !target.chosen {
                target.chosen = true;
                self.outbox
                    .output(target.key, Output::Protocol(path.protocol, Why::Requested));
            }
            target.paths.push(self.add_path(id, path));
        }
        self.targets.insert(id, target);
    }

    fn add_path(&mut self, target: usize, new: NewPath) -> usize {
        let now = clock::mono_now();
        self.interval_ns = self.interval_ns.min(new.session.interval_ns);
        let index = self
            .paths
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.paths.len());
        // Registration fails only when the kernel is out of memory; replies are then unread,
        // and the target shows as lost.
        let _ = self.poller.add(&new.link, index as u64, Interest::Read);
        let path = Path {
            target,
            session: Session::new(new.session, new.codec, now),
            link: new.link,
            protocol: new.protocol,
            wake: now,
            loss: LossTotals::default(),
            up: false,
            in_flight: 0.0,
            packet_bytes: 0,
            done: false,
        };
        if index == self.paths.len() {
            self.paths.push(Some(path));
        } else {
            self.paths[index] = Some(path);
        }
        self.due.push(Reverse((now, index)));
        index
    }

    fn drop_path(&mut self, index: usize) {
        if let Some(path) = self.paths.get_mut(index).and_then(Option::take) {
            let _ = self.poller.remove(&path.link);
        }
    }

    fn remove(&mut self, key: TargetKey) {
        let found = self
            .targets
            .iter()
            .find(|(_, target)| target.key == key)
            .map(|(id, _)| *id);
        let Some(target) = found.and_then(|id| self.targets.remove(&id)) else {
            return;
        };
        for index in target.paths {
            self.drop_path(index);
        }
    }

    fn finish(&mut self) {
        self.finishing = true;
        let now = clock::mono_now();
        for (index, path) in self.paths.iter_mut().enumerate() {
            if let Some(path) = path {
                path.session.finish();
                path.wake = now;
                self.due.push(Reverse((now, index)));
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

    fn path_done(&mut self, index: usize) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        path.done = true;
        let Some(target) = self.targets.get(&path.target) else {
            return;
        };
        let done = |index: &usize| self.paths[*index].as_ref().is_none_or(|path| path.done);
        if target.paths.iter().all(done) {
            self.outbox.output(target.key, Output::Finished);
        }
    }

    fn send(&mut self, index: usize, transmit: &Transmit) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(target) = self.targets.get_mut(&path.target) else {
            return;
        };
        let (outbox, key) = (&mut self.outbox, target.key);
        let mut out = |emission| forward(outbox, key, emission);
        let now = clock::mono_now();
        if !self.limit.admits(transmit.copies, now) {
            path.session.skipped(transmit, now, &mut out);
            if now.since(target.limited) > 10_000_000_000 || target.limited == MonoNanos(0) {
                target.limited = now;
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
            .emit(transmit, &mut self.packet, t1, self.clock);
        let packet = &self.packet[..len];
        let mut result = Err(0);
        for _ in 0..transmit.copies {
            result = path.link.send(packet, transmit.sequence).or(result);
        }
        match result {
            Ok(()) => path.session.sent(transmit, now, t1, len, echo, &mut out),
            Err(errno) => path.session.failed(transmit, now, errno, &mut out),
        }
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

    /// Reads replies, then stamps and errors, and judges them in the other order: a reply
    /// never precedes its stamp that way.
    fn read_path(&mut self, index: usize) {
        for _ in 0..ROUNDS {
            let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                return;
            };
            let replies = path.link.receive(&mut self.replies).unwrap_or(0);
            let mut errors = 0;
            let mut refused = false;
            loop {
                let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                    return;
                };
                let read = path.link.receive_errors(&mut self.errors).unwrap_or(0);
                errors += read;
                refused |= self.take_errors(index);
                if read < BATCH {
                    break;
                }
            }
            if replies > 0 {
                // A step that happened before these stamps is known by now.
                if self.steps.stepped() {
                    self.clock_stepped();
                }
                self.take_replies(index);
            }
            let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                return;
            };
            if path.link.nearly_full(replies + errors) {
                path.session.stamps_doubtful();
            }
            if refused && self.fall_back(index, Why::StampRefused) {
                return;
            }
            if replies + errors == 0 {
                return;
            }
            let now = clock::mono_now();
            self.poll_path(index, now);
            if replies < BATCH {
                return;
            }
        }
    }

    /// Returns whether the target's host says that nobody listens.
    fn take_errors(&mut self, index: usize) -> bool {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return false;
        };
        let Some(target) = self.targets.get(&path.target) else {
            return false;
        };
        let (outbox, key) = (&mut self.outbox, target.key);
        let mut refused = false;
        for item in self.errors.iter() {
            match item {
                ErrorItem::Stamp {
                    id,
                    kernel,
                    hardware,
                } => {
                    if let Some(sequence) = path.link.sequence_of(id) {
                        let mut out = |emission| forward(outbox, key, emission);
                        path.session.tx_stamp(sequence, kernel, hardware, &mut out);
                    }
                }
                ErrorItem::Icmp {
                    kind,
                    code,
                    offender,
                    ..
                } => {
                    let from = offender.unwrap_or(path.link.local.ip());
                    let mut out = |emission| forward(outbox, key, emission);
                    path.session.icmp_error(kind, code, from, &mut out);
                    // RFC 792: type 3 code 3; RFC 4443 section 3.1: type 1 code 4.
                    refused |= matches!((from.is_ipv4(), kind, code), (true, 3, 3) | (false, 1, 4));
                }
                ErrorItem::Local { errno, .. } => outbox.output(key, Output::Errno(errno)),
                ErrorItem::Unknown => {}
            }
        }
        refused
    }

    fn take_replies(&mut self, index: usize) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(target) = self.targets.get_mut(&path.target) else {
            return;
        };
        let (outbox, key) = (&mut self.outbox, target.key);
        let (now, user) = (clock::mono_now(), clock::wall_now());
        let mut loss = None;
        for received in self.replies.iter() {
            let mut out = |emission| keep(&mut loss, outbox, key, emission);
            if let Some(dropped) = received.overflow.map(|total| path.link.dropped(total))
                && dropped > 0
            {
                path.session.overflowed(dropped, &mut out);
            }
            if received.truncated {
                out(Emission::Output(Output::Count(
                    Counter::MalformedReplies,
                    1,
                )));
                continue;
            }
            let datagram = Datagram {
                payload: received.payload,
                kernel: received.kernel,
                hardware: received.hardware,
                user,
                ttl: received.ttl,
            };
            let ours = path.session.receive(&datagram, now, &mut out);
            if ours && !target.chosen {
                target.chosen = true;
                outbox.output(key, Output::Protocol(path.protocol, Why::StampAnswered));
                target.fallback = None;
            }
        }
        if let Some(output) = loss {
            self.merge(index, output);
        }
    }

    /// `auto`: STAMP does not answer; from here on ICMP echo.
    fn fall_back(&mut self, index: usize, why: Why) -> bool {
        let Some(path) = self.paths.get(index).and_then(Option::as_ref) else {
            return false;
        };
        let id = path.target;
        let Some(target) = self.targets.get_mut(&id) else {
            return false;
        };
        if target.chosen || target.wanted != Choice::Auto {
            return false;
        }
        target.chosen = true;
        match target.fallback.take() {
            Some(Ok(fallback)) => {
                self.outbox
                    .output(target.key, Output::Protocol(Protocol::Icmp, why));
                for index in std::mem::take(&mut target.paths) {
                    self.drop_path(index);
                }
                let index = self.add_path(id, fallback);
                if self.finishing
                    && let Some(path) = self.paths[index].as_mut()
                {
                    path.session.finish();
                }
                if let Some(target) = self.targets.get_mut(&id) {
                    target.paths.push(index);
                }
                true
            }
            Some(Err(error)) => {
                let errno = sys::call::errno_of(&error.source).unwrap_or(0);
                self.outbox.output(target.key, Output::Errno(errno));
                self.outbox
                    .output(target.key, Output::Protocol(Protocol::Stamp, why));
                false
            }
            None => false,
        }
    }

    /// What several source ports say of one target, as one.
    fn merge(&mut self, index: usize, output: Merged) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(target) = self.targets.get(&path.target) else {
            return;
        };
        if let Some(loss) = output.loss {
            path.loss = loss;
        }
        if let Some(up) = output.up {
            path.up = up > 0.0;
        }
        if let Some(in_flight) = output.in_flight {
            path.in_flight = in_flight;
        }
        let key = target.key;
        let paths = || {
            target
                .paths
                .iter()
                .filter_map(|index| self.paths[*index].as_ref())
        };
        if output.loss.is_some() {
            let total = paths().fold(
                LossTotals {
                    directed: true,
                    ..LossTotals::default()
                },
                add,
            );
            self.outbox.output(key, Output::Loss(total));
        }
        if output.up.is_some() {
            let up = paths().any(|path| path.up);
            self.outbox
                .output(key, Output::Gauge(Gauge::Up, f64::from(u8::from(up))));
        }
        if output.in_flight.is_some() {
            let sum = paths().map(|path| path.in_flight).sum();
            self.outbox.output(key, Output::Gauge(Gauge::InFlight, sum));
        }
    }
}

/// What has to be added up over the paths of a target.
#[derive(Copy, Clone, Default)]
struct Merged {
    loss: Option<LossTotals>,
    up: Option<f64>,
    in_flight: Option<f64>,
}

fn keep(merged: &mut Option<Merged>, outbox: &mut Outbox, key: TargetKey, emission: Emission) {
    match emission {
        Emission::Output(Output::Loss(loss)) => merged.get_or_insert_default().loss = Some(loss),
        Emission::Output(Output::Gauge(Gauge::Up, up)) => {
            merged.get_or_insert_default().up = Some(up);
        }
        Emission::Output(Output::Gauge(Gauge::InFlight, sum)) => {
            merged.get_or_insert_default().in_flight = Some(sum);
        }
        // A session's own end is not its target's.
        Emission::Output(Output::Finished) => {}
        other => forward(outbox, key, other),
    }
}

fn forward(outbox: &mut Outbox, key: TargetKey, emission: Emission) {
    match emission {
        Emission::Output(output) => outbox.output(key, output),
        Emission::Result(result) => {
            if let Some(records) = &mut outbox.records {
                records.push((key, result));
            }
        }
    }
}

fn add(total: LossTotals, path: &Path) -> LossTotals {
    let loss = path.loss;
    LossTotals {
        lost: total.lost + loss.lost,
        local: total.local + loss.local,
        forward: total.forward + loss.forward,
        reverse: total.reverse + loss.reverse,
        unattributed: total.unattributed + loss.unattributed,
        directed: total.directed && (loss.directed || loss.lost == 0),
    }
}
