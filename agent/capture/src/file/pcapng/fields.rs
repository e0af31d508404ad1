//! What blocks are made of: numbers in the order of the section, options, units of time.

/// Reads numbers in the order of the section.
#[derive(Copy, Clone)]
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) swapped: bool,
}

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn u16(self, at: usize) -> Option<u16> {
        let octets = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.swapped {
            u16::from_be_bytes(octets)
        } else {
            u16::from_le_bytes(octets)
        })
    }

    #[inline]
    pub(super) fn u32(self, at: usize) -> Option<u32> {
        Some(self.order(*self.bytes.get(at..)?.first_chunk()?))
    }

    #[inline]
    pub(super) fn order(self, octets: [u8; 4]) -> u32 {
        if self.swapped {
            u32::from_be_bytes(octets)
        } else {
            u32::from_le_bytes(octets)
        }
    }

    /// The options from `at` on. A list that breaks ends there: what came before counts,
    /// since the block's own lengths are right.
    pub(super) fn options(self, mut at: usize) -> impl Iterator<Item = (u16, Fields<'a>)> {
        std::iter::from_fn(move || {
            let code = self.u16(at)?;
            let length = usize::from(self.u16(at + 2)?);
            let bytes = self.bytes.get(at + 4..)?.get(..length)?;
            at += 4 + length.next_multiple_of(4);
            // opt_endofopt
            (code != 0).then_some((code, Fields { bytes, ..self }))
        })
    }
}

/// What one unit of a time stamp is (if_tsresol).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Resolution {
    /// So many nanoseconds.
    Nanoseconds(u64),
    /// A nanosecond is so many units.
    PerNanosecond(u64),
    /// 2^-n seconds.
    Binary(u8),
}

impl Resolution {
    /// Section 4.2: "If the Most Significant Bit is equal to zero, the remaining bits
    /// indicates the resolution of the timestamp as a negative power of 10 [...] if equal to
    /// one [...] of 2".
    pub(super) fn parse(octet: u8) -> Self {
        let exponent = octet & 0x7f;
        if octet & 0x80 != 0 {
            Self::Binary(exponent)
        } else if exponent <= 9 {
            Self::Nanoseconds(10_u64.pow(u32::from(9 - exponent)))
        } else {
            // Finer than 10^-28 s: no 64 bits reach one nanosecond.
            10_u64
                .checked_pow(u32::from(exponent - 9))
                .map_or(Self::Nanoseconds(0), Self::PerNanosecond)
        }
    }

    #[inline]
    pub(super) fn nanoseconds(self, units: u64) -> u64 {
        match self {
            Self::Nanoseconds(each) => units.saturating_mul(each),
            Self::PerNanosecond(units_each) => units / units_each,
            Self::Binary(exponent) => {
                let ns = u128::from(units) * 1_000_000_000;
                let ns = ns.checked_shr(u32::from(exponent)).unwrap_or(0);
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        }
    }
}
