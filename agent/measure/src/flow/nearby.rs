//! The flows of the last packets: a small cache before the table.
//!
//! Most traffic is of few flows at any time; for those a lookup costs a comparison here
//! instead of putting the ends in order, a hash and two lookups in the table. Both directions
//! share an entry, so a flow is nearby or it is not. An entry counts only while the table has
//! not given any place to another key since.

use base::Address;
use wire::decode::{Packet, Stamped};

use super::key::Key;

const SLOTS: usize = 128;

/// A flow by its key's lower and higher end, both as what a packet from there says.
#[derive(Copy, Clone, Debug)]
struct Slot {
    /// Source and destination address of IPv4.
    v4: [u64; 2],
    /// Source address; the destination's is the other.
    ends: [Address; 2],
    /// Ports and protocol; never the same.
    lasts: [u64; 2],
    place: u32,
    changes: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Nearby {
    slots: Box<[Slot; SLOTS]>,
}

/// In the protocol's word: the addresses are of IPv4.
const V4: u64 = 1 << 40;

#[inline(always)]
fn last(source_port: u16, destination_port: u16, protocol: u8, v4: bool) -> u64 {
    let family = if v4 { V4 } else { 0 };
    u64::from(source_port) << 16 | u64::from(destination_port) | u64::from(protocol) << 32 | family
}

/// A few bits that differ between most flows, the same for both directions; no hash, and
/// nothing but speed depends on it.
#[inline(always)]
fn slot(a: u32, b: u32, ports: u32) -> usize {
    (a ^ b ^ ports ^ ports >> 16) as usize % SLOTS
}

#[inline(always)]
fn differ(a: Address, b: Address) -> u64 {
    (a.high ^ b.high) | (a.low ^ b.low)
}

fn is_v4(address: Address) -> bool {
    address == Address::v4(address.low as u32)
}

impl Nearby {
    pub(crate) fn new() -> Self {
        let slot = Slot {
            v4: [0; 2],
            ends: [Address::default(); 2],
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
    pub(crate) fn get(&self, packet: &Packet, changes: u32) -> Option<(u32, bool)> {
        let (source, destination) = (packet.source, packet.destination);
        let (from, to) = (packet.source_port, packet.destination_port);
        let v4 = is_v4(source) && is_v4(destination);
        let last = last(from, to, packet.protocol, v4);
        let (a, b) = (source.low as u32, destination.low as u32);
        let slot = &self.slots[slot(a, b, last as u32)];
        // The ports tell which end it is from, if it is of this flow.
        let end = usize::from(last != slot.lasts[0]);
        let differs = differ(source, slot.ends[end])
            | differ(destination, slot.ends[end ^ 1])
            | (last ^ slot.lasts[end])
            | u64::from(slot.changes ^ changes);
        (differs == 0).then_some((slot.place, end == 1))
    }

    /// The same for a TCP segment of IPv4, without a branch but the last.
    #[inline(always)]
    pub(crate) fn stamped(&self, segment: &Stamped, changes: u32) -> Option<(u32, bool)> {
        const TCP_V4: u64 = V4 | 6 << 32;
        let both = segment.addresses;
        let slot = &self.slots[slot((both >> 32) as u32, both as u32, segment.ports)];
        let last = u64::from(segment.ports) | TCP_V4;
        let end = usize::from(last != slot.lasts[0]);
        let differs =
            (both ^ slot.v4[end]) | (last ^ slot.lasts[end]) | u64::from(slot.changes ^ changes);
        (differs == 0).then_some((slot.place, end == 1))
    }

    /// Remembers a flow; not one between two ports of the same number, which takes the table.
    pub(crate) fn put(&mut self, key: &Key, place: u32, changes: u32) {
        let [lower, higher] = key.ends();
        if lower.1 == higher.1 {
            return;
        }
        let v4 = is_v4(lower.0) && is_v4(higher.0);
        let of = |source: (Address, u16), destination: (Address, u16)| {
            last(source.1, destination.1, key.protocol(), v4)
        };
        let both = |source: Address, destination: Address| {
            source.low << 32 | destination.low & 0xffff_ffff
        };
        let lasts = [of(lower, higher), of(higher, lower)];
        let (a, b) = (lower.0.low as u32, higher.0.low as u32);
        self.slots[slot(a, b, lasts[0] as u32)] = Slot {
            v4: [both(lower.0, higher.0), both(higher.0, lower.0)],
            ends: [lower.0, higher.0],
            lasts,
            place,
            changes,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::decode::Transport;

    fn packet(source: (u32, u16), destination: (u32, u16)) -> Packet {
        Packet {
            source: Address::v4(source.0),
            destination: Address::v4(destination.0),
            source_port: source.1,
            destination_port: destination.1,
            protocol: 6,
            ttl: 64,
            ip_id: 0,
            flags: wire::decode::PacketFlags::none(),
            fragment_id: 0,
            tunnel_id: 0,
            ip_len: 40,
            payload_len: 0,
            payload_at: 54,
            payload_captured: 0,
            transport: Transport::Other,
        }
    }

    fn put(nearby: &mut Nearby, of: &Packet) {
        let source = (of.source, of.source_port);
        let destination = (of.destination, of.destination_port);
        let (key, _) = Key::of(source, destination, of.protocol);
        nearby.put(&key, 9, 1);
    }

    #[test]
    fn a_flow_is_found_from_both_ends() {
        for (a, b) in [((1, 443), (2, 80)), ((7, 1), (7, 2)), ((9, 80), (8, 1024))] {
            let mut nearby = Nearby::new();
            let (forth, back) = (packet(a, b), packet(b, a));
            put(&mut nearby, &forth);
            let found = [&forth, &back].map(|packet| nearby.get(packet, 1));
            assert_eq!(found, [Some((9, a > b)), Some((9, a < b))], "{a:?} {b:?}");
            assert_eq!(nearby.get(&forth, 2), None, "the table changed");
            let crossed = packet((a.0, b.1), (b.0, a.1));
            let expected = if a.0 == b.0 { Some((9, a < b)) } else { None };
            assert_eq!(nearby.get(&crossed, 1), expected, "its ports exchanged");
            let beside = packet((a.0, a.1 ^ 256), (b.0, b.1 ^ 256));
            assert_eq!(nearby.get(&beside, 1), None, "other ports");
            let other = packet((a.0, a.1), (b.0 + 128, b.1));
            assert_eq!(nearby.get(&other, 1), None, "another address");
        }
    }

    fn segment(of: &Packet) -> Stamped {
        Stamped {
            addresses: of.source.low << 32 | of.destination.low & 0xffff_ffff,
            ports: u32::from(of.source_port) << 16 | u32::from(of.destination_port),
            df: true,
            ttl: 64,
            ip_id: 0,
            ip_len: 52,
            payload_len: 0,
            tcp: wire::decode::TcpHeader::default(),
        }
    }

    #[test]
    fn segments_of_ipv4_are_found_like_packets() {
        for (a, b) in [((1, 443), (2, 80)), ((7, 1), (7, 2)), ((9, 80), (8, 1024))] {
            let mut nearby = Nearby::new();
            put(&mut nearby, &packet(a, b));
            for (from, to) in [(a, b), (b, a), ((a.0, b.1), (b.0, a.1)), (a, a)] {
                let packet = packet(from, to);
                let found = nearby.stamped(&segment(&packet), 1);
                assert_eq!(found, nearby.get(&packet, 1), "{from:?} {to:?}");
            }
        }
        // A flow of IPv6 whose addresses end in the same octets is another one.
        let v4 = packet((1, 443), (2, 80));
        let mut v6 = v4;
        v6.source.high = 0x2001_0db8 << 32;
        v6.destination.high = 0x2001_0db8 << 32;
        let mut nearby = Nearby::new();
        put(&mut nearby, &v6);
        assert_eq!(nearby.get(&v6, 1), Some((9, false)));
        assert_eq!(nearby.get(&v4, 1), None);
        assert_eq!(nearby.stamped(&segment(&v4), 1), None);
    }

    #[test]
    fn equal_ports_take_the_table() {
        let mut nearby = Nearby::new();
        let (forth, back) = (packet((1, 179), (2, 179)), packet((2, 179), (1, 179)));
        put(&mut nearby, &forth);
        assert_eq!((nearby.get(&forth, 1), nearby.get(&back, 1)), (None, None));
    }
}
