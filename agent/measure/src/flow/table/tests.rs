//! The table against a standard map, over random operations; with a seed of zeros every key
//! has one hash, so that all of them want the same two buckets.

use std::collections::HashMap;

use base::{Address, GroupKey, PlainMemory, WallNanos};
use proptest::prelude::*;

use super::*;
use crate::flow::record::Body;
use crate::passive::tcp::TcpFlow;

const SEED: [u64; 8] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
];

#[derive(Copy, Clone, Debug)]
enum Act {
    Insert(u16),
    Remove(u16),
    Touch(u16),
    Close(u16),
    /// Looks a batch up that begins there.
    Batch(u16),
    Clear,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        30 => any::<u16>().prop_map(Act::Insert),
        8 => any::<u16>().prop_map(Act::Remove),
        3 => any::<u16>().prop_map(Act::Touch),
        1 => any::<u16>().prop_map(Act::Close),
        4 => any::<u16>().prop_map(Act::Batch),
    ];
    let clear = prop_oneof![400 => act, 1 => Just(Act::Clear)];
    proptest::collection::vec(clear, 1..600)
}

/// Names of both families, both directions of which are one flow.
fn key(number: u16) -> Key {
    let source = if number.is_multiple_of(3) {
        Address {
            high: 0x2001_0db8 << 32,
            low: u64::from(number),
        }
    } else {
        Address::v4(0x0a00_0000 + u32::from(number))
    };
    Key::of((source, 1000 + number), (Address::v4(0xc000_0201), 443), 6).0
}

struct Model {
    table: Table,
    flows: HashMap<u16, u32>,
    keys: u16,
    now: u64,
    evicted: u32,
}

impl Model {
    fn new(capacity: u32, seed: [u64; 8], keys: u16) -> Self {
        Self {
            table: Table::new(capacity, seed, &PlainMemory),
            flows: HashMap::new(),
            keys,
            now: 1,
            evicted: 0,
        }
    }

    fn locate(&self, number: u16) -> Located {
        let mut located = [Located::NOWHERE];
        self.table
            .locate(&[key(number)], &mut located, &PlainMemory);
        located[0]
    }

    fn act(&mut self, act: Act) {
        self.now += 1;
        match act {
            Act::Insert(n) => self.insert(n % self.keys),
            Act::Remove(n) => {
                let n = n % self.keys;
                let before = self.locate(n);
                let changes = self.table.changes();
                if let Some(place) = self.flows.remove(&n) {
                    self.table.remove(place);
                    // What was located before it went is not believed.
                    assert_eq!(self.table.find(&key(n), before, changes), None);
                }
            }
            Act::Touch(n) => {
                if let Some(place) = self.flows.get(&(n % self.keys)) {
                    self.table.record_mut(*place).last_ns = self.now;
                }
            }
            Act::Close(n) => {
                if let Some(place) = self.flows.get(&(n % self.keys)) {
                    self.table.record_mut(*place).close();
                }
            }
            Act::Batch(n) => self.batch(n % self.keys),
            Act::Clear => {
                self.table.clear();
                self.flows.clear();
            }
        }
    }

    fn insert(&mut self, n: u16) {
        if self.flows.contains_key(&n) {
            return;
        }
        let located = self.locate(n);
        let homes = self.table.homes(located.hash);
        let full = |bucket: usize| self.table.buckets[bucket].empty().is_none();
        let no_slot = full(homes.0) && full(homes.1);
        let no_place = self.flows.len() == self.table.capacity() as usize;
        let place = match self.table.insert(key(n), located) {
            Inserted::At(place) => {
                assert!(!no_slot && !no_place);
                place
            }
            Inserted::Full { victim: None } => {
                assert!(no_place);
                for bucket in [homes.0, homes.1] {
                    assert_eq!(self.table.buckets[bucket].tags, [0; SLOTS]);
                }
                return;
            }
            Inserted::Full {
                victim: Some(victim),
            } => {
                assert!(no_slot || no_place);
                let old = self.flows.iter().find(|(_, place)| **place == victim);
                let (&old, _) = old.expect("a victim that is in");
                let listed = [homes.0, homes.1].into_iter().any(|bucket| {
                    let bucket = &self.table.buckets[bucket];
                    (0..SLOTS).any(|slot| bucket.tags[slot] != 0 && bucket.places[slot] == victim)
                });
                assert!(listed, "a victim outside the key's buckets");
                let link = self.table.record(victim).link;
                assert!(self.table.replace(victim, key(n), located));
                assert_eq!(self.table.record(victim).link, link);
                self.flows.remove(&old);
                self.evicted += 1;
                victim
            }
        };
        assert!(self.flows.values().all(|other| *other != place));
        let body = Body::Tcp(TcpFlow::NEW);
        self.table
            .record_mut(place)
            .begin(WallNanos(self.now), false, GroupKey(0), body);
        self.flows.insert(n, place);
    }

    fn batch(&self, from: u16) {
        let numbers: Vec<u16> = (0..20).map(|n| (from + n * 3) % (self.keys + 7)).collect();
        let keys: Vec<Key> = numbers.iter().copied().map(key).collect();
        let mut located = vec![Located::NOWHERE; keys.len()];
        self.table.locate(&keys, &mut located, &PlainMemory);
        for ((number, key), located) in numbers.iter().zip(&keys).zip(located) {
            let found = self.table.find(key, located, self.table.changes());
            assert_eq!(found, self.flows.get(number).copied());
            assert_eq!(found, self.table.search(key, located.hash));
        }
    }

    /// Everything that must hold at any time.
    fn check(&self) {
        assert_eq!(self.table.used() as usize, self.flows.len());
        for number in 0..self.keys {
            let hash = self.table.hasher.hash(&key(number));
            let found = self.table.search(&key(number), hash);
            assert_eq!(found, self.flows.get(&number).copied(), "{number}");
        }
        let mut places: Vec<_> = self.flows.values().copied().collect();
        places.sort_unstable();
        assert!(self.table.places().eq(places));
        // Each flow is listed once, and each first bucket knows who had to go elsewhere.
        let mut overflow = vec![0; self.table.buckets.len()];
        let mut listed = 0;
        for (at, bucket) in self.table.buckets.iter().enumerate() {
            for slot in (0..SLOTS).filter(|slot| bucket.tags[*slot] != 0) {
                listed += 1;
                let record = self.table.record(bucket.places[slot]);
                let hash = self.table.hasher.hash(&record.key);
                assert_eq!(bucket.tags[slot], tag(hash));
                let (first, second) = self.table.homes(hash);
                assert_ne!(first, second);
                assert!(at == first || at == second);
                overflow[first] += u32::from(at != first);
            }
        }
        assert_eq!(listed, self.flows.len());
        let counted: Vec<_> = self.table.buckets.iter().map(|b| b.overflow).collect();
        assert_eq!(counted, overflow);
        // No place is lost.
        let (mut free, mut at) = (0, self.table.free);
        while at != NONE {
            free += 1;
            at = self.table.record(at).link;
        }
        assert_eq!(free + self.flows.len(), self.table.capacity() as usize);
    }
}

fn agree(capacity: u32, seed: [u64; 8], keys: u16, acts: &[Act]) -> Model {
    let mut model = Model::new(capacity, seed, keys);
    model.check();
    for act in acts {
        model.act(*act);
        if keys < 200 {
            model.check();
        }
    }
    model.check();
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn agrees_with_a_map(acts in acts()) {
        for capacity in [1, 2, 15, 100] {
            for keys in [3, 40, 150] {
                agree(capacity, SEED, keys, &acts);
            }
        }
    }

    #[test]
    fn agrees_with_a_map_when_all_keys_have_one_hash(acts in acts()) {
        for capacity in [1, 2, 15, 100, 5000] {
            agree(capacity, [0; 8], 60, &acts);
        }
    }
}

#[test]
fn a_large_table_fills_to_its_capacity_before_it_evicts() {
    // 5000 places, 11 000 keys: the second bucket takes what the first has no slot for.
    let mut model = Model::new(5000, SEED, 11_000);
    for n in 0..11_000 {
        model.now += 1;
        model.insert(n);
        if n == 4500 {
            assert_eq!(model.evicted, 0, "at nine tenths of its capacity");
        }
    }
    model.check();
    assert_eq!(model.flows.len(), 5000);
    assert_eq!(model.evicted, 6000);
    for n in (0..11_000).step_by(37) {
        model.batch(n);
    }
}

/// Every flow of a full table in six of eight buckets, and one that belongs into the others.
#[test]
fn a_full_table_always_has_one_to_go() {
    let capacity = 72;
    let mut table = Table::new(capacity, SEED, &PlainMemory);
    assert_eq!(table.buckets.len(), 8);
    let mut newcomer = None;
    for number in 0..60_000 {
        let key = key(number);
        let mut located = [Located::NOWHERE];
        table.locate(&[key], &mut located, &PlainMemory);
        let (first, second) = table.homes(located[0].hash);
        if first >= 6 && second >= 6 {
            newcomer = Some((key, located[0]));
        }
        if first < 6 && second < 6 && table.used < capacity {
            // Some find their two buckets full of others: they stay out.
            if let Inserted::At(place) = table.insert(key, located[0]) {
                table.records[place as usize].begin(
                    WallNanos(u64::from(number)),
                    false,
                    GroupKey(0),
                    Body::Tcp(TcpFlow::NEW),
                );
            }
        }
    }
    assert_eq!(table.used, capacity);
    let (key, located) = newcomer.expect("a key of the last two buckets");
    let Inserted::Full {
        victim: Some(victim),
    } = table.insert(key, located)
    else {
        panic!("a full table refuses a flow");
    };
    assert!(table.replace(victim, key, located));
    assert_eq!(
        table.find(&key, located, table.changes().wrapping_sub(1)),
        Some(victim)
    );
}
