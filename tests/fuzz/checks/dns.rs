//! What holds for any octets as the start of a DNS message: more captured octets say more
//! than fewer, and never something else.
//!
//! Input: 2 octets, how many more the message has, then what was captured of it.

use wire::dns::{HEADER_LEN, Message};

pub(crate) fn check(data: &[u8]) {
    let Some((more, captured)) = data.split_first_chunk::<2>() else {
        return;
    };
    let whole = captured.len() as u32 + u32::from(u16::from_be_bytes(*more));
    let all = Message::parse(captured, whole);
    assert_eq!(
        all.is_err() && captured.len() < HEADER_LEN,
        captured.len() < HEADER_LEN
    );
    for len in HEADER_LEN..captured.len() {
        match (Message::parse(&captured[..len], whole), all) {
            (Err(fewer), Err(more)) => assert_eq!(fewer, more),
            (Err(fewer), Ok(_)) => panic!("{fewer:?} by {len} octets"),
            (Ok(fewer), Ok(more)) => {
                assert_eq!((fewer.id, fewer.is_response), (more.id, more.is_response));
                assert!(fewer.question.is_none() || fewer.question == more.question);
            }
            (Ok(fewer), Err(_)) => assert_eq!(fewer.question, None),
        }
    }
    if let Ok(message) = all {
        assert_ne!(message.question, Some(0));
    }
}
