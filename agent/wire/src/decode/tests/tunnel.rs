use super::build::{
    IPV4, IPV6, ethernet as eth, geneve, gre, ipv4, ipv4_with, ipv6, join, tcp, tcp_v4, udp, usual,
    vlan, vxlan,
};
use super::{address, assert_usual, cut, ethernet, outermost};
use crate::decode::{PacketFlags, Transport, Undecoded};

/// Around the usual packet: what is put in `payload`, where its payload is then, the number.
fn holds(protocol: u8, payload: &[u8], id: u32) {
    for (bytes, ip) in [
        (eth(IPV4, &ipv4(protocol, payload)), 20),
        (eth(IPV6, &ipv6(protocol, payload)), 40),
    ] {
        let inner = ethernet(&bytes);
        assert_usual(inner, bytes.len() - 5);
        let inner = inner.expect("a packet");
        assert!(inner.flags.has(PacketFlags::TUNNELLED));
        assert_eq!(inner.tunnel_id, id);
        let outer = outermost(&bytes).expect("a packet");
        assert_eq!((outer.protocol, outer.tunnel_id), (protocol, 0));
        assert!(!outer.flags.has(PacketFlags::TUNNELLED));
        assert_eq!(outer.ip_len as usize, ip + payload.len());
        if protocol == 17 {
            assert_eq!(outer.payload_len as usize, payload.len() - 8);
        } else {
            assert_eq!(outer.transport, Transport::Other);
        }
    }
}

#[test]
fn each_kind() {
    let frame = usual();
    let packet = tcp_v4();
    holds(4, &packet, 0);
    holds(137, &join(&[&[0, 1, 1, 64], &packet]), 0);
    holds(17, &udp(4789, &vxlan(&frame)), 0x1234);
    holds(17, &udp(8472, &vxlan(&frame)), 0x1234);
    holds(
        17,
        &udp(4789, &vxlan(&eth(0x8100, &vlan(IPV4, &packet)))),
        0x1234,
    );
    holds(17, &udp(6081, &geneve(0x6558, &[], &frame)), 0x5678);
    holds(17, &udp(6081, &geneve(0x6558, &[0; 12], &frame)), 0x5678);
    holds(17, &udp(6081, &geneve(IPV4, &[0; 252], &packet)), 0x5678);
    // GRE with each combination of its fields.
    for (flags, fields, key) in [
        (0x0000, &[][..], 0),
        (0x8000, &[0; 4], 0),
        (0x2000, &[0, 0, 0, 7], 7),
        (0x1000, &[0, 0, 0, 9], 0),
        (0xb000, &[1, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9], 7),
    ] {
        holds(47, &gre(flags, IPV4, &join(&[fields, &packet])), key);
        holds(47, &gre(flags, 0x6558, &join(&[fields, &frame])), key);
    }
    // RFC 2637, with sequence and acknowledgement.
    let ppp = join(&[
        &[0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 3, 0, 0x21],
        &packet,
    ]);
    holds(47, &gre(0x3081, 0x880b, &ppp), 0);
}

#[test]
fn erspan() {
    let frame = usual();
    holds(47, &gre(0, 0x88be, &frame), 0);
    let sequence = [0, 0, 0, 1];
    let two = [0x10, 0x01, 0x00, 0x65, 0, 0, 0, 1];
    holds(
        47,
        &gre(0x1000, 0x88be, &join(&[&sequence, &two, &frame])),
        0x65,
    );
    let three = [0x20, 0x01, 0x00, 0x66, 0, 0, 0, 1, 0, 0, 0, 0];
    holds(
        47,
        &gre(0x1000, 0x22eb, &join(&[&sequence, &three, &frame])),
        0x66,
    );
    let mut with_subheader = three;
    with_subheader[11] = 1;
    let rest = join(&[&sequence, &with_subheader, &[0x0c; 8], &frame]);
    holds(47, &gre(0x1000, 0x22eb, &rest), 0x66);
    let unknown = join(&[&sequence, &[0x30; 12], &frame]);
    let bytes = eth(IPV4, &ipv4(47, &gre(0x1000, 0x88be, &unknown)));
    assert_eq!(ethernet(&bytes), Err(Undecoded::TunnelHeader));
}

#[test]
fn ip_in_ip_of_both_versions() {
    let v6 = ipv6(6, &tcp(&[], b"hello"));
    for bytes in [eth(IPV4, &ipv4(41, &v6)), eth(IPV6, &ipv6(41, &v6))] {
        let packet = ethernet(&bytes).expect("a packet");
        assert_eq!(packet.source, address("2001:db8::1"));
        assert_eq!((packet.source_port, packet.payload_len), (40000, 5));
    }
    let wrong = eth(IPV4, &ipv4(41, &tcp_v4()));
    assert_eq!(ethernet(&wrong), Err(Undecoded::IpVersion));
}

/// The reason is that of the inside; the outside can be had.
#[test]
fn an_inside_that_is_no_packet() {
    let arp = eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&eth(0x0806, &[0; 28])))));
    assert_eq!(ethernet(&arp), Err(Undecoded::Arp));
    assert!(outermost(&arp).is_ok());
    let keep_alive = eth(IPV4, &ipv4(47, &gre(0, 0, &[])));
    assert_eq!(ethernet(&keep_alive), Err(Undecoded::TunnelEmpty));
    let routed = eth(IPV4, &ipv4(47, &gre(0x4000, IPV4, &[0; 40])));
    assert_eq!(ethernet(&routed), Err(Undecoded::TunnelHeader));
}

/// A datagram to a tunnel's port that has no such header is a datagram.
#[test]
fn a_port_is_not_enough() {
    for datagram in [
        udp(4789, &[0; 50]),
        udp(4789, &[8; 7]),
        udp(6081, &[0x40; 50]),
        udp(6081, &[0x3f; 20]),
        udp(6081, &[]),
    ] {
        let packet = ethernet(&eth(IPV4, &ipv4(17, &datagram))).expect("a packet");
        assert_eq!(packet.transport, Transport::Udp);
        assert_eq!(packet.flags, PacketFlags::DONT_FRAGMENT);
        assert_eq!(packet.payload_len as usize, datagram.len() - 8);
    }
}

#[test]
fn depth_is_bounded() {
    let mut bytes = tcp_v4();
    for depth in 1..8 {
        bytes = ipv4(4, &bytes);
        let decoded = ethernet(&eth(IPV4, &bytes));
        if depth < 6 {
            assert_usual(decoded, 54 + 20 * depth);
        } else {
            assert_eq!(decoded, Err(Undecoded::TunnelDepth));
        }
    }
}

/// A mirror with a packet length: the lengths inside are right although the octets are gone.
#[test]
fn a_mirror_that_cuts() {
    let frame = eth(IPV4, &ipv4(6, &tcp(&[], &[9; 1000])));
    for kept in [54, 60, 128] {
        let bytes = eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&frame[..kept]))));
        // What comes behind the datagram is no part of it.
        let padded = join(&[&bytes, &[0; 30]]);
        let packet = ethernet(&padded).expect("a packet");
        assert_eq!((packet.ip_len, packet.payload_len), (1040, 1000));
        assert_eq!(packet.payload_captured as usize, kept - 54);
        assert!(!packet.flags.has(PacketFlags::CLIPPED));
    }
    for kept in [1, 13, 20, 33, 53] {
        let bytes = eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&frame[..kept]))));
        assert_eq!(ethernet(&bytes), Err(Undecoded::Snaplen), "{kept}");
    }
}

#[test]
fn cut_by_the_snaplen() {
    let bytes = eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&usual()))));
    for snaplen in 0..104 {
        assert_eq!(cut(&bytes, snaplen), Err(Undecoded::Snaplen), "{snaplen}");
    }
    assert_eq!(cut(&bytes, 104).expect("a packet").payload_captured, 0);
}

#[test]
fn the_first_fragment_of_a_tunnel_is_looked_into() {
    let payload = udp(4789, &vxlan(&eth(IPV4, &ipv4(6, &tcp(&[], &[9; 1000])))));
    let first = ethernet(&eth(IPV4, &ipv4_with(17, 0x2000, &[], &payload[..800])));
    let first = first.expect("a packet");
    assert_eq!((first.destination_port, first.payload_len), (443, 1000));
    assert_eq!(first.payload_captured, 800 - 16 - 54);
    assert!(!first.flags.has(PacketFlags::FRAGMENT));
    let rest = ethernet(&eth(IPV4, &ipv4_with(17, 100, &[], &payload[800..])));
    let Transport::Fragment(fragment) = rest.expect("a packet").transport else {
        panic!("no fragment");
    };
    assert_eq!((fragment.offset, fragment.more), (800, false));
}

/// The number of the innermost tunnel that has one.
#[test]
fn mirrored_overlay() {
    let overlay = eth(IPV4, &ipv4(17, &udp(6081, &geneve(0x6558, &[], &usual()))));
    let mirrored = eth(IPV4, &ipv4(17, &udp(4789, &vxlan(&overlay))));
    assert_usual(ethernet(&mirrored), 154);
    assert_eq!(ethernet(&mirrored).expect("a packet").tunnel_id, 0x5678);
    let plain = eth(
        IPV4,
        &ipv4(17, &udp(4789, &vxlan(&eth(IPV4, &ipv4(4, &tcp_v4()))))),
    );
    assert_eq!(ethernet(&plain).expect("a packet").tunnel_id, 0x1234);
}
