use super::*;

fn message(flags: [u8; 2], questions: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, flags[0], flags[1]];
    bytes.extend(questions.to_be_bytes());
    bytes.extend([0; 6]);
    bytes.extend(rest);
    bytes
}

fn parse(bytes: &[u8]) -> Result<Message, Reason> {
    Message::parse(bytes, bytes.len() as u32)
}

const EXAMPLE: &[u8] = b"\x07example\x03org\0\0\x1c\0\x01";

#[test]
fn a_query_and_its_response() {
    let query = parse(&message([1, 0], 1, EXAMPLE)).expect("DNS");
    assert_eq!((query.id, query.is_response), (0x1234, false));
    assert_eq!((query.opcode, query.questions), (0, 1));
    assert!(query.question.is_some());
    // In another case, with an answer behind it, NXDOMAIN.
    let mut rest = b"\x07eXAMPLE\x03Org\0\0\x1c\0\x01".to_vec();
    rest.extend([0xc0, 12, 0, 1]);
    let response = parse(&message([0x81, 0x83], 1, &rest)).expect("DNS");
    assert_eq!((response.is_response, response.rcode), (true, 3));
    assert_eq!(response.question, query.question);
    // Another name, type, class; labels cut elsewhere.
    for other in [
        &b"\x07example\x03com\0\0\x1c\0\x01"[..],
        b"\x07example\x03org\0\0\x01\0\x01",
        b"\x07example\x03org\0\0\x1c\0\x03",
        b"\x06exampl\x04eorg\0\0\x1c\0\x01",
    ] {
        let other = parse(&message([1, 0], 1, other)).expect("DNS");
        assert_ne!(other.question, query.question);
    }
}

#[test]
fn what_is_cut_has_no_digest() {
    let bytes = message([1, 0], 1, EXAMPLE);
    for len in 0..bytes.len() {
        let cut = Message::parse(&bytes[..len], bytes.len() as u32);
        if len < HEADER_LEN {
            assert_eq!(cut, Err(Reason::TooShort));
        } else {
            assert_eq!(cut.expect("DNS").question, None);
            // The same octets as a whole message are malformed.
            assert_eq!(parse(&bytes[..len]), Err(Reason::BadLength), "{len}");
        }
    }
    assert_eq!(
        parse(&message([0x81, 5], 0, &[])).expect("DNS").question,
        None
    );
    // The root.
    assert!(
        parse(&message([1, 0], 1, &[0, 0, 2, 0, 1]))
            .expect("DNS")
            .question
            .is_some()
    );
}

#[test]
fn what_is_not_dns_and_why() {
    // RFC 1035 §2.3.4: 255 octets are a name, 256 are not.
    let name = |last: usize| {
        let mut name = [&[63][..], &[b'a'; 63]].concat().repeat(3);
        name.push(last as u8);
        name.extend(vec![b'a'; last]);
        name.extend([0, 0, 1, 0, 1]);
        message([1, 0], 1, &name)
    };
    assert!(parse(&name(61)).is_ok());
    for (bytes, reason) in [
        (message([0x18, 0], 1, EXAMPLE), Reason::NotOurs),
        (message([0x78, 0], 1, EXAMPLE), Reason::NotOurs),
        (message([1, 0], 2, EXAMPLE), Reason::NotOurs),
        (message([1, 0], 1, &[0xc0, 12, 0, 1, 0, 1]), Reason::NotOurs),
        (message([1, 0], 1, &[64; 80]), Reason::NotOurs),
        (message([1, 0], 1, &[63; 40]), Reason::BadLength),
        (name(62), Reason::BadLength),
    ] {
        assert_eq!(parse(&bytes), Err(reason), "{bytes:x?}");
    }
}
