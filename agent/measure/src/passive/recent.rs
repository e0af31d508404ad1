//! Packets that were captured twice: a mirror of both ends, two devices, a tap in a loop.
//!
//! A fixed number of slots, each for the latest packet that hashes there; nothing is
//! searched. A copy that comes after its slot was taken by another packet is not recognised.

use base::WallNanos;
use wire::decode::{Packet, TcpHeader, Transport};

use super::analyser::batch::Ids;

/// Slots of 8 octets: 32 KiB stay in the first-level cache.
const SLOTS: usize = 4096;
/// Times are kept in units of 2^16 ns, modulo 2^24 (18 minutes).
const TIME_SHIFT: u32 = 16;
const TIME_MASK: u64 = 0x00ff_ffff;
/// How far apart two copies may be captured: a second.
const IPV4_UNITS: u64 = 1_000_000_000 >> TIME_SHIFT;
/// The same without an identification, where only chance tells a copy from a repetition: a
/// millisecond.
const NO_ID_UNITS: u64 = 1_000_000 >> TIME_SHIFT;

const M1: u64 = 0x9e37_79b9_7f4a_7c15;
const M2: u64 = 0xd6e8_feb8_6659_fd93;

/// See the module. A slot is 32 bits of digest, the TTL, the time.
#[derive(Debug)]
pub(super) struct Recent {
    slots: Box<[u64; SLOTS]>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            slots: Box::new([0; SLOTS]),
        }
    }

    /// Whether this segment was there already. A router between the two captures changes only
    /// TTL and checksum.
    #[inline(always)]
    pub(super) fn saw_segment(
        &mut self,
        flow: u32,
        ids: Ids,
        tcp: &TcpHeader,
        at: WallNanos,
    ) -> bool {
        let a = u64::from(tcp.seq) << 32 | u64::from(tcp.ack);
        let b = u64::from(tcp.tsval) << 32 | u64::from(ids.ip_id) << 16 | u64::from(tcp.window);
        let c = u64::from(ids.payload_len) << 40 | u64::from(tcp.flags) << 32 | u64::from(flow);
        self.saw(a, b ^ c.rotate_left(8), ids, at)
    }

    /// Whether this datagram was there already; without an identification nobody can tell.
    /// An answer may have its question's identification and length, and a sender the same
    /// one always: direction and the first octets of the payload tell those.
    pub(super) fn saw_datagram(
        &mut self,
        flow: u32,
        ids: Ids,
        packet: &Packet,
        payload: &[u8],
        at: WallNanos,
    ) -> bool {
        let a = u64::from(flow) << 32 | u64::from(packet.ip_len);
        let b = u64::from(ids.ip_id) << 1 | u64::from(ids.from_higher);
        let echo = match packet.transport {
            Transport::Echo { reply, sequence } => u64::from(sequence) << 1 | u64::from(reply),
            _ => 0,
        };
        let [first, second] = [0, 8].map(|from| word(payload, from));
        let said = mix(first, second ^ echo.rotate_left(32));
        ids.ip_id != 0 && self.saw(a ^ said, b, ids, at)
    }

    /// Not for an attacker's eyes: whoever can forge a copy can as well repeat the packet.
    #[inline(always)]
    fn saw(&mut self, a: u64, b: u64, ids: Ids, at: WallNanos) -> bool {
        let digest = mix(a, b);
        let slot = &mut self.slots[(digest >> 52) as usize % SLOTS];
        let time = at.0 >> TIME_SHIFT & TIME_MASK;
        // Never an empty slot's.
        let name = digest << 32 | 1 << 32;
        let before = std::mem::replace(slot, name | u64::from(ids.ttl) << 24 | time);
        let copy = before >> 32 << 32 == name && is_copy(before, ids, time);
        if copy {
            // The next one is compared with the first: a repetition has its TTL again.
            *slot = before;
        }
        copy
    }
}

/// Eight octets of a payload; 0 where there are none.
#[inline]
fn word(payload: &[u8], from: usize) -> u64 {
    let rest = payload.get(from..).unwrap_or_default();
    if let Some(octets) = rest.first_chunk() {
        return u64::from_be_bytes(*octets);
    }
    let mut octets = [0; 8];
    for (to, octet) in octets.iter_mut().zip(rest) {
        *to = *octet;
    }
    u64::from_be_bytes(octets)
}

/// The two halves of a product: every bit of both factors has a say in them together.
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ M1) * u128::from(b ^ M2);
    product as u64 ^ (product >> 64) as u64
}

/// Whether the same packet came so soon, and so, that it is a copy.
#[cold]
fn is_copy(before: u64, ids: Ids, time: u64) -> bool {
    let age = time.wrapping_sub(before) & TIME_MASK;
    if ids.ip_id != 0 {
        age <= IPV4_UNITS
    } else {
        age <= NO_ID_UNITS && (before >> 24) as u8 != ids.ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: u32) -> TcpHeader {
        TcpHeader {
            seq,
            ack: 7,
            flags: TcpHeader::ACK,
            window: 500,
            ..TcpHeader::default()
        }
    }

    const IDS: Ids = Ids {
        ip_id: 9,
        ttl: 64,
        payload_len: 100,
        from_higher: false,
    };

    #[test]
    fn a_copy_is_the_same_packet_soon_after() {
        let mut recent = Recent::new();
        let start: u64 = 1_700_000_000_000_000_000;
        let mut saw =
            |ids, seq, at: u64| recent.saw_segment(3, ids, &segment(seq), WallNanos(start + at));
        assert!(!saw(IDS, 1, 0));
        assert!(!saw(IDS, 2, 1_000));
        // A router between: another TTL.
        let far = Ids { ttl: 63, ..IDS };
        assert!(saw(far, 1, 500_000_000));
        assert!(saw(IDS, 2, 600_000_000));
        // Too late; and a retransmission has an identification of its own.
        assert!(!saw(IDS, 1, 3_000_000_000));
        assert!(!saw(Ids { ip_id: 10, ..IDS }, 1, 3_000_001_000));
    }

    #[test]
    fn without_an_identification_only_another_ttl_tells() {
        let mut recent = Recent::new();
        let none = Ids { ip_id: 0, ..IDS };
        let mut saw = |ids, at| recent.saw_segment(3, ids, &segment(1), WallNanos(at));
        assert!(!saw(none, 10_000_000));
        assert!(!saw(none, 10_100_000));
        assert!(saw(Ids { ttl: 63, ..none }, 10_200_000));
        // The end itself repeats it at once, and that is captured twice as well.
        assert!(!saw(none, 10_300_000));
        assert!(saw(Ids { ttl: 63, ..none }, 10_400_000));
        assert!(!saw(none, 20_000_000));
    }
}
