//! What holds for any octets as the start of a UDP payload: more captured octets say more
//! than fewer, and never something else.
//!
//! Input: 2 octets, how many more the payload has, then what was captured of it.

use wire::quic::{Header, NotQuic};

pub(crate) fn check(data: &[u8]) {
    let Some((more, captured)) = data.split_first_chunk::<2>() else {
        return;
    };
    let whole = captured.len() as u32 + u32::from(u16::from_be_bytes(*more));
    let all = Header::parse(captured, whole);
    for len in 1..captured.len() {
        match (Header::parse(&captured[..len], whole), all) {
            (Err(NotQuic::TooShort), _) | (Ok(_), Err(_)) => {}
            (Err(fewer), Err(more)) => assert_eq!(fewer, more),
            (Err(fewer), Ok(_)) => panic!("{fewer:?} by {len} octets"),
            (Ok(Header::Long(fewer)), Ok(Header::Long(more))) => {
                assert_eq!(fewer.kind, more.kind);
                for (fewer, more) in [
                    (fewer.destination, more.destination),
                    (fewer.source, more.source),
                ] {
                    assert!(fewer.is_none() || fewer == more);
                }
                let follows = fewer.handshake_follows;
                assert!(follows.is_none() || follows == more.handshake_follows);
            }
            (Ok(fewer), Ok(more)) => assert_eq!(fewer, more),
        }
    }
    if let Ok(Header::Long(long)) = all {
        for id in [long.destination, long.source].into_iter().flatten() {
            assert!(id.as_bytes().len() <= 20 && id.digest() != 0);
        }
    }
}
