//! Every field of a reply, by offset.

use super::*;

/// Seconds since 1900 of AT, and its fraction in 2^-32 s.
const NTP: (u32, u32) = (4_008_988_800, 530_242_871);

#[test]
fn every_field_stands_where_the_rfc_says() {
    let mut reflector = reflector(Config::default());
    let t1 = 0x0102_0304_0506_0708;
    let _ = answer(&mut reflector, &request(1, t1, 0xbeef, 44), &arrival());
    let reply = answer(
        &mut reflector,
        &request(0xdead_0001, t1, 0xbeef, 44),
        &arrival(),
    );
    let reply = reply.expect("answered");
    assert_eq!(
        number(&reply, 0),
        1,
        "Sequence Number: the second of this session"
    );
    assert_eq!(number(&reply, 4), NTP.0, "T3, seconds");
    // 20 us are 85 899 of 2^-32 s.
    assert!(
        number(&reply, 8).abs_diff(NTP.1 + 85_899) <= 2,
        "T3, fraction"
    );
    assert_eq!(
        reply[12..14],
        [0x85, 135],
        "S, not Z, Scale 5, Multiplier 135"
    );
    assert_eq!(reply[14..16], [0xbe, 0xef], "SSID");
    assert_eq!(number(&reply, 16), NTP.0, "T2, seconds");
    assert!(number(&reply, 20).abs_diff(NTP.1) <= 1, "T2, fraction");
    assert_eq!(
        number(&reply, 24),
        0xdead_0001,
        "Session-Sender Sequence Number"
    );
    assert_eq!(reply[28..36], t1.to_be_bytes(), "Session-Sender Timestamp");
    assert_eq!(reply[36..38], [0x2a, 0x99], "Session-Sender Error Estimate");
    assert_eq!(reply[38..40], [0, 0], "MBZ");
    assert_eq!(reply[40], 251, "Session-Sender TTL");
    assert_eq!(reply[41..44], [0, 0, 0], "MBZ");
    assert_eq!(reply.len(), 44);
}

#[test]
fn what_the_sender_wrote_comes_back_octet_for_octet() {
    let mut reflector = reflector(Config::default());
    for (t1, estimate) in [
        (0u64, 0u16),
        (u64::MAX, 0xffff),
        // A PTP time with more nanoseconds than a second has, and Multiplier 0.
        (0x1122_3344_ffff_ffff, 0x4000),
        (0x8000_0000_0000_0001, 0x3fff),
    ] {
        let mut packet = request(9, t1, 3, 60);
        packet[12..14].copy_from_slice(&estimate.to_be_bytes());
        let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
        assert_eq!(reply[28..36], t1.to_be_bytes());
        assert_eq!(reply[36..38], estimate.to_be_bytes());
    }
}

#[test]
fn the_senders_mbz_is_ignored_and_never_echoed() {
    let mut reflector = reflector(Config::default());
    let mut packet = request(9, 7, 3, 44);
    packet[16..44].fill(0xff);
    let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
    assert_eq!(number(&reply, 24), 9);
    assert_eq!(reply[38..40], [0, 0]);
    assert_eq!(reply[41..44], [0, 0, 0]);
}

#[test]
fn a_ptp_request_gets_a_ptp_reply() {
    let mut reflector = reflector(Config::default());
    let mut packet = request(9, 7, 3, 44);
    packet[12] |= 0x40;
    let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
    // TAI: UTC + 37 s; and nanoseconds.
    assert_eq!(
        (number(&reply, 16), number(&reply, 20)),
        (1_800_000_037, 123_456_789)
    );
    assert_eq!(
        (number(&reply, 4), number(&reply, 8)),
        (1_800_000_037, 123_476_789)
    );
    assert_eq!(reply[12..14], [0xc5, 135], "S and Z");
}

#[test]
fn an_unknown_ttl_is_255() {
    let mut reflector = reflector(Config::default());
    for (ttl, expected) in [(None, 255), (Some(0), 0), (Some(1), 1), (Some(255), 255)] {
        let from = Arrival { ttl, ..arrival() };
        let reply = answer(&mut reflector, &request(1, 2, 3, 44), &from).expect("answered");
        assert_eq!(reply[40], expected);
    }
}

#[test]
fn the_reply_has_the_requests_size_and_its_octets() {
    let mut reflector = reflector(Config::default());
    for len in 44..=9_000 {
        let mut packet = request(1, 2, 3, len);
        if let Some(length) = len.checked_sub(48) {
            // One Extra Padding to the end.
            packet[44..46].copy_from_slice(&[0x80, 1]);
            packet[46..48].copy_from_slice(&(length as u16).to_be_bytes());
            for (n, octet) in packet[48..].iter_mut().enumerate() {
                *octet = (n * 31 + len) as u8;
            }
        }
        let reply = answer(&mut reflector, &packet, &arrival()).expect("answered");
        assert_eq!(reply.len(), len);
        if len > 48 {
            assert_eq!(reply[44], 0, "U cleared");
            assert_eq!(reply[45..], packet[45..], "{len}");
        }
    }
}

#[test]
fn short_requests_are_refused_unless_twamp_light_is_on() {
    let mut strict = reflector(Config::default());
    let mut light = reflector(Config {
        twamp_light: true,
        ..Config::default()
    });
    for len in 0..44 {
        let packet = request(5, 6, 7, len);
        assert_eq!(
            answer(&mut strict, &packet, &arrival()),
            Err(Drop::TooShort)
        );
        let reply = answer(&mut light, &packet, &arrival());
        if len < 14 {
            assert_eq!(reply, Err(Drop::TooShort));
            continue;
        }
        let reply = reply.expect("answered");
        assert_eq!(reply.len(), 44);
        assert_eq!(number(&reply, 24), 5);
        assert_eq!(
            reply[14..16],
            [0, 0],
            "a short request has padding where the SSID would be"
        );
        assert_eq!(reply[41..44], [0, 0, 0]);
    }
    assert_eq!(strict.sessions(), 0, "a refused request begins no session");
}

#[test]
fn the_configured_minimum_holds() {
    let mut reflector = reflector(Config {
        min_request: 100,
        ..Config::default()
    });
    for (len, answered) in [(44, false), (99, false), (100, true), (101, true)] {
        let reply = answer(&mut reflector, &request(1, 2, 3, len), &arrival());
        assert_eq!(reply.map(|reply| reply.len()).ok(), answered.then_some(len));
    }
}

#[test]
fn a_request_longer_than_the_buffer_is_refused() {
    let mut reflector = reflector(Config::default());
    let mut buf = [0; 100];
    let result = reflector.answer(&mut buf, 101, &arrival(), CLOCK);
    assert_eq!(result, Err(Drop::TooLong));
}

#[test]
fn the_drops_have_distinct_words_and_places() {
    for (n, drop) in Drop::ALL.iter().enumerate() {
        assert_eq!(drop.index(), n);
        let same = Drop::ALL
            .iter()
            .filter(|other| other.as_str() == drop.as_str());
        assert_eq!(same.count(), 1);
    }
}
