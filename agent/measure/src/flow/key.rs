//! What names a flow, and the keyed hash of it.

use base::Address;

/// A flow's name, the same for both directions: the two ends in numeric order and the
/// protocol. 37 octets in five words; the upper 24 bits of the last one are free for the
/// owner of the record ([`Key::mark`]) and take no part in comparisons.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Key([u64; 5]);

/// Bits of the last word that are part of the name: two ports and the protocol.
const NAME_BITS: u32 = 40;

impl Key {
    /// Of no flow.
    pub(crate) const EMPTY: Self = Self([0; 5]);

    /// The key of a packet, and whether its source is the higher end.
    #[inline]
    pub(crate) fn of(
        source: (Address, u16),
        destination: (Address, u16),
        protocol: u8,
    ) -> (Self, bool) {
        let (s, d) = (source.0, destination.0);
        let flipped = if s.high | d.high == 0 {
            // 48 bits of a mapped address and 16 of a port.
            (s.low << 16 | u64::from(source.1)) > (d.low << 16 | u64::from(destination.1))
        } else {
            source > destination
        };
        // Exchanged by arithmetic: which way a packet goes is a coin toss to a branch
        // predictor.
        let mask = 0u64.wrapping_sub(u64::from(flipped));
        let order = |x: u64, y: u64| {
            let swap = (x ^ y) & mask;
            (x ^ swap, y ^ swap)
        };
        let (a_high, b_high) = order(s.high, d.high);
        let (a_low, b_low) = order(s.low, d.low);
        let (a_port, b_port) = order(u64::from(source.1), u64::from(destination.1));
        let last = a_port | b_port << 16 | u64::from(protocol) << 32;
        (Self([a_high, a_low, b_high, b_low, last]), flipped)
    }

    /// The same flow?
    #[inline]
    pub(crate) fn names_same(&self, other: &Self) -> bool {
        let [a0, a1, a2, a3, a4] = self.0;
        let [b0, b1, b2, b3, b4] = other.0;
        (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) | (a3 ^ b3) | ((a4 ^ b4) << (64 - NAME_BITS)) == 0
    }

    /// The lower and the higher end.
    pub(crate) const fn ends(&self) -> [(Address, u16); 2] {
        let [a_high, a_low, b_high, b_low, last] = self.0;
        let a = Address {
            high: a_high,
            low: a_low,
        };
        let b = Address {
            high: b_high,
            low: b_low,
        };
        [(a, last as u16), (b, (last >> 16) as u16)]
    }

    /// The IP protocol.
    pub(crate) const fn protocol(&self) -> u8 {
        (self.0[4] >> 32) as u8
    }

    /// The owner's 24 bits.
    #[inline]
    pub(crate) const fn mark(&self) -> u32 {
        (self.0[4] >> NAME_BITS) as u32
    }

    /// Sets the owner's 24 bits.
    #[inline]
    pub(crate) const fn set_mark(&mut self, mark: u32) {
        let name = self.0[4] & ((1 << NAME_BITS) - 1);
        self.0[4] = name | (mark as u64) << NAME_BITS;
    }
}

/// A hash that whoever chooses the flows cannot aim at: NH (Black et al., UMAC, 1999,
/// section 4.1) over 32-bit words, which is 2^-32-almost-delta-universal, and a strongly
/// universal multiply-add-shift (Dietzfelbinger, 1996) over its 64 bits. For two different
/// keys of one family the chance of one value is about 2^-31, whatever the keys, as long as
/// the seed is secret and random.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    words: [u32; 10],
    finish: [u64; 3],
}

impl Hasher {
    /// From random numbers that nobody else knows.
    pub(crate) const fn new(seed: [u64; 8]) -> Self {
        let mut words = [0; 10];
        let mut at = 0;
        while at < 10 {
            let shift = (at % 2) * 32;
            words[at] = (seed[at / 2] >> shift) as u32;
            at += 1;
        }
        Self {
            words,
            finish: [seed[5], seed[6], seed[7]],
        }
    }

    /// The hash of a key.
    #[inline]
    pub(crate) fn hash(&self, key: &Key) -> u32 {
        let [a_high, a_low, b_high, b_low, last] = key.0;
        let ports = last as u32;
        let protocol = (last >> 32) as u8 as u32;
        let k = &self.words;
        let pair = |at: usize, x: u32, y: u32| {
            u64::from(x.wrapping_add(k[at])) * u64::from(y.wrapping_add(k[at + 1]))
        };
        // The low 32 bits of a mapped address are all of an IPv4 address.
        let mut sum = pair(0, a_low as u32, b_low as u32).wrapping_add(pair(2, ports, protocol));
        if a_high | b_high != 0 {
            sum = sum
                .wrapping_add(pair(4, (a_low >> 32) as u32, (b_low >> 32) as u32))
                .wrapping_add(pair(6, a_high as u32, b_high as u32))
                .wrapping_add(pair(8, (a_high >> 32) as u32, (b_high >> 32) as u32));
        }
        let [m1, m2, add] = self.finish;
        let mixed = (sum & 0xffff_ffff)
            .wrapping_mul(m1)
            .wrapping_add((sum >> 32).wrapping_mul(m2))
            .wrapping_add(add);
        (mixed >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<std::net::IpAddr>().expect("an address").into()
    }

    #[test]
    fn both_directions_have_one_key() {
        for (a, b) in [
            ("10.0.0.1", "10.0.0.2"),
            ("2001:db8::1", "10.0.0.2"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            let (a, b) = ((address(a), 4000), (address(b), 80));
            let (there, flipped) = Key::of(a, b, 6);
            let (back, other) = Key::of(b, a, 6);
            assert!(there.names_same(&back));
            assert_ne!(flipped, other);
            assert_eq!(there.ends(), if flipped { [b, a] } else { [a, b] });
            assert_eq!(there.protocol(), 6);
        }
    }

    #[test]
    fn each_part_tells_flows_apart_and_the_mark_does_not() {
        let (a, b) = ((address("10.0.0.1"), 1), (address("10.0.0.2"), 2));
        let (mut key, _) = Key::of(a, b, 6);
        key.set_mark(0xab_cdef);
        assert_eq!(key.mark(), 0xab_cdef);
        assert!(key.names_same(&Key::of(a, b, 6).0));
        let others = [
            Key::of((a.0, 3), b, 6),
            Key::of(a, (b.0, 3), 6),
            Key::of(a, b, 17),
            Key::of((address("10.0.0.3"), 1), b, 6),
            Key::of(a, (address("::a00:2"), 2), 6),
        ];
        for (other, _) in others {
            assert!(!key.names_same(&other));
        }
    }

    #[test]
    fn hashes_of_neighbours_spread() {
        // Chi-square over 256 cells; 100 000 neighbouring flows; 99.99 % bound for 255
        // degrees of freedom is about 345.
        let hasher = Hasher::new([
            0x9e37_79b9_7f4a_7c15,
            0xbf58_476d_1ce4_e5b9,
            0x94d0_49bb_1331_11eb,
            0xd6e8_feb8_6659_fd93,
            0xa076_1d64_78bd_642f,
            0xe703_7ed1_a0b4_28db,
            0x8ebc_6af0_9c88_c6e3,
            0x5899_65cc_7537_4cc3,
        ]);
        for v6 in [false, true] {
            for shift in [0, 24] {
                let mut cells = [0u32; 256];
                for n in 0..100_000u32 {
                    let source = if v6 {
                        Address {
                            high: 0x2001_0db8 << 32,
                            low: u64::from(n / 50),
                        }
                    } else {
                        Address::v4(0x0a00_0000 + n / 50)
                    };
                    let port = 1024 + (n % 50) as u16;
                    let (key, _) = Key::of((source, port), (address("192.0.2.1"), 443), 6);
                    cells[(hasher.hash(&key) >> shift) as usize & 255] += 1;
                }
                let mean = 100_000.0 / 256.0;
                let chi: f64 = cells
                    .iter()
                    .map(|&n| (f64::from(n) - mean).powi(2) / mean)
                    .sum();
                assert!(chi < 345.0, "v6 {v6}, bits from {shift}: {chi}");
            }
        }
    }
}
