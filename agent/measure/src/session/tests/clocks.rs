//! Stamps and what is computed from them, held to the simulated truth.

use base::{Counter, EventKind, Gauge, Quantity};

use super::super::*;
use super::world::{EPOCH, MS, US, World, config, stamp_codec, world};
use crate::reflector as logic;
use crate::variation::EVALUATION_PACKETS;

#[test]
fn impossible_stamps_are_discarded_with_their_reason_and_break_pairs() {
    let mut world = world(config(400), true, 3);
    let back = |reply: &mut Vec<u8>, whole: u32, ntp_fraction: u32| {
        // T2 := T3 + whole seconds + fraction.
        let t3 = u64::from_be_bytes(reply[4..12].try_into().expect("eight"));
        let t2 = t3.wrapping_add((u64::from(whole) << 32) + u64::from(ntp_fraction));
        reply[16..24].copy_from_slice(&t2.to_be_bytes());
    };
    world.mangle = Some(Box::new(move |reply| {
        let sender = u32::from_be_bytes([reply[24], reply[25], reply[26], reply[27]]);
        match sender {
            // T2 a microsecond after T3.
            100..105 => back(reply, 0, 4_295),
            // T2 ten seconds before T3.
            200 => back(reply, u32::MAX - 9, 0),
            _ => {}
        }
    }));
    world.run();
    world.check_sums();
    assert_eq!(world.count(Counter::DiscardedNegativeDwell), 5);
    assert_eq!(world.count(Counter::DiscardedExcessiveDwell), 1);
    assert_eq!(world.count(Counter::Lost), 0);
    // 394 measured in three stretches, so three short of one pair each.
    assert_eq!(world.sampled(Quantity::ForwardIpdv).len(), 391);
    assert_eq!(world.sampled(Quantity::ReverseIpdv).len(), 391);
    assert_eq!(world.count(Counter::ReflectorResets), 0);
}

#[test]
fn a_clock_step_discards_what_is_in_flight_and_nothing_more() {
    for by in [-7_000_000_000, 7_000_000_000i64] {
        let mut world = world(config(300), true, 3);
        world.forward.script = Some(Box::new(|_| Some(vec![5 * MS])));
        world.reverse.script = Some(Box::new(|_| Some(vec![5 * MS])));
        world.at(100 * MS, move |world| world.step_clock(by));
        world.run();
        world.check_sums();
        let stepped = world.count(Counter::DiscardedClockStep);
        assert!(
            (10..=11).contains(&stepped),
            "10 ms in flight at 1 ms: {stepped}"
        );
        assert_eq!(world.count(Counter::Received), 300 - stepped);
        assert_eq!(world.count(Counter::Lost), 0);
        assert_eq!(world.discarded(), stepped);
        // No pair spans the step.
        let pairs = world.sampled(Quantity::ForwardIpdv);
        assert_eq!(pairs.len() as u64, 300 - stepped - 2);
        assert!(pairs.iter().all(|pair| pair.abs() < MS as i64));
        let pdv = world.sampled(Quantity::ForwardPdv);
        assert!(pdv.iter().all(|value| (0..MS as i64).contains(value)));
        assert!(world.gauges[&Gauge::JitterForward] < 1e6);
    }
}

#[test]
fn a_reflectors_clock_step_is_no_restart_and_no_loss() {
    for by in [-3_600_000_000_000, 3_600_000_000_000i64] {
        for private_tlv in [true, false] {
            let mut world = world(config(2_000), private_tlv, 3);
            world.forward.impairment.loss = 0.05;
            world.at(700 * MS, move |world| world.offset = by);
            world.run();
            world.check_sums();
            assert_eq!(
                world.count(Counter::ReflectorResets),
                0,
                "{by} {private_tlv}"
            );
            let (forward, reverse) = world.truly_lost();
            assert_eq!((world.loss.forward, world.loss.reverse), (forward, reverse));
        }
    }
}

/// Delays by probe from the truth, of those whose first reply came.
fn truth(world: &World) -> Vec<(u32, [i64; 4])> {
    let mut list: Vec<(u32, [i64; 4])> = world
        .counted
        .iter()
        .filter_map(|probe| {
            let t4 = *world.truth.t4.get(probe)?;
            let (t2, t3) = world.truth.reflected[probe];
            let t1 = world.truth.t1[probe];
            Some((*probe, [t1, t2, t3, t4].map(u64::cast_signed)))
        })
        .collect();
    list.sort_unstable();
    list
}

fn sorted(values: &[i64]) -> Vec<i64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values
}

fn close(measured: &[i64], expected: &[i64], tolerance: i64, what: &str) {
    let (measured, expected) = (sorted(measured), sorted(expected));
    assert_eq!(measured.len(), expected.len(), "{what}");
    for (one, other) in measured.iter().zip(&expected) {
        assert!(
            (one - other).abs() <= tolerance,
            "{what}: {one} for {other}"
        );
    }
}

#[test]
fn every_distribution_is_what_the_path_really_did() {
    for (offset, format) in [
        (0, wire::stamp::TimestampFormat::Ntp),
        (123_456_789, wire::stamp::TimestampFormat::Ptp),
        (-5_000_000_000, wire::stamp::TimestampFormat::Ntp),
    ] {
        let codec = StampCodec {
            format,
            ..stamp_codec(true)
        };
        let mut world = World::new(
            config(1_050),
            Codec::Stamp(codec),
            logic::Config::default(),
            3,
        );
        world.offset = offset;
        // Losses, and delays that spread, but never so far that probes overtake.
        world.forward.impairment.loss = 0.05;
        let mut random = crate::random::Random::new(9);
        world.reverse.script = Some(Box::new(move |_| {
            Some(if random.chance(0.03) {
                vec![]
            } else {
                vec![MS + random.below(500 * US)]
            })
        }));
        world.run();
        world.check_sums();
        let list = truth(&world);
        let of = |f: &dyn Fn(&[i64; 4]) -> i64| list.iter().map(|(_, t)| f(t)).collect::<Vec<_>>();
        let (forward, reverse) = (|t: &[i64; 4]| t[1] - t[0], |t: &[i64; 4]| t[3] - t[2]);
        let response = |(probe, t): &(u32, [i64; 4])| {
            t[3] - (EPOCH + world.truth.intended[probe]).cast_signed()
        };
        let pairs = |f: &dyn Fn(&[i64; 4]) -> i64| -> Vec<i64> {
            list.windows(2)
                .filter(|pair| pair[1].0 == pair[0].0 + 1)
                .map(|pair| f(&pair[1].1) - f(&pair[0].1))
                .collect()
        };
        let pdv = |f: &dyn Fn(&[i64; 4]) -> i64| -> Vec<i64> {
            of(f)
                .chunks(EVALUATION_PACKETS)
                .filter(|chunk| chunk.len() > 1)
                .flat_map(|chunk| {
                    let min = chunk.iter().min().copied().unwrap_or(0);
                    chunk.iter().map(move |value| value - min)
                })
                .collect()
        };
        // NTP's fractions round to less than a nanosecond each.
        for (quantity, tolerance, expected) in [
            (Quantity::Rtt, 1, of(&|t| t[3] - t[0] - (t[2] - t[1]))),
            (Quantity::RoundTrip, 0, of(&|t| t[3] - t[0])),
            (Quantity::Dwell, 1, of(&|t| t[2] - t[1])),
            (Quantity::Response, 0, list.iter().map(response).collect()),
            (Quantity::ForwardDelay, 1, of(&forward)),
            (Quantity::ReverseDelay, 1, of(&reverse)),
            (Quantity::ForwardIpdv, 2, pairs(&forward)),
            (Quantity::ReverseIpdv, 2, pairs(&reverse)),
        ] {
            close(
                world.sampled(quantity),
                &expected,
                tolerance,
                quantity.as_str(),
            );
        }
        for (quantity, expected) in [
            (Quantity::ForwardPdv, pdv(&forward)),
            (Quantity::ReversePdv, pdv(&reverse)),
        ] {
            close(world.sampled(quantity), &expected, 2, quantity.as_str());
        }
        let jitter = |f: &dyn Fn(&[i64; 4]) -> i64| -> f64 {
            of(f).windows(2).fold(0.0, |j, pair| {
                j + (((pair[1] - pair[0]).abs() as f64) - j) / 16.0
            })
        };
        let near = |gauge, expected: f64| {
            let shown = world.gauges[&gauge];
            assert!(
                (shown - expected).abs() < 5.0,
                "{gauge:?}: {shown} for {expected}"
            );
        };
        near(Gauge::JitterForward, jitter(&forward));
        near(Gauge::JitterReverse, jitter(&reverse));
        assert_eq!(world.gauges[&Gauge::ClockError], 1_000.0);
    }
}

#[test]
fn one_way_delays_are_published_only_with_clocks_that_agree() {
    for (ours, theirs) in [(false, false), (true, false), (false, true), (true, true)] {
        let config = Config {
            clock: ClockTrust::Kernel,
            ..config(100)
        };
        let mut world = world(config, true, 3);
        world.clock = base::ClockState {
            synchronised: ours,
            error_ns: 5_000,
            tai_offset_s: 0,
        };
        world.reflector_synchronised = theirs;
        world.run();
        let known = ours && theirs;
        let delays = world.sampled(Quantity::ForwardDelay).len();
        assert_eq!(delays, if known { 100 } else { 0 });
        assert_eq!(
            world.gauges[&Gauge::ClockSynchronised],
            f64::from(u8::from(known))
        );
        assert_eq!(
            world.sampled(Quantity::ForwardIpdv).len(),
            99,
            "needs no agreement"
        );
        match world.gauges.get(&Gauge::ClockError) {
            // Theirs is rounded up to what the field can say.
            Some(error) => assert!(known && (6_000.0..6_010.0).contains(error), "{error}"),
            None => assert!(!known),
        }
    }
}

#[test]
fn stamps_of_two_clocks_never_meet() {
    // The device stamps what it receives, but not what it sends, in a clock of its own.
    let mut world = world(config(1), true, 3);
    world.forward.script = Some(Box::new(|packet| packet.counted.then(Vec::new)));
    world.run_until(super::world::START + 20 * MS);
    let sequence = *world.counted.iter().next().expect("one");
    let slot = world.session.slots.copy(FIRST_INDEX + u64::from(sequence));
    let slot = slot.expect("in flight");
    let mut reply = vec![0u8; 80];
    reply[..4].copy_from_slice(&7u32.to_be_bytes());
    reply[12..14].copy_from_slice(&1u16.to_be_bytes());
    reply[4..12].copy_from_slice(&slot.echo);
    reply[16..24].copy_from_slice(&slot.echo);
    reply[24..28].copy_from_slice(&sequence.to_be_bytes());
    reply[28..36].copy_from_slice(&slot.echo);
    let datagram = Datagram {
        payload: &reply,
        kernel: Some(slot.sent_wall.offset(50_000)),
        hardware: Some(WallNanos(12_345)),
        user: slot.sent_wall.offset(60_000),
        ttl: None,
    };
    let now = MonoNanos(world.now);
    world.emit(|session, mut out| {
        session.receive(&datagram, now, &mut out);
    });
    assert_eq!(world.sampled(Quantity::RoundTrip), [48_000]);
    assert_eq!(
        world.stamped.get(&(StampPoint::T4, StampSource::Kernel)),
        Some(&1)
    );
    assert_eq!(world.happened(EventKind::ComponentDegraded), 0);
}
