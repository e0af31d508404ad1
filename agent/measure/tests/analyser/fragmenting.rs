//! Whether an end lets routers fragment its packets.

use base::{DontFragment, Sender};

use crate::frames::{ACK, Captured, Ip, Talk, analyse, options, segment};

/// DF lies in the seventh octet of an IPv4 header behind Ethernet.
fn set(frame: &mut Captured) {
    frame.octets[14 + 6] |= 0x40;
}

fn of(talk: &Talk) -> [Option<DontFragment>; 2] {
    let said = analyse(options(10), &talk.frames);
    let [(_, flow)] = said.ended()[..] else {
        panic!("one flow");
    };
    Sender::ALL.map(|sender| flow.sides[sender.index()].dont_fragment)
}

#[test]
fn every_datagram_says_it() {
    let mut talk = Talk::v4();
    set(talk.udp(0, b"one"));
    talk.udp(1, b"two");
    assert_eq!(
        of(&talk),
        [Some(DontFragment::Set), Some(DontFragment::Clear)]
    );
    talk.udp(0, b"three");
    assert_eq!(
        of(&talk),
        [Some(DontFragment::Mixed), Some(DontFragment::Clear)]
    );
}

#[test]
fn an_end_that_is_not_heard_says_nothing() {
    let mut talk = Talk::v4();
    set(talk.udp(0, b"one"));
    assert_eq!(of(&talk), [Some(DontFragment::Set), None]);
}

#[test]
fn ipv6_is_never_fragmented_by_routers() {
    let mut talk = Talk::v6();
    talk.udp(0, b"one");
    talk.ip(1, Ip::new(17, 1), &[0, 80, 0x9c, 0x40, 0, 8, 0, 0]);
    assert_eq!(of(&talk), [Some(DontFragment::Set); 2]);
}

/// A sender that suspects a black hole sends again without DF (RFC 2923 section 2.1).
#[test]
fn a_retransmission_without_df_shows() {
    let mut talk = Talk::v4();
    talk.handshake();
    talk.tcp(0, segment(ACK, 1001, 5001, 1000));
    talk.frames.iter_mut().for_each(set);
    assert_eq!(of(&talk), [Some(DontFragment::Set); 2]);
    let last = talk.frames.len() - 1;
    let mut again = talk.frames[last].clone();
    again.octets[14 + 4] ^= 1;
    again.octets[14 + 6] = 0;
    again.at_ns += 300_000_000;
    talk.frames.push(again);
    assert_eq!(
        of(&talk),
        [Some(DontFragment::Mixed), Some(DontFragment::Set)]
    );
}
