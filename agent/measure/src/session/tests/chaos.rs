//! Everything at once, at random: no sum may break.

use base::Counter;
use base::Quantity;
use wire::stamp::TimestampFormat;

use super::super::*;
use super::world::{Attempt, Impairment, MS, World, config, icmp_codec, stamp_codec};
use crate::random::Random;
use crate::reflector as logic;

fn chaos(seed: u64) -> World {
    let mut random = Random::new(seed ^ 0xc4a05);
    let count = 100 + random.below(400);
    let config = Config {
        poisson: random.chance(0.3),
        opening_first: random.chance(0.5),
        stamped: random.chance(0.9),
        wait_ns: MS * (2 + random.below(120)),
        interval_ns: 100_000 + random.below(3 * MS),
        first_sequence: if random.chance(0.3) { u32::MAX - 50 } else { 0 },
        clock: ClockTrust::Kernel,
        seed,
        ..config(count)
    };
    let reflector = logic::Config {
        private_tlv: random.chance(0.5),
        stateless: random.chance(0.2),
        rate: if random.chance(0.1) { 400 } else { 0 },
        seed,
        ..logic::Config::default()
    };
    let codec = if random.chance(0.15) {
        icmp_codec(random.chance(0.5))
    } else {
        Codec::Stamp(StampCodec {
            format: if random.chance(0.5) {
                TimestampFormat::Ntp
            } else {
                TimestampFormat::Ptp
            },
            ..stamp_codec(random.chance(0.8))
        })
    };
    let mut world = World::new(config, codec, reflector, seed);
    let mut impairment = || Impairment {
        loss: random.unit() * 0.3,
        duplicate: random.unit() * 0.2,
        reorder: random.unit() * 0.3,
        late: random.unit() * 0.1,
    };
    world.forward.impairment = impairment();
    world.reverse.impairment = impairment();
    world.stamps = random.chance(0.9);
    world.stamp_delay = random.below(2 * MS);
    world.listening = random.chance(0.9);
    let mut attempts = Random::new(seed + 1);
    world.attempt = Some(Box::new(move |_| match attempts.below(40) {
        0 => Attempt::StampLost,
        1 => Attempt::StampLostInOverflow,
        2 => Attempt::DroppedHere,
        3 => Attempt::Refused,
        4 => Attempt::Skipped,
        _ => Attempt::Sent,
    }));
    for _ in 0..random.below(6) {
        let at = random.below(600 * MS);
        let by = random.below(20_000 * MS).cast_signed() - 10_000_000_000;
        match random.below(8) {
            0 => world.at(at, move |world| world.step_clock(by)),
            1 => world.at(at, move |world| world.offset += by),
            2 => world.at(at, World::restart_reflector),
            3 => world.at(at, |world| world.listening = !world.listening),
            4 => world.at(at, |world| {
                world.emit(|session, mut out| session.overflowed(3, &mut out));
            }),
            5 => world.at(at, |world| world.session.finish()),
            6 => world.at(at, |world| world.now += 1_500 * MS),
            _ => world.at(at, move |world| {
                let mut junk = vec![0u8; 90];
                for octet in &mut junk {
                    *octet = world.random.below(256) as u8;
                }
                // Numbers near ours.
                junk[24..27].fill(0);
                assert!(!world.datagram(&junk));
            }),
        }
    }
    world.run();
    world.deliver_the_rest();
    world
}

#[test]
fn every_probe_has_one_verdict_whatever_happens() {
    let (mut lost, mut late, mut resets, mut discarded) = (0, 0, 0, 0);
    for seed in 0..1_500 {
        let world = chaos(seed);
        world.check_sums();
        let sent = world.count(Counter::Sent);
        let asked = world.session.config().count.expect("a count");
        assert!(sent + world.count(Counter::SendErrors) + world.count(Counter::Skipped) <= asked);
        assert!(world.count(Counter::Late) <= world.count(Counter::Lost));
        for quantity in [
            Quantity::Rtt,
            Quantity::RoundTrip,
            Quantity::Dwell,
            Quantity::ForwardPdv,
        ] {
            assert!(
                world.sampled(quantity).iter().all(|value| *value >= 0),
                "{seed}"
            );
        }
        for result in &world.results {
            assert!(world.counted.contains(&result.sequence));
        }
        lost += world.count(Counter::Lost);
        late += world.count(Counter::Late);
        resets += world.count(Counter::ReflectorResets);
        discarded += world.discarded();
    }
    // The chaos does happen.
    assert!(lost > 10_000 && late > 1_000 && resets > 50 && discarded > 5_000);
}
