use proptest::prelude::*;

use super::*;

/// `printf` of an echo request with its checksum; those of another program are in
/// tests/oracles. 0x0800 + 0x1234 + 0x0001 + 0xabcd = 0xc602.
const REQUEST: [u8; 10] = [8, 0, 0x39, 0xfd, 0x12, 0x34, 0, 1, 0xab, 0xcd];

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

/// 40 octets of IPv4 with DF and UDP.
fn original() -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7, // IPv4
        0x9c, 0x40, 0x03, 0x5e, 0, 20, 0, 0, // UDP
    ];
    packet.extend(0..12);
    packet
}

#[test]
fn echo_deconstruct() {
    let echo = Echo::parse(false, &REQUEST);
    assert_eq!(
        echo,
        Ok(Some(Echo {
            is_reply: false,
            ident: 0x1234,
            sequence: 1,
            payload: &[0xab, 0xcd],
        }))
    );
}

#[test]
fn echo_construct() {
    let mut buf = [0xa5; 10];
    buf[8..].copy_from_slice(&[0xab, 0xcd]);
    emit_request(false, &mut buf, 0x1234, 1).expect("room");
    assert_eq!(buf, REQUEST);
    emit_request(true, &mut buf, 0x1234, 1).expect("room");
    assert_eq!(buf, [128, 0, 0, 0, 0x12, 0x34, 0, 1, 0xab, 0xcd]);
    let mut small = [0xa5; 7];
    assert_eq!(emit_request(false, &mut small, 1, 1), Err(Reason::TooShort));
    assert_eq!(small, [0xa5; 7]);
}

#[test]
fn echo_three_ways() {
    for len in 0..8 {
        assert_eq!(Echo::parse(false, &REQUEST[..len]), Err(Reason::TooShort));
    }
    let mut corrupt = REQUEST;
    corrupt[9] ^= 1;
    assert_eq!(Echo::parse(false, &corrupt), Err(Reason::BadChecksum));
    // The numbers of one family mean something else in the other: 8 is no echo in ICMPv6.
    assert_eq!(Echo::parse(true, &REQUEST), Ok(None));
    for (kind, code) in [(3, 4), (11, 0), (8, 1), (0, 9), (128, 0)] {
        let mut other = REQUEST;
        other[0] = kind;
        other[1] = code;
        assert_eq!(Echo::parse(false, &other), Ok(None));
    }
}

#[test]
fn payload_both_ways() {
    let payload = EchoPayload {
        nonce: 0x0102_0304,
        sequence: 0x0506_0708,
        sent: WallNanos(0x1112_1314_1516_1718),
    };
    let octets = [
        b'N', b'S', b'e', b'c', 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
        0x18,
    ];
    let mut data = [0xa5; 22];
    payload.emit(&mut data).expect("room");
    assert_eq!(data[..20], octets);
    assert_eq!(data[20..], [0xa5, 0xa5]);
    assert_eq!(EchoPayload::parse(&data), Ok(payload));
    assert_eq!(EchoPayload::parse(&data[..19]), Err(Reason::NotOurs));
    data[3] ^= 1;
    assert_eq!(EchoPayload::parse(&data), Err(Reason::NotOurs));
    let mut small = [0xa5; 19];
    assert_eq!(payload.emit(&mut small), Err(Reason::TooShort));
    assert_eq!(small, [0xa5; 19]);
}

#[test]
fn too_big_quotes_the_packet_without_padding() {
    let mut packet = original();
    packet.extend([0xee; 6]);
    let mut buf = [0xa5; 576];
    assert_eq!(emit_too_big(&mut buf, &packet, 1500, FROM), Some(68));
    assert_eq!(buf[28..68], packet[..40]);
    assert_eq!(buf[68], 0xa5);
    assert!(checksum::verify(&buf[..20]) && checksum::verify(&buf[20..68]));
    assert_eq!(buf[20..28], [3, 4, buf[22], buf[23], 0, 0, 0x05, 0xdc]);
    // No room: nothing is written.
    let mut small = [0xa5; 67];
    assert_eq!(emit_too_big(&mut small, &packet, 1500, FROM), None);
    assert_eq!(small, [0xa5; 67]);
    // IPv4's field has 16 bits.
    assert!(emit_too_big(&mut buf, &packet, 70_000, FROM).is_some());
    assert_eq!(buf[26..28], [0xff, 0xff]);
}

#[test]
fn too_big_is_never_said_of_these() {
    let v6: IpAddr = "2001:db8::9".parse().expect("an address");
    let mut buf = [0; 1280];
    for (what, at, octets) in [
        ("without DF", 6, &[0x00, 0x00][..]),
        ("a later fragment", 6, &[0x40, 0x01]),
        ("from nobody", 12, &[0, 0, 0, 0]),
        ("from everybody", 12, &[255, 255, 255, 255]),
        ("from the loopback", 12, &[127, 0, 0, 1]),
        ("from a group", 12, &[224, 0, 0, 1]),
        ("to a group", 16, &[224, 0, 0, 1]),
        ("to everybody", 16, &[255, 255, 255, 255]),
        ("not IP", 0, &[0x75]),
    ] {
        let mut packet = original();
        packet[at..at + octets.len()].copy_from_slice(octets);
        assert_eq!(emit_too_big(&mut buf, &packet, 1500, FROM), None, "{what}");
    }
    assert_eq!(emit_too_big(&mut buf, &original(), 1500, v6), None);
    // RFC 1122 §3.2.2: not "as the result of receiving [...] an ICMP error message", but an
    // echo request is none.
    for (kind, answered) in [
        (3, false),
        (4, false),
        (5, false),
        (11, false),
        (12, false),
        (8, true),
        (0, true),
    ] {
        let mut packet = original();
        packet[9] = 1;
        packet[20] = kind;
        let said = emit_too_big(&mut buf, &packet, 1500, FROM);
        assert_eq!(said.is_some(), answered, "type {kind}");
    }
    let mut echo = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
    echo.extend([0x20; 32]);
    echo.extend([128, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, answered) in [
        (1, false),
        (2, false),
        (127, false),
        (137, false),
        (128, true),
        (129, true),
    ] {
        echo[40] = kind;
        let said = emit_too_big(&mut buf, &echo, 1280, v6);
        assert_eq!(said.is_some(), answered, "type {kind}");
    }
}

proptest! {
    #[test]
    fn echo_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..60), v6: bool) {
        if let Ok(Some(echo)) = Echo::parse(v6, &octets) {
            let _ = EchoPayload::parse(echo.payload);
        }
    }

    #[test]
    fn echo_round_trip(v6: bool, ident: u16, sequence: u16, nonce: u32, number: u32, sent: u64, padding in 0_usize..1500) {
        let mut buf = vec![0xa5; ECHO_LEN + EchoPayload::LEN + padding];
        let payload = EchoPayload { nonce, sequence: number, sent: WallNanos(sent) };
        payload.emit(&mut buf[ECHO_LEN..]).expect("room");
        emit_request(v6, &mut buf, ident, sequence).expect("room");
        let echo = Echo::parse(v6, &buf).expect("intact").expect("an echo");
        prop_assert_eq!((echo.is_reply, echo.ident, echo.sequence), (false, ident, sequence));
        prop_assert_eq!(EchoPayload::parse(echo.payload), Ok(payload));
    }

    #[test]
    fn too_big_never_panics_and_is_valid(
        octets in proptest::collection::vec(any::<u8>(), 0..100),
        changes in proptest::collection::vec((0_usize..40, any::<u8>()), 0..4),
        mtu: u32,
        room in 0_usize..1300,
    ) {
        let v6: IpAddr = "2001:db8::9".parse().expect("an address");
        let mut nearly = original();
        for (at, octet) in changes {
            nearly[at] = octet;
        }
        for packet in [&octets, &nearly] {
            for from in [FROM, v6] {
                let mut buf = vec![0xa5; room];
                let Some(total) = emit_too_big(&mut buf, packet, mtu, from) else {
                    prop_assert!(buf.iter().all(|octet| *octet == 0xa5));
                    continue;
                };
                let frame = Frame::parse_ip(&buf[..total], 0).expect("an IP packet");
                prop_assert_eq!((frame.source, frame.ip_len), (from, total));
                let most = if from.is_ipv4() { 576 } else { 1280 };
                prop_assert!(total <= most);
                // Nobody complains about a complaint.
                prop_assert!(is_icmp_error(&frame, &buf));
            }
        }
    }
}
