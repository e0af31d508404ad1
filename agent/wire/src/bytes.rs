//! Big-endian reads and writes at a fixed offset that cannot panic.
//!
//! The views check the length once, in their constructor; after that the fall-back values
//! here are out of reach. They exist so that no mistake in an offset can become a crash.

/// `N` octets at `at`; zeros when they are not all there.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk::<N>)
        .copied()
        .unwrap_or([0; N])
}

/// The octet at `at`.
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The 16-bit integer at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

/// The 32-bit integer at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

/// Writes `value` at `at`; nothing when it does not fit.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.get_mut(..value.len()))
    {
        place.copy_from_slice(value);
    }
}

/// FNV-1a over octets, folded to 16 bits that are never 0: to tell apart the few names of one
/// flow, not to resist anybody.
pub(crate) struct Digest(u32);

impl Digest {
    pub(crate) const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    pub(crate) const fn add(&mut self, octet: u8) {
        self.0 = (self.0 ^ octet as u32).wrapping_mul(0x0100_0193);
    }

    pub(crate) const fn finish(self) -> u16 {
        let folded = (self.0 >> 16 ^ self.0) as u16;
        if folded == 0 { 1 } else { folded }
    }
}

/// A [`Digest`] of all octets.
pub(crate) fn digest(bytes: &[u8]) -> u16 {
    let mut digest = Digest::new();
    for octet in bytes {
        digest.add(*octet);
    }
    digest.finish()
}
