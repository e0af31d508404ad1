//! The table: keys, limits, time-outs, rates.

use std::collections::HashMap;

use super::*;
use crate::random::Random;

fn from(host: u8, port: u16, to: u8, to_port: u16) -> Arrival {
    Arrival {
        peer: SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), port)),
        local: SocketAddr::from((Ipv4Addr::new(198, 51, 100, to), to_port)),
        ..arrival()
    }
}

#[test]
fn a_session_is_four_tuple_and_ssid() {
    // Each differs from the first in one part of the key, the last in the address family.
    let mut v6 = from(1, 40_000, 1, 862);
    v6.peer.set_ip(ip("::ffff:192.0.2.1"));
    v6.local.set_ip(ip("2001:db8::1"));
    let keys = [
        (from(1, 40_000, 1, 862), 7),
        (from(2, 40_000, 1, 862), 7),
        (from(1, 40_001, 1, 862), 7),
        (from(1, 40_000, 2, 862), 7),
        (from(1, 40_000, 1, 863), 7),
        (from(1, 40_000, 1, 862), 8),
        (from(1, 40_000, 1, 862), 0),
        (v6, 7),
    ];
    let mut reflector = reflector(Config::default());
    let mut random = Random::new(1);
    let mut model: HashMap<usize, u32> = HashMap::new();
    for n in 0..2_000u32 {
        let which = random.below(keys.len() as u64) as usize;
        let (from, ssid) = &keys[which];
        let packet = with_tlv(request(n, n.into(), *ssid, 44), false);
        let reply = answer(&mut reflector, &packet, from).expect("answered");
        let count = model.entry(which).or_default();
        assert_eq!(number(&reply, 0), *count);
        *count += 1;
        assert_eq!(report(&reply)[1..4], [*count, 0, 0]);
    }
    assert_eq!(reflector.sessions(), keys.len());
    assert_eq!(reflector.begun, keys.len() as u64);
}

#[test]
fn a_full_table_refuses_new_sessions_and_keeps_the_old() {
    let mut reflector = reflector(Config {
        max_sessions: 10,
        ..Config::default()
    });
    let epochs: Vec<u32> = (0..10)
        .map(|port| {
            let packet = with_tlv(request(1, 1, 3, 44), false);
            let reply = answer(&mut reflector, &packet, &from(1, 40_000 + port, 1, 862));
            report(&reply.expect("answered"))[0]
        })
        .collect();
    for flood in 0..1_000 {
        let result = answer(
            &mut reflector,
            &request(1, 1, 3, 44),
            &from(9, 1_024 + flood, 1, 862),
        );
        assert_eq!(result, Err(Drop::TableFull));
    }
    for port in 0..10u16 {
        let packet = with_tlv(request(2, 2, 3, 44), false);
        let reply = answer(&mut reflector, &packet, &from(1, 40_000 + port, 1, 862));
        let reply = reply.expect("still there");
        assert_eq!(number(&reply, 0), 1);
        assert_eq!(report(&reply)[..2], [epochs[usize::from(port)], 2]);
    }
    assert_eq!((reflector.sessions(), reflector.begun), (10, 10));
}

#[test]
fn idle_sessions_end_and_make_room_and_begin_anew() {
    let mut reflector = reflector(Config {
        max_sessions: 10,
        idle_ns: 60 * SECOND,
        ..Config::default()
    });
    let at = |port: u16, seconds: u64| Arrival {
        now: MonoNanos(seconds * SECOND),
        ..from(1, 40_000 + port, 1, 862)
    };
    let packet = with_tlv(request(1, 1, 3, 44), false);
    let mut epochs = HashMap::new();
    for port in 0..10 {
        let reply = answer(&mut reflector, &packet, &at(port, 100)).expect("answered");
        epochs.insert(port, report(&reply)[0]);
    }
    // The first five go on; all the others are idle at 165 s.
    for port in 0..5 {
        let _ = answer(&mut reflector, &packet, &at(port, 130)).expect("answered");
    }
    let sweep = |reflector: &mut Reflector, from: u64, to: u64| {
        for tenth in from * 100..to * 100 {
            reflector.sweep(MonoNanos(tenth * 10_000_000));
        }
    };
    sweep(&mut reflector, 130, 159);
    assert_eq!((reflector.sessions(), reflector.expired), (10, 0));
    sweep(&mut reflector, 159, 165);
    assert_eq!((reflector.sessions(), reflector.expired), (5, 5));
    for port in 0..5 {
        let reply = answer(&mut reflector, &packet, &at(port, 165)).expect("still there");
        assert_eq!(number(&reply, 0), 2);
        assert_eq!(report(&reply)[0], epochs[&port]);
    }
    // New ones in their room, and one of the old: from 0, under another epoch.
    for port in [100, 101, 102, 7] {
        let reply = answer(&mut reflector, &packet, &at(port, 165)).expect("room");
        assert_eq!(number(&reply, 0), 0);
        assert_eq!(
            report(&reply)[1..],
            [1, 0, 0, 0, 0, 0],
            "nothing is left of before"
        );
        assert_ne!(Some(&report(&reply)[0]), epochs.get(&port));
    }
    assert_eq!(reflector.sessions(), 9);
}

#[test]
fn the_table_agrees_with_a_map_over_many_rounds() {
    let mut reflector = reflector(Config {
        max_sessions: 40,
        idle_ns: 30 * SECOND,
        ..Config::default()
    });
    let mut random = Random::new(8);
    // By port: the round in which it last spoke, and how often it was answered.
    let mut model: HashMap<u16, (u64, u32)> = HashMap::new();
    let (mut refused, mut begun, mut expired) = (0, 0, 0);
    for round in 1..300u64 {
        let start = round * 100 * SECOND;
        for message in 0..80 {
            if message == 40 {
                // Who has not spoken in this round is idle by far, and who has is not.
                for tick in 0..250 {
                    reflector.sweep(MonoNanos(start + 20 * SECOND + tick * 10_000_000));
                }
                let before = model.len();
                model.retain(|_, (last, _)| *last == round);
                expired += (before - model.len()) as u64;
                assert_eq!(reflector.sessions(), model.len());
                assert_eq!(reflector.expired, expired);
            }
            let port = 1_024 + random.below(60) as u16;
            let from = Arrival {
                now: MonoNanos(start + if message < 40 { 0 } else { 23 * SECOND }),
                ..from(1, port, 1, 862)
            };
            match answer(&mut reflector, &request(1, 1, 3, 44), &from) {
                Ok(reply) => {
                    let entry = model.entry(port).or_insert((0, 0));
                    assert_eq!(number(&reply, 0), entry.1);
                    begun += u64::from(entry.1 == 0);
                    *entry = (round, entry.1 + 1);
                    assert!(model.len() <= 40);
                }
                Err(drop) => {
                    assert_eq!(drop, Drop::TableFull);
                    assert!(model.len() == 40 && !model.contains_key(&port));
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100 && expired > 1_000, "{refused} {expired}");
    assert_eq!(reflector.begun, begun);
}

#[test]
fn each_session_has_a_rate_of_its_own() {
    let mut reflector = reflector(Config {
        rate: 100,
        ..Config::default()
    });
    // Ten seconds at 1000/s: the rate, and a burst of a tenth of a second.
    let mut answered = [0u32; 2];
    for ms in 0..10_000u64 {
        for (n, port) in [40_000, 40_001].into_iter().enumerate() {
            // The second one sends at 50/s.
            if n == 1 && ms % 20 != 0 {
                continue;
            }
            let from = Arrival {
                now: MonoNanos(SECOND + ms * 1_000_000),
                ..from(1, port, 1, 862)
            };
            match answer(&mut reflector, &request(ms as u32, ms, 3, 44), &from) {
                Ok(_) => answered[n] += 1,
                Err(drop) => assert_eq!((drop, n), (Drop::RateLimited, 0)),
            }
        }
    }
    assert_eq!(answered[1], 500, "within its rate");
    assert!((1_000..=1_011).contains(&answered[0]), "{}", answered[0]);
    let from = Arrival {
        now: MonoNanos(20 * SECOND),
        ..from(1, 40_000, 1, 862)
    };
    let packet = with_tlv(request(20_000, 20_000, 3, 44), false);
    let reply = answer(&mut reflector, &packet, &from).expect("rested");
    let [_, distinct, _, _, limited, _, _] = report(&reply);
    assert_eq!((distinct, limited), (answered[0] + 1, 10_000 - answered[0]));
}

#[test]
fn a_rate_below_ten_a_second_still_answers() {
    let mut reflector = reflector(Config {
        rate: 1,
        ..Config::default()
    });
    let answered = (0..100u64).filter(|tenth| {
        let from = Arrival {
            now: MonoNanos(SECOND + tenth * SECOND / 10),
            ..arrival()
        };
        answer(&mut reflector, &request(1, 1, 3, 44), &from).is_ok()
    });
    assert_eq!(answered.count(), 10);
}
