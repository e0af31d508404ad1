use proptest::prelude::*;

use super::*;

/// Ethernet, IPv4 without options, UDP, five octets. Whole packets of another program are
/// in tests/oracles.
const UDP_V4: [u8; 47] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
    0x45, 0xb8, 0, 33, 0, 1, 0x40, 0, 255, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7, // IPv4
    0x9c, 0x40, 0x03, 0x5e, 0, 13, 0, 0, // UDP
    b'h', b'e', b'l', b'l', b'o',
];

fn changed(at: usize, octets: &[u8]) -> Vec<u8> {
    let mut frame = UDP_V4.to_vec();
    frame[at..at + octets.len()].copy_from_slice(octets);
    frame
}

#[test]
fn deconstruct() {
    assert_eq!(
        Frame::parse(&UDP_V4),
        Ok(Frame {
            l3: 14,
            source: "192.0.2.1".parse().expect("an address"),
            destination: "198.51.100.7".parse().expect("an address"),
            protocol: 17,
            ttl: 255,
            tos: 0xb8,
            ip_len: 33,
            dont_fragment: true,
            fragment_offset: 0,
            more_fragments: false,
            ports: Some((40_000, 862)),
            l4: 34,
            payload: 42..47,
        })
    );
    let ip = Frame::parse_ip(&UDP_V4[14..], 0).expect("IPv4");
    assert_eq!((ip.l3, ip.l4, ip.payload), (0, 20, 28..33));
}

#[test]
fn every_cut_is_an_error() {
    for len in 0..UDP_V4.len() {
        let reason = Frame::parse(&UDP_V4[..len]).expect_err("cut");
        let expected = if len < 34 {
            Reason::TooShort
        } else {
            Reason::Truncated
        };
        assert_eq!(reason, expected, "{len}");
    }
}

#[test]
fn impossible_fields() {
    for (at, octets, reason) in [
        (12, &[0x08, 0x06][..], Reason::NotOurs), // ARP
        (12, &[0x00, 0x05], Reason::NotOurs),     // an 802.3 length
        (14, &[0x55], Reason::BadVersion),
        (14, &[0x65], Reason::TooShort),  // IPv6 has 40 octets
        (14, &[0x44], Reason::BadLength), // a header of 16 octets
        (14, &[0x4f], Reason::BadLength), // a header of 60 octets in a packet of 33
        (16, &[0, 19], Reason::BadLength),
        (16, &[0, 0], Reason::BadLength), // what TSO leaves in a captured packet
        (16, &[0, 34], Reason::Truncated),
        (16, &[0, 27], Reason::TooShort), // a UDP header of seven octets
        (38, &[0, 7], Reason::BadLength),
        (38, &[0, 14], Reason::BadLength), // more than IP has
        (23, &[6], Reason::TooShort),      // a TCP header of 13 octets
    ] {
        assert_eq!(
            Frame::parse(&changed(at, octets)),
            Err(reason),
            "{at} {octets:?}"
        );
    }
}

#[test]
fn udp_padding_inside_ip_is_no_payload() {
    let frame = Frame::parse(&changed(38, &[0, 10])).expect("UDP");
    assert_eq!(frame.payload, 42..44);
    assert_eq!(frame.segment(), 34..47);
}

#[test]
fn fragments() {
    // First fragment, too short for the UDP header.
    let mut frame = changed(20, &[0x20, 0]);
    frame[17] = 24;
    let first = Frame::parse(&frame).expect("a fragment");
    assert!(first.is_fragment() && first.more_fragments);
    assert_eq!((first.ports, first.payload), (None, 34..38));
    // The last possible offset; its octets are not read as UDP.
    let later = Frame::parse(&changed(20, &[0x1f, 0xff])).expect("a fragment");
    assert_eq!(
        (later.fragment_offset, later.more_fragments),
        (65_528, false)
    );
    assert!(later.is_fragment());
    assert_eq!((later.ports, later.payload), (None, 34..47));
}

#[test]
fn tags() {
    let tagged = |tags: usize| {
        let mut frame = UDP_V4[..12].to_vec();
        for _ in 0..tags {
            frame.extend([0x81, 0x00, 0x00, 0x07]);
        }
        frame.extend(&UDP_V4[12..]);
        frame
    };
    for tags in 0..=2 {
        let frame = Frame::parse(&tagged(tags)).expect("at most two tags");
        assert_eq!(frame.l3, 14 + 4 * tags);
        assert_eq!(frame.payload, 42 + 4 * tags..47 + 4 * tags);
    }
    assert_eq!(Frame::parse(&tagged(3)), Err(Reason::TooManyTags));
}

/// IPv6 with `chain` (kind, octets) before UDP with nothing in it.
fn v6(chain: &[(u8, &[u8])]) -> Vec<u8> {
    let body: usize = chain.iter().map(|(_, octets)| octets.len()).sum();
    let mut packet = vec![
        0x60,
        0,
        0,
        0,
        0,
        u8::try_from(body + 8).expect("short"),
        17,
        64,
    ];
    packet.extend([0x20; 32]);
    let mut next_at = 6;
    for (kind, octets) in chain {
        packet[next_at] = *kind;
        next_at = packet.len();
        packet.extend(*octets);
        packet[next_at] = 17;
    }
    packet.extend([0, 1, 0, 2, 0, 8, 0, 0]);
    packet
}

#[test]
fn extension_headers() {
    let options: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
    let authentication: &[u8] = &[
        0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
    ];
    let atomic: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1];
    let chain = [
        (0, options),
        (60, options),
        (43, options),
        (44, atomic),
        (51, authentication),
    ];
    let frame = Frame::parse_ip(&v6(&chain), 0).expect("UDP");
    assert_eq!((frame.l4, frame.ports), (40 + 4 * 8 + 24, Some((1, 2))));
    assert!(
        !frame.is_fragment(),
        "RFC 6946: an atomic fragment is whole"
    );

    let many = [(60, options); 9];
    assert_eq!(
        Frame::parse_ip(&v6(&many), 0),
        Err(Reason::TooManyExtensions)
    );
    assert!(Frame::parse_ip(&v6(&many[1..]), 0).is_ok());
    // A header that reaches past the packet's end.
    let long: &[u8] = &[0, 255, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        Frame::parse_ip(&v6(&[(60, long)]), 0),
        Err(Reason::BadLength)
    );
    // ESP is where looking ends.
    let frame = Frame::parse_ip(&v6(&[(50, options)]), 0).expect("ESP");
    assert_eq!((frame.protocol, frame.ports, frame.l4), (50, None, 40));
}

#[test]
fn a_later_ipv6_fragment_is_data_whatever_it_looks_like() {
    // Offset 8, more to come; Next Header says destination options, the data do not.
    let mut packet = v6(&[(44, &[0, 0, 0, 9, 0, 0, 0, 1])]);
    packet[40] = 60;
    let frame = Frame::parse_ip(&packet, 0).expect("a fragment");
    assert_eq!((frame.fragment_offset, frame.more_fragments), (8, true));
    assert_eq!((frame.protocol, frame.l4, frame.payload), (60, 48, 48..56));
}

#[test]
fn a_header_past_the_end_by_one_unit() {
    let long: &[u8] = &[0, 2, 0, 0, 0, 0, 0, 0];
    let parsed = Frame::parse_ip(&v6(&[(60, long)]), 0);
    assert_eq!(parsed, Err(Reason::BadLength));
}

#[test]
fn tcp_data_offset() {
    // IPv4 with `flags`, then 24 octets of TCP whose header claims `words`.
    let parse = |words: u8, flags: u8| {
        let mut packet = UDP_V4[14..34].to_vec();
        packet[3] = 44;
        packet[6] = flags;
        packet[9] = 6;
        packet.extend([0; 24]);
        packet[32] = words << 4;
        Frame::parse_ip(&packet, 0).map(|frame| frame.payload)
    };
    assert_eq!(parse(5, 0x40), Ok(40..44));
    assert_eq!(parse(6, 0x40), Ok(44..44));
    assert_eq!(parse(4, 0x40), Err(Reason::BadLength));
    assert_eq!(parse(7, 0x40), Err(Reason::BadLength));
    // The rest of the header may be in the next fragment.
    assert_eq!(parse(7, 0x20), Ok(44..44));
}

fn check_ranges(octets: &[u8], frame: &Frame) -> Result<(), TestCaseError> {
    prop_assert!(frame.ip().end <= octets.len());
    prop_assert!(frame.l3 < frame.l4 && frame.l4 <= frame.ip().end);
    prop_assert!(octets.get(frame.segment()).is_some());
    prop_assert!(octets.get(frame.payload.clone()).is_some());
    prop_assert!(frame.l4 <= frame.payload.start && frame.payload.end <= frame.ip().end);
    Ok(())
}

proptest! {
    #[test]
    fn never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200), l3 in 0_usize..210) {
        for parsed in [Frame::parse(&octets), Frame::parse_ip(&octets, l3)].into_iter().flatten() {
            check_ranges(&octets, &parsed)?;
        }
    }

    #[test]
    fn never_panics_on_nearly_good_ones(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        six: bool,
    ) {
        let options: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
        let mut octets = UDP_V4.to_vec();
        if six {
            octets.truncate(12);
            octets.extend([0x86, 0xdd]);
            octets.extend(v6(&[(0, options), (44, options), (60, options)]));
        }
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        if let Ok(frame) = Frame::parse(&octets) {
            check_ranges(&octets, &frame)?;
        }
    }
}
