//! Packets made by another program (scapy 2.8.0, see vectors.py) read and rewritten by ours.
#![forbid(unsafe_code)]

mod vectors;

use base::WallNanos;
use netsonde_wire as wire;
use wire::stamp::{ErrorEstimate, Reply, ReplyFields, Request, RequestFields, TimestampFormat};
use wire::tlv::TlvFlags;
use wire::{Reason, checksum, frame::Frame, icmp, tlv};

/// 2027-01-15 08:00:00 UTC, the second in which the vectors were "sent".
const SENT: u64 = 1_800_000_000_000_000_000;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

#[test]
fn stamp_request_deconstructed_and_made_again() {
    let packet = hex(vectors::STAMP_REQUEST);
    let request = Request::parse(&packet).expect("a request");
    assert!(!request.is_short());
    assert_eq!(request.sequence(), 0x0102_0304);
    assert_eq!(request.ssid(), 0xbeef);
    let estimate = request.error_estimate();
    assert!(estimate.synchronised());
    assert_eq!(estimate.format(), TimestampFormat::Ntp);
    assert_eq!((estimate.scale(), estimate.multiplier()), (5, 135));
    let sent = request
        .timestamp()
        .decode(estimate.format(), 0, WallNanos(SENT));
    assert_eq!(sent, WallNanos(SENT + 250_000_000));
    let tlvs: Vec<_> = request.tlvs().map(|tlv| tlv.expect("whole")).collect();
    let seen: Vec<_> = tlvs.iter().map(|t| (t.flags.0, t.kind, t.value)).collect();
    let expected: [(u8, u8, &[u8]); 3] = [
        (0x80, 241, &[0, 1, 2, 3]),
        (0x80, 1, &[]),
        (0x80, 1, b"padpad"),
    ];
    assert_eq!(seen, expected);

    let mut buf = vec![0xa5; packet.len()];
    RequestFields {
        sequence: 0x0102_0304,
        timestamp: wire::stamp::Timestamp::encode(sent, TimestampFormat::Ntp, 0),
        error_estimate: ErrorEstimate::new(true, TimestampFormat::Ntp, 1_000),
        ssid: 0xbeef,
    }
    .emit(&mut buf)
    .expect("room");
    let mut at = 44;
    for (flags, kind, value) in expected {
        at += tlv::emit(&mut buf[at..], TlvFlags(flags), kind, value);
    }
    assert_eq!(at, packet.len());
    assert_eq!(buf, packet);
}

#[test]
fn stamp_reply_deconstructed_and_made_again() {
    let packet = hex(vectors::STAMP_REPLY);
    let reply = Reply::parse(&packet).expect("a reply");
    let near = WallNanos(SENT);
    assert_eq!(reply.sequence(), u32::MAX);
    assert_eq!(reply.ssid(), 0xbeef);
    assert_eq!(reply.sender_sequence(), 0x0102_0304);
    assert_eq!(reply.sender_ttl(), 250);
    assert!(!reply.error_estimate().synchronised());
    assert_eq!(reply.error_estimate().scale(), 11);
    assert_eq!(reply.error_estimate().multiplier(), 210);
    assert_eq!(reply.sender_error_estimate().0, 0x8587);
    for (stamp, quarter) in [
        (reply.sender_timestamp(), 1),
        (reply.receive_timestamp(), 2),
        (reply.timestamp(), 3),
    ] {
        let at = stamp.decode(TimestampFormat::Ntp, 0, near);
        assert_eq!(at, WallNanos(SENT + quarter * 250_000_000));
    }
    assert_eq!(reply.tlvs().count(), 0);

    let mut buf = vec![0xa5; packet.len() + 2];
    ReplyFields {
        sequence: reply.sequence(),
        timestamp: reply.timestamp(),
        error_estimate: ErrorEstimate::new(false, TimestampFormat::Ntp, 100_000),
        ssid: reply.ssid(),
        receive_timestamp: reply.receive_timestamp(),
        sender_sequence: reply.sender_sequence(),
        sender_timestamp: reply.sender_timestamp(),
        sender_error_estimate: reply.sender_error_estimate(),
        sender_ttl: 250,
    }
    .emit(&mut buf)
    .expect("room");
    assert_eq!(buf[..44], packet);
    assert_eq!(
        buf[44..],
        [0xa5, 0xa5],
        "octets after the base are another's"
    );
}

#[test]
fn stamp_timestamps_of_other_eras_and_formats() {
    let packet = hex(vectors::STAMP_ERA_1);
    let stamp = Request::parse(&packet).expect("a request").timestamp();
    // `date -u -d '2036-02-07 06:28:16' +%s`
    let turn = WallNanos(2_085_978_496_000_000_000);
    let hour_before = turn.offset(-3_600_000_000_000);
    assert_eq!(stamp.decode(TimestampFormat::Ntp, 0, hour_before), turn);

    let packet = hex(vectors::STAMP_PTP);
    let request = Request::parse(&packet).expect("a request");
    assert_eq!(request.error_estimate().format(), TimestampFormat::Ptp);
    let at = request
        .timestamp()
        .decode(TimestampFormat::Ptp, 37, WallNanos(SENT));
    assert_eq!(at, WallNanos(SENT + 999_999_999));
}

/// Name, octets of headers to the UDP payload, TTL, TOS.
const UDP_FRAMES: [(&str, usize, u8, u8); 4] = [
    (vectors::UDP_V4, 14 + 20 + 8, 255, 0xb8),
    (vectors::UDP_V6, 14 + 40 + 8, 255, 0xb8),
    (vectors::UDP_V4_QINQ, 22 + 24 + 8, 64, 0),
    (vectors::UDP_V6_EXTENSIONS, 14 + 40 + 16 + 8, 64, 0),
];

#[test]
fn frames_down_to_the_payload() {
    let request = hex(vectors::STAMP_REQUEST);
    for (text, at, ttl, tos) in UDP_FRAMES {
        let mut octets = hex(text);
        let whole = octets.len();
        // Ethernet pads; the padding is no payload.
        octets.extend([0xee; 18]);
        let frame = Frame::parse(&octets).expect(text);
        assert_eq!(frame.payload, at..whole);
        assert_eq!(octets[frame.payload.clone()], request);
        assert_eq!(frame.segment(), at - 8..whole);
        assert_eq!(frame.ip().end, whole);
        assert_eq!((frame.protocol, frame.ports), (17, Some((40_000, 862))));
        assert_eq!((frame.ttl, frame.tos), (ttl, tos));
        assert!(!frame.is_fragment());
        assert!(checksum::verify_transport(
            frame.source,
            frame.destination,
            17,
            &octets[frame.segment()]
        ));
    }
    let v4 = Frame::parse(&hex(vectors::UDP_V4)).expect("IPv4");
    assert_eq!(v4.source.to_string(), "192.0.2.1");
    assert_eq!(v4.destination.to_string(), "198.51.100.7");
    assert!(v4.dont_fragment);
    assert!(
        !Frame::parse(&hex(vectors::UDP_V4_QINQ))
            .expect("IPv4")
            .dont_fragment
    );
    let v6 = Frame::parse(&hex(vectors::UDP_V6)).expect("IPv6");
    assert_eq!(v6.source.to_string(), "2001:db8::1");
    assert_eq!(v6.destination.to_string(), "2001:db8:1::7");
}

#[test]
fn tcp_arp_and_fragments() {
    let octets = hex(vectors::TCP_V4);
    let tcp = Frame::parse(&octets).expect("TCP");
    assert_eq!((tcp.protocol, tcp.ports), (6, Some((1, 65_535))));
    assert_eq!(&octets[tcp.payload.clone()], b"abc");
    assert!(checksum::verify_transport(
        tcp.source,
        tcp.destination,
        6,
        &octets[tcp.segment()]
    ));
    assert_eq!(Frame::parse(&hex(vectors::ARP)), Err(Reason::NotOurs));

    let octets = hex(vectors::FRAGMENT_FIRST);
    let first = Frame::parse(&octets).expect("first fragment");
    assert_eq!((first.fragment_offset, first.more_fragments), (0, true));
    assert_eq!(first.ports, Some((40_000, 862)));
    assert_eq!(first.payload.len(), 32);
    let later = Frame::parse(&hex(vectors::FRAGMENT_LATER)).expect("later fragment");
    assert_eq!((later.fragment_offset, later.more_fragments), (40, false));
    assert_eq!(later.ports, None);
    let v6 = Frame::parse(&hex(vectors::FRAGMENT_V6_LATER)).expect("later fragment");
    assert_eq!((v6.fragment_offset, v6.more_fragments), (40, true));
    assert_eq!((v6.protocol, v6.ports), (17, None));
    assert_eq!(v6.payload, 14 + 48..14 + 48 + 16);
}

#[test]
fn checksums_are_those_of_another_program() {
    for (text, ..) in UDP_FRAMES {
        let mut octets = hex(text);
        let frame = Frame::parse(&octets).expect(text);
        let at = frame.l4 + 6;
        let theirs = u16::from_be_bytes([octets[at], octets[at + 1]]);
        octets[at..at + 2].fill(0);
        let segment = &octets[frame.segment()];
        let ours = checksum::transport(frame.source, frame.destination, 17, segment);
        assert_eq!(ours, theirs);
        if frame.source.is_ipv4() {
            let header = frame.l3..frame.l4;
            assert!(checksum::verify(&octets[header.clone()]));
            octets[frame.l3 + 8] ^= 1;
            assert!(!checksum::verify(&octets[header]));
        }
    }
}

#[test]
fn echo_of_both_families() {
    for (v6, is_reply, text) in [
        (false, false, vectors::ECHO_REQUEST_V4),
        (false, true, vectors::ECHO_REPLY_V4),
        (true, false, vectors::ECHO_REQUEST_V6),
        (true, true, vectors::ECHO_REPLY_V6),
    ] {
        let octets = hex(text);
        let message = if v6 { &octets[40..] } else { &octets[..] };
        let echo = icmp::Echo::parse(v6, message)
            .expect("well-formed")
            .expect("an echo");
        assert_eq!(echo.is_reply, is_reply);
        assert_eq!((echo.ident, echo.sequence), (0x1234, 0x5678));
        assert_eq!(echo.payload, b"payload");
        if is_reply {
            continue;
        }
        let mut buf = [0xa5; 15];
        buf[8..].copy_from_slice(b"payload");
        icmp::emit_request(v6, &mut buf, 0x1234, 0x5678).expect("room");
        if v6 {
            // The kernel fills the checksum in; here we do.
            let frame = Frame::parse_ip(&octets, 0).expect("IPv6");
            let check = checksum::transport(frame.source, frame.destination, 58, &buf);
            buf[2..4].copy_from_slice(&check.to_be_bytes());
        }
        assert_eq!(buf, message);
    }
}

#[test]
fn too_big_is_what_another_router_would_say() {
    for (big, expected, mtu, from) in [
        (vectors::BIG_V4, vectors::TOO_BIG_V4, 600, "203.0.113.9"),
        (vectors::BIG_V6, vectors::TOO_BIG_V6, 1280, "2001:db8:9::9"),
    ] {
        let (big, expected) = (hex(big), hex(expected));
        let from = from.parse().expect("an address");
        let mut buf = [0xa5; 1300];
        let octets = icmp::emit_too_big(&mut buf, &big, mtu, from).expect("an answer");
        assert_eq!(&buf[..octets], expected);
        // And nobody complains about a complaint.
        let complaint = &expected[..];
        assert_eq!(icmp::emit_too_big(&mut buf, complaint, mtu, from), None);
    }
}
