//! QUIC handshakes from packets made by hand.

use base::Sender::{Near, Remote};

use super::DatagramEvent as Event;
use super::*;

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;

/// First octets of the long headers of version 1.
const INITIAL: u8 = 0xc0;
const ZERO_RTT: u8 = 0xd0;
const HANDSHAKE: u8 = 0xe0;
const RETRY: u8 = 0xf0;

/// A datagram of `whole` octets whose first packet ends at `end`.
fn long(first: u8, version: u32, to: &[u8], from: &[u8], end: usize, whole: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(version.to_be_bytes());
    for id in [to, from] {
        bytes.push(id.len() as u8);
        bytes.extend(id);
    }
    let initial = if version == V2 { 0xd0 } else { INITIAL };
    if first == initial {
        bytes.push(0);
    }
    let length = end - bytes.len() - 2;
    bytes.extend((0x4000 | length as u16).to_be_bytes());
    bytes.resize(whole, 0);
    bytes
}

const CLIENT: &[u8] = &[1, 2, 3, 4];
const FIRST: &[u8] = &[9; 8];
const SERVER: &[u8] = &[5, 6, 7, 8, 9];

fn hello(to: &[u8]) -> Vec<u8> {
    long(INITIAL, V1, to, CLIENT, 1200, 1200)
}

fn from_server(first: u8) -> Vec<u8> {
    long(first, V1, CLIENT, SERVER, 1200, 1200)
}

fn to_server(first: u8, end: usize, whole: usize) -> Vec<u8> {
    long(first, V1, SERVER, CLIENT, end, whole)
}

fn quic(leg: Leg, us: u64) -> Sample {
    (RttMethod::QuicHandshake, leg, us * 1000)
}

#[test]
fn both_legs_of_a_handshake() {
    let mut rig = Rig::new(40_000, 443);
    rig.udp(1000, Near, &hello(FIRST));
    // The rest of the same flight, and 0-RTT.
    rig.udp(1100, Near, &hello(FIRST));
    rig.udp(1200, Near, &long(ZERO_RTT, V1, FIRST, CLIENT, 500, 500));
    rig.udp(21_000, Remote, &from_server(INITIAL));
    rig.udp(21_400, Remote, &from_server(HANDSHAKE));
    rig.udp(21_500, Remote, &from_server(HANDSHAKE));
    // An Initial that was under way when the server answered, then the answer's ACKs.
    rig.udp(21_900, Near, &hello(FIRST));
    rig.udp(22_000, Near, &to_server(INITIAL, 1200, 1200));
    rig.udp(22_100, Near, &to_server(HANDSHAKE, 80, 80));
    rig.udp(22_200, Near, &to_server(HANDSHAKE, 80, 80));
    assert_eq!(
        rig.samples,
        [quic(Leg::Remote, 20_000), quic(Leg::Near, 700)]
    );
    assert_eq!(rig.events(), []);
}

#[test]
fn a_client_on_the_remote_side_turns_the_legs() {
    let mut rig = Rig::new(443, 40_000);
    rig.udp(1000, Remote, &hello(FIRST));
    let mut both = long(INITIAL, V1, CLIENT, SERVER, 150, 1200);
    both[150..].copy_from_slice(&long(HANDSHAKE, V1, CLIENT, SERVER, 1050, 1050));
    rig.udp(1200, Near, &both);
    // Filled up with zeros, which are no packet.
    rig.udp(31_000, Remote, &to_server(INITIAL, 60, 1200));
    let mut both = to_server(INITIAL, 60, 1200);
    both[60..].copy_from_slice(&to_server(HANDSHAKE, 1140, 1140));
    rig.udp(31_200, Remote, &both);
    assert_eq!(
        rig.samples,
        [quic(Leg::Near, 200), quic(Leg::Remote, 30_000)]
    );
}

#[test]
fn version_two_has_its_own_types() {
    let mut rig = Rig::new(40_000, 443);
    rig.udp(1000, Near, &long(0xd0, V2, FIRST, CLIENT, 1200, 1200));
    rig.udp(2000, Remote, &long(0xf0, V2, CLIENT, SERVER, 1200, 1200));
    rig.udp(2100, Near, &long(0xf0, V2, SERVER, CLIENT, 80, 80));
    assert_eq!(rig.samples, [quic(Leg::Remote, 1000), quic(Leg::Near, 100)]);
}

#[test]
fn a_repeated_initial_takes_the_sample_away() {
    let mut rig = Rig::new(40_000, 443);
    rig.udp(1000, Near, &hello(FIRST));
    rig.udp(301_000, Near, &hello(FIRST));
    rig.udp(320_000, Remote, &from_server(HANDSHAKE));
    // The near leg is of other packets.
    rig.udp(320_100, Near, &to_server(HANDSHAKE, 80, 80));
    assert_eq!(rig.samples, [quic(Leg::Near, 100)]);
    assert_eq!(
        rig.events(),
        [(Event::AmbiguousResponse, 1), (Event::InitialRepeated, 1)]
    );
}

#[test]
fn a_repeated_server_flight_takes_the_near_sample_away() {
    let mut rig = Rig::new(40_000, 443);
    rig.udp(1000, Near, &hello(FIRST));
    rig.udp(2000, Remote, &from_server(HANDSHAKE));
    rig.udp(302_000, Remote, &from_server(HANDSHAKE));
    rig.udp(302_100, Near, &to_server(HANDSHAKE, 80, 80));
    assert_eq!(rig.samples, [quic(Leg::Remote, 1000)]);
    assert_eq!(rig.events(), [(Event::HandshakeNearUnknown, 1)]);
}

#[test]
fn a_retry_answers_and_begins_anew() {
    let mut rig = Rig::new(40_000, 443);
    let retry_id: &[u8] = &[7; 8];
    rig.udp(1000, Near, &hello(FIRST));
    rig.udp(11_000, Remote, &long(RETRY, V1, CLIENT, retry_id, 100, 100));
    // Under way, still to the first ID.
    rig.udp(11_050, Near, &hello(FIRST));
    rig.udp(11_300, Near, &hello(retry_id));
    rig.udp(23_300, Remote, &from_server(HANDSHAKE));
    rig.udp(23_500, Near, &to_server(HANDSHAKE, 80, 80));
    assert_eq!(
        rig.samples,
        [
            quic(Leg::Remote, 10_000),
            quic(Leg::Near, 300),
            quic(Leg::Remote, 12_000),
            quic(Leg::Near, 200),
        ]
    );
}

#[test]
fn version_negotiation_answers_and_begins_anew() {
    let mut rig = Rig::new(40_000, 443);
    // A version that is reserved for this.
    rig.udp(
        1000,
        Near,
        &long(0xff, 0x1a2a_3a4a, FIRST, CLIENT, 1200, 1200),
    );
    rig.udp(9000, Remote, &long(0x80, 0, CLIENT, FIRST, 40, 40));
    rig.udp(9500, Near, &hello(FIRST));
    rig.udp(18_000, Remote, &from_server(INITIAL));
    assert_eq!(
        rig.samples,
        [quic(Leg::Remote, 8000), quic(Leg::Remote, 8500)]
    );
}

#[test]
fn another_connections_packets_do_not_answer() {
    let mut rig = Rig::new(40_000, 443);
    rig.udp(500, Remote, &from_server(INITIAL));
    rig.udp(1000, Near, &hello(FIRST));
    rig.udp(2000, Remote, &long(HANDSHAKE, V1, &[3; 4], SERVER, 80, 80));
    assert_eq!(rig.samples, []);
    assert_eq!(rig.events(), [(Event::HandshakeUnmatched, 2)]);
    rig.udp(3000, Remote, &from_server(INITIAL));
    assert_eq!(rig.taken(), [quic(Leg::Remote, 2000)]);
    // The same ports, a new connection.
    let client: &[u8] = &[4, 3, 2];
    rig.udp(
        9_000_000,
        Near,
        &long(INITIAL, V1, &[8; 8], client, 1200, 1200),
    );
    rig.udp(9_003_000, Remote, &from_server(INITIAL));
    rig.udp(
        9_004_000,
        Remote,
        &long(INITIAL, V1, client, SERVER, 1200, 1200),
    );
    assert_eq!(rig.taken(), [quic(Leg::Remote, 4000)]);
}

#[test]
fn what_was_cut_is_not_guessed() {
    let mut rig = Rig::new(40_000, 443);
    rig.cut(1000, Near, &hello(FIRST)[..16], 1200);
    // The server's IDs and Length are gone: no near leg.
    rig.cut(2000, Remote, &from_server(INITIAL)[..8], 1200);
    rig.udp(2100, Near, &to_server(HANDSHAKE, 80, 80));
    assert_eq!(rig.samples, [quic(Leg::Remote, 1000)]);
    assert_eq!(rig.events(), [(Event::HandshakeNearUnknown, 1)]);
}

#[test]
fn time_that_steps_back_gives_nothing() {
    let mut rig = Rig::new(40_000, 443);
    rig.udp(1000, Near, &hello(FIRST));
    rig.udp(900, Remote, &from_server(HANDSHAKE));
    rig.udp(800, Near, &to_server(HANDSHAKE, 80, 80));
    assert_eq!(rig.samples, []);
    assert_eq!(rig.events(), [(Event::Backwards, 2)]);
}

#[test]
fn other_payload_on_the_port_is_refused_by_reason() {
    let mut rig = Rig::new(40_000, 443);
    for payload in [
        &[0x16, 0xfe, 0xfd][..],
        &[],
        &[0x40; 20],
        &[0xc0; 40],
        &[0x80; 3],
    ] {
        rig.udp(1000, Near, payload);
    }
    let refused = NotQuic::ALL.iter().map(|r| rig.counters.not_quic(*r));
    assert_eq!(refused.collect::<Vec<_>>(), [3, 1, 1, 0, 0]);
    assert_eq!((rig.samples.len(), rig.events().len()), (0, 0));
}
