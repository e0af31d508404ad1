//! Losses of one written place each: late, in the own socket, at the reflector's host, here.

use super::super::*;
use super::truth::lose;
use super::world::{MS, US, World, config, world};
use base::Counter;

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
