//! The spin bit against a simulated connection: client and server as RFC 9000 section 17.4
//! has them, packet numbers included, a probe between them, loss and reordering on both sides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use base::Sender::{Near, Remote};

use super::DatagramEvent as Event;
use super::*;
use crate::random::Random;

/// What an endpoint does with the bit.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Habit {
    Spins,
    Random,
    Constant,
}

/// A path with the client on the near side. Times in nanoseconds.
#[derive(Copy, Clone)]
struct Path {
    /// One way, client to probe and probe to server.
    delay: [u64; 2],
    /// Between packets of the client and of the server.
    spacing: [u64; 2],
    /// Of 10 000 packets, per half of the path.
    lost: u64,
    /// Likewise; they wait for up to three packets more.
    reordered: u64,
    habits: [Habit; 2],
    packets: u64,
    seed: u64,
}

const MS: u64 = 1_000_000;

const GOOD: Path = Path {
    delay: [5 * MS, 15 * MS],
    spacing: [MS / 5, MS / 10],
    lost: 0,
    reordered: 0,
    habits: [Habit::Spins; 2],
    packets: 20_000,
    seed: 1,
};

struct Endpoint {
    level: bool,
    highest: Option<u64>,
    next: u64,
}

/// Where a packet is next.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Leaves,
    AtProbe { number: u64, spin: bool },
    Arrives { number: u64, spin: bool },
}

/// Runs a connection past the estimator.
fn simulate(path: &Path) -> Rig {
    let mut rig = Rig::new(40_000, 443);
    let mut random = Random::new(path.seed);
    let mut ends = [false, false].map(|level| Endpoint {
        level,
        highest: None,
        next: 0,
    });
    // Sides as indices: 0 the client, 1 the server; a packet has its sender's.
    let mut events = BinaryHeap::new();
    let start = 1_700_000_000_000_000_000;
    for side in 0..2 {
        events.push(Reverse((start, side, Place::Leaves)));
    }
    let mut payload = [0x40; 40];
    while let Some(Reverse((now, side, place))) = events.pop() {
        let spacing = path.spacing[side];
        let travel = |half: usize, random: &mut Random| {
            let late = random.below(10_000) < path.reordered;
            let extra = if late { random.below(3 * spacing) } else { 0 };
            (random.below(10_000) >= path.lost).then_some(now + path.delay[half] + extra)
        };
        match place {
            Place::Leaves => {
                let end = &mut ends[side];
                let number = end.next;
                end.next += 1;
                let spin = match path.habits[side] {
                    Habit::Spins => end.level,
                    Habit::Constant => false,
                    Habit::Random => random.below(2) == 1,
                };
                if let Some(at) = travel(side, &mut random) {
                    events.push(Reverse((at, side, Place::AtProbe { number, spin })));
                }
                if number < path.packets {
                    events.push(Reverse((now + spacing, side, Place::Leaves)));
                }
            }
            Place::AtProbe { number, spin } => {
                payload[0] = 0x40 | u8::from(spin) << 5;
                let (sender, ports) = if side == 0 {
                    (Near, [40_000, 443])
                } else {
                    (Remote, [443, 40_000])
                };
                let packet = packet(Transport::Udp, ports, 1200);
                rig.take(now, sender, &packet, &payload);
                if let Some(at) = travel(1 - side, &mut random) {
                    events.push(Reverse((at, side, Place::Arrives { number, spin })));
                }
            }
            Place::Arrives { number, spin } => {
                // "that increases the highest packet number seen": §17.4.
                let end = &mut ends[1 - side];
                if end.highest.is_none_or(|highest| number > highest) {
                    end.highest = Some(number);
                    end.level = spin ^ (side == 1);
                }
            }
        }
    }
    rig
}

fn of(rig: &Rig, leg: Leg) -> Vec<u64> {
    assert!(rig.samples.iter().all(|s| s.0 == RttMethod::QuicSpin));
    let mut times: Vec<_> = rig
        .samples
        .iter()
        .filter(|s| s.1 == leg)
        .map(|s| s.2)
        .collect();
    times.sort_unstable();
    times
}

/// Truth and what a packet more or less may make of it.
fn assert_true(path: &Path, slack: u64, share: f64) {
    let rig = simulate(path);
    let duration = path.packets * path.spacing[0].min(path.spacing[1]);
    let period = 2 * (path.delay[0] + path.delay[1]) + path.spacing[0] + path.spacing[1];
    // The flow earns trust in the first ones.
    let periods = duration / period - 10;
    for (leg, half) in [(Leg::Near, 0), (Leg::Remote, 1)] {
        let times = of(&rig, leg);
        let truth = 2 * path.delay[half];
        assert!(
            times.len() as f64 >= periods as f64 * share,
            "{leg:?}: {} of {periods}; {:?}",
            times.len(),
            rig.events()
        );
        // A leg ends when its end has something to send.
        let most = truth + path.spacing[half] + slack;
        let wrong: Vec<_> = times
            .iter()
            .filter(|ns| !(truth.saturating_sub(slack)..=most).contains(ns))
            .collect();
        assert!(wrong.is_empty(), "{leg:?}, true {truth}: {wrong:?}");
        let median = times[times.len() / 2];
        assert!((truth..=truth + path.spacing[half]).contains(&median));
    }
}

#[test]
fn both_legs_are_true_within_packet_spacing() {
    assert_true(&GOOD, 0, 0.95);
}

#[test]
fn an_end_that_sends_little_confirms_late() {
    // A download, and an upload seen near the client.
    for spacing in [[2 * MS, MS / 20], [MS / 20, 2 * MS]] {
        let path = Path { spacing, ..GOOD };
        assert_true(&path, 0, 0.95);
    }
    // The fast end answers, and goes on, before the slow one's edge is confirmed.
    for (delay, spacing) in [
        ([5 * MS, MS / 2], [MS, MS / 10]),
        ([MS / 2, 5 * MS], [MS / 10, MS]),
    ] {
        let path = Path {
            delay,
            spacing,
            ..GOOD
        };
        assert_true(&path, 0, 0.95);
    }
}

/// Ends that spin in a round trip of 10 ms on either leg, and send every millisecond; both
/// begin with 0, the client half a round trip before the server.
struct Regular {
    rig: Rig,
    us: u64,
}

impl Regular {
    /// Past the time of trust.
    fn trusted() -> Self {
        let mut regular = Self {
            rig: Rig::new(40_000, 443),
            us: 1_000_000,
        };
        regular.run(400);
        regular.rig.samples.clear();
        assert_eq!(
            regular.rig.events(),
            [(Event::SpinUnanswering, 1), (Event::SpinUntrusted, 19)]
        );
        regular
    }

    fn send(&mut self, us: u64, sender: Sender, spin: bool) {
        let mut payload = [0x40; 40];
        payload[0] |= u8::from(spin) << 5;
        self.rig.udp(us, sender, &payload);
    }

    /// What an end sends at some time: the client turns every 20 ms, the server 10 ms later.
    fn level(us: u64, sender: Sender) -> bool {
        let turned = if sender == Near { us } else { us - 10_000 };
        turned / 20_000 % 2 == 1
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            for sender in [Near, Remote] {
                self.send(self.us, sender, Self::level(self.us, sender));
            }
            self.us += 1000;
        }
    }
}

#[test]
fn late_packets_after_an_edge_are_held_off() {
    let mut regular = Regular::trusted();
    let before = regular.rig.counters;
    // The client's edge, confirmed within 0.2 ms, then three packets from before it.
    let new = Regular::level(regular.us, Near);
    for (us, spin) in [
        (0, new),
        (100, new),
        (200, new),
        (300, !new),
        (400, !new),
        (500, !new),
    ] {
        regular.send(regular.us + us, Near, spin);
    }
    regular.us += 1000;
    regular.run(40);
    let counted = |event| regular.rig.counters.get(event) - before.get(event);
    assert_eq!(counted(Event::SpinHeldOff), 3);
    assert_eq!(counted(Event::SpinUnanswering), 0);
    assert!(regular.rig.samples.len() >= 3);
    for (_, _, ns) in regular.rig.samples {
        assert!((10_000_000..=11_000_000).contains(&ns), "{ns}");
    }
}

/// RFC 9000 section 17.4: an end that changes its connection ID begins with 0 again.
#[test]
fn an_edge_is_answered_once() {
    let mut regular = Regular::trusted();
    // The client's edge, the server's, and in the middle of its half that turns back for three
    // packets.
    regular.run(15);
    let spin = Regular::level(regular.us, Remote);
    let turned = [!spin, !spin, !spin, spin, spin];
    for (us, spin) in (0..).step_by(100).zip(turned) {
        regular.send(regular.us + us, Remote, spin);
    }
    regular.us += 1000;
    regular.run(144);
    assert!(regular.rig.samples.len() >= 4);
    assert!(regular.rig.samples.iter().all(|s| s.2 == 10_000_000));
    assert_eq!(regular.rig.counters.get(Event::SpinUnanswering), 3);
}

#[test]
fn a_leg_shorter_than_the_spacing_is_left_out() {
    let path = Path {
        delay: [MS / 100, 15 * MS],
        ..GOOD
    };
    let rig = simulate(&path);
    assert_eq!(of(&rig, Leg::Near), []);
    let remote = of(&rig, Leg::Remote);
    assert!(remote.len() > 40, "{:?}", rig.events());
    assert!(
        remote
            .iter()
            .all(|ns| (30 * MS..=30 * MS + MS / 10).contains(ns))
    );
    assert!(rig.counters.get(Event::SpinSparse) > 40);
}

#[test]
fn loss_and_reordering_move_an_edge_by_packets_only() {
    for seed in 1..6 {
        for (lost, reordered) in [(0, 50), (0, 200), (100, 0), (100, 200)] {
            let path = Path {
                lost,
                reordered,
                seed,
                ..GOOD
            };
            // A late packet by three spacings at each of two edges, a lost one by one.
            let slack = 4 * path.spacing[0].max(path.spacing[1]);
            assert_true(&path, slack, 0.5);
        }
    }
}

#[test]
fn who_does_not_spin_gives_nothing() {
    let all = [Habit::Spins, Habit::Random, Habit::Constant];
    for client in all {
        for server in all {
            if client == Habit::Spins && server == Habit::Spins {
                continue;
            }
            for seed in 1..6 {
                let path = Path {
                    habits: [client, server],
                    reordered: 100,
                    seed,
                    ..GOOD
                };
                let rig = simulate(&path);
                assert_eq!(rig.samples, []);
            }
        }
    }
}

/// Random values at the pace of the round trip, where no hold-off helps, also of a client whose
/// server reflects them, so that every edge fits.
#[test]
fn random_values_of_few_packets_give_nothing() {
    for habits in [
        [Habit::Random; 2],
        [Habit::Random, Habit::Spins],
        [Habit::Spins, Habit::Random],
    ] {
        for spacing in [[20 * MS, 17 * MS], [50 * MS, 50 * MS], [60 * MS, 5 * MS]] {
            for seed in 0..100 {
                let path = Path {
                    habits,
                    spacing,
                    packets: 1000,
                    seed,
                    ..GOOD
                };
                assert_eq!(simulate(&path).samples, [], "{habits:?} {spacing:?} {seed}");
            }
        }
    }
}

#[test]
fn time_that_steps_back_gives_no_huge_sample() {
    let mut rig = Rig::new(40_000, 443);
    let mut payload = [0x40; 40];
    let mut at = 1_000_000_000_u64;
    for round in 0..400 {
        let level = round / 2 % 2 == 1;
        let sender = if round % 2 == 0 { Near } else { Remote };
        payload[0] = 0x40 | u8::from(level) << 5;
        for _ in 0..20 {
            rig.udp(at / 1000, sender, &payload);
            at += 500_000;
        }
        if round % 10 == 9 {
            at -= 40_000_000;
        }
    }
    assert!(rig.counters.get(Event::Backwards) > 0);
    assert!(rig.samples.iter().all(|s| s.2 < 1_000_000_000));
}
