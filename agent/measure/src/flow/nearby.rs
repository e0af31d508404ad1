//! The flows of the last packets: a small cache before the table.
//!
//! Most traffic is of few flows at any time; for those a lookup costs two comparisons here
//! instead of putting the ends in order, a hash and two lookups in the table. Both directions
//! share an entry, so a flow is nearby or it is not. An entry counts only while the table has
//! not given any place to another key since.

use base::Address;
use wire::decode::Packet;

use super::key::Key;

const SLOTS: usize = 128;

#[derive(Copy, Clone, Debug)]
struct Slot {
    lower: Address,
    higher: Address,
    /// Ports and protocol of a packet from the lower end, and of one from the higher.
    lasts: [u64; 2],
    place: u32,
    changes: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Nearby {
    slots: Box<[Slot; SLOTS]>,
}

#[inline(always)]
fn last(source_port: u16, destination_port: u16, protocol: u8) -> u64 {
    u64::from(source_port) | u64::from(destination_port) << 16 | u64::from(protocol) << 32
}

/// A few bits that differ between most flows, the same for both directions; no hash, and
/// nothing but speed depends on it.
#[inline(always)]
fn slot(a: Address, b: Address, a_port: u16, b_port: u16) -> usize {
    ((a.low ^ b.low) as usize ^ usize::from(a_port ^ b_port)) % SLOTS
}

#[inline(always)]
fn differ(a: Address, b: Address) -> u64 {
    (a.high ^ b.high) | (a.low ^ b.low)
}

impl Nearby {
    pub(crate) fn new() -> Self {
        let slot = Slot {
            lower: Address::default(),
            higher: Address::default(),
            lasts: [0; 2],
            place: u32::MAX,
            changes: u32::MAX,
        };
        Self {
            slots: Box::new([slot; SLOTS]),
        }
    }

    /// The place of a flow that was lately seen, if the table has not changed since, and
    /// whether this packet is from its key's higher end.
    #[inline(always)]
    pub(crate) fn get(&self, packet: &Packet, changes: u32) -> Option<(u32, bool)> {
        let (source, destination) = (packet.source, packet.destination);
        let (from, to) = (packet.source_port, packet.destination_port);
        let slot = &self.slots[slot(source, destination, from, to)];
        let last = last(from, to, packet.protocol);
        let changed = u64::from(slot.changes ^ changes);
        let forth = differ(source, slot.lower) | differ(destination, slot.higher);
        let back = differ(source, slot.higher) | differ(destination, slot.lower);
        let forth = forth | (last ^ slot.lasts[0]) | changed;
        let back = back | (last ^ slot.lasts[1]) | changed;
        // One of them or none; which one is no branch.
        (forth == 0 || back == 0).then_some((slot.place, forth != 0))
    }

    /// Remembers a flow.
    pub(crate) fn put(&mut self, key: &Key, place: u32, changes: u32) {
        let [lower, higher] = key.ends();
        let protocol = key.protocol();
        self.slots[slot(lower.0, higher.0, lower.1, higher.1)] = Slot {
            lower: lower.0,
            higher: higher.0,
            lasts: [
                last(lower.1, higher.1, protocol),
                last(higher.1, lower.1, protocol),
            ],
            place,
            changes,
        };
    }
}
