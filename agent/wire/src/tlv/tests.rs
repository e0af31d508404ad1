use proptest::prelude::*;

use super::*;

/// Unknown (type 200), Extra Padding, ours (241), as a sender sends them.
const AREA: [u8; 19] = [
    0x80, 200, 0, 2, 0xaa, 0xbb, //
    0x80, 1, 0, 1, 0xcc, //
    0x80, 241, 0, 4, 1, 2, 3, 4,
];

fn ours(kind: u8, value: &mut [u8]) -> Handled {
    match kind {
        241 if value.len() == 4 => {
            value.reverse();
            Handled::Understood
        }
        241 => Handled::Malformed,
        _ => Handled::Unknown,
    }
}

#[test]
fn deconstruct() {
    let tlvs: Vec<_> = Tlvs::new(&AREA).map(|tlv| tlv.expect("whole")).collect();
    let expected: [(u8, &[u8]); 3] = [(200, &[0xaa, 0xbb]), (1, &[0xcc]), (241, &[1, 2, 3, 4])];
    assert_eq!(tlvs.len(), 3);
    for (tlv, (kind, value)) in tlvs.iter().zip(expected) {
        assert_eq!(
            (tlv.flags, tlv.kind, tlv.value),
            (TlvFlags::SENT, kind, value)
        );
    }
}

#[test]
fn construct() {
    let mut buf = [0xa5; 20];
    let mut at = 0;
    for (kind, value) in [(200, &[0xaa, 0xbb][..]), (1, &[0xcc]), (241, &[1, 2, 3, 4])] {
        at += emit(&mut buf[at..], TlvFlags::SENT, kind, value);
    }
    assert_eq!(at, 19);
    assert_eq!(buf[..19], AREA);
    assert_eq!(buf[19], 0xa5);
    let mut small = [0xa5; 5];
    assert_eq!(emit(&mut small, TlvFlags::SENT, 1, &[0, 0]), 0);
    assert_eq!(small, [0xa5; 5]);
    // A value longer than the Length field can say.
    let value = vec![0; 65_536];
    assert_eq!(emit(&mut vec![0; 70_000], TlvFlags::SENT, 1, &value), 0);
    assert_eq!(
        emit(&mut vec![0; 70_000], TlvFlags::SENT, 1, &value[1..]),
        65_539
    );
}

#[test]
fn padding_is_one_tlv_to_the_end() {
    for len in [4, 5, 12, 13, 1_456, 8_957, 65_463, 65_539] {
        let mut buf = vec![0; len];
        assert_eq!(emit_padding(&mut buf), len);
        let tlv = Tlvs::new(&buf).next().expect("one").expect("whole");
        assert_eq!((tlv.flags.0, tlv.kind, tlv.value.len()), (0x80, 1, len - 4));
        if len >= 1_456 {
            // RFC 8972 §4.1: "pseudorandom": bits are set half of the time, within 5 sigma.
            let ones: u32 = tlv.value.iter().map(|octet| octet.count_ones()).sum();
            let bits = f64::from(u32::try_from(tlv.value.len() * 8).expect("small"));
            assert!(
                (f64::from(ones) - bits / 2.0).abs() < 2.5 * bits.sqrt(),
                "{ones}"
            );
            let mut seen = [false; 256];
            tlv.value
                .iter()
                .for_each(|octet| seen[usize::from(*octet)] = true);
            assert!(seen.iter().filter(|seen| **seen).count() > 240);
        }
    }
    for len in [0, 1, 2, 3, 65_540] {
        let mut buf = vec![0xa5; len];
        assert_eq!(emit_padding(&mut buf), 0);
        assert!(buf.iter().all(|octet| *octet == 0xa5));
    }
}

#[test]
fn reflect_sets_flags_by_what_was_understood() {
    // RFC 8972 §4: U = 1 if "not understood the TLV. Otherwise [...] 0".
    let mut area = AREA;
    assert_eq!(reflect(&mut area, ours), Ok(3));
    let mut expected = AREA;
    expected[6] = 0;
    expected[11] = 0;
    expected[15..].reverse();
    assert_eq!(area, expected, "200 unknown, padding and 241 understood");

    // What the sender wrote into the flags does not matter; M, I and reserved are cleared.
    let mut area = AREA;
    for flags in [0, 6, 11] {
        area[flags] = 0x7f;
    }
    assert_eq!(reflect(&mut area, ours), Ok(3));
    assert_eq!((area[0], area[6], area[11]), (0x80, 0, 0));
    assert_eq!(reflect(&mut [], ours), Ok(0));
}

#[test]
fn reflect_stops_at_what_the_handler_calls_malformed() {
    let mut area = [0x80, 241, 0, 1, 9, 0x80, 241, 0, 4, 1, 2, 3, 4];
    assert_eq!(reflect(&mut area, ours), Err(Reason::MalformedTlv));
    // RFC 8972 §4: "MUST copy the remainder of the received extended STAMP packet".
    assert_eq!(area, [0xc0, 241, 0, 1, 9, 0x80, 241, 0, 4, 1, 2, 3, 4]);
}

#[test]
fn reflect_stops_where_the_packet_does() {
    // (as it came, as it goes back)
    let bombs: [(&[u8], &[u8]); 6] = [
        (&[0x80], &[0xc0]),
        (&[0x80, 1, 0], &[0xc0, 1, 0]),
        (&[0x80, 1, 0xff, 0xff], &[0xc0, 1, 0xff, 0xff]),
        // One octet too many, though the type is always understood.
        (&[0x80, 1, 0, 2, 9], &[0xc0, 1, 0, 2, 9]),
        // A good one before; it was processed.
        (
            &[0x80, 241, 0, 4, 1, 2, 3, 4, 0x80, 241, 0, 4, 1, 2, 3],
            &[0x00, 241, 0, 4, 4, 3, 2, 1, 0xc0, 241, 0, 4, 1, 2, 3],
        ),
        // The length of the first lies inside the second: what looks like a header there is
        // value, and what is left over is too short to be one.
        (
            &[0x80, 200, 0, 5, 0x80, 241, 0, 4, 1, 2, 3, 4],
            &[0x80, 200, 0, 5, 0x80, 241, 0, 4, 1, 0xc0, 3, 4],
        ),
    ];
    for (came, goes) in bombs {
        let mut area = came.to_vec();
        assert_eq!(
            reflect(&mut area, ours),
            Err(Reason::MalformedTlv),
            "{came:?}"
        );
        assert_eq!(area, goes);
        assert_eq!(Tlvs::new(came).last(), Some(Err(Reason::MalformedTlv)));
    }
}

#[test]
fn a_packet_of_empty_tlvs_is_walked_once() {
    // 16 000 of zero length and of a reserved type, which zero padding looks like.
    let mut area = vec![0; 64_000];
    let mut calls = 0;
    let walked = reflect(&mut area, |kind, value| {
        assert_eq!((kind, value.len()), (0, 0));
        calls += 1;
        Handled::Unknown
    });
    assert_eq!((walked, calls), (Ok(16_000), 16_000));
    assert!(area.chunks(4).all(|tlv| tlv == [0x80, 0, 0, 0]));
    assert_eq!(Tlvs::new(&area).count(), 16_000);
}

#[test]
fn sender_obeys_the_flags() {
    let find = |area: &[u8]| reflected(area, 241).map(|found| found.map(<[u8]>::to_vec));
    let mut area = AREA;
    // A reflector without TLV support sends all back with U: skipped.
    assert_eq!(find(&area), Ok(None));
    area[11] = 0;
    assert_eq!(find(&area), Ok(Some(vec![1, 2, 3, 4])));
    assert_eq!(reflected(&area, 7), Ok(None));
    // Of two understood ones the first counts.
    let twice = [0, 241, 0, 1, 7, 0, 241, 0, 1, 8];
    assert_eq!(find(&twice), Ok(Some(vec![7])));
    // "If the M flag is set, [...] MUST stop processing the remainder".
    let mut before = area;
    before[6] = 0xc0;
    assert_eq!(find(&before), Err(Reason::FlaggedMalformed));
    // "If the I flag is set, [...] MUST discard all TLVs", wherever it is.
    for at in [0, 6, 11] {
        let mut flagged = area;
        flagged[at] |= TlvFlags::I;
        assert_eq!(find(&flagged), Err(Reason::FlaggedIntegrity));
    }
    // A good one, then octets that are none.
    let mut cut = area.to_vec();
    cut.push(0);
    assert_eq!(find(&cut), Ok(Some(vec![1, 2, 3, 4])));
    assert_eq!(reflected(&cut, 7), Err(Reason::MalformedTlv));
    // Reserved flags are "ignored on receipt".
    area[11] = 0x1f;
    assert_eq!(find(&area), Ok(Some(vec![1, 2, 3, 4])));
}

proptest! {
    #[test]
    fn reflect_keeps_everything_but_flags(
        octets in proptest::collection::vec(prop_oneof![0_u8..6, any::<u8>()], 0..300),
        verdicts in proptest::collection::vec(0_u8..8, 100),
    ) {
        let mut area = octets.clone();
        let mut verdicts = verdicts.into_iter().cycle();
        let result = reflect(&mut area, |_, _| match verdicts.next() {
            Some(0) => Handled::Malformed,
            Some(1..=4) => Handled::Unknown,
            _ => Handled::Understood,
        });
        let flagged = area.iter().zip(&octets).filter(|(after, before)| after != before);
        for (after, _) in flagged {
            prop_assert!(matches!(after, 0 | 0x80 | 0xc0));
        }
        // The shape is the same, and M is on the last that was walked, if any.
        let shape = |area: &[u8]| {
            Tlvs::new(area).map(|t| t.map(|t| (t.kind, t.value.len()))).collect::<Vec<_>>()
        };
        prop_assert_eq!(shape(&area), shape(&octets));
        if let Ok(walked) = result {
            prop_assert_eq!(Tlvs::new(&area).count(), walked);
            let m = Tlvs::new(&area).flatten().any(|tlv| tlv.flags.malformed());
            prop_assert!(!m);
        }
        let _ = reflected(&area, 241);
    }

    #[test]
    fn round_trip(tlvs in proptest::collection::vec(
        (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..10,
    )) {
        let mut buf = vec![0xa5; 500];
        let mut at = 0;
        for (flags, kind, value) in &tlvs {
            at += emit(&mut buf[at..], TlvFlags(*flags), *kind, value);
        }
        let parsed: Vec<_> = Tlvs::new(&buf[..at])
            .flatten()
            .map(|t| (t.flags.0, t.kind, t.value.to_vec()))
            .collect();
        prop_assert_eq!(parsed, tlvs);
    }
}
