use proptest::prelude::*;

use super::*;
use crate::tlv::HEADER_LEN;

/// RFC 8762 figure 2 with the SSID, by hand.
const REQUEST: [u8; 44] = {
    let mut octets = [0; 44];
    let head = [
        0x00, 0x00, 0x00, 0x2a, // sequence 42
        0xe9, 0x3c, 0x7f, 0x00, 0x80, 0x00, 0x00, 0x00, // timestamp
        0x85, 0x87, // S, scale 5, multiplier 135
        0xca, 0xfe, // SSID
    ];
    let mut at = 0;
    while at < head.len() {
        octets[at] = head[at];
        at += 1;
    }
    octets
};

/// RFC 8762 figure 5 by hand: each field has octets of its own.
const REPLY: [u8; 44] = [
    0x01, 0x02, 0x03, 0x04, // sequence
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, // timestamp
    0x4b, 0xd2, // error estimate: PTP, scale 11, multiplier 210
    0x21, 0x22, // SSID
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, // receive timestamp
    0x41, 0x42, 0x43, 0x44, // sender's sequence
    0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, // sender's timestamp
    0x85, 0x87, // sender's error estimate
    0x00, 0x00, // MBZ
    0xf9, // sender's TTL
    0x00, 0x00, 0x00, // MBZ
];

#[test]
fn request_deconstruct() {
    let request = Request::parse(&REQUEST).expect("a request");
    assert_eq!(request.sequence(), 42);
    assert_eq!(
        request.timestamp(),
        Timestamp([0xe9, 0x3c, 0x7f, 0, 0x80, 0, 0, 0])
    );
    assert_eq!(request.error_estimate(), ErrorEstimate(0x8587));
    assert_eq!(request.ssid(), 0xcafe);
    assert!(!request.is_short());
    assert_eq!(request.extension(), []);
    assert_eq!(request.as_bytes(), REQUEST);
}

#[test]
fn request_construct_leaves_no_garbage() {
    let fields = RequestFields {
        sequence: 42,
        timestamp: Timestamp([0xe9, 0x3c, 0x7f, 0, 0x80, 0, 0, 0]),
        error_estimate: ErrorEstimate(0x8587),
        ssid: 0xcafe,
    };
    let mut buf = [0xa5; 44];
    fields.emit(&mut buf).expect("room");
    assert_eq!(buf, REQUEST);

    let mut small = [0xa5; 43];
    assert_eq!(fields.emit(&mut small), Err(Reason::TooShort));
    assert_eq!(small, [0xa5; 43], "a refused write writes nothing");
}

#[test]
fn reply_deconstruct() {
    let reply = Reply::parse(&REPLY).expect("a reply");
    assert_eq!(reply.sequence(), 0x0102_0304);
    assert_eq!(reply.timestamp().0[0], 0x10);
    assert_eq!(reply.error_estimate().format(), TimestampFormat::Ptp);
    assert_eq!(reply.ssid(), 0x2122);
    assert_eq!(reply.receive_timestamp().0[7], 0x37);
    assert_eq!(reply.sender_sequence(), 0x4142_4344);
    assert_eq!(reply.sender_timestamp().0[0], 0x50);
    assert_eq!(reply.sender_error_estimate().format(), TimestampFormat::Ntp);
    assert_eq!(reply.sender_ttl(), 0xf9);
}

fn fields_of(reply: &Reply<'_>) -> ReplyFields {
    ReplyFields {
        sequence: reply.sequence(),
        timestamp: reply.timestamp(),
        error_estimate: reply.error_estimate(),
        ssid: reply.ssid(),
        receive_timestamp: reply.receive_timestamp(),
        sender_sequence: reply.sender_sequence(),
        sender_timestamp: reply.sender_timestamp(),
        sender_error_estimate: reply.sender_error_estimate(),
        sender_ttl: reply.sender_ttl(),
    }
}

#[test]
fn reply_construct_leaves_no_garbage() {
    let fields = fields_of(&Reply::parse(&REPLY).expect("a reply"));
    let mut buf = [0xa5; 44];
    fields.emit(&mut buf).expect("room");
    assert_eq!(buf, REPLY);
    let mut small = [0xa5; 43];
    assert_eq!(fields.emit(&mut small), Err(Reason::TooShort));
    assert_eq!(small, [0xa5; 43]);
}

#[test]
fn lengths() {
    for len in 0..=60 {
        let octets = [0xff; 60];
        let request = Request::parse(&octets[..len]);
        assert_eq!(request.is_ok(), len >= 14, "{len}");
        if let Ok(request) = request {
            assert_eq!(request.is_short(), len < 44);
            // Octets 14 and 15 of a TWAMP Light request are padding, not an SSID.
            assert_eq!(request.ssid(), if len < 44 { 0 } else { 0xffff });
            assert_eq!(request.extension().len(), len.saturating_sub(44));
        }
        let reply = Reply::parse(&octets[..len]);
        // Some old devices reply with 41 octets (stamp.md section 7).
        assert_eq!(reply.is_ok(), len >= 41, "{len}");
        if let Ok(reply) = reply {
            assert_eq!(reply.is_short(), len < 44);
            assert_eq!(reply.sender_ttl(), 0xff);
        }
    }
}

#[test]
fn must_be_zero_is_ignored_on_receipt() {
    // RFC 8762 §4.3.1: MBZ "MUST be ignored on receipt"; stamp-suite puts the SSID there.
    let mut dirty = REPLY;
    dirty[38..40].copy_from_slice(&[0x21, 0x22]);
    dirty[41..44].fill(0xff);
    let clean = Reply::parse(&REPLY).expect("a reply");
    let dirty = Reply::parse(&dirty).map(|r| fields_of(&r));
    assert_eq!(dirty, Ok(fields_of(&clean)));
}

#[test]
fn patching_changes_ten_octets() {
    let mut buf = [0xa5; 44];
    patch_send_timestamp(&mut buf, Timestamp([1; 8]), ErrorEstimate(0x0203)).expect("room");
    let mut expected = [0xa5; 44];
    expected[4..12].fill(1);
    expected[12..14].copy_from_slice(&[2, 3]);
    assert_eq!(buf, expected);
    let refused = patch_send_timestamp(&mut buf[..13], Timestamp([9; 8]), ErrorEstimate(9));
    assert_eq!(refused, Err(Reason::TooShort));
    assert_eq!(buf, expected);
}

proptest! {
    #[test]
    fn never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = Request::parse(&octets) {
            let _ = (request.sequence(), request.timestamp(), request.ssid());
            let _ = request.error_estimate().error_ns();
            prop_assert!(request.tlvs().count() <= octets.len() / HEADER_LEN + 1);
        }
        if let Ok(reply) = Reply::parse(&octets) {
            let _ = fields_of(&reply);
            prop_assert!(reply.tlvs().count() <= octets.len() / HEADER_LEN + 1);
        }
    }

    #[test]
    fn request_round_trip(sequence: u32, stamp: [u8; 8], estimate: u16, ssid: u16) {
        let fields = RequestFields {
            sequence,
            timestamp: Timestamp(stamp),
            error_estimate: ErrorEstimate(estimate),
            ssid,
        };
        let mut buf = [0xa5; 44];
        fields.emit(&mut buf).expect("room");
        let request = Request::parse(&buf).expect("a request");
        prop_assert_eq!(fields, RequestFields {
            sequence: request.sequence(),
            timestamp: request.timestamp(),
            error_estimate: request.error_estimate(),
            ssid: request.ssid(),
        });
    }

    #[test]
    fn reply_round_trip(mut octets: [u8; 32], tail: [u8; 12]) {
        octets[0] ^= tail[0];
        let mut packet = [0; 44];
        packet[..32].copy_from_slice(&octets);
        packet[32..].copy_from_slice(&tail);
        let fields = fields_of(&Reply::parse(&packet).expect("a reply"));
        let mut buf = [0xa5; 44];
        fields.emit(&mut buf).expect("room");
        // All but the MBZ octets are fields.
        packet[38..40].fill(0);
        packet[41..44].fill(0);
        prop_assert_eq!(buf, packet);
    }
}
