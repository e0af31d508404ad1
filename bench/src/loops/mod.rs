//! The hot loops, each a pass over a known number of packets with the state that it has in
//! the long run: the same code under the clock, the allocation counter and callgrind.
//!
//! Names are `action/packet-family`; each measurement adds its own as a third part. A loop
//! makes all it needs when it is made; a pass reads no clock and does no I/O.

mod capture;
mod exporter;
mod measure;
mod record;
mod wire;

pub use self::capture::capture;
pub use self::exporter::exporter;
pub use self::measure::{Path, Seen, measure};
pub use self::record::record;
pub use self::wire::wire;

/// One hot loop.
pub struct Loop {
    /// `action/packet-family`.
    pub name: &'static str,
    /// Packets in one pass (targets, for the exporter).
    pub packets: u64,
    /// Whether a pass may allocate even when warm.
    pub allocates: bool,
    run: Box<dyn FnMut()>,
}

impl Loop {
    fn new(name: &'static str, packets: u64, run: impl FnMut() + 'static) -> Self {
        Self {
            name,
            packets,
            allocates: false,
            run: Box::new(run),
        }
    }

    fn allocating(self) -> Self {
        Self {
            allocates: true,
            ..self
        }
    }

    /// One pass.
    pub fn pass(&mut self) {
        (self.run)();
    }

    /// So many passes that at least `packets` went by; returns how many packets did.
    pub fn packets_at_least(&mut self, packets: u64) -> u64 {
        let passes = packets.div_ceil(self.packets);
        for _ in 0..passes {
            self.pass();
        }
        passes * self.packets
    }
}

/// Those that run for every packet: their instructions are counted and compared.
#[must_use]
pub fn hot() -> Vec<Loop> {
    [wire(), measure(), record(), capture()]
        .into_iter()
        .flatten()
        .collect()
}

/// Repeatable numbers, spread over all bits (Marsaglia's xorshift64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Below `limit`; half of them below a quarter of it, as delays are.
    pub(crate) fn delay(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let uniform = (self.0 >> 32) % 1_000;
        limit * uniform * uniform / 1_000_000
    }
}
