use super::*;

fn long(first: u8, version: u32, to: &[u8], from: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(version.to_be_bytes());
    for id in [to, from] {
        bytes.push(id.len() as u8);
        bytes.extend(id);
    }
    bytes.extend(rest);
    bytes
}

fn parse(bytes: &[u8]) -> Result<Header<'_>, NotQuic> {
    Header::parse(bytes, bytes.len() as u32)
}

fn parsed_long(bytes: &[u8]) -> Long<'_> {
    match parse(bytes) {
        Ok(Header::Long(long)) => long,
        other => panic!("{other:?}"),
    }
}

/// RFC 9001 appendix A.2: the client's Initial, protected, from its first octet.
#[test]
fn the_initial_of_rfc_9001() {
    let mut bytes = vec![0xc0, 0, 0, 0, 1, 8];
    bytes.extend([0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08]);
    bytes.extend([0, 0, 0x44, 0x9e, 0x7b, 0x9a, 0xec, 0x34]);
    let whole = 1200;
    let Ok(Header::Long(long)) = Header::parse(&bytes, whole) else {
        panic!("not QUIC");
    };
    assert_eq!(long.kind, LongType::Initial);
    assert_eq!(
        long.destination.expect("captured").as_bytes(),
        [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08]
    );
    assert_eq!(long.source.expect("captured").as_bytes(), []);
    // 18 octets of header and 1182 of Length are the datagram.
    assert_eq!(long.handshake_follows, Some(false));
    assert_eq!(Header::parse(&bytes, 1199), Err(NotQuic::Length));
    // The octet behind it was not captured.
    let more = Header::parse(&bytes, 1300);
    assert!(matches!(more, Ok(Header::Long(long)) if long.handshake_follows.is_none()));
}

/// RFC 9001 appendix A.5: a short header with an empty connection ID, 21 octets.
#[test]
fn the_short_header_of_rfc_9001() {
    let mut bytes = [0; 21];
    bytes[0] = 0x4c;
    assert_eq!(parse(&bytes), Ok(Header::Short { spin: false }));
    bytes[0] = 0x6c;
    assert_eq!(parse(&bytes), Ok(Header::Short { spin: true }));
    assert_eq!(parse(&bytes[..20]), Err(NotQuic::TooShort));
    assert_eq!(
        Header::parse(&bytes[..1], 21),
        Ok(Header::Short { spin: true })
    );
    bytes[0] = 0x0c;
    assert_eq!(parse(&bytes), Err(NotQuic::FixedBit));
}

#[test]
fn types_by_version() {
    use LongType::{Handshake, Initial, Retry, ZeroRtt};
    for (version, kinds) in [
        (1, [Initial, ZeroRtt, Handshake, Retry]),
        (0xff00_001d, [Initial, ZeroRtt, Handshake, Retry]),
        (0x6b33_43cf, [Retry, Initial, ZeroRtt, Handshake]),
        (0x1a2a_3a4a, [LongType::Reserved; 4]),
        (0, [LongType::VersionNegotiation; 4]),
    ] {
        for (bits, kind) in (0_u8..).zip(kinds) {
            let bytes = long(0xc0 | bits << 4, version, &[1; 8], &[2; 4], &[0; 30]);
            assert_eq!(parsed_long(&bytes).kind, kind, "{version:x} {bits}");
        }
    }
    // Version Negotiation may lack the Fixed Bit, nothing else.
    assert_eq!(
        parsed_long(&long(0x80, 0, &[1], &[2], &[0; 4])).kind,
        LongType::VersionNegotiation
    );
    let bytes = long(0x80, 1, &[1], &[2], &[0; 30]);
    assert_eq!(parse(&bytes), Err(NotQuic::FixedBit));
}

#[test]
fn what_is_not_quic_and_why() {
    for (bytes, reason) in [
        (vec![], NotQuic::TooShort),
        // Google QUIC 46 and 43, DTLS, a random version.
        (
            long(0xc3, u32::from_be_bytes(*b"Q046"), &[1; 8], &[], &[0; 40]),
            NotQuic::Version,
        ),
        (b"\x0d\0\0\0\0\0\0\0\0Q043".to_vec(), NotQuic::FixedBit),
        (vec![22, 0xfe, 0xfd, 0, 0], NotQuic::FixedBit),
        (
            long(0xd3, 0x1234_5678, &[1; 8], &[], &[0; 40]),
            NotQuic::Version,
        ),
        (vec![0xc0, 0, 0, 0, 1], NotQuic::TooShort),
        (
            long(0xc0, 1, &[1; 21], &[], &[0; 40]),
            NotQuic::ConnectionId,
        ),
        (
            long(0xc0, 1, &[1; 8], &[2; 21], &[0; 40]),
            NotQuic::ConnectionId,
        ),
        // An ID of 20 octets in a payload of 12.
        (
            vec![0xc0, 0, 0, 0, 1, 20, 0, 0, 0, 0, 0, 0],
            NotQuic::ConnectionId,
        ),
        // A token, a Length that reach too far.
        (long(0xc0, 1, &[1], &[2], &[0x7f, 0xff, 0]), NotQuic::Length),
        (long(0xe0, 1, &[1], &[2], &[0x40, 0x20, 0]), NotQuic::Length),
    ] {
        assert_eq!(parse(&bytes), Err(reason), "{bytes:x?}");
    }
}

#[test]
fn a_cut_header_says_what_it_has() {
    let bytes = long(0xe0, 1, &[1; 20], &[2; 20], &[0x44, 0x00]);
    let cut = |len: usize| match Header::parse(&bytes[..len], 1200) {
        Ok(Header::Long(long)) => long,
        other => panic!("{other:?}"),
    };
    let shown = |id: Option<ConnectionId<'_>>| id.map(|id| id.as_bytes().len());
    for len in 6..bytes.len() {
        let long = cut(len);
        assert_eq!(shown(long.destination), (len >= 26).then_some(20), "{len}");
        assert_eq!(shown(long.source), (len >= 47).then_some(20), "{len}");
    }
    // Random octets with the right first ones differ by the digest of their IDs.
    let other = ConnectionId(&[3; 20]).digest();
    assert_ne!(cut(47).source.expect("captured").digest(), other);
    assert_eq!(version(&bytes), Some(1));
}

#[test]
fn a_handshake_packet_behind_an_initial_is_seen() {
    let handshake = long(0xe0, 1, &[1; 4], &[2; 4], &[0x10, 0]);
    for (next, follows) in [
        (&handshake[..], Some(true)),
        (&[0; 40][..], Some(false)),
        (&[][..], Some(false)),
        (&[0xc0, 0, 0, 0, 1, 0][..], Some(false)),
    ] {
        let mut bytes = long(0xc0, 1, &[1; 4], &[2; 4], &[0, 3, 9, 9, 9]);
        bytes.extend(next);
        assert_eq!(parsed_long(&bytes).handshake_follows, follows, "{next:x?}");
    }
}
