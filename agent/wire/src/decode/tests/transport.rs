use super::build::{IPV4, IPV6, ethernet as eth, ipv4, ipv4_with, ipv6, join, tcp, udp, vxlan};
use super::{Layer, address, cut, ethernet, every_way, frame, outermost};
use crate::decode::{Packet, Quoted, TcpHeader, Transport, Undecoded};
use base::LinkType;

fn header(options: &[u8]) -> TcpHeader {
    match ethernet(&eth(IPV4, &ipv4(6, &tcp(options, b"")))).map(|packet| packet.transport) {
        Ok(Transport::Tcp(header)) => header,
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_of_a_syn() {
    let linux = [
        2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0, 1, 3, 3, 7,
    ];
    let syn = header(&linux);
    assert_eq!(
        (syn.mss, syn.scale, syn.tsval, syn.tsecr),
        (1460, 7, 256, 0)
    );
    let all = TcpHeader::MSS | TcpHeader::SCALE | TcpHeader::SACK_PERMITTED | TcpHeader::TIMESTAMPS;
    assert_eq!(syn.options, all);
    // What is not known is passed over, and nothing is read behind the end.
    assert_eq!(header(&[34, 2, 3, 3, 9, 0, 2, 4]).options, TcpHeader::SCALE);
    // What came before a malformed one counts.
    for bad in [[3, 3, 9, 8], [3, 3, 9, 77], [2, 3, 9, 1]] {
        let options = join(&[&[4, 2, 1, 1], &bad, &[0, 0, 0, 0]]);
        let found = header(&options).options;
        assert!(found & TcpHeader::SACK_PERMITTED != 0 && found & TcpHeader::CUT != 0);
    }
    assert_eq!(header(&[8, 1, 0, 0]).options, TcpHeader::CUT);
}

#[test]
fn selective_acknowledgements() {
    // The segment acknowledges 0x0506_0708.
    const ACK: u32 = 0x0506_0708;
    let sack = |blocks: &[(u32, u32)]| {
        let mut options = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
        for (left, right) in blocks {
            options.extend(left.to_be_bytes());
            options.extend(right.to_be_bytes());
        }
        let found = header(&options);
        (found.sack, found.options & TcpHeader::DSACK != 0)
    };
    let beyond = (ACK + 1000, ACK + 2000);
    assert_eq!(sack(&[beyond]), (beyond, false));
    assert_eq!(sack(&[beyond, (ACK + 3000, ACK + 4000)]), (beyond, false));
    // RFC 2883 section 4: below the cumulative acknowledgement, or a part of the next block.
    let below = (ACK - 500, ACK);
    assert_eq!(sack(&[below]), (below, true));
    assert_eq!(sack(&[below, beyond]), (below, true));
    let across = (ACK - 500, ACK + 500);
    assert_eq!(sack(&[across]), (across, false));
    let part = (ACK + 1000, ACK + 1500);
    assert_eq!(sack(&[part, beyond]), (part, true));
    assert_eq!(sack(&[beyond, part]), (beyond, false));
    // Half a block is none.
    assert_eq!(header(&[5, 6, 0, 0, 0, 0, 1, 1]).options, TcpHeader::CUT);
    assert_eq!(header(&[5, 2, 1, 1]).options, TcpHeader::CUT);
}

#[test]
fn headers_that_end_too_early() {
    let segment = tcp(&[], b"");
    let with = |at: usize, value: u8| {
        let mut segment = segment.clone();
        segment[at] = value;
        ethernet(&eth(IPV4, &ipv4(6, &segment)))
    };
    assert_eq!(with(12, 0x40), Err(Undecoded::TcpHeader));
    assert_eq!(with(12, 0x60), Err(Undecoded::TcpHeader));
    for (protocol, reason) in [
        (6, Undecoded::TcpHeader),
        (17, Undecoded::UdpLength),
        (1, Undecoded::IcmpLength),
    ] {
        assert_eq!(
            ethernet(&eth(IPV4, &ipv4(protocol, &[8, 0, 0]))),
            Err(reason)
        );
    }
    assert_eq!(
        ethernet(&eth(IPV6, &ipv6(58, &[128, 0, 0, 0, 1]))),
        Err(Undecoded::IcmpLength)
    );
    for length in [0, 7, 12] {
        let mut datagram = udp(53, b"abc");
        datagram[5] = length;
        assert_eq!(
            ethernet(&eth(IPV4, &ipv4(17, &datagram))),
            Err(Undecoded::UdpLength)
        );
    }
    // Octets behind the datagram are not its payload.
    let mut datagram = udp(53, b"abc");
    datagram[5] = 9;
    let packet = ethernet(&eth(IPV4, &ipv4(17, &datagram))).expect("a packet");
    assert_eq!((packet.payload_len, packet.ip_len), (1, 31));
}

#[test]
fn options_that_the_snaplen_cut() {
    let bytes = eth(IPV4, &ipv4(6, &tcp(&super::build::TIMESTAMPS, b"hello")));
    for snaplen in 54..66 {
        let packet = cut(&bytes, snaplen).expect("a packet");
        let Transport::Tcp(header) = packet.transport else {
            panic!("{packet:?}");
        };
        assert_eq!(header.options, TcpHeader::CUT, "{snaplen}");
        assert_eq!((packet.payload_len, packet.payload_captured), (5, 0));
        assert_eq!(packet.payload_at, 66);
    }
}

#[test]
fn echoes() {
    let message = |kind| join(&[&[kind, 0, 0, 0, 0x12, 0x34, 0, 9], b"payload"]);
    for (bytes, reply) in [
        (ipv4(1, &message(8)), false),
        (ipv4(1, &message(0)), true),
        (ipv6(58, &message(128)), false),
        (ipv6(58, &message(129)), true),
    ] {
        let packet = every_way(&frame(LinkType::Raw, &bytes), Layer::Innermost).expect("a packet");
        assert_eq!(packet.transport, Transport::Echo { reply, sequence: 9 });
        assert_eq!(
            (packet.source_port, packet.destination_port),
            (0x1234, 0x1234)
        );
        assert_eq!(packet.payload_len, 7);
    }
    // The other version's numbers mean nothing.
    for bytes in [
        ipv4(1, &message(128)),
        ipv6(58, &message(135)),
        ipv4(58, &message(128)),
    ] {
        let packet = every_way(&frame(LinkType::Raw, &bytes), Layer::Innermost).expect("a packet");
        assert_eq!(packet.transport, Transport::Other);
        assert_eq!((packet.source_port, packet.payload_len), (0, 0));
    }
}

fn error(packet: &[u8], layer: Layer) -> (Packet, Option<Quoted>, Option<u32>) {
    let packet = every_way(&frame(LinkType::Raw, packet), layer).expect("a packet");
    match packet.transport {
        Transport::IcmpError(error) => (packet, error.quoted, error.next_hop_mtu),
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_quote_a_flow() {
    let quoted = ipv4(6, &tcp(&[], &[9; 1000]));
    let too_big = |octets: usize| join(&[&[3, 4, 0, 0, 0, 0, 2, 0x58], &quoted[..octets]]);
    for octets in [28, 30, 200] {
        let (_, found, mtu) = error(&ipv4(1, &too_big(octets)), Layer::Innermost);
        let expected = Quoted {
            source: address("192.0.2.1"),
            destination: address("198.51.100.7"),
            source_port: 40000,
            destination_port: 443,
            protocol: 6,
            seq: Some(0x0102_0304),
        };
        assert_eq!((found, mtu), (Some(expected), Some(600)));
    }
    let (_, found, _) = error(&ipv4(1, &too_big(24)), Layer::Innermost);
    assert_eq!(found.and_then(|quoted| quoted.seq), None);
    let (_, found, mtu) = error(&ipv4(1, &too_big(23)), Layer::Innermost);
    assert_eq!((found, mtu), (None, Some(600)));
    // Another code has no MTU there; a later fragment no ports.
    let unreachable = join(&[&[3, 3, 0, 0, 0, 0, 2, 0x58], &quoted[..28]]);
    assert_eq!(error(&ipv4(1, &unreachable), Layer::Innermost).2, None);
    let later = ipv4_with(6, 0x2005, &[], &[0; 8]);
    let late = join(&[&[11, 0, 0, 0, 0, 0, 0, 0], &later]);
    assert_eq!(error(&ipv4(1, &late), Layer::Innermost).1, None);
}

#[test]
fn errors_of_ipv6_and_about_echoes() {
    let quoted = ipv6(17, &udp(53, &[9; 1300]));
    let too_big = join(&[&[2, 0, 0, 0, 0, 0, 5, 0], &quoted[..1200]]);
    let (packet, found, mtu) = error(&ipv6(58, &too_big), Layer::Innermost);
    let found = found.expect("quoted");
    assert_eq!((found.source_port, found.destination_port), (40001, 53));
    assert_eq!((found.protocol, found.seq, mtu), (17, None, Some(1280)));
    assert_eq!(packet.payload_len, 1200);

    let echo = ipv4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 9]);
    let exceeded = join(&[&[11, 0, 0, 0, 0, 0, 0, 0], &echo]);
    let found = error(&ipv4(1, &exceeded), Layer::Innermost)
        .1
        .expect("quoted");
    assert_eq!(
        (found.source_port, found.destination_port),
        (0x1234, 0x1234)
    );
}

/// The flow is the one inside, as it is for the packets themselves.
#[test]
fn errors_about_a_tunnel() {
    let inner = ipv4(6, &tcp(&[], &[9; 1000]));
    let outer = ipv4(17, &udp(4789, &vxlan(&eth(IPV4, &inner))));
    let about = |octets: usize| join(&[&[3, 4, 0, 0, 0, 0, 2, 0x58], &outer[..octets]]);
    let ports = |octets, layer| {
        let found = error(&ipv4(1, &about(octets)), layer).1.expect("quoted");
        (found.protocol, found.destination_port)
    };
    assert_eq!(ports(120, Layer::Innermost), (6, 443));
    assert_eq!(ports(120, Layer::Outermost), (17, 4789));
    // Not enough of the inside.
    assert_eq!(ports(60, Layer::Innermost), (17, 4789));
}

#[test]
fn outermost_without_tunnels_is_innermost() {
    let bytes = super::build::usual();
    assert_eq!(outermost(&bytes), ethernet(&bytes));
}
