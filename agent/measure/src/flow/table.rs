//! The flow table: an index of cache lines over a slab of records.
//!
//! All memory is allocated when the table is made and none afterwards: no rehash, no
//! growth. A full table evicts, and says so. Lookups come in batches: [`Table::locate`]
//! reads the index lines of a whole batch, then the records, so that the cache misses of
//! different packets overlap; [`Table::find`] then only confirms.
//!
//! Index: buckets of 15 entries and a count of overflow, 64 octets each. An entry is 8 bits
//! of hash over 24 bits of place + 1; 0 is empty. A key lives in its first bucket, or, if that
//! was full, in its second.

use super::key::{Hasher, Key};
use super::record::Record;

/// The most flows that a table can hold: 24 bits of place.
pub const MOST_FLOWS: u32 = (1 << 24) - 2;
/// Entries per bucket that a table at its capacity has on the mean.
const MEAN_LOAD: u32 = 10;
const SLOTS: usize = 15;
const PLACE: u32 = 0x00ff_ffff;

#[derive(Copy, Clone, Debug, Default)]
#[repr(align(64))]
struct Bucket {
    entries: [u32; SLOTS],
    /// Keys whose first bucket this is and that live in their second.
    overflow: u32,
}

impl Bucket {
    /// The slots whose hash bits fit, as bits.
    #[inline]
    fn candidates(&self, tag: u32) -> u32 {
        let mut found = 0;
        for (slot, entry) in self.entries.iter().enumerate() {
            // An empty entry has tag 0 as well: the place tells.
            found |= u32::from(entry >> 24 == tag && *entry != 0) << slot;
        }
        found
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
}

const NONE: u32 = u32::MAX;

/// What became of a wish for a new record.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Inserted {
    /// It is in.
    At(u32),
    /// The table is full: [`Table::replace`] this one, or refuse the flow.
    Full {
        /// The longest quiet one of those that were looked at.
        victim: Option<u32>,
    },
}

impl Table {
    /// A table for so many flows; allocates everything.
    pub(crate) fn new(capacity: u32, seed: [u64; 8]) -> Self {
        let capacity = capacity.clamp(1, MOST_FLOWS);
        let buckets = capacity.div_ceil(MEAN_LOAD).max(2) as usize;
        let mut records = vec![Record::EMPTY; capacity as usize].into_boxed_slice();
        // Lowest places first, so that few flows share few pages.
        let mut free = NONE;
        for place in (0..capacity).rev() {
            records[place as usize].link = free;
            free = place;
        }
        Self {
            hasher: Hasher::new(seed),
            buckets: vec![Bucket::default(); buckets].into_boxed_slice(),
            records,
            free,
            used: 0,
        }
    }

    /// Octets that a table of that capacity takes.
    pub(crate) const fn bytes(capacity: u32) -> u64 {
        let buckets = capacity.div_ceil(MEAN_LOAD) as u64;
        capacity as u64 * size_of::<Record>() as u64 + buckets * size_of::<Bucket>() as u64
    }

    /// The records' memory, for advice to the kernel about its pages.
    pub(crate) fn memory(&mut self) -> &mut [Record] {
        &mut self.records
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
        let first = (u64::from(hash) * count >> 32) as usize;
        // Any other one; from bits that the first choice hardly used.
        let step = 1 + (u64::from(hash.wrapping_mul(0x9e37_79b9)) * (count - 1) >> 32) as usize;
        let second = first + step;
        let second = if second >= self.buckets.len() {
            second - self.buckets.len()
        } else {
            second
        };
        (first, second)
    }

    /// Looks a whole batch up; the misses of its members overlap. What is not confirmed here
    /// (a second candidate, a second bucket) is left to [`Table::find`].
    #[inline]
    pub(crate) fn locate(&self, keys: &[Key], located: &mut [Located]) {
        // One pass per dependency: hash, index line, record. Within a pass the loads do not
        // wait for one another.
        for (key, slot) in keys.iter().zip(located.iter_mut()) {
            let hash = self.hasher.hash(key);
            *slot = Located { hash, place: NONE };
        }
        for slot in located.iter_mut() {
            let (first, _) = self.homes(slot.hash);
            let bucket = &self.buckets[first];
            let candidates = bucket.candidates(slot.hash & 0xff);
            if candidates != 0 {
                let entry = bucket.entries[candidates.trailing_zeros() as usize];
                slot.place = (entry & PLACE).wrapping_sub(1);
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

    /// The place of a flow.
    #[inline]
    pub(crate) fn find(&self, key: &Key, located: Located) -> Option<u32> {
        if let Some(record) = self.records.get(located.place as usize)
            && record.key.names_same(key)
        {
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
        let mut candidates = bucket.candidates(hash & 0xff);
        while candidates != 0 {
            let slot = candidates.trailing_zeros() as usize;
            let place = (bucket.entries[slot] & PLACE) - 1;
            if self.records[place as usize].key.names_same(key) {
                return Some((slot, place));
            }
            candidates &= candidates - 1;
        }
        None
    }

    /// A fresh record for a key that is not in the table.
    pub(crate) fn insert(&mut self, key: Key, located: Located) -> Inserted {
        let (first, second) = self.homes(located.hash);
        let empty = |bucket: &Bucket| bucket.entries.iter().position(|entry| *entry == 0);
        let home = match empty(&self.buckets[first]) {
            Some(slot) => Some((first, slot)),
            None => empty(&self.buckets[second]).map(|slot| (second, slot)),
        };
        let (Some((bucket, slot)), true) = (home, self.free != NONE) else {
            return Inserted::Full {
                victim: self.victim(first, second),
            };
        };
        let place = self.free;
        let record = &mut self.records[place as usize];
        self.free = record.link;
        *record = Record::EMPTY;
        record.key = key;
        self.used += 1;
        self.buckets[bucket].entries[slot] = (located.hash & 0xff) << 24 | (place + 1);
        if bucket != first {
            self.buckets[first].overflow += 1;
        }
        Inserted::At(place)
    }

    /// The one to go of a key's two buckets: the longest quiet, a closed one before others.
    /// `None` if both are empty while no place is free: a small table only.
    fn victim(&self, first: usize, second: usize) -> Option<u32> {
        let entries = [first, second]
            .into_iter()
            .flat_map(|at| self.buckets[at].entries);
        entries
            .filter(|entry| *entry != 0)
            .map(|entry| (entry & PLACE) - 1)
            .min_by_key(|place| {
                let record = self.record(*place);
                (!record.is_closed(), record.last_ns)
            })
    }

    /// Gives the record of `victim` to another flow. The place keeps its link, so that it
    /// stays where it is in the timer wheel.
    ///
    /// The new key goes into one of its own buckets; should both be full of others, nothing
    /// is done and `false` comes back (then `victim` was not from [`Inserted::Full`]).
    pub(crate) fn replace(&mut self, victim: u32, key: Key, located: Located) -> bool {
        let link = self.records[victim as usize].link;
        self.unlist(victim);
        let (first, second) = self.homes(located.hash);
        for bucket in [first, second] {
            if let Some(slot) = self.buckets[bucket]
                .entries
                .iter()
                .position(|entry| *entry == 0)
            {
                self.buckets[bucket].entries[slot] = (located.hash & 0xff) << 24 | (victim + 1);
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
        self.unlist(place);
        let record = &mut self.records[place as usize];
        *record = Record::EMPTY;
        record.link = self.free;
        self.free = place;
        self.used -= 1;
    }

    /// Takes a flow's entry out of the index.
    fn unlist(&mut self, place: u32) {
        let key = self.records[place as usize].key;
        let hash = self.hasher.hash(&key);
        let (first, second) = self.homes(hash);
        if let Some((slot, _)) = self.search_bucket(first, &key, hash) {
            self.buckets[first].entries[slot] = 0;
        } else if let Some((slot, _)) = self.search_bucket(second, &key, hash) {
            self.buckets[second].entries[slot] = 0;
            self.buckets[first].overflow -= 1;
        }
    }

    /// Places that hold a flow, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> {
        (0..self.capacity()).filter(|place| self.record(*place).is_used())
    }
}
