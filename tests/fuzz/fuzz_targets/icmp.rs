//! Echo parsing with the checksum made right, so that it hides nothing; and "too big"
//! errors about any packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::frame::Frame;
use wire::icmp::{self, Echo, EchoPayload};
use wire::{Reason, checksum};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let v6 = choice & 1 != 0;
    let mut message = data.to_vec();
    if choice & 2 != 0 && message.len() >= 8 {
        message[2..4].fill(0);
        let check = checksum::internet(&message);
        message[2..4].copy_from_slice(&check.to_be_bytes());
    }
    match Echo::parse(v6, &message) {
        Ok(Some(echo)) => {
            let mut again = message.clone();
            icmp::emit_request(v6, &mut again, echo.ident, echo.sequence).expect("room");
            let made = Echo::parse(v6, &again).expect("intact").expect("an echo");
            assert_eq!((made.ident, made.sequence), (echo.ident, echo.sequence));
            assert_eq!(made.payload, echo.payload);
            let _ = EchoPayload::parse(echo.payload);
        }
        Ok(None) => {}
        Err(reason) => assert!(matches!(reason, Reason::TooShort | Reason::BadChecksum)),
    }

    let from = if v6 { "2001:db8::9" } else { "203.0.113.9" };
    let from = from.parse().expect("an address");
    let mut buf = [0xa5; 1280];
    if let Some(total) = icmp::emit_too_big(&mut buf, data, 1280, from) {
        let frame = Frame::parse_ip(&buf[..total], 0).expect("an IP packet");
        assert_eq!(frame.ip_len, total);
        let message = &buf[frame.segment()];
        if v6 {
            let ok = checksum::verify_transport(frame.source, frame.destination, 58, message);
            assert!(ok);
        } else {
            assert!(checksum::verify(message) && checksum::verify(&buf[..20]));
        }
        assert!(data.starts_with(&message[8..]));
        let answer = buf;
        assert_eq!(
            icmp::emit_too_big(&mut buf, &answer[..total], 1280, from),
            None
        );
    }
});
