//! Loss, duplicates and reordering by direction.

use base::EventKind;

use super::super::*;
use super::world::{Impairment, MS, US, World, config, reordered, world};

fn impaired(seed: u64, config: Config, private_tlv: bool) -> World {
    let mut world = world(config, private_tlv, seed);
    world.forward.impairment = Impairment {
        loss: 0.05,
        duplicate: 0.01,
        reorder: 0.01,
        late: 0.0,
    };
    world.reverse.impairment = Impairment {
        loss: 0.02,
        duplicate: 0.01,
        reorder: 0.01,
        late: 0.0,
    };
    world.run();
    world
}

fn check_reordering(world: &World) {
    let truth = &world.truth;
    let mut arrivals: Vec<(u64, u32)> = truth
        .arrivals
        .iter()
        .filter(|(number, _)| truth.delivered.contains(number))
        .copied()
        .collect();
    arrivals.sort_unstable();
    let first = world.session.config().first_sequence;
    let probe = |sender: u32| u64::from(sender.wrapping_sub(first));
    let forward = reordered(arrivals.into_iter().map(|(_, sender)| probe(sender)));
    assert_eq!(world.count(Counter::ReorderedForward), forward);
    let replies = truth.reply_order.iter().map(|(number, _)| *number);
    assert_eq!(world.count(Counter::ReorderedReverse), reordered(replies));
}

fn check_exact(world: &World, seed: u64) {
    world.check_sums();
    let (forward, reverse) = world.truly_lost();
    let loss = world.loss;
    assert!(loss.directed);
    assert_eq!(
        (loss.forward, loss.reverse, loss.unattributed),
        (forward, reverse, 0),
        "{seed}"
    );
    assert_eq!(
        world.count(Counter::DuplicatesForward),
        world.truth.forward_duplicates,
        "{seed}"
    );
    assert_eq!(
        world.count(Counter::DuplicatesReverse),
        world.truth.reverse_duplicates,
        "{seed}"
    );
    check_reordering(world);
}

#[test]
fn with_our_reflector_every_direction_is_exact() {
    for seed in 1..=40 {
        let world = impaired(seed, config(10_000), true);
        let (forward, reverse) = world.truly_lost();
        assert!(
            forward > 400 && reverse > 100,
            "the path does lose: {forward} {reverse}"
        );
        check_exact(&world, seed);
    }
}

#[test]
fn it_stays_exact_where_the_number_wraps_and_with_poisson() {
    for seed in 1..=20 {
        for (before, poisson) in [(0, false), (500, false), (1_500, true)] {
            let config = Config {
                first_sequence: u32::MAX - before,
                poisson,
                seed,
                ..config(2_000)
            };
            let world = impaired(seed, config, true);
            assert!(world.counted.contains(&u32::MAX) || before == 0);
            assert!(world.counted.contains(&5), "it did wrap");
            check_exact(&world, seed);
        }
    }
}

#[test]
fn with_a_plain_reflector_directions_are_exact_but_for_hidden_duplicates() {
    const SEEDS: u64 = 100;
    let mut within = 0;
    for seed in 1..=SEEDS {
        let world = impaired(seed, config(10_000), false);
        world.check_sums();
        let (forward, reverse) = world.truly_lost();
        let loss = world.loss;
        assert!(loss.directed);
        assert_eq!(loss.lost, forward + reverse, "total loss is exact");
        let bound = world.hidden_duplicates() + world.truth.closing_unanswered;
        let distance = loss.forward.abs_diff(forward);
        let holds = distance <= loss.unattributed && loss.unattributed <= bound;
        within += u64::from(holds);
        if !holds {
            println!(
                "{seed}: off by {distance}, unattributed {}, bound {bound}",
                loss.unattributed
            );
        }
        check_reordering(&world);
    }
    // No algorithm is exact here: a hidden duplicate right beside a forward loss looks like a
    // reverse loss. Over seeds 1001..=2000 it holds for 946 of 1000.
    println!("{within} of {SEEDS}");
    assert!(within >= SEEDS * 9 / 10);
}

#[test]
fn with_a_plain_reflector_and_no_duplicates_all_is_exact_but_the_tail() {
    for seed in 1..=30 {
        let first_sequence = if seed % 2 == 0 { u32::MAX - 1_000 } else { 0 };
        let config = Config {
            first_sequence,
            ..config(3_000)
        };
        let mut world = world(config, false, seed);
        world.forward.impairment.loss = 0.05;
        world.reverse.impairment.loss = 0.03;
        world.run();
        world.check_sums();
        let (forward, reverse) = world.truly_lost();
        assert!(world.loss.directed && forward > 50 && reverse > 30);
        assert!(
            world.loss.unattributed <= world.truth.closing_unanswered,
            "{seed}"
        );
        if world.truth.closing_unanswered == 0 {
            assert_eq!(
                (world.loss.forward, world.loss.reverse),
                (forward, reverse),
                "{seed}"
            );
        }
        assert_eq!(world.count(Counter::DuplicatesForward), 0);
        assert_eq!(world.count(Counter::ReflectorResets), 0);
    }
}

/// Loses what the list of (first, past the last) probes says, by nth counted packet.
fn lose(ranges: &'static [(u32, u32)]) -> super::world::Script {
    Box::new(move |packet| {
        let hit = |(from, to): &(u32, u32)| (*from..*to).contains(&packet.sequence);
        (packet.counted && ranges.iter().any(hit)).then(Vec::new)
    })
}

#[test]
fn a_reflector_that_restarts_is_recognised_and_loses_no_direction_later() {
    // Lost: 30 long before the restart (10 forward, 20 reverse), 7 around it, and 25 + 15
    // long after it.
    for private_tlv in [true, false] {
        for (offset, name) in [
            (0, "same clock"),
            (-3_600_000_000_000, "clock an hour back"),
        ] {
            let mut world = world(config(6_000), private_tlv, 3);
            world.forward.script = Some(lose(&[(100, 110), (1_980, 1_983), (5_000, 5_025)]));
            world.reverse.script = Some(lose(&[(200, 220), (1_990, 1_994), (5_100, 5_115)]));
            world.at(2_000 * MS, move |world| {
                world.restart_reflector();
                world.offset = offset;
            });
            world.run();
            world.check_sums();
            let what = format!("tlv {private_tlv}, {name}");
            assert_eq!(world.count(Counter::ReflectorResets), 1, "{what}");
            assert_eq!(world.happened(EventKind::ReflectorReset), 1, "{what}");
            let loss = world.loss;
            assert_eq!(world.truly_lost(), (38, 39), "{what}");
            assert_eq!(loss.lost, 77);
            assert!(loss.directed);
            assert_eq!((loss.forward, loss.reverse), (35, 35), "{what}");
            assert_eq!(loss.unattributed, 7, "{what}");
        }
    }
}

#[test]
fn a_reflector_that_restarts_twice_and_soon_after_the_start() {
    for private_tlv in [true, false] {
        for seed in 1..=20 {
            let mut world = world(config(3_000), private_tlv, seed);
            world.forward.impairment.loss = 0.05;
            world.reverse.impairment.loss = 0.05;
            world.at((20 + seed) * MS, World::restart_reflector);
            world.at(1_500 * MS, World::restart_reflector);
            world.run();
            world.check_sums();
            let (forward, reverse) = world.truly_lost();
            let loss = world.loss;
            assert!(world.count(Counter::ReflectorResets) >= 1);
            assert!(
                world.count(Counter::ReflectorResets) <= 2,
                "tlv {private_tlv}, {seed}"
            );
            assert!(loss.forward <= forward + loss.unattributed, "{seed}");
            assert!(loss.reverse <= reverse + loss.unattributed, "{seed}");
            assert!(loss.unattributed < 100, "{}", loss.unattributed);
        }
    }
}

#[test]
fn late_answers_did_reach_the_reflector() {
    // 40 replies come after their wait, 10 probes never arrive.
    for private_tlv in [true, false] {
        let mut world = world(config(2_000), private_tlv, 3);
        world.forward.script = Some(lose(&[(100, 110)]));
        world.reverse.script = Some(Box::new(|packet| {
            (packet.counted && (500..540).contains(&packet.sequence)).then(|| vec![130 * MS])
        }));
        world.run();
        world.check_sums();
        let loss = world.loss;
        assert_eq!(world.count(Counter::Late), 40);
        assert_eq!((loss.lost, loss.forward), (50, 10), "tlv {private_tlv}");
        assert_eq!(loss.reverse, 40, "tlv {private_tlv}");
    }
}

#[test]
fn a_report_that_comes_back_twice_and_late_changes_nothing() {
    for seed in 1..=10 {
        let mut world = world(config(5_000), true, seed);
        world.forward.impairment.loss = 0.03;
        world.forward.impairment.duplicate = 0.02;
        world.forward.impairment.reorder = 0.02;
        // Every tenth reply again after 1.4 s, so each report too comes back when a newer
        // one has been taken.
        world.reverse.script = Some(Box::new(|packet| {
            packet.counted.then(|| vec![200 * US, 1_400 * MS])
        }));
        world.run();
        world.check_sums();
        let (forward, reverse) = world.truly_lost();
        assert_eq!(reverse, 0);
        assert_eq!(
            (world.loss.forward, world.loss.unattributed),
            (forward, 0),
            "{seed}"
        );
        assert_eq!(
            world.count(Counter::DuplicatesForward),
            world.truth.forward_duplicates,
            "{seed}"
        );
    }
}

#[test]
fn what_our_own_socket_dropped_is_local_and_not_reverse() {
    for private_tlv in [true, false] {
        let mut world = world(config(2_000), private_tlv, 3);
        world.forward.script = Some(lose(&[(100, 110)]));
        world.reverse.script = Some(lose(&[(600, 630)]));
        // The kernel says that 25 of them reached our socket.
        world.at(800 * MS, |world| {
            world.emit(|session, mut out| session.overflowed(25, &mut out));
        });
        world.run();
        world.check_sums();
        let loss = world.loss;
        assert_eq!(world.count(Counter::ReceiveOverflows), 25);
        assert_eq!(
            (loss.local, loss.forward, loss.reverse, loss.unattributed),
            (25, 10, 5, 0),
            "tlv {private_tlv}"
        );
    }
}

#[test]
fn what_the_reflectors_host_dropped_is_no_loss_of_the_path() {
    let mut world = world(config(3_000), true, 3);
    world.forward.script = Some(lose(&[(100, 110), (600, 630)]));
    // The second stretch was the reflector's socket, it says.
    world.at(700 * MS, |world| world.overflow = 30);
    world.run();
    world.check_sums();
    let loss = world.loss;
    assert_eq!(world.count(Counter::ReflectorOverflows), 30);
    assert_eq!((loss.forward, loss.reverse, loss.unattributed), (10, 0, 30));
}

#[test]
fn the_reflectors_rate_limit_is_no_loss_of_the_path() {
    let reflector = crate::reflector::Config {
        rate: 500,
        ..crate::reflector::Config::default()
    };
    let codec = Codec::Stamp(super::world::stamp_codec(true));
    let mut world = World::new(config(4_000), codec, reflector, 3);
    world.run();
    world.check_sums();
    let loss = world.loss;
    assert!((1_800..2_100).contains(&loss.lost), "{}", loss.lost);
    assert_eq!((loss.forward, loss.reverse), (0, 0));
    assert!(world.count(Counter::ReflectorRateLimited) >= loss.lost);
}

#[test]
fn what_never_left_this_host_is_local_in_every_mode() {
    for private_tlv in [true, false] {
        let mut world = world(config(2_000), private_tlv, 3);
        world.forward.script = Some(lose(&[(100, 110)]));
        world.reverse.script = Some(lose(&[(200, 220)]));
        world.attempt = Some(Box::new(|transmit| {
            if transmit.kind.is_counted() && (300..307).contains(&transmit.sequence) {
                super::world::Attempt::DroppedHere
            } else {
                super::world::Attempt::Sent
            }
        }));
        world.run();
        world.check_sums();
        let loss = world.loss;
        assert_eq!(
            (loss.local, loss.forward, loss.reverse, loss.unattributed),
            (7, 10, 20, 0),
            "tlv {private_tlv}"
        );
    }
}
