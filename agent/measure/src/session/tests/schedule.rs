//! How many are sent, when, and how a run ends.

use base::Counter;
use base::Quantity;

use super::super::*;
use super::world::{Attempt, MS, START, World, config, world};

#[test]
fn the_count_includes_what_failed_and_what_was_skipped() {
    for opening_first in [true, false] {
        let config = Config {
            opening_first,
            ..config(500)
        };
        let mut world = world(config, true, 3);
        let mut n = 0;
        world.attempt = Some(Box::new(move |transmit| {
            if !transmit.kind.is_counted() {
                return Attempt::Sent;
            }
            n += 1;
            match n % 5 {
                1 => Attempt::Refused,
                3 => Attempt::Skipped,
                _ => Attempt::Sent,
            }
        }));
        world.run();
        world.check_sums();
        assert_eq!(world.count(Counter::Sent), 300);
        assert_eq!(world.count(Counter::SendErrors), 100);
        assert_eq!(world.count(Counter::Skipped), 100);
        assert_eq!(world.count(Counter::Received), 300);
        // Numbers are not used up by what did not go out.
        let numbers: std::collections::BTreeSet<u32> = world.counted.iter().copied().collect();
        let span = numbers
            .last()
            .zip(numbers.first())
            .map(|(last, first)| last - first);
        assert!(span.expect("some") < 303);
    }
}

#[test]
fn a_stall_sends_late_ones_at_once_and_skips_beyond_a_second() {
    let mut world = world(config(5_000), true, 3);
    world.run_until(START + 500 * MS);
    let before = world.count(Counter::Sent);
    world.now += 3_000 * MS;
    world.run();
    world.check_sums();
    assert!((495..=500).contains(&before));
    assert_eq!(
        world.count(Counter::Sent) + world.count(Counter::Skipped),
        5_000
    );
    assert!(world.count(Counter::Skipped).abs_diff(2_000) <= 1);
    assert!(world.count(Counter::SentLate).abs_diff(1_000) <= 3);
    let worst = world.sampled(Quantity::ScheduleError).iter().max();
    let worst = *worst.expect("some");
    assert!(
        (900 * MS as i64..=1_000 * MS as i64).contains(&worst),
        "{worst}"
    );
    // A late send is inside the response time: no coordinated omission.
    let response = world.sampled(Quantity::Response).iter().max();
    assert!(*response.expect("some") >= worst);
}

#[test]
fn finish_ends_a_run_early_and_decides_everything() {
    for after in [0, 1, 3, 50, 500] {
        for opening_first in [true, false] {
            let config = Config {
                count: None,
                opening_first,
                ..config(0)
            };
            let mut world = world(config, true, 3);
            world.forward.impairment.loss = 0.1;
            world.at(after * MS, |world| world.session.finish());
            world.run();
            world.check_sums();
            assert!(world.count(Counter::Sent) <= after + 1);
            assert!(
                world.now < START + (after + 250) * MS,
                "one wait, and the closing"
            );
            let (forward, reverse) = world.truly_lost();
            if world.loss.directed {
                assert_eq!((world.loss.forward, world.loss.reverse), (forward, reverse));
            }
        }
    }
}

#[test]
fn nothing_is_sent_after_the_end() {
    // A target that comes up when all is decided.
    for after in [50, 120, 300, 2_000] {
        let mut world = world(
            Config {
                opening_first: false,
                ..config(30)
            },
            true,
            3,
        );
        world.forward.script = Some(Box::new(move |_| Some(vec![after * MS])));
        world.run();
        world.deliver_the_rest();
        world.check_sums();
        assert_eq!(world.finished, 1);
    }
}

#[test]
fn closing_probes_go_on_until_one_is_answered_and_are_16_at_most() {
    // After the last counted probe the way back dies; or its first n packets are lost.
    for (lost, sent) in [(0, 1), (1, 2), (5, 6), (15, 16), (100, 16)] {
        for private_tlv in [true, false] {
            let mut world = world(config(100), private_tlv, 3);
            let mut closing = 0;
            world.forward.script = Some(Box::new(move |packet| {
                if packet.counted || packet.nth < 50 {
                    return None;
                }
                closing += 1;
                (closing <= lost).then(Vec::new)
            }));
            world.run();
            world.check_sums();
            assert_eq!(world.truth.closing_sent, sent, "{lost}");
            assert_eq!(world.count(Counter::Sent), 100);
            assert_eq!(world.count(Counter::Uncounted), sent + 1);
        }
    }
}

#[test]
fn the_tail_gets_its_direction_from_the_closing_probes() {
    for (forward_dies, private_tlv) in [(true, true), (false, true), (true, false), (false, false)]
    {
        let mut world = world(config(200), private_tlv, 3);
        let tail =
            |packet: super::world::Packet| (packet.counted && packet.sequence > 190).then(Vec::new);
        if forward_dies {
            world.forward.script = Some(Box::new(tail));
        } else {
            world.reverse.script = Some(Box::new(tail));
        }
        world.run();
        world.check_sums();
        let expected = if forward_dies { (10, 0, 0) } else { (0, 10, 0) };
        let loss = world.loss;
        assert_eq!((loss.forward, loss.reverse, loss.unattributed), expected);
    }
}

#[test]
fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
    let config = Config {
        poisson: true,
        ..config(20_000)
    };
    let mut world = world(config, true, 3);
    world.run();
    world.check_sums();
    assert_eq!(world.count(Counter::Received), 20_000);
    assert_eq!(world.count(Counter::Skipped), 0);
    let mut times: Vec<u64> = world.truth.intended.values().copied().collect();
    times.sort_unstable();
    let gaps: Vec<f64> = times
        .windows(2)
        .map(|w| (w[1] - w[0]) as f64 / 1e6)
        .collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let over = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
    assert!((mean - 1.0).abs() < 0.03, "{mean}");
    // P(gap > mean) = 1/e.
    assert!((over - (-1.0f64).exp()).abs() < 0.015, "{over}");
}

#[test]
fn a_caller_that_overruns_the_ring_loses_the_oldest_only() {
    let config = Config {
        interval_ns: 1_000 * MS,
        wait_ns: 3_000 * MS,
        opening_first: false,
        count: None,
        ..config(0)
    };
    let mut world = world(config, true, 3);
    let capacity = world.session.slots.capacity() as u64;
    for n in 0..capacity + 30 {
        let now = MonoNanos(START + n);
        let transmit = world
            .session
            .transmit(Kind::Counted, Marking::Plain, 1, now);
        let t1 = world.wall();
        world.emit(|session, mut out| session.sent(&transmit, now, t1, 44, [0; 8], &mut out));
    }
    assert_eq!(world.count(Counter::Lost), 30);
}

#[test]
fn memory_for_a_slow_probe_is_small() {
    let config = Config {
        interval_ns: 1_000 * MS,
        wait_ns: 3_000 * MS,
        ..config(10)
    };
    assert!(
        Session::memory_bytes(&config) < 24 * 1024,
        "{}",
        Session::memory_bytes(&config)
    );
    let _ = World::new;
}
