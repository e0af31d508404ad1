//! The bounded places for connections, and who loses one when all are taken.
//!
//! A connection either waits for a request of its peer or is being served. When all places
//! are taken, a new connection gets that of the one that has waited longest; one that is
//! being served is never ended for another. So clients that connect and never ask cannot
//! keep out those that do.
//!
//! One thread: relaxed atomics, and a lock that is never contended or held over a wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// No time at which waiting began: being served.
const SERVED: u64 = u64::MAX;

/// Whose turn it is on one connection: the peer's, or ours.
#[derive(Debug)]
pub(super) struct Turn {
    /// Counts up with each wait that begins, on any connection.
    order: Arc<AtomicU64>,
    waiting_since: AtomicU64,
    answering: AtomicBool,
}

impl Turn {
    /// A request is here.
    pub(super) fn serve(&self) {
        self.answering.store(false, Relaxed);
        self.waiting_since.store(SERVED, Relaxed);
    }

    /// A part of the answer was taken by the kernel.
    pub(super) fn written(&self) {
        self.answering.store(true, Relaxed);
    }

    /// All that was written was taken. Before the answer's first byte this says nothing.
    pub(super) fn flushed(&self) {
        if self.answering.swap(false, Relaxed) && self.waiting_since.load(Relaxed) == SERVED {
            self.wait();
        }
    }

    fn wait(&self) {
        self.waiting_since
            .store(self.order.fetch_add(1, Relaxed), Relaxed);
    }
}

#[derive(Debug)]
struct Taken {
    turn: Arc<Turn>,
    /// None until the task was started.
    task: Option<AbortHandle>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    order: Arc<AtomicU64>,
    taken: Mutex<Vec<Taken>>,
}

/// One place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    turn: Arc<Turn>,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            order: Arc::default(),
            taken: Mutex::default(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Taken>> {
        // Nothing below can leave the list half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn full(&self) -> bool {
        self.taken().len() >= self.most
    }

    /// A free place.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.len() >= self.most {
            return None;
        }
        let turn = Arc::new(Turn {
            order: Arc::clone(&self.order),
            waiting_since: AtomicU64::new(SERVED),
            answering: AtomicBool::new(false),
        });
        turn.wait();
        taken.push(Taken {
            turn: Arc::clone(&turn),
            task: None,
        });
        Some(Place {
            places: Arc::clone(self),
            turn,
        })
    }

    /// The task that serves the connection of this turn, so that it can be ended.
    pub(super) fn started(&self, turn: &Arc<Turn>, task: AbortHandle) {
        let mut taken = self.taken();
        if let Some(one) = taken.iter_mut().find(|one| Arc::ptr_eq(&one.turn, turn)) {
            one.task = Some(task);
        }
    }

    /// Ends the connection that has waited longest; false if all are being served.
    pub(super) fn evict(&self) -> bool {
        let mut taken = self.taken();
        let oldest = taken
            .iter()
            .enumerate()
            .filter(|(_, one)| one.task.is_some())
            .map(|(at, one)| (one.turn.waiting_since.load(Relaxed), at))
            .filter(|(since, _)| *since != SERVED)
            .min();
        let Some((_, at)) = oldest else {
            return false;
        };
        let one = taken.swap_remove(at);
        drop(taken);
        if let Some(task) = one.task {
            task.abort();
        }
        true
    }
}

impl Place {
    pub(super) fn turn(&self) -> Arc<Turn> {
        Arc::clone(&self.turn)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // One that was evicted is not in the list any more.
        self.places
            .taken()
            .retain(|one| !Arc::ptr_eq(&one.turn, &self.turn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection whose task never ends by itself.
    fn connect(places: &Arc<Places>) -> (Arc<Turn>, tokio::task::JoinHandle<()>) {
        let place = places.take().expect("a place");
        let turn = place.turn();
        let task = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(place);
        });
        places.started(&turn, task.abort_handle());
        (turn, task)
    }

    #[tokio::test]
    async fn the_longest_wait_loses_and_the_served_never() {
        let places = Places::new(3);
        let (first, first_task) = connect(&places);
        let (second, second_task) = connect(&places);
        let (third, third_task) = connect(&places);
        assert!(places.full() && places.take().is_none());
        // The first was served and waits anew: behind the second.
        first.serve();
        first.flushed();
        assert_eq!(first.waiting_since.load(Relaxed), SERVED, "no answer yet");
        first.written();
        first.flushed();
        assert!(places.evict());
        assert!(second_task.await.expect_err("ended").is_cancelled());
        assert!(!places.full());
        drop(second);
        // Of the two that are left one is being served.
        first.serve();
        first.written();
        assert!(places.evict());
        assert!(third_task.await.expect_err("ended").is_cancelled());
        drop(third);
        assert!(!places.evict(), "all are being served");
        assert!(!first_task.is_finished());
        assert_eq!(places.taken().len(), 1);
        first_task.abort();
        assert!(first_task.await.is_err());
        assert_eq!(places.taken().len(), 0, "its place is free");
    }
}
