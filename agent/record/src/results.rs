//! A bounded ring of plain records from one thread to another.
//!
//! The sender never waits and never allocates; what does not fit is dropped and counted,
//! and both ends can read the count. rtrb does the rest, so there is no ring to prove.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The end of the thread that measures.
#[derive(Debug)]
pub struct Sender<T> {
    ring: rtrb::Producer<T>,
    dropped: Arc<AtomicU64>,
}

/// The end of the thread that adds up.
#[derive(Debug)]
pub struct Receiver<T> {
    ring: rtrb::Consumer<T>,
    dropped: Arc<AtomicU64>,
}

/// A ring for `capacity` records (at least 1).
#[must_use]
pub fn channel<T: Copy>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity.max(1));
    let dropped = Arc::new(AtomicU64::new(0));
    let sender = Sender {
        ring: producer,
        dropped: Arc::clone(&dropped),
    };
    let receiver = Receiver {
        ring: consumer,
        dropped,
    };
    (sender, receiver)
}

impl<T: Copy> Sender<T> {
    /// Puts a record on the ring; false if it was full and the record is dropped and
    /// counted.
    pub fn push(&mut self, record: T) -> bool {
        let fits = self.ring.push(record).is_ok();
        if !fits {
            // Relaxed: a statistic, it orders nothing.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Room for so many more.
    #[must_use]
    pub fn room(&self) -> usize {
        self.ring.slots()
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

impl<T: Copy> Receiver<T> {
    /// Takes the oldest record.
    pub fn pop(&mut self) -> Option<T> {
        self.ring.pop().ok()
    }

    /// Takes what is there now (not what arrives meanwhile); gives how many.
    pub fn drain(&mut self, mut each: impl FnMut(T)) -> usize {
        let waiting = self.ring.slots();
        for _ in 0..waiting {
            if let Ok(record) = self.ring.pop() {
                each(record);
            }
        }
        waiting
    }

    /// Records waiting.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ring.slots()
    }

    /// Records that did not fit, since the ring was made.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The drop counter itself, for who must read it without owning the ring.
    #[must_use]
    pub fn drop_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Whether the sender is gone. Records may still wait.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushed_is_popped_plus_dropped() {
        let (mut sender, mut receiver) = channel(64);
        const LAST: u64 = 300_000;
        let worker = std::thread::spawn(move || {
            (0..LAST).filter(|number| sender.push(*number)).count() as u64
        });
        let mut seen = Vec::new();
        loop {
            let over = receiver.is_abandoned();
            receiver.drain(|number| seen.push(number));
            if over {
                break;
            }
        }
        let accepted = worker.join().expect("the worker ends");
        assert_eq!(seen.len() as u64, accepted);
        assert_eq!(accepted + receiver.dropped(), LAST);
        assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice");
    }

    #[test]
    fn a_full_ring_drops_the_newest_and_counts() {
        let (mut sender, mut receiver) = channel(2);
        assert_eq!(
            [1, 2, 3].map(|number| sender.push(number)),
            [true, true, false]
        );
        assert_eq!((receiver.dropped(), receiver.waiting()), (1, 2));
        assert_eq!(
            (receiver.pop(), receiver.pop(), receiver.pop()),
            (Some(1), Some(2), None)
        );
        drop(receiver);
        assert!(sender.is_abandoned());
    }
}
