//! Reflectors that count anew, and numbers that wrap.

use base::Counter;
use base::EventKind;

use super::truth::lose;
use super::world::{MS, World, config, world};

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
fn on_a_long_path_too_whatever_the_clock_says() {
    // Sixty probes are in flight when the reflector restarts.
    for offset in [0, -3_600_000_000_000, 3_600_000_000_000] {
        for private_tlv in [true, false] {
            let mut world = world(config(6_000), private_tlv, 3);
            let far = |lost: &'static [(u32, u32)]| -> super::world::Script {
                let mut script = lose(lost);
                Box::new(move |packet| script(packet).or(Some(vec![30 * MS])))
            };
            world.forward.script = Some(far(&[(100, 110), (5_000, 5_025)]));
            world.reverse.script = Some(far(&[(200, 220), (5_100, 5_115)]));
            world.at(2_000 * MS, move |world| {
                world.restart_reflector();
                world.offset = offset;
            });
            world.run();
            world.check_sums();
            let what = format!("tlv {private_tlv}, clock by {offset}");
            assert_eq!(world.count(Counter::ReflectorResets), 1, "{what}");
            let loss = world.loss;
            assert_eq!((loss.forward, loss.reverse), (35, 35), "{what}");
            assert_eq!(loss.unattributed, 0, "{what}");
        }
    }
}

#[test]
fn the_reflectors_own_number_may_wrap() {
    for before in [1u32, 2, 3, 400] {
        let mut world = world(config(1_500), false, u64::from(before));
        world.forward.impairment.loss = 0.05;
        world.reverse.impairment.loss = 0.05;
        world.mangle = Some(Box::new(move |reply| {
            let number = u32::from_be_bytes([reply[0], reply[1], reply[2], reply[3]]);
            reply[..4].copy_from_slice(&number.wrapping_sub(before).to_be_bytes());
        }));
        world.run();
        world.check_sums();
        assert_eq!(world.count(Counter::ReflectorResets), 0);
        let (forward, reverse) = world.truly_lost();
        let loss = world.loss;
        assert!(loss.directed && forward > 30 && reverse > 30);
        assert!(loss.unattributed <= world.truth.closing_unanswered);
        assert!(loss.forward.abs_diff(forward) <= loss.unattributed);
    }
}

#[test]
fn numbers_out_of_step_with_the_reflectors_clock_are_no_restart() {
    // Replies change places on the way back while the reflector's clock is set back; and a
    // reflector with several threads numbers replies in another order than it stamps requests.
    for threads in [false, true] {
        for seed in 1..=10 {
            let mut world = world(config(3_000), false, seed);
            world.forward.impairment.loss = 0.03;
            world.reverse.impairment.reorder = 0.3;
            for step in 1..25 {
                world.at(step * 100 * MS, |world| world.offset -= 1_000_000_000);
            }
            if threads {
                let mut random = crate::random::Random::new(seed);
                world.mangle = Some(Box::new(move |reply| {
                    // T2 and T3 up to 2^-8 s later.
                    let late = random.below(1 << 24);
                    for at in [4, 16] {
                        let t = u64::from_be_bytes(reply[at..at + 8].try_into().expect("8"));
                        reply[at..at + 8].copy_from_slice(&(t + late).to_be_bytes());
                    }
                }));
            }
            world.run();
            world.check_sums();
            assert_eq!(world.count(Counter::ReflectorResets), 0, "{threads} {seed}");
            let (forward, reverse) = world.truly_lost();
            assert_eq!((world.loss.forward, world.loss.reverse), (forward, reverse));
        }
    }
}
