//! Who is not answered, and what no packet can do.

use proptest::prelude::*;

use super::*;

fn between(peer: &str, local: &str) -> Arrival {
    Arrival {
        peer: peer.parse().expect("address and port"),
        local: local.parse().expect("address and port"),
        ..arrival()
    }
}

fn verdict(config: &Config, from: &Arrival) -> Option<Drop> {
    let mut reflector = reflector(config.clone());
    let result = answer(&mut reflector, &request(1, 2, 3, 44), from).err();
    assert_eq!(
        reflector.sessions(),
        usize::from(result.is_none()),
        "no trace of the refused"
    );
    result
}

#[test]
fn reflectors_do_not_answer_each_other() {
    for (peer, local) in [
        ("192.0.2.1:862", "192.0.2.2:862"),
        ("192.0.2.1:862", "192.0.2.2:5000"),
        ("192.0.2.2:5000", "192.0.2.2:5000"),
        // Two of ours on another port than 862.
        ("192.0.2.1:5000", "192.0.2.2:5000"),
        ("[2001:db8::1]:862", "[2001:db8::2]:862"),
        ("192.0.2.1:0", "192.0.2.2:862"),
    ] {
        let drop = verdict(&Config::default(), &between(peer, local));
        assert_eq!(drop, Some(Drop::ReflectorLoop), "{peer} {local}");
    }
    let other_port = between("192.0.2.2:5001", "192.0.2.2:5000");
    assert_eq!(
        verdict(&Config::default(), &other_port),
        None,
        "on one host is no loop"
    );
}

#[test]
fn groups_and_nowhere_are_not_answered() {
    let good = ("192.0.2.1:40000", "192.0.2.2:862");
    let good6 = ("[2001:db8::1]:40000", "[2001:db8::2]:862");
    for bad in ["224.0.0.1", "239.255.255.255", "255.255.255.255", "0.0.0.0"] {
        for (peer, local) in [
            (format!("{bad}:40000"), good.1.into()),
            (good.0.into(), format!("{bad}:862")),
        ] {
            let drop = verdict(&Config::default(), &between(&peer, &local));
            assert_eq!(drop, Some(Drop::BadAddress), "{peer} {local}");
        }
    }
    for bad in ["ff02::1", "ff0e::5", "::"] {
        for (peer, local) in [
            (format!("[{bad}]:40000"), good6.1.into()),
            (good6.0.into(), format!("[{bad}]:862")),
        ] {
            let drop = verdict(&Config::default(), &between(&peer, &local));
            assert_eq!(drop, Some(Drop::BadAddress), "{peer} {local}");
        }
    }
    for (peer, local) in [good, good6, ("127.0.0.1:40000", "127.0.0.1:862")] {
        assert_eq!(verdict(&Config::default(), &between(peer, local)), None);
    }
}

#[test]
fn only_allowed_networks_are_answered() {
    let allow = [
        ("10.1.0.0", 16),
        ("192.0.2.7", 32),
        ("2001:db8::", 33),
        ("::1", 128),
    ];
    let config = Config {
        allow: allow.map(|(net, prefix)| (ip(net), prefix)).to_vec(),
        ..Config::default()
    };
    for (peer, allowed) in [
        ("10.1.0.0", true),
        ("10.1.255.255", true),
        ("10.0.255.255", false),
        ("10.2.0.0", false),
        ("192.0.2.7", true),
        ("192.0.2.6", false),
        ("192.0.2.8", false),
        ("2001:db8:7fff:ffff:ffff::1", true),
        ("2001:db8:8000::", false),
        ("2001:db7:ffff::1", false),
        ("::1", true),
        ("::2", false),
        // The same bits in the other family.
        ("::10.1.0.1", false),
    ] {
        let from = Arrival {
            peer: SocketAddr::new(ip(peer), 40_000),
            ..arrival()
        };
        let expected = (!allowed).then_some(Drop::NotAllowed);
        assert_eq!(verdict(&config, &from), expected, "{peer}");
    }
}

#[test]
fn a_prefix_of_0_is_everybody_of_its_family() {
    for (net, v4, v6) in [("0.0.0.0", true, false), ("::", false, true)] {
        assert_eq!(contains((ip(net), 0), ip("203.0.113.200")), v4);
        assert_eq!(contains((ip(net), 0), ip("2001:db8::1")), v6);
    }
    assert!(
        contains((ip("192.0.2.1"), 255), ip("192.0.2.1")),
        "more than all bits is all"
    );
    assert!(!contains((ip("192.0.2.1"), 255), ip("192.0.2.0")));
}

#[test]
fn forged_and_replayed_packets_change_no_other_session() {
    // One quiet session, and a storm of everything else; the quiet one must not notice.
    let mut quiet = reflector(Config {
        max_sessions: 50,
        rate: 1_000,
        ..Config::default()
    });
    let mut alone = reflector(Config {
        max_sessions: 50,
        rate: 1_000,
        ..Config::default()
    });
    let mut random = Random::new(4);
    let mut epochs = Vec::new();
    for n in 0..500u32 {
        let now = MonoNanos(SECOND + u64::from(n) * 10_000_000);
        let ours = Arrival { now, ..arrival() };
        let packet = with_tlv(request(n, n.into(), 77, 44), false);
        let storm = answer(&mut quiet, &packet, &ours).expect("answered");
        let calm = answer(&mut alone, &packet, &ours).expect("answered");
        epochs.push(report(&storm)[0]);
        assert_eq!(number(&storm, 0), number(&calm, 0));
        assert_eq!(report(&storm)[1..], report(&calm)[1..]);
        for _ in 0..20 {
            // A replay with another SSID, from another port, or to another address.
            let mut forged = packet.clone();
            let mut from = ours;
            match random.below(3) {
                0 => forged[14..16].copy_from_slice(&(random.bits() as u16 | 0x100).to_be_bytes()),
                1 => from.peer.set_port(1_024 + random.below(30_000) as u16),
                _ => from.local.set_ip(ip("203.0.113.9")),
            }
            forged[..4].copy_from_slice(&(random.bits() as u32).to_be_bytes());
            let _ = answer(&mut quiet, &forged, &from);
        }
        quiet.sweep(now);
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_answered_with_no_more_than_came_in(
        packets in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), any::<u16>(), any::<Option<u8>>(), any::<u32>(), any::<u64>()),
            1..20,
        ),
        stateless: bool,
        private_tlv: bool,
        rate in 0u32..50,
    ) {
        let mut reflector = reflector(Config { stateless, private_tlv, rate, max_sessions: 5, ..Config::default() });
        for (packet, port, ttl, overflow, now) in packets {
            let from = Arrival {
                peer: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port)),
                ttl,
                overflow,
                now: MonoNanos(now),
                at: WallNanos(now),
                ..arrival()
            };
            reflector.sweep(MonoNanos(now));
            if let Ok(reply) = answer(&mut reflector, &packet, &from) {
                prop_assert_eq!(reply.len(), packet.len());
                prop_assert!(packet.len() >= 44);
                prop_assert_eq!(&reply[24..28], &packet[..4]);
                prop_assert_eq!(&reply[28..38], &packet[4..14]);
            }
            prop_assert!(reflector.sessions() <= 5);
        }
    }

    #[test]
    fn twamp_light_never_answers_with_more_than_44_or_what_came_in(
        packet in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut reflector = reflector(Config { twamp_light: true, ..Config::default() });
        if let Ok(reply) = answer(&mut reflector, &packet, &arrival()) {
            prop_assert_eq!(reply.len(), packet.len().max(44));
            prop_assert!(packet.len() >= 14);
        }
    }
}

/// One forged packet makes two reflectors on ports of their own answer each other; the first
/// of them that gets its own numbers back says no more.
#[test]
fn a_forged_packet_starts_no_endless_conversation() {
    for len in [44, 80, 1_400] {
        let (mut left, mut right) = (reflector(Config::default()), reflector(Config::default()));
        let at_left = between("192.0.2.2:8620", "192.0.2.1:8621");
        let at_right = between("192.0.2.1:8621", "192.0.2.2:8620");
        let mut packet = request(3, 9, 4, len);
        let mut answers = 0;
        let end = loop {
            let turn = if answers % 2 == 0 {
                answer(&mut left, &packet, &at_left)
            } else {
                answer(&mut right, &packet, &at_right)
            };
            match turn {
                Ok(reply) => packet = reply,
                Err(reason) => break reason,
            }
            answers += 1;
            assert!(answers < 10, "they go on and on");
        };
        assert_eq!((end, answers), (Drop::ReflectorLoop, 2));
        // A sender on that port is answered all the same.
        assert!(answer(&mut left, &request(4, 10, 4, len), &at_left).is_ok());
    }
}
