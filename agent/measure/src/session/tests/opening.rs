//! The search for the kind of reflector: pairs lost, delayed and doubled, targets that come
//! up later.

use base::Counter;
use base::EventKind;

use super::super::*;
use super::world::{MS, US, config, world};

#[test]
fn half_of_the_first_pair_lost_does_not_lose_the_directions() {
    // Nothing, the first copy, or the second is lost; on the way out or back; near and far.
    for round_trip in [400 * US, 60 * MS, 300 * MS] {
        for forward in [true, false] {
            for lost in [0, 1] {
                let config = Config {
                    wait_ns: 1_000 * MS,
                    ..config(200)
                };
                let mut world = world(config, false, 3);
                let delay = round_trip / 2;
                world.forward.script = Some(Box::new(move |packet| {
                    Some(if forward && packet.nth == lost {
                        vec![]
                    } else {
                        vec![delay]
                    })
                }));
                world.reverse.script = Some(Box::new(move |packet| {
                    Some(if !forward && packet.nth == lost {
                        vec![]
                    } else {
                        vec![delay]
                    })
                }));
                world.run();
                world.check_sums();
                assert!(
                    world.session.reflector() == Reflector::Stateful,
                    "{round_trip} {forward}"
                );
                assert_eq!(world.truth.opening_sent, 2);
            }
        }
    }
}

#[test]
fn the_search_survives_losses_on_a_long_path() {
    // Every second packet out is lost, so that each pair is halved, but for the fourth.
    let config = Config {
        wait_ns: 1_000 * MS,
        ..config(100)
    };
    let mut world = world(config, false, 3);
    world.forward.script = Some(Box::new(|packet| {
        Some(
            if !packet.counted && packet.nth < 6 && packet.nth % 2 == 0 {
                vec![]
            } else {
                vec![40 * MS]
            },
        )
    }));
    world.run();
    assert_eq!(world.session.reflector(), Reflector::Stateful);
    assert_eq!(world.truth.opening_sent, 4);
}

#[test]
fn copies_of_the_opening_replies_that_come_late_change_nothing() {
    let mut world = world(config(2_000), false, 3);
    world.forward.impairment.loss = 0.05;
    world.reverse.script = Some(Box::new(|packet| match packet.nth {
        0 | 1 => Some(vec![200 * US, 700 * MS]),
        _ => None,
    }));
    world.run();
    world.check_sums();
    let (forward, _) = world.truly_lost();
    assert_eq!((world.loss.forward, world.loss.reverse), (forward, 0));
    assert_eq!(world.count(Counter::ReflectorResets), 0);
}

#[test]
fn the_two_opening_replies_may_change_places() {
    let mut world = world(config(1_000), false, 3);
    world.reverse.script = Some(Box::new(|packet| match packet.nth {
        0 => Some(vec![900 * US]),
        // The later one comes first, and once more afterwards.
        1 => Some(vec![200 * US, 1_500 * US]),
        _ => None,
    }));
    world.run();
    world.check_sums();
    assert!(world.loss.directed || world.loss.lost == 0);
    assert_eq!(world.session.reflector(), Reflector::Stateful);
    assert_eq!(world.count(Counter::ReflectorResets), 0);
}

#[test]
fn a_target_that_comes_up_later_gets_its_directions() {
    // While the search still goes on, just as it ends, and long after.
    for private_tlv in [true, false] {
        for up_after in [100, 600, 670, 700, 720, 750, 780, 1_500] {
            let config = Config {
                opening_first: false,
                wait_ns: 200 * MS,
                ..config(4_000)
            };
            let mut world = world(config, private_tlv, 3);
            world.listening = false;
            world.at(up_after * MS, |world| world.listening = true);
            world.at(2_500 * MS, |world| {
                world.forward.impairment.loss = 0.05;
                world.reverse.impairment.loss = 0.05;
            });
            world.run();
            world.check_sums();
            let what = format!("{private_tlv}, up after {up_after} ms");
            let expected = if private_tlv {
                Reflector::Reporting
            } else {
                Reflector::Stateful
            };
            assert_eq!(world.session.reflector(), expected, "{what}");
            assert_eq!(world.happened(EventKind::TargetUp), 1, "{what}");
            assert!(!world.session.is_silent());
            let loss = world.loss;
            assert!(
                loss.directed && loss.forward > 30 && loss.reverse > 30,
                "{what} {loss:?}"
            );
            // Lost before anybody counted.
            assert!(
                loss.unattributed.abs_diff(up_after) < 60,
                "{what}: {}",
                loss.unattributed
            );
        }
    }
}

#[test]
fn a_target_that_never_answers_the_search_is_undirected_and_left_in_peace() {
    let mut world = world(
        Config {
            opening_first: false,
            ..config(20_000)
        },
        false,
        3,
    );
    world.forward.script = Some(Box::new(|packet| (!packet.counted).then(Vec::new)));
    world.run();
    world.check_sums();
    assert_eq!(world.session.reflector(), Reflector::Undirected);
    assert!(
        world.truth.opening_sent <= 15,
        "{}",
        world.truth.opening_sent
    );
}
