//! The fast ways and the general one, on frames that are nearly right.

use base::{Frame, LinkType};
use proptest::prelude::*;

use super::build::{
    IPV4, IPV6, TIMESTAMPS, ethernet as eth, geneve, ipv4, ipv6, tcp, udp, vlan, vxlan,
};
use super::{Layer, every_way, frame};
use crate::decode::{fast, stamped};

fn segment() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let payload = || prop::collection::vec(any::<u8>(), 0..40);
    let options = prop_oneof![
        Just(Vec::new()),
        Just(TIMESTAMPS.to_vec()),
        (0..=10usize).prop_flat_map(|words| prop::collection::vec(any::<u8>(), words * 4)),
    ];
    prop_oneof![
        (options, payload()).prop_map(|(options, payload)| (6, tcp(&options, &payload))),
        (any::<u16>(), payload()).prop_map(|(port, payload)| (17, udp(port, &payload))),
        (any::<u8>(), payload()),
    ]
}

fn link() -> impl Strategy<Value = Vec<u8>> {
    (segment(), any::<bool>(), any::<bool>()).prop_map(|((protocol, payload), v6, tagged)| {
        let (kind, packet) = if v6 {
            (IPV6, ipv6(protocol, &payload))
        } else {
            (IPV4, ipv4(protocol, &payload))
        };
        if tagged {
            eth(0x8100, &vlan(kind, &packet))
        } else {
            eth(kind, &packet)
        }
    })
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => link(),
        2 => link().prop_map(|inner| eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&inner))))),
        1 => link().prop_map(|inner| eth(IPV6, &ipv6(17, &udp(8472, &vxlan(&inner))))),
        1 => link().prop_map(|inner| {
            let outer = eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&inner))));
            eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&outer))))
        }),
        2 => (link(), any::<bool>(), 0..4usize).prop_map(|(inner, whole, words)| {
            // Without its Ethernet header the type is the frame's own, a VLAN's included.
            let kind = u16::from_be_bytes([inner[12], inner[13]]);
            let options = vec![0; words * 4];
            let payload = if whole {
                geneve(0x6558, &options, &inner)
            } else {
                geneve(kind, &options, &inner[14..])
            };
            eth(IPV4, &ipv4(17, &udp(6081, &payload)))
        }),
    ]
}

fn check(bytes: &[u8], original_len: usize) {
    let frame = Frame {
        original_len: original_len as u32,
        ..frame(LinkType::Ethernet, bytes)
    };
    for layer in [Layer::Innermost, Layer::Outermost] {
        if let Ok(packet) = every_way(&frame, layer) {
            let end = usize::from(packet.payload_at) + packet.payload_captured as usize;
            assert!(packet.payload_captured == 0 || end <= bytes.len());
            assert!(packet.payload_captured <= packet.payload_len);
            assert!(packet.payload_len <= packet.ip_len);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn well_formed(bytes in any_frame(), padding in 0..30usize) {
        let padded = [bytes.as_slice(), &[0; 30][..padding]].concat();
        check(&padded, padded.len());
    }

    /// One to three octets of the headers changed, and cut anywhere.
    #[test]
    fn mutated(
        mut bytes in any_frame(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        kept in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let reach = bytes.len().min(140);
        for (at, value) in changes {
            bytes[at.index(reach)] = value;
        }
        let original = bytes.len();
        let kept = if whole { original } else { kept.index(original + 1) };
        check(&bytes[..kept], original);
        check(&bytes[..kept], kept);
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        check(&bytes, bytes.len());
        for link in LinkType::ALL {
            let _ = every_way(&frame(*link, &bytes), Layer::Innermost);
        }
    }
}

/// That the fast ways are taken at all.
#[test]
fn usual_frames_are_fast() {
    let timestamps = tcp(&TIMESTAMPS, b"hello");
    let segment = eth(IPV4, &ipv4(6, &timestamps));
    assert!(stamped(&frame(LinkType::Ethernet, &segment)).is_some());
    assert!(stamped(&frame(LinkType::Ethernet, &segment[..66])).is_none());
    assert!(stamped(&frame(LinkType::Raw, &segment)).is_none());
    for bytes in [
        eth(IPV4, &ipv4(6, &tcp(&[], b"hello"))),
        eth(IPV4, &ipv4(6, &timestamps)),
        eth(IPV6, &ipv6(6, &timestamps)),
        eth(0x8100, &vlan(IPV4, &ipv4(6, &timestamps))),
        eth(0x8100, &vlan(IPV6, &ipv6(17, &udp(53, b"hello")))),
        eth(IPV4, &ipv4(17, &udp(443, b"hello"))),
    ] {
        assert!(fast::first(&frame(LinkType::Ethernet, &bytes)).is_some());
        for tunnel in [
            udp(4789, &vxlan(&bytes)),
            udp(6081, &geneve(0x6558, &[0; 8], &bytes)),
        ] {
            let mirrored = eth(IPV4, &ipv4(17, &tunnel));
            let mirrored = frame(LinkType::Ethernet, &mirrored);
            assert!(fast::first(&mirrored).is_none());
            assert!(fast::second(&mirrored, Layer::Innermost).is_some());
            assert!(fast::second(&mirrored, Layer::Outermost).is_some());
        }
    }
}
