//! The newest events, and how many of each kind there ever were.
//!
//! Owned by the publisher. Bounded: the oldest goes first and is counted. The list is
//! shared with snapshots by `Arc` and rebuilt only after a change.

use std::collections::VecDeque;
use std::sync::Arc;

use base::{Event, EventKind};

/// How many events are kept unless told otherwise.
pub const CAPACITY: usize = 1_000;

/// An event with its number; numbers start at 1 and have no gaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoggedEvent {
    /// How many-th event of this process it is.
    pub number: u64,
    /// The event.
    pub event: Event,
}

/// What snapshots hold: oldest first.
pub type EventList = Arc<[Arc<LoggedEvent>]>;

/// See the module.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<Arc<LoggedEvent>>,
    capacity: usize,
    counts: [u64; EventKind::ALL.len()],
    pushed: u64,
    evicted: u64,
    list: Option<EventList>,
}

impl EventLog {
    /// For `capacity` events (at least 1).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            kept: VecDeque::with_capacity(capacity),
            capacity,
            counts: [0; EventKind::ALL.len()],
            pushed: 0,
            evicted: 0,
            list: None,
        }
    }

    /// Takes an event; gives it back numbered (to be logged).
    pub fn push(&mut self, event: Event) -> Arc<LoggedEvent> {
        self.pushed += 1;
        self.counts[event.kind.index()] += 1;
        let logged = Arc::new(LoggedEvent {
            number: self.pushed,
            event,
        });
        if self.kept.len() == self.capacity {
            self.kept.pop_front();
            self.evicted += 1;
        }
        self.kept.push_back(Arc::clone(&logged));
        self.list = None;
        logged
    }

    /// All kept events, oldest first; the same `Arc` until the next push.
    pub fn list(&mut self) -> EventList {
        let kept = &self.kept;
        Arc::clone(
            self.list
                .get_or_insert_with(|| kept.iter().cloned().collect()),
        )
    }

    /// How many there ever were, by [`EventKind::index`].
    #[must_use]
    pub fn counts(&self) -> &[u64; EventKind::ALL.len()] {
        &self.counts
    }

    /// How many fell out of the list.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, new: &str) -> Event {
        Event {
            time: base::WallNanos(1),
            kind,
            probe: String::new(),
            target: String::new(),
            old: String::new(),
            new: new.to_owned(),
        }
    }

    #[test]
    fn the_oldest_goes_first_and_is_counted() {
        let mut log = EventLog::new(2);
        for new in ["a", "b", "c"] {
            log.push(event(EventKind::TargetUp, new));
        }
        let list = log.list();
        let seen: Vec<_> = list
            .iter()
            .map(|entry| (entry.number, entry.event.new.as_str()))
            .collect();
        assert_eq!(seen, [(2, "b"), (3, "c")]);
        assert_eq!(log.evicted(), 1);
        assert_eq!(log.counts()[EventKind::TargetUp.index()], 3);
        assert_eq!(log.counts().iter().sum::<u64>(), 3);
    }

    #[test]
    fn the_list_is_shared_until_the_next_event() {
        let mut log = EventLog::default();
        log.push(event(EventKind::AgentStarted, ""));
        let before = log.list();
        assert!(Arc::ptr_eq(&before, &log.list()));
        log.push(event(EventKind::AgentStopping, ""));
        assert_eq!((before.len(), log.list().len()), (1, 2));
    }
}
