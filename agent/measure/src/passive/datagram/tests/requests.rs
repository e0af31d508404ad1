//! Echo, DNS and STAMP: which response is of which request, and what is counted instead.

use crate::passive::datagram::outstanding::PLACES;
use base::Sender::{Near, Remote};
use wire::stamp::{ErrorEstimate, ReplyFields, RequestFields, Timestamp};

use super::DatagramEvent as Event;
use super::*;

fn pings() -> Rig {
    Rig::with(Kind::Echo, [7, 7])
}

#[test]
fn the_first_reply_counts_once() {
    let mut rig = pings();
    rig.echo(1000, Near, false, 1);
    rig.echo(1250, Remote, true, 1);
    rig.echo(1300, Remote, true, 1);
    assert_eq!(rig.taken(), [(RttMethod::Icmp, Leg::Remote, 250_000)]);
    rig.echo(2000, Remote, true, 2);
    // The side that asked cannot answer.
    rig.echo(3000, Near, false, 3);
    rig.echo(3100, Near, true, 3);
    assert_eq!(rig.samples, []);
    assert_eq!(
        rig.events(),
        [(Event::UnmatchedResponse, 2), (Event::DuplicateResponse, 1)]
    );
}

#[test]
fn the_leg_is_behind_who_answers() {
    let mut rig = pings();
    rig.echo(1000, Remote, false, 1);
    rig.echo(1000, Near, false, 1);
    rig.echo(1030, Near, true, 1);
    rig.echo(1700, Remote, true, 1);
    assert_eq!(
        rig.samples,
        [
            (RttMethod::Icmp, Leg::Near, 30_000),
            (RttMethod::Icmp, Leg::Remote, 700_000)
        ]
    );
}

#[test]
fn a_repeat_is_ambiguous_but_a_mirrors_copy_is_not() {
    let mut rig = pings();
    rig.echo(1000, Near, false, 1);
    rig.echo(1010, Near, false, 1);
    rig.echo(1400, Remote, true, 1);
    rig.echo(1410, Remote, true, 1);
    assert_eq!(rig.taken(), [(RttMethod::Icmp, Leg::Remote, 400_000)]);
    rig.echo(5000, Near, false, 2);
    rig.echo(8000, Near, false, 2);
    rig.echo(9000, Remote, true, 2);
    assert_eq!(rig.taken(), []);
    // A sequence number in use again, as after 65 536 requests.
    rig.echo(90_000, Near, false, 1);
    rig.echo(90_500, Remote, true, 1);
    assert_eq!(rig.taken(), [(RttMethod::Icmp, Leg::Remote, 500_000)]);
    assert_eq!(
        rig.events(),
        [
            (Event::DuplicateResponse, 1),
            (Event::RepeatedRequest, 2),
            (Event::AmbiguousResponse, 1)
        ]
    );
}

/// A round trip of 50 requests, more than are remembered: still samples, all right, and every
/// request is accounted for.
#[test]
fn more_requests_than_places_thin_out() {
    let mut rig = pings();
    for n in 0..2000_u64 {
        let now = 1_000_000 + n * 10_000;
        rig.echo(now, Near, false, n as u16);
        if let Some(old) = n.checked_sub(50) {
            rig.echo(now + 5, Remote, true, old as u16);
        }
    }
    // Each place gives one sample per round trip of 50 requests, or nearly.
    assert!(
        rig.samples.len() > 2000 / 50 * PLACES * 9 / 10,
        "{}",
        rig.samples.len()
    );
    assert!(rig.samples.iter().all(|s| s.2 == 500_005_000));
    let count = |event| rig.counters.get(event);
    assert_eq!(
        rig.samples.len() as u64 + count(Event::UnmatchedResponse),
        1950
    );
    // At the end all places wait.
    assert_eq!(
        rig.samples.len() as u64 + count(Event::UntrackedRequest) + PLACES as u64,
        2000
    );
}

#[test]
fn lost_requests_give_their_places_back() {
    let mut rig = pings();
    let mut n = 0;
    let mut ask = |rig: &mut Rig, at: u64, answered: bool| {
        n += 1;
        rig.echo(at, Near, false, n);
        if answered {
            rig.echo(at + 100, Remote, true, n);
        }
    };
    ask(&mut rig, 1000, true);
    for i in 0..PLACES as u64 {
        ask(&mut rig, 10_000 + i * 10_000, false);
    }
    // The eldest is 75 ms old: patience is 100 ms.
    ask(&mut rig, 85_000, true);
    assert_eq!(rig.samples.len(), 1);
    ask(&mut rig, 120_000, true);
    assert_eq!(rig.samples.len(), 2);
    assert_eq!(
        rig.events(),
        [
            (Event::UnmatchedResponse, 1),
            (Event::SupersededRequest, 1),
            (Event::UntrackedRequest, 1)
        ]
    );
}

#[test]
fn time_that_steps_back_gives_nothing() {
    let mut rig = pings();
    rig.echo(5_000_000, Near, false, 1);
    rig.echo(4_000_000, Remote, true, 1);
    assert_eq!(rig.samples, []);
    assert_eq!(rig.events(), [(Event::Backwards, 1)]);
    // Across the fold of the 48 bits that are kept.
    let fold = (1 << 48) / 1000;
    rig.echo(fold - 10, Near, false, 2);
    rig.echo(fold + 10, Remote, true, 2);
    assert_eq!(rig.samples, [(RttMethod::Icmp, Leg::Remote, 20_000)]);
}

/// A message of one question, as RFC 1035 section 4.1 lays it out.
fn message(id: u16, response: bool, name: &[&str]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([
        if response { 0x81 } else { 1 },
        0x80,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    for label in name {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[test]
fn a_response_fits_by_identifier_and_question() {
    let mut rig = Rig::new(40_000, 53);
    rig.udp(1000, Near, &message(7, false, &["example", "org"]));
    rig.udp(1100, Remote, &message(7, true, &["example", "com"]));
    rig.udp(1200, Remote, &message(8, true, &["example", "org"]));
    assert_eq!(rig.samples, []);
    rig.udp(1300, Remote, &message(7, true, &["eXample", "ORG"]));
    assert_eq!(rig.taken(), [(RttMethod::Dns, Leg::Remote, 300_000)]);
    // One identifier, two questions: both wait.
    rig.udp(2000, Near, &message(9, false, &["a", "org"]));
    rig.udp(2010, Near, &message(9, false, &["b", "org"]));
    rig.udp(2500, Remote, &message(9, true, &["b", "org"]));
    rig.udp(2600, Remote, &message(9, true, &["a", "org"]));
    let times: Vec<_> = rig.taken().iter().map(|s| s.2).collect();
    assert_eq!(times, [490_000, 600_000]);
    assert_eq!(rig.events(), [(Event::UnmatchedResponse, 2)]);
}

#[test]
fn what_a_snaplen_cut_fits_by_identifier() {
    let mut rig = Rig::new(40_000, 53);
    let query = message(7, false, &["a-long-name", "example", "org"]);
    let response = message(7, true, &["a-long-name", "example", "org"]);
    rig.cut(1000, Near, &query[..20], query.len());
    rig.udp(1300, Remote, &response);
    assert_eq!(rig.taken(), [(RttMethod::Dns, Leg::Remote, 300_000)]);
    rig.cut(2000, Near, &query[..11], query.len());
    assert_eq!(rig.events(), [(Event::Unreadable, 1)]);
}

fn request(sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; 44];
    RequestFields {
        sequence,
        timestamp: Timestamp([1; 8]),
        error_estimate: ErrorEstimate(0x8001),
        ssid: 0,
    }
    .emit(&mut bytes)
    .expect("room");
    bytes
}

fn reply(sequence: u32, sender_sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; 44];
    ReplyFields {
        sequence,
        timestamp: Timestamp([2; 8]),
        error_estimate: ErrorEstimate(0x8001),
        ssid: 0,
        receive_timestamp: Timestamp([3; 8]),
        sender_sequence,
        sender_timestamp: Timestamp([1; 8]),
        sender_error_estimate: ErrorEstimate(0x8001),
        sender_ttl: 255,
    }
    .emit(&mut bytes)
    .expect("room");
    bytes
}

#[test]
fn a_stamp_reply_is_of_the_request_that_it_quotes() {
    let mut rig = Rig::new(40_000, 862);
    rig.udp(1000, Near, &request(100));
    rig.udp(1010, Near, &request(101));
    // A stateful reflector counts for itself.
    rig.udp(1200, Remote, &reply(0, 101));
    rig.udp(1300, Remote, &reply(1, 100));
    let times: Vec<_> = rig.taken().iter().map(|s| s.2).collect();
    assert_eq!(times, [190_000, 300_000]);
    // TWAMP Light: 14 octets there, 41 back, and only 40 of them captured.
    rig.udp(2000, Near, &request(102)[..14]);
    rig.cut(2100, Remote, &reply(2, 102)[..40], 41);
    assert_eq!(rig.taken(), [(RttMethod::Stamp, Leg::Remote, 100_000)]);
    rig.udp(3000, Near, &request(103)[..13]);
    rig.udp(3100, Remote, &reply(2, 103)[..40]);
    assert_eq!(rig.events(), [(Event::Unreadable, 2)]);
}

#[test]
fn an_authenticated_reply_quotes_elsewhere() {
    let mut rig = Rig::new(40_000, 862);
    // RFC 8762 §4.2.2 and §4.3.2: the sequence number, 12 octets that must be zero, ...
    let mut request = vec![0; 112];
    request[..4].copy_from_slice(&9_u32.to_be_bytes());
    request[16..24].fill(1);
    let mut reply = request.clone();
    reply[..4].copy_from_slice(&0_u32.to_be_bytes());
    reply[48..52].copy_from_slice(&9_u32.to_be_bytes());
    rig.udp(1000, Near, &request);
    rig.udp(1100, Remote, &reply);
    assert_eq!(rig.taken(), [(RttMethod::Stamp, Leg::Remote, 100_000)]);
}

#[test]
fn of_two_reflectors_ports_the_first_sender_asks() {
    let mut rig = Rig::new(862, 862);
    rig.udp(1000, Remote, &request(1));
    rig.udp(1100, Near, &reply(0, 1));
    assert_eq!(rig.taken(), [(RttMethod::Stamp, Leg::Near, 100_000)]);
}
