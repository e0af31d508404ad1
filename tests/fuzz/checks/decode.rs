//! Every frame, of every link type and cut anywhere, is decoded or has a reason; lengths stay
//! inside the frame; the snaplen changes nothing else.
//! Shared with `agent/wire/tests/decode`, which replays the corpus.
use base::{Frame, LinkType, Passage, WallNanos};
use wire::decode::{self, Layer, Packet, PacketFlags, Transport, Undecoded};

fn decode(frame: &Frame<'_>, layer: Layer) -> Result<Packet, Undecoded> {
    let decoded = decode::decode(frame, layer);
    if let Some(segment) = decode::stamped(frame) {
        let packet = decoded.expect("what is stamped is a packet");
        assert_eq!(packet.transport, Transport::Tcp(segment.tcp));
        let lengths = (packet.ip_len, packet.payload_len);
        assert_eq!((segment.ip_len, segment.payload_len), lengths);
    }
    decoded
}

/// Checks one input: link type, octets that the snaplen took, frame.
pub(crate) fn check(data: &[u8]) {
    let Some((&[link, lost], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let link = LinkType::ALL[usize::from(link) % LinkType::COUNT];
    let mut decoded_frames = 0;
    let mut reasons = [0; Undecoded::COUNT];
    for original_len in [0, bytes.len() as u32, bytes.len() as u32 + u32::from(lost)] {
        let frame = Frame {
            bytes,
            original_len,
            at: WallNanos(0),
            segment_bytes: 0,
            link,
            passage: Passage::Unknown,
        };
        for layer in [Layer::Innermost, Layer::Outermost] {
            let packet = match decode(&frame, layer) {
                Ok(packet) => packet,
                Err(reason) => {
                    reasons[reason.index()] += 1;
                    continue;
                }
            };
            decoded_frames += 1;
            assert!(packet.payload_captured <= packet.payload_len);
            assert!(packet.payload_len <= packet.ip_len);
            let end = usize::from(packet.payload_at) + packet.payload_captured as usize;
            assert!(packet.payload_captured == 0 || end <= bytes.len());
            if let Transport::Fragment(fragment) = packet.transport {
                assert!(packet.flags.has(PacketFlags::FRAGMENT) && fragment.offset > 0);
                assert_eq!((fragment.id, packet.payload_len), (packet.fragment_id, 0));
            }
            if layer == Layer::Outermost {
                assert!(!packet.flags.has(PacketFlags::TUNNELLED) && packet.tunnel_id == 0);
            }
            // Captured up to the payload, all but the capture is the same: ICMP errors apart,
            // which quote from it, and tunnels, which may be entered through it.
            let headers = usize::from(packet.payload_at);
            if layer == Layer::Outermost
                && headers <= bytes.len()
                && !matches!(packet.transport, Transport::IcmpError(_))
                && matches!(packet.transport, Transport::Tcp(_) | Transport::Udp)
            {
                let cut = Frame {
                    bytes: &bytes[..headers],
                    original_len: original_len.max(bytes.len() as u32),
                    ..frame
                };
                let expected = Packet {
                    payload_captured: 0,
                    ..packet
                };
                assert_eq!(decode(&cut, layer), Ok(expected));
            }
        }
    }
    assert_eq!(decoded_frames + reasons.iter().sum::<i32>(), 6);
}
