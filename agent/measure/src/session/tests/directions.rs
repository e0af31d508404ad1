//! Loss, duplicates and reordering by direction.

use super::super::*;
use super::truth::reordered;
use super::world::{Attempt, Impairment, World, config, world};
use crate::random::Random;
use base::Counter;

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

#[test]
fn with_our_reflector_it_stays_exact_among_late_replies_and_local_trouble() {
    for seed in 1..=60 {
        let config = Config {
            poisson: seed % 2 == 0,
            first_sequence: if seed % 3 == 0 { u32::MAX - 900 } else { 0 },
            seed,
            ..config(3_000)
        };
        let mut world = world(config, true, seed);
        world.forward.impairment = Impairment {
            loss: 0.04,
            duplicate: 0.02,
            reorder: 0.05,
            late: 0.0,
        };
        world.reverse.impairment = Impairment {
            late: 0.03,
            ..world.forward.impairment
        };
        world.stamp_delay = 300_000;
        let mut random = Random::new(seed);
        world.attempt = Some(Box::new(move |transmit| {
            if !transmit.kind.is_counted() {
                return Attempt::Sent;
            }
            match random.below(1_500) {
                0..30 => Attempt::DroppedHere,
                30 => Attempt::StampLostInOverflow,
                31..60 => Attempt::Refused,
                60..90 => Attempt::Skipped,
                _ => Attempt::Sent,
            }
        }));
        world.run();
        world.check_sums();
        let (forward, _) = world.truly_lost();
        let doubtful = world.dropped_here.len() as u64 - world.loss.local;
        let loss = world.loss;
        assert!(world.count(Counter::Late) > 10 && loss.local > 20);
        // Dropped here while stamps were doubtful cannot be told from dropped on the way out.
        assert_eq!(loss.forward, forward + doubtful, "{seed}");
        assert_eq!(loss.unattributed, 0, "{seed}");
        assert_eq!(
            world.count(Counter::DuplicatesForward),
            world.truth.forward_duplicates
        );
    }
}
