//! Beginnings and ends of connections, who is near, who is in which group.

use base::{FlowEnd, Leg, LossPlace, Observation, Passage, RttMethod, Sender, TcpClass};
use measure::passive::Groups;

use crate::frames::{ACK, FIN, RST, SYN, Talk, analyse, options, segment};

const MS: u64 = 1_000_000;

#[test]
fn a_handshake_gives_each_leg_its_time() {
    for mut talk in [Talk::v4(), Talk::v6()] {
        talk.handshake();
        let said = analyse(options(10), &talk.frames);
        let wanted = vec![(2, Leg::Remote, 10 * MS), (3, Leg::Near, MS)];
        assert_eq!(said.rtts(RttMethod::Handshake), wanted);
        assert_eq!(said.rtts(RttMethod::Sequence), wanted);
        let [(FlowEnd::Stopped, flow)] = said.ended()[..] else {
            panic!("{:?}", said.ended());
        };
        assert_eq!(flow.sides.map(|side| side.packets), [2, 1]);
        assert_eq!(flow.sides.map(|side| side.mss), [Some(1460); 2]);
        assert_eq!(flow.ends[0].0.ip(), talk.ends[0].ip());
    }
}

#[test]
fn a_syn_sent_twice_gives_no_handshake() {
    let mut talk = Talk::v4();
    talk.tcp(0, segment(SYN, 1000, 0, 0));
    talk.wait_us(1_000_000);
    talk.handshake();
    let said = analyse(options(10), &talk.frames);
    // The near leg's segments were sent once.
    let near = vec![(4, Leg::Near, MS)];
    assert_eq!(said.rtts(RttMethod::Handshake), near);
    assert_eq!(said.classed(TcpClass::Retransmission), [2]);
    assert_eq!(said.classed(TcpClass::PortReuse), []);
    assert_eq!(said.counters.flows, 1);
}

#[test]
fn what_is_sent_over_a_syn_makes_its_answer_ambiguous() {
    let mut talk = Talk::v4();
    talk.tcp(0, segment(SYN, 1000, 0, 0));
    talk.wait_us(300_000);
    talk.tcp(0, segment(FIN, 1000, 0, 0));
    talk.wait_us(10_000);
    talk.tcp(1, segment(SYN | ACK, 5000, 1001, 0));
    let said = analyse(options(10), &talk.frames);
    assert_eq!(said.rtts(RttMethod::Handshake), []);
    assert_eq!(said.rtts(RttMethod::Sequence), []);
}

#[test]
fn a_captured_order_that_cannot_be_gives_no_handshake() {
    // The SYN-ACK, and 260 µs later its SYN.
    let mut talk = Talk::v4();
    talk.tcp(1, segment(SYN | ACK, 5000, 1001, 0));
    talk.wait_us(260);
    talk.tcp(0, segment(SYN, 1000, 0, 0));
    talk.wait_us(34);
    talk.tcp(0, segment(ACK, 1001, 5001, 0));
    talk.wait_us(500);
    talk.tcp(1, segment(ACK, 5001, 1001, 100));
    let said = analyse(options(10), &talk.frames);
    assert_eq!(said.rtts(RttMethod::Handshake), []);
    // A SYN-ACK is not from the near end.
    assert_eq!(said.ended()[0].1.ends[0].0.ip(), talk.ends[0].ip());
}

#[test]
fn data_in_a_syn_may_be_acknowledged_with_it_or_not() {
    for ack in [1001, 1101] {
        let mut talk = Talk::v4();
        talk.tcp(0, segment(SYN, 1000, 0, 100));
        talk.wait_us(10_000);
        talk.tcp(1, segment(SYN | ACK, 5000, ack, 0));
        talk.wait_us(1_000);
        talk.tcp(0, segment(ACK, 1101, 5001, 0));
        let said = analyse(options(10), &talk.frames);
        let wanted = vec![(2, Leg::Remote, 10 * MS), (3, Leg::Near, MS)];
        assert_eq!(said.rtts(RttMethod::Handshake), wanted, "ack {ack}");
    }
    // An acknowledgement of what was never sent is no handshake.
    let mut talk = Talk::v4();
    talk.tcp(0, segment(SYN, 1000, 0, 100));
    talk.wait_us(10_000);
    talk.tcp(1, segment(SYN | ACK, 5000, 1102, 0));
    let said = analyse(options(10), &talk.frames);
    assert_eq!(said.rtts(RttMethod::Handshake), []);
}

#[test]
fn ports_that_are_used_again_begin_a_flow() {
    let mut talk = Talk::v4();
    talk.handshake();
    let last = talk.now_ns;
    talk.wait_us(5_000_000);
    // The same SYN again would be a retransmission.
    talk.tcp(0, segment(SYN, 900_000, 0, 0));
    talk.wait_us(20_000);
    talk.tcp(1, segment(SYN | ACK, 700_000, 900_001, 0));
    let said = analyse(options(10), &talk.frames);
    assert_eq!(said.classed(TcpClass::PortReuse), [4]);
    let [(FlowEnd::Reused, old), (FlowEnd::Stopped, new)] = said.ended()[..] else {
        panic!("{:?}", said.ended());
    };
    assert_eq!(old.last.0, last, "not the time of the SYN that ended it");
    assert_eq!(old.sides.map(|side| side.packets), [2, 1]);
    assert_eq!(new.sides.map(|side| side.packets), [1, 1]);
    assert_eq!(
        said.rtts(RttMethod::Handshake)[2..],
        [(5, Leg::Remote, 20 * MS)]
    );
}

#[test]
fn a_connection_that_was_under_way_is_measured() {
    let mut talk = Talk::v4();
    // The end that answers is heard first: whoever sends first is near.
    for n in 0..10 {
        talk.tcp(1, segment(ACK, 9000 + n * 1000, 77, 1000).stamps(50 + n, 7));
        talk.wait_us(400);
        talk.tcp(
            0,
            segment(ACK, 77, 10_000 + n * 1000, 0).stamps(900 + n, 50 + n),
        );
        talk.wait_us(3_000);
    }
    let said = analyse(options(10), &talk.frames);
    assert_eq!(said.rtts(RttMethod::Handshake), []);
    // Nobody waits for the first segment: the other end was not heard of yet.
    let sequence = said.rtts(RttMethod::Sequence);
    assert_eq!(sequence.len(), 9);
    assert!(
        sequence
            .iter()
            .all(|rtt| (rtt.1, rtt.2) == (Leg::Remote, 400_000))
    );
    assert_eq!(said.rtts(RttMethod::Timestamp), sequence);
    assert_eq!(said.losses(), []);
    assert!(said.classed(TcpClass::AckedUnseen).is_empty());
    assert_eq!(said.ended()[0].1.ends[0].0.ip(), talk.ends[1].ip());
}

#[test]
fn one_captured_direction_fills_no_pool() {
    for acks_only in [false, true] {
        let mut talk = Talk::v4();
        for n in 0..5000u32 {
            let (seq, ack, len) = if acks_only {
                (1, n * 1448, 0)
            } else {
                (n * 1448, 1, 1448)
            };
            talk.wait_us(10);
            talk.tcp(0, segment(ACK, seq, ack, len));
        }
        let said = analyse(options(2), &talk.frames);
        assert_eq!(said.counters.segments_forgotten, 0);
        assert_eq!(said.losses(), []);
        let flow = said.ended()[0].1;
        assert_eq!(flow.sides.map(|side| side.packets), [5000, 0]);
    }
}

#[test]
fn what_is_closed_goes_soon() {
    let ends: [&[(usize, u8)]; 2] = [&[(1, RST)], &[(0, FIN | ACK), (1, FIN | ACK)]];
    for ends in ends {
        let mut talk = Talk::v4();
        talk.handshake();
        let mut seq = [1001, 5001];
        for (s, flags) in ends {
            talk.wait_us(100);
            talk.tcp(*s, segment(*flags, seq[*s], seq[1 - *s], 0));
            seq[*s] += 1;
        }
        let closed = talk.now_ns;
        // Others go on; the wheel turns with them.
        let mut other = Talk::new("10.0.0.9:1", "10.0.0.8:2");
        other.now_ns = closed;
        for _ in 0..40 {
            other.wait_us(1_000_000);
            other.udp(0, &[1]);
        }
        talk.frames.append(&mut other.frames);
        let said = analyse(options(10), &talk.frames);
        let (end, flow) = said.ended()[0];
        assert_eq!((end, flow.last.0), (FlowEnd::Closed, closed));
        let number = said
            .seen
            .iter()
            .find(|(_, one)| matches!(one, Observation::Ended { .. }));
        let frame = number.expect("it ended").0 as usize;
        let took = talk.frames[frame - 1].at_ns - closed;
        // The wheel looks every eight slots of a second; a batch has 13 s.
        assert!((2_000 * MS..23_000 * MS).contains(&took), "{took}");
    }
}

#[test]
fn the_capture_knows_who_is_near() {
    for (passage, near) in [
        (Passage::Unknown, 0),
        (Passage::Sent, 0),
        (Passage::Received, 1),
    ] {
        let mut talk = Talk::v4();
        talk.handshake();
        for (n, frame) in talk.frames.iter_mut().enumerate() {
            // The middle one goes the other way.
            frame.passage = match (passage, n) {
                (Passage::Sent, 1) => Passage::Received,
                (Passage::Received, 1) => Passage::Sent,
                (passage, _) => passage,
            };
        }
        let said = analyse(options(10), &talk.frames);
        let flow = said.ended()[0].1;
        assert_eq!(flow.ends[0].0.ip(), talk.ends[near].ip(), "{passage:?}");
        let legs: Vec<_> = said
            .rtts(RttMethod::Handshake)
            .iter()
            .map(|r| r.1)
            .collect();
        let wanted = if near == 0 {
            [Leg::Remote, Leg::Near]
        } else {
            [Leg::Near, Leg::Remote]
        };
        assert_eq!(legs, wanted, "{passage:?}");
    }
}

/// A frame as a traffic mirror sends it: in VXLAN (RFC 7348) to a third host.
fn mirrored(inner: &[u8]) -> Vec<u8> {
    let udp = 8 + 8 + inner.len();
    let mut outer = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0];
    outer.extend([0x45, 0]);
    outer.extend((20 + udp as u16).to_be_bytes());
    outer.extend([0, 7, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    outer.extend(50_000_u16.to_be_bytes());
    outer.extend(4789_u16.to_be_bytes());
    outer.extend((udp as u16).to_be_bytes());
    outer.extend([0, 0, 8, 0, 0, 0, 0, 0, 5, 0]);
    outer.extend(inner);
    outer
}

#[test]
fn what_a_mirror_sends_here_is_not_of_this_host() {
    let mut talk = Talk::v4();
    talk.handshake();
    for frame in &mut talk.frames {
        frame.octets = mirrored(&frame.octets);
        frame.passage = Passage::Received;
    }
    let said = analyse(options(10), &talk.frames);
    let flow = said.ended()[0].1;
    assert_eq!(flow.ends[0].0.ip(), talk.ends[0].ip());
    assert_eq!(said.rtts(RttMethod::Handshake).len(), 2);
}

#[test]
fn a_tag_in_one_direction_only_makes_no_second_flow() {
    let mut talk = Talk::v4();
    talk.handshake();
    let untagged = analyse(options(10), &talk.frames);
    let answer = &mut talk.frames[1].octets;
    answer.splice(12..12, [0x81, 0x00, 0x0c, 0x40]);
    let tagged = analyse(options(10), &talk.frames);
    assert_eq!(tagged.counters.flows, 1);
    assert_eq!(format!("{:?}", tagged.seen), format!("{:?}", untagged.seen));
}

#[test]
fn a_flow_is_in_the_group_of_its_remote_end() {
    let groups = Groups::new(
        &[("192.0.2.0".parse().expect("an address"), 24, "lab".into())],
        &[(80, "http".into())],
    );
    let mut talk = Talk::v4();
    talk.handshake();
    let mut with = options(10);
    with.groups = groups.expect("few");
    let names = with.groups.clone();
    let said = analyse(with, &talk.frames);
    for (_, one) in &said.seen {
        let group = match one {
            Observation::Rtt { group, .. } => *group,
            Observation::Ended { summary, .. } => summary.group,
            other => panic!("{other:?}"),
        };
        assert_eq!(names.names(group), (Some("lab"), Some("http")));
    }
}

/// A server that sends five segments, of which the full-size ones do not arrive.
fn stuck(full_passes: bool, small_passes: bool) -> Talk {
    let mut talk = Talk::v4();
    talk.handshake();
    let mut seq = 5001;
    let mut ack = 5001;
    if full_passes {
        talk.tcp(1, segment(ACK, seq, 1001, 1448));
        seq += 1448;
        ack = seq;
        talk.wait_us(10_000).tcp(0, segment(ACK, 1001, ack, 0));
    }
    let first = seq;
    for len in [1448, 1448, 200, 200, 200] {
        talk.wait_us(10).tcp(1, segment(ACK, seq, 1001, len));
        seq += len;
    }
    if small_passes {
        for _ in 0..3 {
            talk.wait_us(1000).tcp(0, segment(ACK, 1001, ack, 0));
        }
    }
    for wait in [200_000, 400_000, 800_000] {
        talk.wait_us(wait).tcp(1, segment(ACK, first, 1001, 1448));
    }
    talk
}

#[test]
fn a_black_hole_is_suspected_only_while_smaller_packets_pass() {
    for (full, small, suspected) in [
        (false, true, true),
        (true, true, false),
        (false, false, false),
    ] {
        let said = analyse(options(10), &stuck(full, small).frames);
        let holes: Vec<_> = said
            .seen
            .iter()
            .filter_map(|(_, one)| match one {
                Observation::BlackHole {
                    sender,
                    packet_bytes,
                    ..
                } => Some((*sender, *packet_bytes)),
                _ => None,
            })
            .collect();
        let wanted: &[_] = if suspected {
            &[(Sender::Remote, 1488)]
        } else {
            &[]
        };
        assert_eq!(holes, wanted, "full {full}, small {small}");
    }
}

#[test]
fn losses_are_placed_and_those_of_the_capture_are_not_the_networks() {
    // Seen and seen again: lost behind the probe.
    let mut talk = Talk::v4();
    talk.handshake();
    talk.tcp(1, segment(ACK, 5001, 1001, 1000));
    talk.wait_us(300_000);
    talk.tcp(1, segment(ACK, 5001, 1001, 1000));
    talk.wait_us(10_000);
    talk.tcp(0, segment(ACK, 1001, 6001, 0));
    // Never seen until it fills a gap, a round trip later: lost before.
    talk.tcp(1, segment(ACK, 7001, 1001, 1000));
    talk.wait_us(40_000);
    talk.tcp(1, segment(ACK, 6001, 1001, 1000));
    // The same at once: reordered.
    talk.wait_us(5_000);
    talk.tcp(1, segment(ACK, 9001, 1001, 1000));
    talk.wait_us(50);
    talk.tcp(1, segment(ACK, 8001, 1001, 1000));
    talk.wait_us(5_000);
    talk.tcp(0, segment(ACK, 1001, 10_001, 0));
    // Acknowledged and never seen: three segments of 1460.
    talk.tcp(1, segment(ACK, 14_001, 1001, 1000));
    talk.wait_us(5_000);
    talk.tcp(0, segment(ACK, 1001, 15_001, 0));
    let said = analyse(options(10), &talk.frames);
    assert_eq!(
        said.losses(),
        [
            (6, LossPlace::After, 1),
            (8, LossPlace::Before, 1),
            (10, LossPlace::Reordered, 1),
            (13, LossPlace::Capture, 3),
        ]
    );
}
