//! Tables by protocol, and that the fast ways say what the general one says.

mod agree;
mod build;
mod ip;
mod link;
mod transport;
mod tunnel;

use base::{Address, Frame, LinkType, Passage, WallNanos};

use super::{
    Layer, Packet, PacketFlags, Stamped, Transport, Undecoded, decode, fast, general, stamped,
};

fn frame(link: LinkType, bytes: &[u8]) -> Frame<'_> {
    Frame {
        bytes,
        original_len: bytes.len() as u32,
        at: WallNanos(0),
        segment_bytes: 0,
        link,
        passage: Passage::Unknown,
    }
}

/// Decodes every way there is, which must not differ.
fn every_way(frame: &Frame<'_>, layer: Layer) -> Result<Packet, Undecoded> {
    let general = general::decode(frame, layer);
    if let Some(packet) = fast::first(frame) {
        assert_eq!(Ok(packet), general, "first");
    }
    if let Some(packet) = fast::second(frame, layer) {
        assert_eq!(Ok(packet), general, "second");
    }
    assert_eq!(decode(frame, layer), general);
    if let Some(segment) = stamped(frame) {
        assert_stamped(&segment, &general.expect("what is stamped is a packet"));
    }
    general
}

/// That a segment says what its packet does.
fn assert_stamped(segment: &Stamped, packet: &Packet) {
    let Transport::Tcp(tcp) = packet.transport else {
        panic!("{packet:?}");
    };
    let [source, destination] =
        [segment.addresses >> 32, segment.addresses].map(|address| Address::v4(address as u32));
    assert_eq!((source, destination), (packet.source, packet.destination));
    let ports = [segment.ports >> 16, segment.ports].map(|port| port as u16);
    assert_eq!(ports, [packet.source_port, packet.destination_port]);
    assert_eq!((segment.tcp, segment.ttl), (tcp, packet.ttl));
    assert_eq!(segment.df, packet.flags.has(PacketFlags::DONT_FRAGMENT));
    assert_eq!(
        (segment.ip_id, segment.ip_len),
        (packet.ip_id, packet.ip_len)
    );
    assert_eq!(segment.payload_len, packet.payload_len);
    assert_eq!((packet.protocol, packet.fragment_id), (6, 0));
    for flag in [PacketFlags::TUNNELLED, PacketFlags::FRAGMENT] {
        assert!(!packet.flags.has(flag));
    }
}

fn ethernet(bytes: &[u8]) -> Result<Packet, Undecoded> {
    every_way(&frame(LinkType::Ethernet, bytes), Layer::Innermost)
}

fn outermost(bytes: &[u8]) -> Result<Packet, Undecoded> {
    every_way(&frame(LinkType::Ethernet, bytes), Layer::Outermost)
}

/// Captured to `snaplen` octets.
fn cut(bytes: &[u8], snaplen: usize) -> Result<Packet, Undecoded> {
    let frame = Frame {
        bytes: &bytes[..snaplen],
        ..frame(LinkType::Ethernet, bytes)
    };
    every_way(&frame, Layer::Innermost)
}

fn address(text: &str) -> Address {
    Address::from(text.parse::<std::net::IpAddr>().expect("an address"))
}

/// That it is the TCP segment of [`build::tcp_v4`] with its payload at `at`.
fn assert_usual(decoded: Result<Packet, Undecoded>, at: usize) {
    let packet = decoded.expect("a packet");
    assert_eq!(packet.source, address("192.0.2.1"));
    assert_eq!(packet.destination, address("198.51.100.7"));
    assert_eq!((packet.source_port, packet.destination_port), (40000, 443));
    assert_eq!(usize::from(packet.payload_at), at);
    assert_eq!((packet.payload_len, packet.payload_captured), (5, 5));
    let Transport::Tcp(tcp) = packet.transport else {
        panic!("{packet:?}");
    };
    assert_eq!((tcp.seq, tcp.ack), (0x0102_0304, 0x0506_0708));
}
