//! Which flow a fragment is of: the first one has the ports, the others only an
//! identification.
//!
//! A fixed number of places, the latest datagram in each; an entry lives two seconds. A
//! fragment that comes before its first one, or after its place was taken, is an orphan and
//! counted as one.

use base::{Address, WallNanos};

const PLACES: usize = 1024;
const LIFE_NS: u64 = 2_000_000_000;

#[derive(Copy, Clone, Default, Debug)]
struct Entry {
    source: Address,
    destination: Address,
    id: u32,
    protocol: u8,
    ports: (u16, u16),
    at_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fragments {
    entries: Box<[Entry; PLACES]>,
    seed: u64,
}

/// What names a fragmented datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Datagram {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) id: u32,
    pub(super) protocol: u8,
}

impl Fragments {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: Box::new([Entry::default(); PLACES]),
            seed,
        }
    }

    fn place(&self, datagram: &Datagram) -> usize {
        const M: u64 = 0x9e37_79b9_7f4a_7c15;
        let words = [
            datagram.source.high ^ datagram.source.low.rotate_left(17),
            datagram.destination.high ^ datagram.destination.low.rotate_left(31),
            u64::from(datagram.id) << 8 | u64::from(datagram.protocol),
        ];
        let mixed = words.iter().fold(self.seed, |hash, word| {
            let mixed = (hash ^ word).wrapping_mul(M);
            mixed ^ mixed >> 32
        });
        (mixed >> 20) as usize % PLACES
    }

    /// The first fragment: remembers its ports.
    pub(super) fn first(&mut self, datagram: &Datagram, ports: (u16, u16), at: WallNanos) {
        let place = self.place(datagram);
        self.entries[place] = Entry {
            source: datagram.source,
            destination: datagram.destination,
            id: datagram.id,
            protocol: datagram.protocol,
            ports,
            at_ns: at.0,
        };
    }

    /// A later fragment: its ports, if the first one was seen.
    pub(super) fn later(&self, datagram: &Datagram, at: WallNanos) -> Option<(u16, u16)> {
        let entry = &self.entries[self.place(datagram)];
        let same = entry.source == datagram.source
            && entry.destination == datagram.destination
            && entry.id == datagram.id
            && entry.protocol == datagram.protocol;
        (same && at.0.abs_diff(entry.at_ns) < LIFE_NS).then_some(entry.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_back_for_their_datagram_and_for_two_seconds() {
        let mut fragments = Fragments::new(7);
        let datagram = |id| Datagram {
            source: Address::v4(1),
            destination: Address::v4(2),
            id,
            protocol: 17,
        };
        fragments.first(&datagram(5), (53, 4000), WallNanos(1_000));
        assert_eq!(
            fragments.later(&datagram(5), WallNanos(2_000)),
            Some((53, 4000))
        );
        assert_eq!(fragments.later(&datagram(6), WallNanos(2_000)), None);
        let late = WallNanos(1_000 + LIFE_NS);
        assert_eq!(fragments.later(&datagram(5), late), None);
    }
}
