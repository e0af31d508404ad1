//! The wheel under a clock that runs, jumps and goes back: nobody is forgotten, nobody is in
//! two lists.

use base::{Address, GroupKey, PlainMemory};
use proptest::prelude::*;

use super::*;
use crate::flow::key::Key;
use crate::flow::record::Body;
use crate::flow::table::{Inserted, Located};
use crate::passive::tcp::TcpFlow;

const SECOND: u64 = 1_000_000_000;
const CAPACITY: u32 = 60;
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

struct World {
    table: Table,
    wheel: Wheel,
    now: u64,
    next: u32,
    /// When a place was looked at last, in turns.
    seen: Vec<u64>,
    turns: u64,
}

impl World {
    fn new(now: u64) -> Self {
        Self {
            table: Table::new(CAPACITY, SEED, &PlainMemory),
            wheel: Wheel::new(),
            now,
            next: 0,
            seen: vec![0; CAPACITY as usize],
            turns: 0,
        }
    }

    fn begin(&mut self, after_ns: u64) {
        self.next += 1;
        let end = (Address::v4(self.next), 1);
        let key = Key::of(end, (Address::v4(0), 2), 6).0;
        let mut located = [Located::NOWHERE];
        self.table.locate(&[key], &mut located, &PlainMemory);
        let now = WallNanos(self.now);
        let place = match self.table.insert(key, located[0]) {
            Inserted::At(place) => {
                self.wheel.add(&mut self.table, place, now, after_ns);
                place
            }
            // It stays where it is in the wheel.
            Inserted::Full { victim } => {
                let Some(victim) = victim else { return };
                assert!(self.table.replace(victim, key, located[0]));
                victim
            }
        };
        let body = Body::Tcp(TcpFlow::NEW);
        self.table
            .record_mut(place)
            .begin(now, false, GroupKey(0), body);
        self.seen[place as usize] = self.turns;
    }

    /// Turns with a life of `life_ns` for everyone; says how many were looked at.
    fn turn(&mut self, budget: usize, life_ns: u64) -> usize {
        let (now, mut looked) = (self.now, 0);
        let (seen, turns) = (&mut self.seen, self.turns);
        let left = self
            .wheel
            .turn(&mut self.table, WallNanos(now), budget, |table, place| {
                looked += 1;
                seen[place as usize] = turns;
                assert!(table.record(place).is_used());
                let quiet = now.saturating_sub(table.record(place).last_ns);
                if quiet < life_ns {
                    Due::Keep {
                        after_ns: life_ns - quiet,
                    }
                } else {
                    Due::Remove
                }
            });
        assert!(looked <= budget);
        assert!(!left || looked == budget);
        looked
    }

    /// Every flow is in exactly one list, and nothing else is in any.
    fn check(&self) {
        let mut found = vec![0; CAPACITY as usize];
        for head in self.wheel.heads.iter().chain([&self.wheel.pending]) {
            let mut at = *head;
            while at != END {
                found[at as usize] += 1;
                assert_eq!(found[at as usize], 1, "a circle, or two lists share {at}");
                at = self.table.record(at).link;
            }
        }
        for place in 0..CAPACITY {
            let used = self.table.record(place).is_used();
            assert_eq!(found[place as usize], u8::from(used), "{place}");
        }
        assert_eq!(self.table.places().count(), self.table.used() as usize);
    }
}

#[derive(Copy, Clone, Debug)]
enum Act {
    Begin(u64),
    Touch(u32),
    Forward(u64),
    Back(u64),
    Turn(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..40 * SECOND).prop_map(Act::Begin),
        3 => (0..CAPACITY).prop_map(Act::Touch),
        4 => (0..3 * SECOND).prop_map(Act::Forward),
        1 => (0..20_000 * SECOND).prop_map(Act::Forward),
        1 => (0..3 * SECOND).prop_map(Act::Back),
        1 => (0..20_000 * SECOND).prop_map(Act::Back),
        6 => (0..20usize).prop_map(Act::Turn),
    ];
    proptest::collection::vec(act, 1..300)
}

proptest! {
    #[test]
    fn whatever_the_clock_did_every_flow_is_looked_at_soon(acts in acts()) {
        let mut world = World::new(1_700_000_000 * SECOND);
        for act in acts {
            match act {
                Act::Begin(after) => world.begin(after),
                Act::Touch(place) => {
                    if world.table.record(place).is_used() {
                        world.table.record_mut(place).last_ns = world.now;
                    }
                }
                Act::Forward(ns) => world.now += ns,
                Act::Back(ns) => world.now -= ns,
                Act::Turn(budget) => { world.turn(budget, 30 * SECOND); }
            }
            world.check();
        }
        // From here on the clock runs as it should: once around everyone was seen, and as
        // many slots more as the clock may stand behind.
        world.turns = 1;
        for _ in 0..SLOTS + SLACK {
            world.now += 1 << SLOT_BITS;
            world.turn(usize::MAX, 30 * SECOND);
            world.check();
        }
        for place in world.table.places() {
            prop_assert_eq!(world.seen[place as usize], 1);
        }
    }

    #[test]
    fn a_quiet_flow_goes_within_two_slots_of_its_time(
        lives in proptest::collection::vec(1..100 * SECOND, 1..50),
        step in 1..2 * SECOND,
        life in 2 * SECOND..60 * SECOND,
    ) {
        let mut world = World::new(5 * SECOND);
        for after in lives {
            world.begin(after.min(life));
        }
        let from = world.now;
        while world.table.used() > 0 {
            world.now += step;
            let before = world.table.used();
            world.turn(usize::MAX, life);
            if world.table.used() < before {
                prop_assert!(world.now - from >= life);
            }
            prop_assert!(world.now - from < life + step + (2 << SLOT_BITS));
        }
    }
}

#[test]
fn work_is_bounded_and_what_is_left_comes_next() {
    let mut world = World::new(0);
    for _ in 0..50 {
        world.begin(SECOND);
    }
    world.now += 100 * SECOND;
    let mut looked = 0;
    for _ in 0..10 {
        looked += world.turn(5, SECOND);
        world.check();
    }
    assert_eq!((looked, world.table.used()), (50, 0));
    assert_eq!(world.turn(5, SECOND), 0);
}
