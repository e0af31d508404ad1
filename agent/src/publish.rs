//! The `publish` thread: results of the prober and notes of the supervisor go in, one
//! `Arc<Snapshot>` a second comes out.
//!
//! Owns every series, the event log and the health of the components. Drains the ring of
//! results at least twenty times a second, so that the ring stays small. Reads no packet, waits for no
//! reader, and is the only place that turns numbers of targets into names.

mod limits;
mod process;
mod slot;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use base::{Event, EventKind, Protocol, SessionEvent, Severity, TargetKey, WallNanos};
use record::EventLog;
use record::snapshot::{Component, ConfigInfo, Health, Labels, ReflectorSnapshot, Snapshot};
use tokio::sync::watch;

use crate::config::report::TICK_NS;
use crate::worker::capture::{Collector, Described};
use crate::worker::probe::Results;
use slot::Sending;
pub use slot::{Slot, SlotId};

/// Between two drains of the ring, and while much comes: a probe makes some ten results, and
/// the ring holds 65 536.
const DRAIN_NS: u64 = 50_000_000;
const DRAIN_OFTEN_NS: u64 = 10_000_000;
/// This many results in one drain are much.
const MUCH: usize = 4_096;

/// What the supervisor tells the publisher.
pub enum Note {
    /// A target to keep series of.
    Add(SlotId, Box<Slot>),
    /// Its series end.
    Remove(SlotId),
    /// Its series go on under other labels.
    Relabel(SlotId, Labels),
    /// The order of the targets in snapshots.
    Order(Vec<SlotId>),
    /// Results of this number belong to that target from now on; its address.
    Session(SlotId, TargetKey, String),
    /// Results of this number belong to nobody.
    EndSession(TargetKey),
    /// Why a target cannot be probed now; empty: it is.
    Problem(SlotId, String),
    /// Something happened.
    Event(Event),
    /// The configuration in force.
    Config(ConfigInfo),
    /// Labels on every series.
    Labels(Labels),
    /// How to ask the reflector for its counters; `None`: there is none.
    Reflector(Option<Box<dyn Fn() -> ReflectorSnapshot + Send>>),
    /// How to ask the capture, which goes on where the one before ended; `None`: there is none.
    Capture(Option<Box<Collector>>),
    /// What is captured, how and why so.
    CaptureIs(Described),
    /// The health of a part, by name; `Healthy` with an empty detail if it is well.
    Health(&'static str, Health, String),
    /// A part is gone from the configuration.
    NoComponent(&'static str),
    /// Why the agent is not ready; empty: it is.
    NotReady(Vec<String>),
    /// One last hand-off, then end.
    Finish,
}

/// An event of the agent as a whole, or of one target.
pub fn event(kind: EventKind, name: Option<(&str, &str)>, old: &str, new: &str) -> Event {
    let (probe, target) = name.unwrap_or_default();
    Event {
        time: sys::clock::wall_now(),
        kind,
        probe: probe.to_owned(),
        target: target.to_owned(),
        old: old.to_owned(),
        new: new.to_owned(),
    }
}

/// What the publisher and the supervisor both see.
#[derive(Debug, Default)]
pub struct Shared {
    /// The prober's end of the ring is gone and all of it is read.
    pub prober_gone: AtomicBool,
}

/// See the module.
pub struct Publisher {
    notes: Receiver<Note>,
    results: Results,
    shared: Arc<Shared>,
    out: watch::Sender<Arc<Snapshot>>,
    slots: HashMap<SlotId, Slot>,
    order: Vec<SlotId>,
    sessions: HashMap<TargetKey, SlotId>,
    /// Sessions that are over, but whose last results may still be on the ring.
    ended: Vec<TargetKey>,
    finishing: bool,
    events: EventLog,
    components: BTreeMap<&'static str, Component>,
    reflector: Option<Box<dyn Fn() -> ReflectorSnapshot + Send>>,
    capture: Option<Box<Collector>>,
    /// What changes rarely lives in the snapshot that is copied each tick.
    base: Snapshot,
    dropped: u64,
    limits: limits::Limits,
    opener: Option<sys::process::Pid>,
}

impl Publisher {
    /// To be run on a thread of its own.
    pub fn new(
        notes: Receiver<Note>,
        results: Results,
        shared: Arc<Shared>,
        out: watch::Sender<Arc<Snapshot>>,
        opener: Option<sys::process::Pid>,
    ) -> Self {
        let base = Snapshot::clone(&out.borrow());
        Self {
            notes,
            results,
            shared,
            out,
            slots: HashMap::new(),
            order: Vec::new(),
            sessions: HashMap::new(),
            ended: Vec::new(),
            finishing: false,
            events: EventLog::default(),
            components: BTreeMap::new(),
            reflector: None,
            capture: None,
            base,
            dropped: 0,
            limits: limits::Limits::default(),
            opener,
        }
    }

    /// Runs until [`Note::Finish`], or until the supervisor is gone.
    pub fn run(mut self) {
        let mut next_drain = sys::clock::mono_now();
        let mut next_tick = next_drain.plus(TICK_NS);
        loop {
            let now = sys::clock::mono_now();
            if now >= next_drain {
                let often = self.drain() >= MUCH;
                next_drain = now.plus(if often { DRAIN_OFTEN_NS } else { DRAIN_NS });
            }
            if now >= next_tick {
                self.tick();
                // After a stall one tick makes up for all that were missed.
                next_tick = next_tick.plus(TICK_NS).max(now);
            }
            let wait = next_drain.min(next_tick).since(sys::clock::mono_now());
            match self.notes.recv_timeout(Duration::from_nanos(wait)) {
                Ok(note) => self.take(note),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.finishing = true,
            }
            if self.finishing {
                self.drain();
                self.tick();
                return;
            }
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Add(id, slot) => {
                self.order.push(id);
                self.slots.insert(id, *slot);
            }
            Note::Remove(id) => {
                self.order.retain(|other| *other != id);
                self.sessions.retain(|_, slot| *slot != id);
                self.slots.remove(&id);
            }
            Note::Relabel(id, labels) => self.change(id, |slot| slot.labels = labels),
            Note::Order(order) => self.order = order,
            Note::Session(id, key, address) => {
                self.sessions.insert(key, id);
                self.change(id, |slot| slot.begin_session(key, address));
            }
            Note::EndSession(key) => self.ended.push(key),
            Note::Problem(id, problem) => self.change(id, |slot| slot.problem = problem),
            Note::Event(event) => self.log(event),
            Note::Config(config) => self.base.config = config,
            Note::Labels(labels) => self.base.labels = labels,
            Note::Reflector(reflector) => self.reflector = reflector,
            Note::Capture(capture) => self.capture(capture),
            Note::CaptureIs(described) => {
                if let Some(capture) = &mut self.capture {
                    capture.describe(described);
                }
            }
            Note::Health(name, health, detail) => self.health(name, health, detail),
            Note::NoComponent(name) => {
                self.components.remove(name);
            }
            Note::NotReady(reasons) => {
                self.base.not_ready = reasons;
                // Who waits for it shall not wait for the next tick.
                self.tick();
            }
            Note::Finish => self.finishing = true,
        }
    }

    fn capture(&mut self, mut capture: Option<Box<Collector>>) {
        if let (Some(capture), Some(before)) = (&mut capture, self.capture.take()) {
            capture.succeed(*before);
        }
        self.capture = capture;
    }

    fn change(&mut self, id: SlotId, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(&id) {
            change(slot);
            slot.touch();
        }
    }

    /// Reads what waits; gives how many results that were.
    fn drain(&mut self) -> usize {
        // In this order: the end of the prober, what waits, the notes, what waited. A note
        // about a session is sent before its first result can be pushed, so no result is
        // read before its session is known.
        let gone = self.results.is_abandoned();
        let waiting = self.results.waiting();
        while let Ok(note) = self.notes.try_recv() {
            self.take(note);
        }
        for _ in 0..waiting {
            let Some(message) = self.results.pop() else {
                break;
            };
            let slot = self
                .sessions
                .get(&message.target)
                .and_then(|id| self.slots.get_mut(id));
            // A result of a target that was removed meanwhile is nobody's.
            if let Some(slot) = slot
                && let Some(event) = slot.apply(message.target, &message.output)
            {
                let event = named(slot, event);
                self.log(event);
            }
        }
        for key in std::mem::take(&mut self.ended) {
            let slot = self.sessions.remove(&key);
            if let Some(slot) = slot.and_then(|id| self.slots.get_mut(&id)) {
                slot.end_session(key);
            }
        }
        if gone && self.results.waiting() == 0 {
            // Relaxed: a flag, nothing is read through it.
            self.shared.prober_gone.store(true, Ordering::Relaxed);
        }
        waiting
    }

    fn tick(&mut self) {
        let began = sys::clock::mono_now();
        self.notice_drops();
        for event in self
            .slots
            .values_mut()
            .filter_map(end_interval)
            .collect::<Vec<_>>()
        {
            self.log(event);
        }
        self.base.taken_at = sys::clock::wall_now();
        self.base.targets.clear();
        for id in &self.order {
            if let Some(slot) = self.slots.get_mut(id) {
                self.base.targets.push(slot.snapshot());
            }
        }
        self.base.components = self.components.values().cloned().collect();
        self.base.reflector = self.reflector.as_ref().map(|ask| ask());
        self.base.capture = self.capture.as_mut().map(|capture| capture.snapshot());
        if let Some(reflector) = &self.base.reflector {
            for text in self.limits.bites(reflector, began) {
                self.log(event(EventKind::LimitReached, None, "", &text));
            }
        }
        self.base.process = process::process(self.opener);
        self.base.event_counts = *self.events.counts();
        self.base.events_evicted = self.events.evicted();
        self.base.events = self.events.list();
        self.base.results_dropped = self.dropped;
        self.out.send_replace(Arc::new(self.base.clone()));
        self.base.publish_ns = sys::clock::mono_now().since(began);
    }

    /// Results that did not fit the ring are never silent.
    fn notice_drops(&mut self) {
        let dropped = self.results.dropped();
        if dropped > self.dropped {
            let detail = format!(
                "{} results did not fit the ring and are missing from the histograms; use fewer or slower probes",
                dropped - self.dropped
            );
            self.dropped = dropped;
            self.health("publisher", Health::Degraded, detail);
        } else {
            self.health("publisher", Health::Healthy, String::new());
        }
    }

    fn health(&mut self, name: &'static str, health: Health, detail: String) {
        let now = sys::clock::wall_now();
        let before = self.components.get(name);
        let was = before.map_or(Health::Healthy, |component| component.health);
        if before.is_some_and(|before| before.health == health && before.detail == detail) {
            return;
        }
        let since = before
            .filter(|before| before.health == health)
            .map_or(now, |before| before.since);
        let component = Component {
            name,
            health,
            detail,
            since,
        };
        if health != was {
            let kind = if health > was {
                EventKind::ComponentDegraded
            } else {
                EventKind::ComponentRecovered
            };
            let mut new = format!("{name} {}", health.as_str());
            if !component.detail.is_empty() {
                new = format!("{new}: {}", component.detail);
            }
            self.log(event(kind, None, &format!("{name} {}", was.as_str()), &new));
        }
        self.components.insert(name, component);
    }

    fn log(&mut self, event: Event) {
        let logged = self.events.push(event);
        let Event {
            kind,
            probe,
            target,
            old,
            new,
            ..
        } = &logged.event;
        let kind_text = kind.as_str();
        let [probe, target, old, new] = [probe, target, old, new]
            .map(|text| Some(text.as_str()).filter(|text| !text.is_empty()));
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(probe, target, old, new, "{kind_text}")
            };
        }
        match kind.severity() {
            Severity::Info => at!(info),
            Severity::Warning => at!(warn),
            Severity::Error => at!(error),
        }
    }
}

/// Ends an interval of a target; a target that cannot be sent to is down.
fn end_interval(slot: &mut Slot) -> Option<Event> {
    let (kind, old, new) = match slot.tick()? {
        Sending::Refused(why) => (EventKind::TargetDown, "1", why),
        Sending::Works => (EventKind::TargetUp, "0", "1".to_owned()),
    };
    Some(event(kind, Some((&slot.probe, &slot.target)), old, &new))
}

/// An event of a session with the names of its target.
fn named(slot: &Slot, happened: SessionEvent) -> Event {
    let text = |value: i64| match happened.kind {
        EventKind::ProtocolChosen => usize::try_from(value)
            .ok()
            .and_then(|index| Protocol::ALL.get(index))
            .map_or_else(String::new, |protocol| protocol.as_str().to_owned()),
        _ => value.to_string(),
    };
    event(
        happened.kind,
        Some((&slot.probe, &slot.target)),
        &text(happened.old),
        &text(happened.new),
    )
}

/// The snapshot before the first tick.
pub fn starting(now: WallNanos) -> Snapshot {
    let build = record::snapshot::BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("NETSONDE_REVISION").unwrap_or("").to_owned(),
        rustc: String::new(),
    };
    let mut snapshot = Snapshot::starting(build, now);
    snapshot.source.host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default();
    snapshot
}

#[cfg(test)]
mod tests;
