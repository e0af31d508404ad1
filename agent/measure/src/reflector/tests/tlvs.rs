//! Flags of TLVs (RFC 8972 section 4), and the private TLV.

use super::*;

fn extended(tlvs: &[u8]) -> Vec<u8> {
    let mut packet = request(1, 2, 3, 44);
    packet.extend_from_slice(tlvs);
    packet
}

#[test]
fn flags_follow_the_rfc() {
    // What comes in, what goes out.
    let cases: [(&str, &[u8], &[u8]); 9] = [
        (
            "Extra Padding: U cleared",
            &[0x80, 1, 0, 2, 7, 8],
            &[0, 1, 0, 2, 7, 8],
        ),
        (
            "no flag set: the same",
            &[0, 1, 0, 2, 7, 8],
            &[0, 1, 0, 2, 7, 8],
        ),
        ("empty Extra Padding", &[0x80, 1, 0, 0], &[0, 1, 0, 0]),
        (
            "unknown: keeps U",
            &[0x80, 199, 0, 1, 9],
            &[0x80, 199, 0, 1, 9],
        ),
        (
            "unknown without U: gets it",
            &[0, 199, 0, 1, 9],
            &[0x80, 199, 0, 1, 9],
        ),
        (
            "M, I and reserved flags are ours to set",
            &[0xff, 1, 0, 1, 9],
            &[0, 1, 0, 1, 9],
        ),
        (
            "unknown, then padding: both walked",
            &[0x80, 7, 0, 1, 9, 0x80, 1, 0, 1, 5],
            &[0x80, 7, 0, 1, 9, 0, 1, 0, 1, 5],
        ),
        (
            "too long: M, and the rest as it came",
            &[0x80, 1, 0, 9, 1, 2, 0x80, 1],
            &[0xc0, 1, 0, 9, 1, 2, 0x80, 1],
        ),
        ("cut short in its header: M", &[0x80, 1, 0], &[0xc0, 1, 0]),
    ];
    for (what, tlvs, expected) in cases {
        let mut reflector = reflector(Config::default());
        let reply = answer(&mut reflector, &extended(tlvs), &arrival()).expect("answered");
        assert_eq!(&reply[44..], expected, "{what}");
        assert_eq!(
            reflector.malformed_tlvs,
            u64::from(expected[0] & 0x40 != 0),
            "{what}"
        );
    }
}

#[test]
fn the_private_tlv_is_filled_and_keeps_its_place() {
    let mut reflector = reflector(Config::default());
    for sequence in [1, 2, 2, 5, 4] {
        let _ = answer(
            &mut reflector,
            &request(sequence, sequence.into(), 3, 44),
            &arrival(),
        );
    }
    let mut packet = with_tlv(request(6, 6, 3, 44), false);
    packet.extend_from_slice(&[0x80, 1, 0, 1, 9]);
    let from = Arrival {
        overflow: 12,
        ..arrival()
    };
    let reply = answer(&mut reflector, &packet, &from).expect("answered");
    assert_eq!(reply[48..51], *b"NS\x01");
    assert_eq!(report(&reply)[1..], [5, 1, 1, 0, 12, 0]);
    assert_eq!(reply[80..], [0, 1, 0, 1, 9]);
}

#[test]
fn overflow_counts_from_the_sessions_beginning() {
    let mut reflector = reflector(Config::default());
    let at = |overflow| Arrival {
        overflow,
        ..arrival()
    };
    let packet = with_tlv(request(1, 1, 3, 44), false);
    let reply = answer(&mut reflector, &packet, &at(u32::MAX - 1)).expect("answered");
    assert_eq!(report(&reply)[5], 0);
    let reply = answer(&mut reflector, &packet, &at(3)).expect("answered");
    assert_eq!(report(&reply)[5], 5, "also across the wrap");
}

#[test]
fn another_ones_tlv_of_our_type_is_left_alone() {
    let mut foreign = vec![0x80, 241, 0, 32];
    foreign.extend([0x77; 32]);
    let mut version = tlv(false);
    version[6] = 2;
    let mut long = tlv(false);
    long[3] = 33;
    long.push(0);
    for tlvs in [foreign, version, long] {
        let mut reflector = reflector(Config::default());
        let reply = answer(&mut reflector, &extended(&tlvs), &arrival()).expect("answered");
        assert_eq!(reply[44..], tlvs, "with U, as it came");
    }
}

#[test]
fn without_the_private_tlv_it_is_as_unknown_as_any() {
    for config in [
        Config {
            private_tlv: false,
            ..Config::default()
        },
        Config {
            stateless: true,
            ..Config::default()
        },
    ] {
        let mut reflector = reflector(config);
        let packet = with_tlv(request(1, 2, 3, 44), true);
        let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
        assert_eq!(reply[44..], packet[44..]);
    }
}

#[test]
fn uncounted_probes_are_outside_the_counters() {
    let mut reflector = reflector(Config::default());
    let mut replies = 0;
    for sequence in [100, 100, 101] {
        let packet = with_tlv(request(sequence, sequence.into(), 3, 44), true);
        let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
        assert_eq!(number(&reply, 0), replies, "but they are numbered");
        replies += 1;
        assert_eq!(report(&reply)[1..], [0, 0, 0, 0, 0, replies]);
    }
    // A counted one below them is neither out of order nor a duplicate.
    for (sequence, distinct) in [(5, 1), (100, 2)] {
        let packet = with_tlv(request(sequence, sequence.into(), 3, 44), false);
        let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
        assert_eq!(report(&reply)[1..], [distinct, 0, 0, 0, 0, 3]);
    }
}
