//! Packets that were captured twice: a mirror of both ends, two devices, a tap in a loop.
//!
//! A fixed number of slots, each for the latest packet that hashes there; nothing is
//! searched. A copy that comes after its slot was taken by another packet is not recognised.

use base::WallNanos;
use wire::decode::{Packet, PacketFlags, TcpHeader, Transport};

use crate::flow::time::Short;

/// Slots: 64 KiB, which stays in the second-level cache.
const SLOTS: usize = 4096;
/// How far apart two copies may be captured.
const IPV4_NS: i64 = 1_000_000_000;
/// The same without an identification, where only chance tells a copy from a repetition.
const NO_ID_NS: i64 = 1_000_000;

#[derive(Copy, Clone, Default, Debug)]
struct Slot {
    digest: u64,
    at: Short,
    ttl: u8,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    slots: Box<[Slot; SLOTS]>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            slots: Box::new([Slot::default(); SLOTS]),
        }
    }

    /// Whether this packet was there already. A router between the two captures changes only
    /// TTL and checksum.
    #[inline]
    pub(super) fn saw(&mut self, flow: u32, packet: &Packet, at: WallNanos) -> bool {
        let digest = match &packet.transport {
            Transport::Tcp(tcp) => digest(flow, packet, tcp),
            // Equal datagrams without an identification are not worth a guess.
            _ if packet.ip_id == 0 || packet.flags.has(PacketFlags::FRAGMENT) => return false,
            _ => digest(flow, packet, &TcpHeader::default()),
        };
        let slot = &mut self.slots[(digest >> 52) as usize];
        let same = slot.digest == digest;
        let age = slot.at.until(at);
        let ttl = slot.ttl;
        *slot = Slot {
            digest,
            at: Short::of(at),
            ttl: packet.ttl,
        };
        if !same {
            return false;
        }
        if packet.ip_id != 0 {
            age < IPV4_NS
        } else {
            age < NO_ID_NS && ttl != packet.ttl
        }
    }
}

/// All that two copies share. Not for an attacker's eyes: whoever can forge a copy can as
/// well repeat the packet.
#[inline]
fn digest(flow: u32, packet: &Packet, tcp: &TcpHeader) -> u64 {
    const M: u64 = 0x9e37_79b9_7f4a_7c15;
    let a = u64::from(tcp.seq) << 32 | u64::from(tcp.ack);
    let b = u64::from(tcp.tsval) << 32 | u64::from(packet.ip_id) << 16 | u64::from(tcp.window);
    let c = u64::from(packet.payload_len) << 32 | u64::from(flow) << 8 | u64::from(tcp.flags);
    let mixed = (a ^ b.rotate_left(29)).wrapping_mul(M);
    let mixed = (mixed ^ mixed >> 32 ^ c).wrapping_mul(M);
    // Never the digest of an empty slot.
    (mixed ^ mixed >> 29).wrapping_mul(M) | 1
}
