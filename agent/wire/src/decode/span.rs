//! What a layer may read: the captured octets and where the layer ends on the wire.

use super::Undecoded;

/// Offsets count from the start of the frame through all layers.
#[derive(Copy, Clone)]
pub(super) struct Span<'a> {
    /// The captured octets, from the start of the frame to the end of the layer at most.
    pub(super) bytes: &'a [u8],
    /// Where the layer ends on the wire.
    pub(super) end: usize,
    /// Whether `end` is to be believed. It is not inside a tunnel: a mirror may cut what it
    /// wraps (packet length of VPC Traffic Mirroring, ERSPAN's T), nor in an ICMP quotation.
    pub(super) whole: bool,
}

impl<'a> Span<'a> {
    /// `N` octets at `at`.
    pub(super) fn array<const N: usize>(&self, at: usize) -> Result<&'a [u8; N], Undecoded> {
        self.bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk::<N>)
            .ok_or_else(|| self.missing(at, N))
    }

    pub(super) fn u8(&self, at: usize) -> Result<u8, Undecoded> {
        self.array(at).map(|&[octet]| octet)
    }

    pub(super) fn u16(&self, at: usize) -> Result<u16, Undecoded> {
        self.array(at).copied().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&self, at: usize) -> Result<u32, Undecoded> {
        self.array(at).copied().map(u32::from_be_bytes)
    }

    /// Why `len` octets at `at` are not there: not captured, or never sent.
    pub(super) const fn missing(&self, at: usize, len: usize) -> Undecoded {
        if self.whole && at.saturating_add(len) > self.end {
            Undecoded::Short
        } else {
            Undecoded::Snaplen
        }
    }

    /// The same with an end of its own, which a length field gave.
    pub(super) fn until(&self, end: usize) -> Self {
        let end = if self.whole { end.min(self.end) } else { end };
        Self {
            bytes: self.bytes.get(..end).unwrap_or(self.bytes),
            end,
            whole: true,
        }
    }

    /// The inside of a tunnel (or a quotation) that ends at `end` at most.
    pub(super) fn inside(&self, end: usize) -> Self {
        Self {
            whole: false,
            ..self.until(end)
        }
    }
}
