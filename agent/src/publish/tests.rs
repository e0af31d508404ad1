//! The publisher against results and notes that a test makes; its clock is the real one.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use base::{Counter, Gauge, LossTotals, Output, Quantity, Sample, Why};
use record::series::ClassicBounds;

use super::*;
use crate::targets;
use crate::worker::probe::message;

struct Rig {
    notes: Sender<Note>,
    results: Option<record::results::Sender<crate::worker::probe::Message>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Rig {
    fn new(capacity: usize) -> Self {
        let (notes, inbox) = channel();
        let (sender, results) = record::results::channel(capacity);
        let (out, snapshots) = watch::channel(Arc::new(starting(WallNanos(0))));
        let shared = Arc::new(Shared::default());
        let publisher = Publisher::new(inbox, results, Arc::clone(&shared), out, None);
        Self {
            notes,
            results: Some(sender),
            snapshots,
            shared,
            thread: std::thread::spawn(move || publisher.run()),
        }
    }

    fn note(&self, note: Note) {
        self.notes.send(note).unwrap();
    }

    fn push(&mut self, key: u32, output: Output) {
        let sender = self.results.as_mut().unwrap();
        assert!(sender.push(message(TargetKey(key), output)));
    }

    fn add(&self, id: u32, name: &str) {
        let text = format!("[[probe]]\nname='p'\ntargets=['{name}']\n");
        let config = crate::config::Config::parse("f", &text).unwrap();
        let (name, wanted) = targets::wanted(&config).remove(0);
        let slot = Slot::new(&name, &wanted, &ClassicBounds::default());
        self.note(Note::Add(SlotId(id), Box::new(slot)));
    }

    fn session(&self, id: u32, key: u32) {
        self.note(Note::Session(SlotId(id), TargetKey(key), "10.0.0.1".into()));
    }

    /// Waits until a snapshot shows what is expected.
    fn until(&mut self, what: &str, shows: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let end = Instant::now() + Duration::from_secs(20);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            loop {
                let now = Arc::clone(&self.snapshots.borrow_and_update());
                if shows(&now) {
                    return now;
                }
                let left = end.saturating_duration_since(Instant::now());
                let changed = tokio::time::timeout(left, self.snapshots.changed());
                changed.await.expect(what).expect("the publisher is gone");
            }
        })
    }

    fn finish(self) -> Arc<Snapshot> {
        self.note(Note::Finish);
        self.thread.join().unwrap();
        Arc::clone(&self.snapshots.borrow())
    }
}

fn count(counter: Counter, by: u64) -> Output {
    Output::Count(counter, by)
}

#[test]
fn the_last_hand_off_loses_nothing() {
    let mut rig = Rig::new(1024);
    rig.add(0, "a");
    rig.session(0, 7);
    for value in 1..=500 {
        rig.push(7, count(Counter::Sent, 1));
        let quantity = Quantity::Rtt;
        rig.push(7, Output::Sample(Sample { quantity, value }));
    }
    let last = rig.finish();
    let target = &last.targets[0];
    assert_eq!(target.counter(Counter::Sent), 500);
    assert_eq!(target.series(Quantity::Rtt).count, 500);
    assert_eq!((&*target.probe, &*target.target), ("p", "a"));
    assert_eq!(target.address.as_deref(), Some("10.0.0.1"));
    assert_eq!(last.results_dropped, 0);
}

#[test]
fn another_session_continues_the_series() {
    let mut rig = Rig::new(64);
    let loss = |lost, forward| {
        Output::Loss(LossTotals {
            lost,
            forward,
            unattributed: lost - forward,
            directed: true,
            ..LossTotals::default()
        })
    };
    rig.add(0, "a");
    rig.session(0, 1);
    rig.push(1, count(Counter::Lost, 5));
    rig.push(1, loss(5, 3));
    rig.until("first session", |now| {
        now.targets
            .first()
            .is_some_and(|target| target.loss.lost == 5)
    });
    // The address changed: the new session counts from 0, the series go on.
    rig.session(0, 2);
    rig.note(Note::EndSession(TargetKey(1)));
    rig.push(2, count(Counter::Lost, 2));
    rig.push(2, loss(2, 1));
    // A late result of the session before is nobody's.
    let last = rig.finish();
    let target = &last.targets[0];
    assert_eq!(target.key, TargetKey(2));
    assert_eq!(target.counter(Counter::Lost), 7);
    assert_eq!(
        (
            target.loss.lost,
            target.loss.forward,
            target.loss.unattributed
        ),
        (7, 4, 3)
    );
}

#[test]
fn what_is_in_flight_when_a_session_ends_is_settled() {
    let mut rig = Rig::new(64);
    rig.add(0, "a");
    rig.session(0, 1);
    for (counter, by) in [
        (Counter::Sent, 20),
        (Counter::Received, 9),
        (Counter::Lost, 3),
        (Counter::DiscardedClockStep, 1),
        (Counter::Late, 2),
    ] {
        rig.push(1, count(counter, by));
    }
    rig.session(0, 2);
    rig.push(2, count(Counter::Sent, 5));
    rig.note(Note::EndSession(TargetKey(1)));
    rig.push(2, count(Counter::Received, 4));
    let last = rig.finish();
    let target = &last.targets[0];
    assert_eq!(target.counter(Counter::DiscardedSessionEnded), 7);
    // What is left is in flight of the session that goes on.
    let decided = [Counter::Received, Counter::Lost]
        .iter()
        .chain(Counter::DISCARDED)
        .map(|counter| target.counter(*counter))
        .sum::<u64>();
    assert_eq!(target.counter(Counter::Sent) - decided, 1);
}

#[test]
fn results_of_removed_targets_are_nobodys() {
    let mut rig = Rig::new(64);
    rig.add(0, "a");
    rig.add(1, "b");
    rig.session(0, 1);
    rig.session(1, 2);
    rig.push(2, count(Counter::Sent, 1));
    rig.until("b", |now| {
        now.targets.len() == 2 && now.targets[1].counter(Counter::Sent) == 1
    });
    rig.note(Note::EndSession(TargetKey(1)));
    rig.note(Note::Remove(SlotId(0)));
    rig.note(Note::Event(event(EventKind::ConfigReloaded, None, "", "")));
    rig.until("removed", |now| now.targets.len() == 1);
    rig.push(1, count(Counter::Sent, 9));
    let last = rig.finish();
    assert_eq!(&*last.targets[0].target, "b");
    assert_eq!(last.targets[0].counter(Counter::Sent), 1);
}

#[test]
fn labels_and_order_change_without_the_series() {
    let mut rig = Rig::new(64);
    rig.add(0, "a");
    rig.add(1, "b");
    rig.session(0, 1);
    rig.push(1, count(Counter::Sent, 3));
    rig.until("a", |now| {
        now.targets
            .first()
            .is_some_and(|a| a.counter(Counter::Sent) == 3)
    });
    rig.note(Note::Relabel(
        SlotId(0),
        [("path".to_owned(), "dx".to_owned())].into(),
    ));
    rig.note(Note::Order(vec![SlotId(1), SlotId(0)]));
    let last = rig.finish();
    let names: Vec<&str> = last.targets.iter().map(|target| &*target.target).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(last.targets[1].counter(Counter::Sent), 3);
    assert_eq!(last.targets[1].labels[0].1, "dx");
}

#[test]
fn events_get_names_and_are_counted() {
    let mut rig = Rig::new(64);
    rig.add(0, "a");
    rig.session(0, 1);
    let happened = |kind, old, new| Output::Event(SessionEvent { kind, old, new });
    rig.push(1, happened(EventKind::HopsForwardChanged, 3, 4));
    rig.push(1, Output::Protocol(Protocol::Icmp, Why::StampSilent));
    rig.push(1, Output::Gauge(Gauge::Up, 1.0));
    rig.push(1, happened(EventKind::ProtocolChosen, 0, 1));
    let last = rig.finish();
    let events: Vec<&Event> = last.events.iter().map(|logged| &logged.event).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(
        (events[0].probe.as_str(), events[0].target.as_str()),
        ("p", "a")
    );
    assert_eq!((events[0].old.as_str(), events[0].new.as_str()), ("3", "4"));
    assert_eq!(
        (events[1].old.as_str(), events[1].new.as_str()),
        ("stamp", "icmp")
    );
    assert_eq!(last.event_counts[EventKind::HopsForwardChanged.index()], 1);
    assert_eq!(last.targets[0].protocol, Some(Protocol::Icmp));
    assert_eq!(last.targets[0].gauge(Gauge::Up), Some(1.0));
}

#[test]
fn a_full_ring_degrades_the_publisher_and_it_recovers() {
    let (notes, inbox) = channel();
    let (mut sender, results) = record::results::channel(2);
    for _ in 0..5 {
        sender.push(message(TargetKey(1), count(Counter::Sent, 1)));
    }
    let (out, snapshots) = watch::channel(Arc::new(starting(WallNanos(0))));
    let mut publisher = Publisher::new(inbox, results, Arc::default(), out, None);
    drop(notes);
    publisher.drain();
    publisher.tick();
    let now = Arc::clone(&snapshots.borrow());
    assert_eq!(now.results_dropped, 3);
    assert_eq!(now.health(), Health::Degraded);
    publisher.tick();
    let now = Arc::clone(&snapshots.borrow());
    assert_eq!(now.health(), Health::Healthy);
    assert_eq!(now.event_counts[EventKind::ComponentDegraded.index()], 1);
    assert_eq!(now.event_counts[EventKind::ComponentRecovered.index()], 1);
}

#[test]
fn the_end_of_the_prober_shows_once_all_is_read() {
    let mut rig = Rig::new(64);
    rig.add(0, "a");
    rig.session(0, 1);
    rig.push(1, count(Counter::Sent, 1));
    assert!(!rig.shared.prober_gone.load(Ordering::Relaxed));
    rig.results = None;
    let shared = Arc::clone(&rig.shared);
    rig.until("the end", |now| {
        shared.prober_gone.load(Ordering::Relaxed) && now.targets[0].counter(Counter::Sent) == 1
    });
    rig.finish();
}

#[test]
fn health_is_said_once_per_change() {
    let rig = Rig::new(1);
    let degraded = |detail: &str| Note::Health("state", Health::Degraded, detail.into());
    rig.note(degraded("disk full"));
    rig.note(degraded("disk full"));
    rig.note(degraded("disk fuller"));
    rig.note(Note::Health("other", Health::Healthy, String::new()));
    rig.note(Note::NotReady(Vec::new()));
    let last = rig.finish();
    assert_eq!(last.event_counts[EventKind::ComponentDegraded.index()], 1);
    let text = &last.events[0].event.new;
    assert_eq!(text, "state degraded: disk full");
    let state = last
        .components
        .iter()
        .find(|part| part.name == "state")
        .unwrap();
    assert_eq!(state.detail, "disk fuller");
    assert!(last.not_ready.is_empty());
    assert!(last.process.resident_bytes > 0 && last.process.open_fds > 0);
}

#[test]
fn a_target_that_cannot_be_sent_to_is_down() {
    let config = crate::config::Config::parse("f", "[[probe]]\ntargets=['a']\n").unwrap();
    let (name, wanted) = targets::wanted(&config).remove(0);
    let mut slot = Slot::new(&name, &wanted, &ClassicBounds::default());
    let key = TargetKey(1);
    slot.apply(key, &Output::Gauge(Gauge::Up, 1.0));
    slot.apply(key, &count(Counter::Received, 1));
    assert_eq!(slot.tick(), None);
    // ENETUNREACH; a slow probe fails in every second tick only.
    for expected in [None, None, Some(())] {
        slot.apply(key, &Output::Errno(101));
        slot.apply(key, &count(Counter::SendErrors, 1));
        let told = slot.tick();
        assert_eq!(told.is_some(), expected.is_some());
        if let Some(Sending::Refused(why)) = told {
            assert!(
                why.starts_with("nothing can be sent: Network is unreachable"),
                "{why}"
            );
        }
        assert_eq!(slot.tick(), None);
    }
    let down = slot.snapshot();
    assert_eq!(down.gauge(Gauge::Up), Some(0.0));
    assert!(down.problem.contains("Network is unreachable"));
    slot.apply(key, &count(Counter::Received, 1));
    assert_eq!(slot.tick(), Some(Sending::Works));
    let up = slot.snapshot();
    assert_eq!((up.gauge(Gauge::Up), up.problem.as_str()), (Some(1.0), ""));
}
