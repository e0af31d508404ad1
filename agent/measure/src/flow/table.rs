//! The flow table: an index of cache lines over a slab of records.
//!
//! All memory is allocated when the table is made and none afterwards: no rehash, no
//! growth. A full table evicts, and says so. Lookups come in batches: [`Table::locate`]
//! reads the index lines of a whole batch, then the records, so that the cache misses of
//! different packets overlap; [`Table::find`] then only confirms.
//!
//! Index: buckets of 12 places and as many octets of hash, 64 octets each. An octet of 0 is
//! an empty slot. A key lives in its first bucket, or, if that was full, in its second.

use base::Memory;
use base::memory::filled;

use super::key::{Hasher, Key};
use super::record::Record;

/// The most flows that a table can hold.
pub const MOST_FLOWS: u32 = 1 << 26;
/// Entries per bucket that a table at its capacity has on the mean.
const MEAN_LOAD: u32 = 9;
const SLOTS: usize = 12;
/// Records that are compared when one has to go.
const SAMPLED: usize = 5;

#[derive(Copy, Clone, Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u8; SLOTS],
    places: [u32; SLOTS],
    /// Keys whose first bucket this is and that live in their second.
    overflow: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// An octet of hash that is not 0.
#[inline]
const fn tag(hash: u32) -> u8 {
    let low = hash as u8;
    if low == 0 { 1 } else { low }
}

impl Bucket {
    /// The slots whose tag may fit, as the top bits of octets: all that do, and rarely one
    /// that does not.
    #[inline]
    fn candidates(&self, tag: u8) -> u128 {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let high = u64::from(u32::from_le_bytes([i, j, k, l]));
        // Octets that are 0 after the exclusive or.
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
        let wanted = u64::from(tag) * ONES;
        let low = zeros(low ^ wanted);
        let high = zeros(high ^ (wanted & 0xffff_ffff)) & 0x8080_8080;
        u128::from(low) | u128::from(high) << 64
    }

    fn empty(&self) -> Option<usize> {
        self.tags.iter().position(|tag| *tag == 0)
    }

    fn put(&mut self, slot: usize, hash: u32, place: u32) {
        self.tags[slot] = tag(hash);
        self.places[slot] = place;
    }

    /// The places that are taken, from a slot on that the hash chooses.
    fn taken(&self, hash: u32) -> impl Iterator<Item = u32> {
        let from = (hash >> 8) as usize % SLOTS;
        (0..SLOTS)
            .map(move |slot| (from + slot) % SLOTS)
            .filter(|slot| self.tags[*slot] != 0)
            .map(|slot| self.places[slot])
    }
}

/// Where a packet's flow probably is.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Located {
    hash: u32,
    /// The place, if it was confirmed; `u32::MAX` if not.
    place: u32,
}

impl Located {
    pub(crate) const NOWHERE: Self = Self {
        hash: 0,
        place: NONE,
    };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    hasher: Hasher,
    buckets: Box<[Bucket]>,
    records: Box<[Record]>,
    /// Free places, as a list through [`Record::link`].
    free: u32,
    used: u32,
    /// How often a place got another key: what was located before that must be looked up
    /// again.
    changes: u32,
}

const NONE: u32 = u32::MAX;

/// Empties records and makes a list of them, lowest first, so that few flows share few
/// pages. Gives the list's head.
fn chain(records: &mut [Record]) -> u32 {
    let count = records.len() as u32;
    for (record, next) in records.iter_mut().zip(1..) {
        *record = Record::EMPTY;
        record.link = if next < count { next } else { NONE };
    }
    if count > 0 { 0 } else { NONE }
}

/// What became of a wish for a new record.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Inserted {
    /// It is in.
    At(u32),
    /// The table is full: [`Table::replace`] this one, or refuse the flow.
    Full {
        /// The one that is worth least of those that were looked at.
        victim: Option<u32>,
    },
}

impl Table {
    /// A table for so many flows; allocates everything.
    pub(crate) fn new(capacity: u32, seed: [u64; 8], memory: &impl Memory) -> Self {
        let capacity = capacity.clamp(1, MOST_FLOWS);
        let buckets = capacity.div_ceil(MEAN_LOAD).max(2) as usize;
        let mut records = filled(memory, capacity as usize, Record::EMPTY);
        let free = chain(&mut records);
        Self {
            hasher: Hasher::new(seed),
            buckets: filled(memory, buckets, Bucket::default()),
            records,
            free,
            used: 0,
            changes: 0,
        }
    }

    /// Octets that a table of that capacity takes.
    pub(crate) const fn bytes(capacity: u32) -> u64 {
        let buckets = capacity.div_ceil(MEAN_LOAD) as u64;
        capacity as u64 * size_of::<Record>() as u64 + buckets * size_of::<Bucket>() as u64
    }

    /// How many flows are in.
    pub(crate) const fn used(&self) -> u32 {
        self.used
    }

    pub(crate) const fn capacity(&self) -> u32 {
        self.records.len() as u32
    }

    #[inline]
    pub(crate) fn record(&self, place: u32) -> &Record {
        &self.records[place as usize]
    }

    /// The record of what was confirmed.
    #[inline]
    pub(crate) fn located(&self, located: Located) -> Option<&Record> {
        self.records.get(located.place as usize)
    }

    #[inline]
    pub(crate) fn record_mut(&mut self, place: u32) -> &mut Record {
        &mut self.records[place as usize]
    }

    /// First and second bucket of a hash.
    #[inline]
    fn homes(&self, hash: u32) -> (usize, usize) {
        let count = self.buckets.len() as u64;
        let first = ((u64::from(hash) * count) >> 32) as usize;
        // Any other one; from bits that the first choice hardly used.
        let step = 1 + ((u64::from(hash.wrapping_mul(0x9e37_79b9)) * (count - 1)) >> 32) as usize;
        let second = first + step;
        let second = if second >= self.buckets.len() {
            second - self.buckets.len()
        } else {
            second
        };
        (first, second)
    }

    /// Looks a whole batch up; the cache misses of its members overlap. What is not confirmed
    /// here (a second candidate, a second bucket) is left to [`Table::find`].
    #[inline]
    pub(crate) fn locate(&self, keys: &[Key], located: &mut [Located], memory: &impl Memory) {
        // One pass per dependency: hash, index line, record.
        for (key, slot) in keys.iter().zip(located.iter_mut()) {
            let hash = self.hasher.hash(key);
            *slot = Located { hash, place: NONE };
            if let Some(bucket) = self.buckets.get(self.homes(hash).0) {
                memory.fetch(bucket);
            }
        }
        for slot in located.iter_mut() {
            let bucket = &self.buckets[self.homes(slot.hash).0];
            let candidates = bucket.candidates(tag(slot.hash));
            if candidates != 0 {
                let first = candidates.trailing_zeros() as usize / 8;
                slot.place = bucket.places.get(first).copied().unwrap_or(NONE);
                if let Some(record) = self.records.get(slot.place as usize) {
                    memory.fetch(record);
                }
            }
        }
        for (key, slot) in keys.iter().zip(located.iter_mut()) {
            if let Some(record) = self.records.get(slot.place as usize)
                && !record.key.names_same(key)
            {
                slot.place = NONE;
            }
        }
    }

    /// How often a place got another key.
    #[inline]
    pub(crate) const fn changes(&self) -> u32 {
        self.changes
    }

    /// The place of a flow that was located when the table had seen so many changes.
    #[inline]
    pub(crate) fn find(&self, key: &Key, located: Located, changes: u32) -> Option<u32> {
        if located.place != NONE && changes == self.changes {
            return Some(located.place);
        }
        self.search(key, located.hash)
    }

    #[inline(never)]
    fn search(&self, key: &Key, hash: u32) -> Option<u32> {
        let (first, second) = self.homes(hash);
        let found = self.search_bucket(first, key, hash);
        if found.is_some() || self.buckets[first].overflow == 0 {
            return found.map(|(_, place)| place);
        }
        self.search_bucket(second, key, hash)
            .map(|(_, place)| place)
    }

    fn search_bucket(&self, bucket: usize, key: &Key, hash: u32) -> Option<(usize, u32)> {
        let bucket = &self.buckets[bucket];
        let mut candidates = bucket.candidates(tag(hash));
        while candidates != 0 {
            let slot = candidates.trailing_zeros() as usize / 8;
            let place = bucket.places[slot];
            if bucket.tags[slot] == tag(hash) && self.record(place).key.names_same(key) {
                return Some((slot, place));
            }
            candidates &= candidates - 1;
        }
        None
    }

    /// A fresh record for a key that is not in the table.
    pub(crate) fn insert(&mut self, key: Key, located: Located) -> Inserted {
        let (first, second) = self.homes(located.hash);
        let home = match self.buckets[first].empty() {
            Some(slot) => Some((first, slot)),
            None => self.buckets[second].empty().map(|slot| (second, slot)),
        };
        let (Some((bucket, slot)), true) = (home, self.free != NONE) else {
            return Inserted::Full {
                victim: self.victim(first, second, located.hash),
            };
        };
        let place = self.free;
        let record = &mut self.records[place as usize];
        self.free = record.link;
        *record = Record::EMPTY;
        record.key = key;
        self.used += 1;
        self.buckets[bucket].put(slot, located.hash, place);
        if bucket != first {
            self.buckets[first].overflow += 1;
        }
        Inserted::At(place)
    }

    /// The one to go: of a few of the key's own buckets the one that is worth least; of the next
    /// bucket that has any, should both be empty. `None`: no flow is in.
    fn victim(&self, first: usize, second: usize, hash: u32) -> Option<u32> {
        // Their records are read at once: misses overlap.
        let taken = |bucket: usize| self.buckets[bucket].taken(hash);
        taken(first)
            .chain(taken(second))
            .take(SAMPLED)
            .min_by_key(|place| self.record(*place).worth())
            .or_else(|| {
                let behind = self.buckets[first..].iter().chain(&self.buckets[..first]);
                behind.flat_map(|bucket| bucket.taken(hash)).next()
            })
    }

    /// Gives the record of `victim` to another flow. The place keeps its link, so that it
    /// stays where it is in the timer wheel.
    ///
    /// The new key goes into one of its own buckets; should both be full of others, nothing
    /// is done and `false` comes back (then `victim` was not from [`Inserted::Full`]).
    pub(crate) fn replace(&mut self, victim: u32, key: Key, located: Located) -> bool {
        let link = self.records[victim as usize].link;
        self.changes = self.changes.wrapping_add(1);
        self.unlist(victim);
        let (first, second) = self.homes(located.hash);
        for bucket in [first, second] {
            if let Some(slot) = self.buckets[bucket].empty() {
                self.buckets[bucket].put(slot, located.hash, victim);
                self.buckets[first].overflow += u32::from(bucket != first);
                let record = &mut self.records[victim as usize];
                *record = Record::EMPTY;
                record.key = key;
                record.link = link;
                return true;
            }
        }
        false
    }

    /// Takes a flow out; its place is free again.
    pub(crate) fn remove(&mut self, place: u32) {
        self.changes = self.changes.wrapping_add(1);
        self.unlist(place);
        let record = &mut self.records[place as usize];
        *record = Record::EMPTY;
        record.link = self.free;
        self.free = place;
        self.used -= 1;
    }

    /// Takes every flow out.
    pub(crate) fn clear(&mut self) {
        self.changes = self.changes.wrapping_add(1);
        self.buckets.fill(Bucket::default());
        self.free = chain(&mut self.records);
        self.used = 0;
    }

    /// Takes a flow's entry out of the index.
    fn unlist(&mut self, place: u32) {
        let key = self.records[place as usize].key;
        let hash = self.hasher.hash(&key);
        let (first, second) = self.homes(hash);
        if let Some((slot, _)) = self.search_bucket(first, &key, hash) {
            self.buckets[first].tags[slot] = 0;
        } else if let Some((slot, _)) = self.search_bucket(second, &key, hash) {
            self.buckets[second].tags[slot] = 0;
            self.buckets[first].overflow -= 1;
        }
    }

    /// Places that hold a flow, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> {
        (0..self.capacity()).filter(|place| self.record(*place).is_used())
    }
}

#[cfg(test)]
mod tests;
