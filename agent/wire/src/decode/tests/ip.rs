use base::{Frame, LinkType};

use super::build::{
    IPV4, IPV6, TIMESTAMPS, ethernet as eth, extension, fragment_header, ipv4, ipv4_with, ipv6,
    join, tcp, udp,
};
use super::{Layer, address, assert_usual, ethernet, every_way, frame};
use crate::decode::{Fragment, PacketFlags, TcpHeader, Transport, Undecoded};

const CLIPPED: PacketFlags = PacketFlags::CLIPPED;

#[test]
fn fields_of_ipv4() {
    let packet = ethernet(&eth(IPV4, &ipv4(6, &tcp(&TIMESTAMPS, b"abc")))).expect("a packet");
    assert_eq!((packet.protocol, packet.ttl, packet.ip_id), (6, 61, 0x1234));
    assert_eq!(
        (packet.ip_len, packet.fragment_id, packet.tunnel_id),
        (55, 0, 0)
    );
    assert_eq!(packet.flags, PacketFlags::DONT_FRAGMENT);
    let Transport::Tcp(tcp) = packet.transport else {
        panic!("{packet:?}");
    };
    assert_eq!(
        (tcp.options, tcp.tsval, tcp.tsecr),
        (TcpHeader::TIMESTAMPS, 9, 7)
    );
    assert_eq!((tcp.flags, tcp.window), (0x18, 0x1000));
}

#[test]
fn fields_of_ipv6() {
    let packet = ethernet(&eth(IPV6, &ipv6(17, &udp(53, b"abc")))).expect("a packet");
    assert_eq!(packet.source, address("2001:db8::1"));
    assert_eq!(packet.destination, address("2001:db8:1::7"));
    assert_eq!((packet.protocol, packet.ttl, packet.ip_id), (17, 62, 0));
    assert_eq!((packet.ip_len, packet.payload_len), (51, 3));
    assert_eq!(packet.flags, PacketFlags::DONT_FRAGMENT);
    assert_eq!(packet.transport, Transport::Udp);
}

#[test]
fn options_and_authentication() {
    let segment = tcp(&[], b"hello");
    let options = ipv4_with(6, 0, &[7, 7, 4, 0, 0, 0, 0, 0], &segment);
    assert_usual(ethernet(&eth(IPV4, &options)), 62);
    let authentication = join(&[&[6, 4], &[0; 22], &segment]);
    assert_usual(ethernet(&eth(IPV4, &ipv4(51, &authentication))), 78);
    let too_long = join(&[&[6, 200], &[0; 22]]);
    assert_eq!(
        ethernet(&eth(IPV4, &ipv4(51, &too_long))),
        Err(Undecoded::IpHeader)
    );
}

/// What contradicts itself.
#[test]
fn impossible_ipv4() {
    let good = eth(IPV4, &ipv4(6, &tcp(&[], b"hello")));
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        ethernet(&bytes)
    };
    assert_eq!(with(14, 0x65), Err(Undecoded::IpVersion));
    assert_eq!(with(14, 0x44), Err(Undecoded::IpHeader));
    assert_eq!(with(17, 19), Err(Undecoded::IpLength));
    assert_eq!(with(17, 30), Err(Undecoded::TcpHeader));
    // 15 words of header, and then the length below it.
    assert_eq!(with(14, 0x4f), Err(Undecoded::IpLength));
    // More than there is: the frame ends it.
    let clipped = with(16, 1).expect("a packet");
    assert!(clipped.flags.has(CLIPPED));
    assert_eq!((clipped.ip_len, clipped.payload_len), (256 + 45, 5));
}

/// A length of 0: before segmentation, and BIG TCP.
#[test]
fn length_from_the_frame() {
    let mut bytes = eth(IPV4, &ipv4(6, &tcp(&[], &[9; 70_000])));
    bytes[16..18].fill(0);
    let captured = Frame {
        bytes: &bytes[..128],
        ..frame(LinkType::Ethernet, &bytes)
    };
    let packet = every_way(&captured, Layer::Innermost).expect("a packet");
    assert!(packet.flags.has(PacketFlags::LENGTH_FROM_FRAME));
    assert_eq!((packet.ip_len, packet.payload_len), (70_040, 70_000));
    assert_eq!(packet.payload_captured, 128 - 54);

    let mut bytes = eth(IPV6, &ipv6(6, &tcp(&[], &[9; 70_000])));
    bytes[18..20].fill(0);
    let packet = ethernet(&bytes).expect("a packet");
    assert!(packet.flags.has(PacketFlags::LENGTH_FROM_FRAME));
    assert_eq!((packet.ip_len, packet.payload_len), (70_060, 70_000));
    // Small, it is a mistake.
    let mut bytes = eth(IPV6, &ipv6(6, &tcp(&[], &[9; 100])));
    bytes[18..20].fill(0);
    assert_eq!(ethernet(&bytes), Err(Undecoded::IpLength));
}

#[test]
fn jumbograms() {
    let jumbo = |length: u32, octets: usize| {
        let option = join(&[&[6, 0, 0xc2, 4], &length.to_be_bytes()]);
        let mut bytes = eth(
            IPV6,
            &ipv6(0, &join(&[&option, &tcp(&[], &vec![9; octets])])),
        );
        bytes[18..20].fill(0);
        ethernet(&bytes)
    };
    let packet = jumbo(70_028, 70_000).expect("a packet");
    assert_eq!((packet.ip_len, packet.payload_len), (70_068, 70_000));
    assert!(!packet.flags.has(PacketFlags::LENGTH_FROM_FRAME));
    // RFC 2675 section 3: not below 65 536.
    assert_eq!(jumbo(128, 100), Err(Undecoded::IpLength));
    assert_eq!(jumbo(u32::MAX, 100), Err(Undecoded::IpLength));
    assert!(jumbo(80_000, 70_000).expect("a packet").flags.has(CLIPPED));
}

#[test]
fn extensions() {
    let segment = tcp(&[], b"hello");
    let authentication = join(&[&[6, 4], &[0; 22], &segment]);
    for (first, chain, octets) in [
        (0, extension(6, &segment), 8),
        (
            0,
            extension(60, &extension(43, &extension(6, &segment))),
            24,
        ),
        (
            135,
            extension(139, &extension(140, &extension(6, &segment))),
            24,
        ),
        (51, authentication, 24),
        (44, fragment_header(6, 0, &segment), 8),
    ] {
        let packet = ethernet(&eth(IPV6, &ipv6(first, &chain))).expect("a packet");
        assert_eq!(packet.protocol, 6);
        assert_eq!(usize::from(packet.payload_at), 74 + octets);
        assert_eq!(
            (packet.payload_len, packet.flags),
            (5, PacketFlags::DONT_FRAGMENT)
        );
    }
    let mut chain = extension(6, &segment);
    for _ in 0..7 {
        chain = extension(60, &chain);
    }
    assert!(ethernet(&eth(IPV6, &ipv6(60, &chain))).is_ok());
    let chain = extension(60, &chain);
    assert_eq!(
        ethernet(&eth(IPV6, &ipv6(60, &chain))),
        Err(Undecoded::IpExtensions)
    );
    // One that says it is longer than the packet.
    let long = eth(IPV6, &ipv6(60, &[6, 9, 0, 0, 0, 0, 0, 0]));
    assert_eq!(ethernet(&long), Err(Undecoded::IpHeader));
    let none = ethernet(&eth(IPV6, &ipv6(59, &[]))).expect("a packet");
    assert_eq!((none.protocol, none.transport), (59, Transport::Other));
}

#[test]
fn fragments() {
    let segment = tcp(&[], b"hello");
    let first = ethernet(&eth(IPV4, &ipv4_with(6, 0x2000, &[], &segment)));
    assert_usual(first, 54);
    let first = first.expect("a packet");
    assert_eq!(first.flags, PacketFlags::FRAGMENT);
    assert_eq!(first.fragment_id, 0x1234);

    let later = ethernet(&eth(IPV4, &ipv4_with(6, 0x2003, &[], &segment))).expect("a packet");
    let expected = Fragment {
        id: 0x1234,
        offset: 24,
        more: true,
    };
    assert_eq!(later.transport, Transport::Fragment(expected));
    assert_eq!((later.source_port, later.destination_port), (0, 0));
    assert_eq!((later.fragment_id, later.payload_len), (0x1234, 0));

    let v6 = |place| ethernet(&eth(IPV6, &ipv6(44, &fragment_header(6, place, &segment))));
    let first = v6(1).expect("a packet");
    assert_eq!((first.source_port, first.payload_len), (40000, 5));
    assert!(first.flags.has(PacketFlags::FRAGMENT));
    assert_eq!(first.fragment_id, 0xcafe_0001);
    let last = v6(24).expect("a packet");
    let expected = Fragment {
        id: 0xcafe_0001,
        offset: 24,
        more: false,
    };
    assert_eq!(last.transport, Transport::Fragment(expected));

    // RFC 1858: what filters are evaded with.
    let tiny = eth(IPV4, &ipv4_with(6, 0x2000, &[], &segment[..8]));
    assert_eq!(ethernet(&tiny), Err(Undecoded::TinyFragment));
    // The length of UDP is that of the whole datagram.
    let mut datagram = udp(53, &[9; 24]);
    datagram[4] = 1;
    let first = ethernet(&eth(IPV4, &ipv4_with(17, 0x2000, &[], &datagram)));
    assert_eq!(first.expect("a packet").payload_len, 24);
}
