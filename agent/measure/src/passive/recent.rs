//! Packets that were captured twice: a mirror of both ends, two devices, a tap in a loop.
//!
//! A fixed number of slots, each for the latest packet that hashes there; nothing is
//! searched. A copy that comes after its slot was taken by another packet is not recognised.

use base::WallNanos;
use wire::decode::TcpHeader;

use super::analyser::batch::Ids;

use crate::flow::time::Short;

/// Slots: 64 KiB, which stays in the second-level cache.
const SLOTS: usize = 4096;
const M1: u64 = 0x9e37_79b9_7f4a_7c15;
const M2: u64 = 0xd6e8_feb8_6659_fd93;
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
        self.saw(
            a.wrapping_mul(M1) ^ (b ^ c.rotate_left(8)).wrapping_mul(M2),
            ids,
            at,
        )
    }

    /// Whether this datagram was there already; without an identification nobody can tell.
    pub(super) fn saw_datagram(&mut self, flow: u32, ids: Ids, at: WallNanos) -> bool {
        let a = u64::from(flow) << 32 | u64::from(ids.payload_len);
        ids.ip_id != 0
            && self.saw(
                a.wrapping_mul(M1) ^ u64::from(ids.ip_id).wrapping_mul(M2),
                ids,
                at,
            )
    }

    #[inline(always)]
    fn saw(&mut self, digest: u64, ids: Ids, at: WallNanos) -> bool {
        // Never the digest of an empty slot. Not for an attacker's eyes: whoever can forge a
        // copy can as well repeat the packet.
        let digest = digest | 1;
        let slot = &mut self.slots[(digest >> 52) as usize];
        let before = std::mem::replace(
            slot,
            Slot {
                digest,
                at: Short::of(at),
                ttl: ids.ttl,
            },
        );
        if before.digest != digest {
            return false;
        }
        let age = before.at.until(at);
        if ids.ip_id != 0 {
            age < IPV4_NS
        } else {
            age < NO_ID_NS && before.ttl != ids.ttl
        }
    }
}
