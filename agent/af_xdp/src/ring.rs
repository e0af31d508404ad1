//! One ring between this process and the kernel: indices that run for ever, by wrapping, over
//! a power of two of slots. One side writes `producer`, the other `consumer`.
//!
//! The arithmetic is generic over where the words live, so that it runs in tests without a
//! kernel, from any start index.

use crate::memory::Mapping;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a ring lives. Loads acquire and stores release: entries are written before the
/// index that gives them away.
pub(crate) trait Memory {
    /// What is in a slot.
    type Item: Copy;
    /// Number of slots, a power of two.
    fn slots(&self) -> u32;
    /// The producer's index (acquire).
    fn producer(&self) -> u32;
    /// The consumer's index (acquire).
    fn consumer(&self) -> u32;
    /// Gives entries to the consumer (release).
    fn publish_producer(&self, index: u32);
    /// Gives slots back to the producer (release).
    fn publish_consumer(&self, index: u32);
    /// Whether the kernel wants a system call before it goes on.
    fn needs_wakeup(&self) -> bool;
    /// The entry of an index, which the caller owns.
    fn read(&self, index: u32) -> Self::Item;
    /// Sets the entry of an index, which the caller owns.
    fn write(&self, index: u32, item: Self::Item);
}

/// Our end where we produce: fill and transmit ring.
#[derive(Debug)]
pub(crate) struct Producer<M> {
    memory: M,
    /// The next index to write; ahead of what was published.
    next: u32,
    /// The consumer's index when we last looked.
    consumer: u32,
}

impl<M: Memory> Producer<M> {
    /// Goes on where the ring stands.
    pub(crate) fn new(memory: M) -> Self {
        let (next, consumer) = (memory.producer(), memory.consumer());
        Self {
            memory,
            next,
            consumer,
        }
    }

    fn free_as_seen(&self) -> u32 {
        // An index beyond its bounds would be the kernel's mistake: then nothing is free.
        self.memory
            .slots()
            .saturating_sub(self.next.wrapping_sub(self.consumer))
    }

    /// Slots that may be written, looking again only when fewer than `wanted` are known.
    pub(crate) fn free(&mut self, wanted: u32) -> u32 {
        if self.free_as_seen() < wanted {
            self.consumer = self.memory.consumer();
        }
        self.free_as_seen()
    }

    /// Writes an entry, not yet visible; `false`: no room.
    pub(crate) fn push(&mut self, item: M::Item) -> bool {
        if self.free(1) == 0 {
            return false;
        }
        self.memory.write(self.next, item);
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Makes all that was pushed visible.
    pub(crate) fn publish(&mut self) {
        self.memory.publish_producer(self.next);
    }

    /// Entries that the other side has not taken yet.
    pub(crate) fn pending(&mut self) -> u32 {
        self.consumer = self.memory.consumer();
        self.next.wrapping_sub(self.consumer)
    }

    pub(crate) fn needs_wakeup(&self) -> bool {
        self.memory.needs_wakeup()
    }
}

/// Our end where we consume: receive and completion ring.
#[derive(Debug)]
pub(crate) struct Consumer<M> {
    memory: M,
    /// The next index to take.
    next: u32,
    /// The producer's index when we last looked.
    producer: u32,
}

impl<M: Memory> Consumer<M> {
    /// Goes on where the ring stands.
    pub(crate) fn new(memory: M) -> Self {
        let (producer, next) = (memory.producer(), memory.consumer());
        Self {
            memory,
            next,
            producer,
        }
    }

    fn filled_as_seen(&self) -> u32 {
        // Never more than there are slots, whatever the other side wrote.
        self.producer
            .wrapping_sub(self.next)
            .min(self.memory.slots())
    }

    /// Entries that may be read, looking again only when fewer than `wanted` are known.
    pub(crate) fn filled(&mut self, wanted: u32) -> u32 {
        if self.filled_as_seen() < wanted {
            self.producer = self.memory.producer();
        }
        self.filled_as_seen()
    }

    /// The entry `ahead` of the next one; `None`: not there as far as was looked.
    pub(crate) fn peek(&self, ahead: u32) -> Option<M::Item> {
        (ahead < self.filled_as_seen()).then(|| self.memory.read(self.next.wrapping_add(ahead)))
    }

    /// Gives `count` (at most those filled) slots back.
    pub(crate) fn release(&mut self, count: u32) {
        let count = count.min(self.filled_as_seen());
        self.next = self.next.wrapping_add(count);
        self.memory.publish_consumer(self.next);
    }
}

/// A ring as the kernel maps it.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    slots: u32,
    /// Keeps the pointers valid.
    _mapping: Mapping,
    item: PhantomData<T>,
}

// SAFETY: the pointers are into `_mapping`, which may move between threads as it is Send; the
// words are atomics, and entries are touched by their owner at the time only.
unsafe impl<T: Copy + Send> Send for Mapped<T> {}

impl<T: Copy> Mapped<T> {
    /// What a mapping of `slots` (a power of two) at these offsets needs.
    pub(crate) fn bytes(offsets: &libc::xdp_ring_offset, slots: u32) -> Option<usize> {
        let entries = (slots as usize).checked_mul(size_of::<T>())?;
        usize::try_from(offsets.desc).ok()?.checked_add(entries)
    }

    /// `None` when the offsets do not fit the mapping or `slots` is no power of two.
    pub(crate) fn new(
        mapping: Mapping,
        offsets: &libc::xdp_ring_offset,
        slots: u32,
    ) -> Option<Self> {
        if !slots.is_power_of_two() {
            return None;
        }
        let entries = (slots as usize).checked_mul(size_of::<T>())?;
        Some(Self {
            producer: mapping.at(offsets.producer, size_of::<u32>())?,
            consumer: mapping.at(offsets.consumer, size_of::<u32>())?,
            flags: mapping.at(offsets.flags, size_of::<u32>())?,
            entries: mapping.at(offsets.desc, entries)?,
            slots,
            _mapping: mapping,
            item: PhantomData,
        })
    }

    const fn word(&self, word: NonNull<AtomicU32>) -> &AtomicU32 {
        // SAFETY: `new` has checked place and alignment, `_mapping` lives as long as `self`,
        // and the kernel touches this word atomically.
        unsafe { word.as_ref() }
    }

    const fn entry(&self, index: u32) -> NonNull<T> {
        // The mask keeps any index inside.
        let slot = index & (self.slots - 1);
        // SAFETY: `new` has checked that `slots` entries lie in the mapping.
        unsafe { self.entries.add(slot as usize) }
    }
}

impl<T: Copy> Memory for Mapped<T> {
    type Item = T;

    fn slots(&self) -> u32 {
        self.slots
    }

    fn producer(&self) -> u32 {
        // Acquire: pairs with the smp_store_release in __xskq_prod_submit (xsk_queue.h), which
        // follows the kernel's writes of entries and frames.
        self.word(self.producer).load(Ordering::Acquire)
    }

    fn consumer(&self) -> u32 {
        // Acquire: pairs with the smp_store_release in __xskq_cons_release, which follows the
        // kernel's reads of the entries that we overwrite next.
        self.word(self.consumer).load(Ordering::Acquire)
    }

    fn publish_producer(&self, index: u32) {
        // Release: pairs with the smp_load_acquire in __xskq_cons_peek: entries and frames
        // written before are seen by the kernel.
        self.word(self.producer).store(index, Ordering::Release);
    }

    fn publish_consumer(&self, index: u32) {
        // Release: our reads come before; the kernel's READ_ONCE in xskq_prod_nb_free and its
        // later writes are ordered by their control dependency (barriers (A) to (D) there).
        self.word(self.consumer).store(index, Ordering::Release);
    }

    fn needs_wakeup(&self) -> bool {
        // Relaxed: a hint; the kernel sets it before it stops looking, and a poll() follows.
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn read(&self, index: u32) -> T {
        // SAFETY: inside the mapping and aligned; the acquired index says that the kernel has
        // written the entry and will not write it again before we release it.
        unsafe { self.entry(index).read() }
    }

    fn write(&self, index: u32, item: T) {
        // SAFETY: inside the mapping and aligned; the slot is ours until it is published.
        unsafe { self.entry(index).write(item) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
