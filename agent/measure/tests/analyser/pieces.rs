//! Frames that are more or less than a packet, and packets about packets.

use base::{Observation, TcpClass};
use measure::passive::Unmeasured;

use crate::frames::{ACK, Ip, Talk, analyse, options, packet, segment};

#[test]
fn a_merged_frame_is_the_segments_that_it_was() {
    let mut talk = Talk::v4();
    talk.handshake();
    for _ in 0..2 {
        talk.wait_us(500_000);
        talk.tcp(1, segment(ACK, 5001, 1001, 14_500).stamps(1, 1))
            .segment_bytes = 1448;
    }
    let said = analyse(options(10), &talk.frames);
    // 14 500 octets are ten of 1448 and one of 20.
    let headers = 20 + 32;
    let side = said.ended()[0].1.sides[1];
    assert_eq!(side.packets, 1 + 2 * 11);
    assert_eq!(side.bytes, 44 + 2 * (14_500 + 11 * headers));
    assert_eq!(side.largest_packet_bytes, 1500);
    assert_eq!(said.counters.packets, 3 + 22);
    let again = said.seen.iter().find_map(|(number, one)| match one {
        Observation::Tcp { segments, .. } => Some((*number, *segments)),
        _ => None,
    });
    assert_eq!(again, Some((5, 11)));
    assert_eq!(said.classed(TcpClass::Retransmission), [5]);
}

#[test]
fn fragments_are_of_the_flow_of_their_first() {
    for mut talk in [Talk::v4(), Talk::v6()] {
        let datagram = talk.datagram(0, &[7; 3000]);
        let ip = |at: u16, more| Ip {
            fragment: (at, more),
            ..Ip::new(17, 4711)
        };
        // A later one before its first is an orphan.
        talk.ip(0, ip(1480, true), &datagram[1480..2960]);
        talk.ip(0, ip(0, true), &datagram[..1480]);
        talk.wait_us(10);
        talk.ip(0, ip(1480, true), &datagram[1480..2960]);
        talk.ip(0, ip(2960, false), &datagram[2960..]);
        // Another datagram's, and one that is too late.
        talk.ip(
            0,
            Ip {
                id: 9,
                ..ip(1480, false)
            },
            &[1; 8],
        );
        talk.wait_us(2_500_000);
        talk.ip(0, ip(2960, false), &datagram[2960..]);
        let said = analyse(options(10), &talk.frames);
        let orphans = said.counters.unmeasured[Unmeasured::OrphanFragment.index()];
        assert_eq!((orphans, said.counters.fragments), (3, 2));
        assert_eq!(said.counters.flows, 1);
        assert_eq!(said.ended()[0].1.sides[0].packets, 3);
    }
}

#[test]
fn a_segment_in_fragments_is_one_segment() {
    let mut talk = Talk::v4();
    talk.handshake();
    let whole = {
        let mut other = talk.clone();
        let frame = other.tcp(1, segment(ACK, 5001, 1001, 2000));
        frame.octets[34..].to_vec()
    };
    let ip = |at: u16, more| Ip {
        fragment: (at, more),
        ..Ip::new(6, 4711)
    };
    talk.ip(1, ip(0, true), &whole[..1480]);
    talk.ip(1, ip(1480, false), &whole[1480..]);
    talk.wait_us(10_000);
    talk.tcp(0, segment(ACK, 1001, 7001, 0));
    let said = analyse(options(10), &talk.frames);
    assert_eq!(said.counters.flows, 1);
    assert_eq!(said.counters.fragments, 1);
    assert_eq!(said.ended()[0].1.sides[1].packets, 3);
}

/// An ICMP or ICMPv6 "too big" that quotes what an end sent.
fn too_big(talk: &Talk, quoted: &[u8], mtu: u32) -> Vec<u8> {
    let v6 = talk.ends[0].is_ipv6();
    let mut icmp = if v6 {
        vec![2, 0, 0, 0]
    } else {
        vec![3, 4, 0, 0]
    };
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(&quoted[..quoted.len().min(if v6 { 60 } else { 28 })]);
    let router = if v6 { "2001:db8::ff" } else { "203.0.113.1" };
    let router = router.parse().expect("an address");
    let protocol = if v6 { 58 } else { 1 };
    packet(router, talk.ends[1].ip(), Ip::new(protocol, 1), &icmp)
}

#[test]
fn too_big_is_about_the_flow_that_it_quotes() {
    for mut talk in [Talk::v4(), Talk::v6()] {
        talk.handshake();
        let mut sent = talk.tcp(1, segment(ACK, 5001, 1001, 1448)).octets.clone();
        let quoted = sent.split_off(14);
        let mut strange = quoted.clone();
        // Another port.
        let at = if talk.ends[0].is_ipv6() { 40 } else { 20 };
        strange[at] ^= 1;
        for quoted in [&quoted, &strange] {
            let error = too_big(&talk, quoted, 1400);
            talk.raw(None, &error);
        }
        let said = analyse(options(10), &talk.frames);
        let errors: Vec<_> = said
            .seen
            .iter()
            .filter_map(|(number, one)| match one {
                Observation::TooBig {
                    flow, next_hop_mtu, ..
                } => Some((*number, flow.is_some(), *next_hop_mtu)),
                _ => None,
            })
            .collect();
        assert_eq!(errors, [(5, true, 1400), (6, false, 1400)]);
        let about = said.counters.unmeasured[Unmeasured::IcmpError.index()];
        assert_eq!((about, said.counters.flows), (2, 1));
    }
}
