//! The arithmetic against a FIFO, from any start index; and the mapped form on plain memory.

use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A ring in the memory of one thread, seen by both ends.
#[derive(Clone)]
pub(crate) struct Local {
    producer: Rc<Cell<u32>>,
    consumer: Rc<Cell<u32>>,
    wakeup: Rc<Cell<bool>>,
    entries: Rc<[Cell<u64>]>,
}

impl Local {
    pub(crate) fn new(slots: u32, start: u32) -> Self {
        Self {
            producer: Rc::new(Cell::new(start)),
            consumer: Rc::new(Cell::new(start)),
            wakeup: Rc::new(Cell::new(false)),
            entries: (0..slots).map(|_| Cell::new(u64::MAX)).collect(),
        }
    }

    fn slot(&self, index: u32) -> &Cell<u64> {
        let slots = u32::try_from(self.entries.len()).expect("a few");
        &self.entries[(index % slots) as usize]
    }
}

impl Memory for Local {
    type Item = u64;
    fn slots(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("a few")
    }
    fn producer(&self) -> u32 {
        self.producer.get()
    }
    fn consumer(&self) -> u32 {
        self.consumer.get()
    }
    fn publish_producer(&self, index: u32) {
        self.producer.set(index);
    }
    fn publish_consumer(&self, index: u32) {
        self.consumer.set(index);
    }
    fn needs_wakeup(&self) -> bool {
        self.wakeup.get()
    }
    fn read(&self, index: u32) -> u64 {
        self.slot(index).get()
    }
    fn write(&self, index: u32, item: u64) {
        self.slot(index).set(item);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(u32),
    Publish,
    Take(u32),
    Release(u32),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..20u32).prop_map(Op::Push),
        Just(Op::Publish),
        (0..20u32).prop_map(Op::Take),
        (0..20u32).prop_map(Op::Release),
    ];
    prop::collection::vec(op, 0..200)
}

fn starts() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX - 8), Just(u32::MAX), any::<u32>()]
}

proptest! {
    /// Everything comes out once and in order, nothing before it is published, and never more
    /// is inside than there are slots.
    #[test]
    fn a_ring_is_a_fifo(ops in ops(), start in starts(), power in 0..6u32) {
        let slots = 1 << power;
        let memory = Local::new(slots, start);
        let mut producer = Producer::new(memory.clone());
        let mut consumer = Consumer::new(memory);
        let (mut value, mut unpublished) = (0u64, VecDeque::new());
        let mut inside = VecDeque::new();
        for op in ops {
            match op {
                Op::Push(count) => for _ in 0..count {
                    let room = unpublished.len() + inside.len() < slots as usize;
                    prop_assert_eq!(producer.push(value), room);
                    if room {
                        unpublished.push_back(value);
                        value += 1;
                    }
                },
                Op::Publish => {
                    producer.publish();
                    inside.append(&mut unpublished);
                }
                Op::Take(count) => {
                    let filled = consumer.filled(count);
                    prop_assert!(filled as usize <= inside.len());
                    prop_assert!(filled >= count.min(u32::try_from(inside.len()).expect("few")));
                    for ahead in 0..filled {
                        prop_assert_eq!(consumer.peek(ahead), Some(inside[ahead as usize]));
                    }
                    prop_assert_eq!(consumer.peek(filled), None);
                }
                Op::Release(count) => {
                    let count = count.min(consumer.filled(0));
                    consumer.release(count);
                    inside.drain(..count as usize);
                }
            }
            let pending = u32::try_from(unpublished.len() + inside.len()).expect("few");
            prop_assert_eq!(producer.pending(), pending);
            prop_assert_eq!(producer.free(slots), slots - pending);
        }
    }

    /// Whatever the other side writes as its index, no more than the slots is offered.
    #[test]
    fn a_foreign_index_is_not_trusted(start in starts(), foreign in any::<u32>()) {
        let memory = Local::new(8, start);
        let mut producer = Producer::new(memory.clone());
        let mut consumer = Consumer::new(memory.clone());
        memory.producer.set(foreign);
        memory.consumer.set(foreign);
        prop_assert!(consumer.filled(8) <= 8);
        prop_assert!(producer.free(8) <= 8);
        let filled = consumer.filled(8);
        consumer.release(u32::MAX);
        prop_assert_eq!(memory.consumer.get(), start.wrapping_add(filled));
    }
}

fn offsets() -> libc::xdp_ring_offset {
    libc::xdp_ring_offset {
        producer: 0,
        consumer: 64,
        desc: 256,
        flags: 128,
    }
}

#[test]
fn the_mapped_form_does_the_same_over_the_wrap() {
    let offsets = offsets();
    let bytes = Mapped::<u64>::bytes(&offsets, 4).expect("small");
    assert_eq!(bytes, 256 + 32);
    // Two views of one memory would need two mappings: the indices are moved by hand instead.
    let mapping = Mapping::anonymous(bytes, false).expect("memory");
    let ring = Mapped::<u64>::new(mapping, &offsets, 4).expect("fits");
    let start = u32::MAX - 1;
    ring.publish_producer(start);
    ring.publish_consumer(start);
    let mut producer = Producer::new(ring);
    for value in 0..4 {
        assert!(producer.push(value));
    }
    assert!(!producer.push(4));
    producer.publish();
    assert_eq!(producer.memory.producer(), 2);
    assert!(!producer.needs_wakeup());
    let mut consumer = Consumer::new(producer.memory);
    assert_eq!(consumer.filled(1), 4);
    assert_eq!(
        (0..5).map(|n| consumer.peek(n)).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2), Some(3), None]
    );
    consumer.release(3);
    assert_eq!(consumer.memory.consumer(), 1);
    assert_eq!(consumer.peek(0), Some(3));
}

#[test]
fn offsets_outside_the_mapping_are_refused() {
    let mapping = || Mapping::anonymous(4096, false).expect("memory");
    assert!(Mapped::<u64>::new(mapping(), &offsets(), 256).is_some());
    assert!(Mapped::<u64>::new(mapping(), &offsets(), 255).is_none());
    assert!(Mapped::<u64>::new(mapping(), &offsets(), 512).is_none());
    for bad in [2, 4096, u64::MAX] {
        let offsets = libc::xdp_ring_offset {
            producer: bad,
            ..offsets()
        };
        assert!(Mapped::<u64>::new(mapping(), &offsets, 16).is_none());
    }
}

/// The orderings, by every interleaving that loom finds: two threads, two slots, three
/// entries. The entries are plain memory, so that a read without its acquire, or a write
/// without its release before it, is a race.
mod orderings {
    use super::super::{Consumer, Memory, Producer};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, Ordering};

    #[derive(Clone)]
    struct Shared(Arc<Words>);

    struct Words {
        producer: AtomicU32,
        consumer: AtomicU32,
        entries: [UnsafeCell<u64>; 2],
    }

    // SAFETY: loom checks each access to the cells, which is what this is for.
    unsafe impl Sync for Words {}

    impl Shared {
        fn entry(&self, index: u32) -> &UnsafeCell<u64> {
            &self.0.entries[(index % 2) as usize]
        }
    }

    // As `Mapped` does it.
    impl Memory for Shared {
        type Item = u64;
        fn slots(&self) -> u32 {
            2
        }
        fn producer(&self) -> u32 {
            self.0.producer.load(Ordering::Acquire)
        }
        fn consumer(&self) -> u32 {
            self.0.consumer.load(Ordering::Acquire)
        }
        fn publish_producer(&self, index: u32) {
            self.0.producer.store(index, Ordering::Release);
        }
        fn publish_consumer(&self, index: u32) {
            self.0.consumer.store(index, Ordering::Release);
        }
        fn needs_wakeup(&self) -> bool {
            false
        }
        fn read(&self, index: u32) -> u64 {
            // SAFETY: loom panics if somebody writes meanwhile.
            self.entry(index).with(|value| unsafe { *value })
        }
        fn write(&self, index: u32, item: u64) {
            // SAFETY: loom panics if somebody reads or writes meanwhile.
            self.entry(index).with_mut(|value| unsafe { *value = item });
        }
    }

    #[test]
    fn entries_are_written_before_they_are_read_and_read_before_they_are_written_again() {
        let mut model = loom::model::Builder::new();
        // All interleavings are too many; mistakes show with two switches.
        model.preemption_bound = Some(2);
        model.check(|| {
            let start = u32::MAX;
            let shared = Shared(Arc::new(Words {
                producer: AtomicU32::new(start),
                consumer: AtomicU32::new(start),
                entries: [UnsafeCell::new(0), UnsafeCell::new(0)],
            }));
            let theirs = shared.clone();
            let writer = loom::thread::spawn(move || {
                let mut producer = Producer::new(theirs);
                for value in 1..=3 {
                    while !producer.push(value) {
                        loom::thread::yield_now();
                    }
                    producer.publish();
                }
            });
            let mut consumer = Consumer::new(shared);
            let mut seen = Vec::new();
            while seen.len() < 3 {
                let filled = consumer.filled(1);
                seen.extend((0..filled).filter_map(|ahead| consumer.peek(ahead)));
                consumer.release(filled);
                if filled == 0 {
                    loom::thread::yield_now();
                }
            }
            writer.join().expect("the writer");
            assert_eq!(seen, [1, 2, 3]);
        });
    }
}
