//! Distinct, doubled and out of order, against a model; senders that begin again.

use std::collections::HashSet;

use super::*;
use crate::random::Random;

/// Duplicates are numbers seen before; out of order (RFC 4737) is what is new and below the
/// highest; the rest is plain.
#[derive(Default)]
struct Model {
    seen: HashSet<u64>,
    highest: u64,
    counts: [u32; 3],
}

impl Model {
    fn take(&mut self, number: u64) {
        if !self.seen.insert(number) {
            self.counts[1] += 1;
            return;
        }
        self.counts[0] += 1;
        self.counts[2] += u32::from(number < self.highest);
        self.highest = self.highest.max(number);
    }
}

#[test]
fn the_counters_agree_with_a_model_also_across_the_wrap() {
    for first in [0, 77, u32::MAX - 1_500, u32::MAX] {
        for spread in [1, 8, 300, 4_000] {
            let mut random = Random::new(u64::from(first) ^ spread);
            let mut reflector = reflector(Config::default());
            let mut model = Model::default();
            for n in 0..3_000u32 {
                // The next number and some before it, often again.
                let next = model.seen.len() as u64 + 1;
                let number = if random.chance(0.6) {
                    next
                } else {
                    next.saturating_sub(random.below(spread))
                };
                model.take(number);
                let sequence = first.wrapping_add(number as u32);
                // T1 rises with the number, whatever the order of arrival.
                let packet = with_tlv(request(sequence, number << 32, 3, 44), false);
                let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
                assert_eq!(super::number(&reply, 0), n);
                assert_eq!(report(&reply)[1..4], model.counts, "{first} {spread} {n}");
            }
            assert_eq!(reflector.sender_restarts, 0);
        }
    }
}

#[test]
fn a_sender_that_starts_again_on_the_same_ports_is_recognised() {
    // SSID 0, the same ports, numbers from 0 again; later T1. The reply numbers go on, since
    // the reflector cannot forget the session while the sender does not say so.
    for sent_before in [1u32, 10, 5_000] {
        let mut reflector = reflector(Config::default());
        let mut sent = 0;
        for run in 0..3u64 {
            for sequence in 0..sent_before {
                let t1 = (run << 48) + u64::from(sequence) + 1;
                let packet = with_tlv(request(sequence, t1, 0, 44), false);
                let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
                assert_eq!(number(&reply, 0), sent);
                sent += 1;
                assert_eq!(
                    report(&reply)[1..4],
                    [sent, 0, 0],
                    "run {run} of {sent_before}"
                );
            }
        }
        assert_eq!(reflector.sender_restarts, 2);
        assert_eq!(reflector.sessions(), 1);
    }
}

#[test]
fn a_replayed_request_is_a_duplicate_and_no_restart() {
    let mut reflector = reflector(Config::default());
    let packets: Vec<_> = (0..100u32)
        .map(|n| with_tlv(request(n, u64::from(n) << 20, 3, 44), false))
        .collect();
    for packet in &packets {
        let _ = answer(&mut reflector, packet, &arrival());
    }
    let mut last = Vec::new();
    for packet in &packets {
        last = answer(&mut reflector, packet, &arrival()).expect("answered");
    }
    assert_eq!(report(&last)[1..4], [100, 100, 0]);
    assert_eq!(reflector.sender_restarts, 0);
}

#[test]
fn a_stateless_reflector_copies_the_number() {
    let mut reflector = reflector(Config {
        stateless: true,
        ..Config::default()
    });
    for sequence in [5, 5, 9, 0, u32::MAX] {
        let reply = answer(&mut reflector, &request(sequence, 1, 3, 44), &arrival());
        let reply = reply.expect("answered");
        assert_eq!(
            (number(&reply, 0), number(&reply, 24)),
            (sequence, sequence)
        );
    }
}
