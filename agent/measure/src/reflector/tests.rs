//! The reflector's answers by the figures of RFC 8762, and its table against a model.

mod abuse;
mod counting;
mod fields;
mod sessions;
mod tlvs;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;

/// Wall clock of arrivals, 2027-01-15T08:00:00Z and 123 456 789 ns.
const AT: u64 = 1_800_000_000_123_456_789;
const SECOND: u64 = 1_000_000_000;

fn arrival() -> Arrival {
    Arrival {
        peer: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_000)),
        local: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 2), 862)),
        ttl: Some(251),
        at: WallNanos(AT),
        now: MonoNanos(5 * SECOND),
        overflow: 0,
    }
}

const CLOCK: ClockState = ClockState {
    synchronised: true,
    // Scale 5, Multiplier 135 (stamp.md section 4).
    error_ns: 1_000,
    tai_offset_s: 37,
};

/// A request by the offsets of RFC 8762 figure 2 and RFC 8972 figure 1, octet by octet.
fn request(sequence: u32, t1: u64, ssid: u16, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len.max(44)];
    packet[0..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..12].copy_from_slice(&t1.to_be_bytes());
    packet[12..14].copy_from_slice(&[0x2a, 0x99]);
    packet[14..16].copy_from_slice(&ssid.to_be_bytes());
    packet.truncate(len);
    packet
}

fn reflector(config: Config) -> Reflector {
    Reflector::new(config)
}

/// Answers in a buffer whose rest is full of something, as a reused one is.
fn answer(reflector: &mut Reflector, packet: &[u8], from: &Arrival) -> Result<Vec<u8>, Drop> {
    let mut buf = vec![0xa5; 9_216];
    buf[..packet.len()].copy_from_slice(packet);
    let prepared = reflector.answer(&mut buf, packet.len(), from, CLOCK)?;
    prepared.stamp(&mut buf, WallNanos(AT + 20_000));
    assert!(
        buf[prepared.len.max(packet.len())..]
            .iter()
            .all(|octet| *octet == 0xa5),
        "nothing is written behind the reply"
    );
    buf.truncate(prepared.len);
    Ok(buf)
}

fn number(reply: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]])
}

/// The private TLV as a request carries it, written by hand.
fn tlv(uncounted: bool) -> Vec<u8> {
    let mut tlv = vec![0x80, 241, 0, 32, b'N', b'S', 1, u8::from(uncounted)];
    tlv.resize(36, 0);
    tlv
}

fn with_tlv(mut packet: Vec<u8>, uncounted: bool) -> Vec<u8> {
    packet.truncate(44);
    packet.extend(tlv(uncounted));
    packet
}

/// Epoch, distinct, duplicates, out of order, rate limited, overflow, uncounted.
fn report(reply: &[u8]) -> [u32; 7] {
    assert_eq!(reply[44..48], [0, 241, 0, 32], "understood");
    std::array::from_fn(|n| number(reply, 52 + 4 * n))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
