//! Kinds of reflectors: ours, plain, stateless, silent, TWAMP Light, ICMP.

use base::{Counter, EventKind, Gauge, Quantity};

use super::super::*;
use super::world::{MS, World, config, icmp_codec, stamp_codec, world};
use crate::reflector as logic;

fn stateless(count: u64, seed: u64) -> World {
    let reflector = logic::Config {
        stateless: true,
        private_tlv: false,
        ..logic::Config::default()
    };
    World::new(
        config(count),
        Codec::Stamp(stamp_codec(true)),
        reflector,
        seed,
    )
}

#[test]
fn a_stateless_reflector_gives_no_directions_and_takes_two_pairs_to_tell() {
    let mut world = stateless(2_000, 3);
    world.run_until(super::world::START + 50 * MS);
    assert_eq!(world.session.reflector(), Reflector::Undirected);
    assert_eq!(world.truth.opening_sent, 2);
    world.forward.impairment.loss = 0.05;
    world.reverse.impairment.loss = 0.05;
    world.run();
    world.check_sums();
    let loss = world.loss;
    assert!(loss.lost > 100 && !loss.directed);
    assert_eq!(
        (loss.forward, loss.reverse, loss.unattributed),
        (0, 0, loss.lost)
    );
    assert_eq!(world.count(Counter::ReflectorResets), 0);
    assert_eq!(world.truth.closing_sent, 0, "nothing to settle");
}

#[test]
fn a_stateless_reflector_of_ours_is_no_different() {
    let reflector = logic::Config {
        stateless: true,
        ..logic::Config::default()
    };
    let codec = Codec::Stamp(stamp_codec(true));
    let mut world = World::new(config(1_000), codec, reflector, 3);
    world.forward.impairment.duplicate = 0.1;
    world.run();
    world.check_sums();
    let doubled = world.truth.forward_duplicates;
    let (forward, reverse) = (
        world.count(Counter::DuplicatesForward),
        world.count(Counter::DuplicatesReverse),
    );
    assert_eq!(forward + reverse, doubled, "each is counted once");
}

#[test]
fn a_silent_target_is_a_result() {
    for opening_first in [true, false] {
        let config = Config {
            opening_first,
            ..config(1_500)
        };
        let mut world = world(config, true, 3);
        world.listening = false;
        assert!(!world.session.is_silent());
        world.run();
        world.check_sums();
        assert!(world.session.is_silent());
        assert_eq!(world.count(Counter::Lost), 1_500);
        assert_eq!(world.count(Counter::Uncounted), u64::from(SILENT_ATTEMPTS));
        assert_eq!(
            (world.loss.unattributed, world.loss.directed),
            (1_500, false)
        );
        assert_eq!(world.truth.closing_sent, 0, "nothing ever answered");
        assert_eq!(world.happened(EventKind::TargetDown), 1);
        assert_eq!(world.happened(EventKind::TargetUp), 0);
        assert_eq!(world.gauges.get(&Gauge::Up), Some(&0.0));
    }
}

#[test]
fn targets_come_and_go_and_say_so() {
    let mut world = world(config(5_000), true, 3);
    world.at(1_000 * MS, |world| world.listening = false);
    world.at(2_000 * MS, |world| world.listening = true);
    world.at(3_000 * MS, |world| world.listening = false);
    world.at(4_000 * MS, |world| world.listening = true);
    world.run();
    world.check_sums();
    let ups: Vec<_> = world
        .events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::TargetUp | EventKind::TargetDown))
        .map(|event| (event.kind == EventKind::TargetUp, event.old, event.new))
        .collect();
    let (up, down) = ((true, 0, 1), (false, 1, 0));
    assert_eq!(ups, [up, down, up, down, up]);
    assert_eq!(world.gauges.get(&Gauge::Up), Some(&1.0));
    assert_eq!(world.count(Counter::Outages), 2);
    let longest = world.gauges[&Gauge::LongestOutage] / 1e6;
    assert!((999.0..1_001.5).contains(&longest), "{longest} ms");
    let (forward, reverse) = world.truly_lost();
    assert_eq!((world.loss.forward, world.loss.reverse), (forward, reverse));
}

#[test]
fn replies_of_41_octets_are_taken() {
    // A TWAMP Light reflector (RFC 5357 section 4.2.1): 41 octets, no SSID.
    let mut world = world(config(300), false, 3);
    world.mangle = Some(Box::new(|reply| {
        (reply[14], reply[15]) = (0, 0);
        reply.truncate(41);
    }));
    world.reverse.impairment.loss = 0.1;
    world.run();
    world.check_sums();
    let (_, reverse) = world.truly_lost();
    assert_eq!(world.session.reflector(), Reflector::Stateful);
    assert_eq!(world.count(Counter::Received), 300 - reverse);
    assert!(reverse > 10);
    assert_eq!(world.count(Counter::ResizedReplies), world.replies_seen);
    assert_eq!(world.count(Counter::MalformedReplies), 0);
}

#[test]
fn shorter_ones_are_malformed() {
    let mut world = world(config(30), false, 3);
    world.mangle = Some(Box::new(|reply| reply.truncate(40)));
    world.reverse.script = Some(Box::new(|_| None));
    // The world itself reads octets up to 44, so hand these in directly.
    world.listening = false;
    world.at(20 * MS, |world| {
        for len in [0, 1, 13, 40] {
            assert!(!world.datagram(&vec![0; len]));
        }
    });
    world.run();
    assert_eq!(world.count(Counter::MalformedReplies), 4);
    assert_eq!(world.count(Counter::Lost), 30);
}

#[test]
fn icmp_echo_has_round_trips_and_no_directions() {
    for v6 in [false, true] {
        let mut world = World::new(config(2_000), icmp_codec(v6), logic::Config::default(), 3);
        world.forward.impairment.loss = 0.05;
        world.reverse.impairment.duplicate = 0.02;
        world.run();
        world.check_sums();
        let (forward, reverse) = world.truly_lost();
        assert!(forward > 50 && reverse == 0);
        let loss = world.loss;
        assert_eq!(
            (loss.lost, loss.unattributed, loss.directed),
            (forward, forward, false)
        );
        assert!(!world.session.is_silent());
        assert_eq!(world.count(Counter::Uncounted), 0, "no opening, no closing");
        assert_eq!(world.count(Counter::ResizedReplies), 0);
        let doubled = world.truth.reply_order.len() as u64 - world.count(Counter::Received);
        assert_eq!(world.count(Counter::DuplicatesReverse), doubled);
        for quantity in [
            Quantity::Dwell,
            Quantity::ForwardDelay,
            Quantity::ReverseIpdv,
        ] {
            assert!(world.sampled(quantity).is_empty(), "{quantity:?}");
        }
        assert_eq!(
            world.sampled(Quantity::Rtt),
            world.sampled(Quantity::RoundTrip)
        );
        assert!(!world.gauges.contains_key(&Gauge::HopsForward));
        assert_eq!(world.gauges.get(&Gauge::HopsReverse), Some(&3.0));
    }
}

#[test]
fn icmp_of_other_processes_is_not_counted_at_all() {
    let mut world = World::new(config(5), icmp_codec(false), logic::Config::default(), 3);
    world.run_until(super::world::START + 3 * MS);
    // An echo reply of another ping: 64 octets, right checksum, no magic of ours.
    let mut other = vec![0u8; 64];
    (other[2], other[3]) = (0xff, 0xff);
    assert!(!world.datagram(&other));
    // Ours by form, but of another run: the nonce differs.
    let mut buf = [0; MAX_PAYLOAD];
    let codec = Codec::Icmp(IcmpCodec {
        v6: true,
        ident: 99,
        nonce: 1,
        payload: None,
    });
    let (len, _) = codec.emit(&mut buf, 0, Marking::Plain, world.wall(), world.clock);
    assert!(!world.datagram(&buf[..len]), "a request is no reply");
    world.run();
    assert_eq!(world.count(Counter::StrayReplies), 0);
    assert_eq!(world.count(Counter::Received), 5);
}

#[test]
fn the_hops_come_from_the_ttls_and_a_change_is_an_event() {
    let mut world = world(config(300), true, 3);
    world.at(100 * MS, |world| world.request_ttl = 250);
    world.at(200 * MS, |world| world.reply_ttl = 62);
    world.run();
    assert_eq!(world.gauges[&Gauge::HopsForward], 5.0);
    assert_eq!(world.gauges[&Gauge::HopsReverse], 2.0, "64 - 62");
    let hops: Vec<_> = world
        .events
        .iter()
        .filter(|event| event.kind != EventKind::TargetUp)
        .map(|event| (event.kind, event.old, event.new))
        .collect();
    assert_eq!(
        hops,
        [
            (EventKind::HopsForwardChanged, 2, 5),
            (EventKind::HopsReverseChanged, 3, 2)
        ]
    );
}
