//! All offsets of any frame lie inside it and in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::checksum;
use wire::frame::Frame;

fuzz_target!(|data: &[u8]| {
    for parsed in [Frame::parse(data), Frame::parse_ip(data, 0)] {
        let Ok(frame) = parsed else { continue };
        let ip = frame.ip();
        assert!(ip.end <= data.len() && frame.ip_len >= 20);
        assert!(frame.l3 < frame.l4 && frame.l4 <= ip.end);
        assert!(frame.l4 <= frame.payload.start);
        assert!(frame.payload.start <= frame.payload.end && frame.payload.end <= ip.end);
        assert_eq!(frame.source.is_ipv4(), frame.destination.is_ipv4());
        if frame.fragment_offset != 0 {
            assert_eq!(frame.ports, None);
            assert_eq!(frame.payload.start, frame.l4);
        }
        // The layers above do not depend on what is outside the packet.
        let alone = Frame::parse_ip(&data[ip], 0).expect("the same packet");
        assert_eq!((alone.protocol, alone.ports), (frame.protocol, frame.ports));
        assert_eq!(alone.payload.start + frame.l3, frame.payload.start);

        let segment = &data[frame.segment()];
        let _ =
            checksum::verify_transport(frame.source, frame.destination, frame.protocol, segment);
    }
});
