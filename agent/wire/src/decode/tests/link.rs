use base::LinkType;

use super::build::{IPV4, IPV6, ethernet as eth, ipv6, join, tcp, tcp_v4, usual, vlan};
use super::{Layer, assert_usual, cut, ethernet, every_way, frame};
use crate::decode::Undecoded;

#[test]
fn ethernet_and_tags() {
    assert_usual(ethernet(&usual()), 54);
    let mut tagged = tcp_v4();
    let mut kind = IPV4;
    for depth in 1..=8 {
        tagged = vlan(kind, &tagged);
        kind = [0x8100, 0x88a8, 0x9100][depth % 3];
        assert_usual(ethernet(&eth(kind, &tagged)), 54 + 4 * depth);
    }
    for _ in 0..8 {
        tagged = vlan(0x8100, &tagged);
    }
    assert_eq!(ethernet(&eth(0x8100, &tagged)), Err(Undecoded::LinkDepth));
}

/// Ethernet fills up to 60 octets; the packet does not grow by it.
#[test]
fn padding_is_no_payload() {
    let padded = join(&[&usual(), &[0; 20]]);
    assert_usual(ethernet(&padded), 54);
}

#[test]
fn frames_without_ip_have_names() {
    for (kind, reason) in [
        (0x0806, Undecoded::Arp),
        (0x8035, Undecoded::Arp),
        (0x88cc, Undecoded::Lldp),
        (0x8808, Undecoded::MacControl),
        (0x8809, Undecoded::SlowProtocol),
        (0x888e, Undecoded::Eapol),
        (0x88e5, Undecoded::MacSec),
        (0x88f7, Undecoded::Ptp),
        (0x8863, Undecoded::PppoeDiscovery),
        (0x9000, Undecoded::EtherType),
    ] {
        assert_eq!(ethernet(&eth(kind, &[0; 46])), Err(reason));
        // Also behind a tag, and when nothing of it was captured.
        let tagged = eth(0x8100, &vlan(kind, &[0; 46]));
        assert_eq!(ethernet(&tagged), Err(reason));
        assert_eq!(cut(&tagged, 18), Err(reason));
    }
    for (llc, reason) in [
        ([0x42, 0x42, 3, 0, 0, 0, 0, 0], Undecoded::Stp),
        ([0xe0, 0xe0, 3, 0, 0, 0, 0, 0], Undecoded::Llc),
        ([0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0], Undecoded::Llc),
        ([0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x06], Undecoded::Arp),
        ([0xaa, 0xaa, 3, 0, 0, 0, 0, 8], Undecoded::Llc),
    ] {
        assert_eq!(ethernet(&eth(38, &llc)), Err(reason));
    }
}

/// RFC 1042.
#[test]
fn ip_by_snap() {
    let snap = join(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &tcp_v4()]);
    assert_usual(ethernet(&eth(snap.len() as u16, &snap)), 62);
}

#[test]
fn other_links() {
    let ip = tcp_v4();
    let kind = IPV4.to_be_bytes();
    let cooked = join(&[&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0], &kind, &ip]);
    let cooked_vlan = join(&[
        &[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 0x81, 0],
        &vlan(IPV4, &ip),
    ]);
    let cooked_2 = join(&[&kind, &[0; 18], &ip]);
    let ppp = join(&[&[0, 0x21], &ip]);
    let ppp_short = join(&[&[0x21], &ip]);
    let ppp_framed = join(&[&[0xff, 3, 0, 0x21], &ip]);
    let loopback_big = join(&[&[0, 0, 0, 2], &ip]);
    let loopback_little = join(&[&[2, 0, 0, 0], &ip]);
    for (link, bytes, header) in [
        (LinkType::Raw, &ip, 0),
        (LinkType::LinuxCooked, &cooked, 16),
        (LinkType::LinuxCooked, &cooked_vlan, 20),
        (LinkType::LinuxCooked2, &cooked_2, 20),
        (LinkType::Ppp, &ppp, 2),
        (LinkType::Ppp, &ppp_short, 1),
        (LinkType::Ppp, &ppp_framed, 4),
        (LinkType::Loopback, &loopback_big, 4),
        (LinkType::Loopback, &loopback_little, 4),
    ] {
        let decoded = every_way(&frame(link, bytes), Layer::Innermost);
        assert_usual(decoded, header + 40);
    }
    for (link, bytes, reason) in [
        (LinkType::Other, ip.as_slice(), Undecoded::LinkType),
        (LinkType::Raw, &[0x50; 40], Undecoded::IpVersion),
        (LinkType::Raw, &[], Undecoded::Short),
        (LinkType::LinuxCooked, &ip[..15], Undecoded::Short),
        (LinkType::Ppp, &[0xc0, 0x21, 1, 1], Undecoded::Ppp),
        (LinkType::Loopback, &[0, 0, 0, 7], Undecoded::EtherType),
    ] {
        let decoded = every_way(&frame(link, bytes), Layer::Innermost);
        assert_eq!(decoded, Err(reason));
    }
    for family in [10, 24, 28, 30] {
        let bytes = join(&[&[family, 0, 0, 0], &ipv6(6, &tcp(&[], b"x"))]);
        assert!(every_way(&frame(LinkType::Loopback, &bytes), Layer::Innermost).is_ok());
    }
}

#[test]
fn cooked_numbers_that_are_no_types() {
    for (number, reason) in [
        (1, Undecoded::Llc),
        (4, Undecoded::Stp),
        (12, Undecoded::EtherType),
    ] {
        let bytes = join(&[&[0; 15], &[number], &[0x42, 0x42, 3]]);
        let decoded = every_way(&frame(LinkType::LinuxCooked, &bytes), Layer::Innermost);
        assert_eq!(decoded, Err(reason));
    }
}

#[test]
fn pppoe_session() {
    let ip = tcp_v4();
    let session = |length: usize, rest: &[u8]| {
        let length = (length as u16).to_be_bytes();
        join(&[&[0x11, 0, 0, 1], &length, &[0, 0x21], rest])
    };
    assert_usual(ethernet(&eth(0x8864, &session(ip.len() + 2, &ip))), 62);
    // Its length ends the packet before IP's does.
    let short = ethernet(&eth(0x8864, &session(ip.len(), &ip))).expect("a packet");
    assert_eq!(short.payload_len, 3);
}

#[test]
fn labels() {
    let label = |bottom: u8| [0, 1, bottom, 64];
    let ip = tcp_v4();
    for depth in [1, 2, 10, 16] {
        let mut stack = label(0).repeat(depth - 1);
        stack.extend(label(1));
        assert_usual(
            ethernet(&eth(0x8847, &join(&[&stack, &ip]))),
            54 + 4 * depth,
        );
    }
    let endless = label(0).repeat(17);
    assert_eq!(ethernet(&eth(0x8847, &endless)), Err(Undecoded::LinkDepth));
    let v6 = ethernet(&eth(
        0x8848,
        &join(&[&label(1), &ipv6(6, &tcp(&[], b"hello"))]),
    ));
    assert_eq!(v6.expect("a packet").payload_at, 78);

    // A pseudowire with and without its control word.
    let inside = usual();
    let word = join(&[&label(1), &[0; 4], &inside]);
    assert_usual(ethernet(&eth(0x8847, &word)), 14 + 8 + 54);
    let bare = join(&[&label(1), &inside]);
    assert_usual(ethernet(&eth(0x8847, &bare)), 14 + 4 + 54);
    let channel = join(&[&label(1), &[0x10; 40]]);
    assert_eq!(
        ethernet(&eth(0x8847, &channel)),
        Err(Undecoded::MplsPayload)
    );
    let other = join(&[&label(1), &[0x22; 40]]);
    assert_eq!(ethernet(&eth(0x8847, &other)), Err(Undecoded::MplsPayload));
    assert_eq!(cut(&eth(0x8847, &other), 24), Err(Undecoded::Snaplen));
}

/// What the snaplen cut is told from what was never there.
#[test]
fn cut_or_short() {
    for (whole, headers) in [
        (usual(), 54),
        (eth(0x8100, &vlan(IPV6, &ipv6(6, &tcp(&[], b"hello")))), 78),
    ] {
        for len in 0..whole.len() {
            let captured = cut(&whole, len);
            let sent = ethernet(&whole[..len]);
            if len >= headers {
                let captured = captured.expect("headers are there");
                assert_eq!(captured.payload_len, 5);
                assert_eq!(captured.payload_captured as usize, len - headers);
                assert_eq!(sent.expect("a packet").payload_len as usize, len - headers);
            } else {
                assert_eq!(captured, Err(Undecoded::Snaplen), "{len}");
                assert!(
                    matches!(sent, Err(Undecoded::Short | Undecoded::TcpHeader)),
                    "{len}"
                );
            }
        }
    }
}
