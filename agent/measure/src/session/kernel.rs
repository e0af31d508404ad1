//! What the kernel reports beside replies: TX stamps, overflows, clock steps, ICMP errors.

use base::{Counter, Output, Quantity, WallNanos};

use super::slots::State;
use super::{Emission, Session, emit, sample, unwrap_sequence};

impl Session {
    /// The kernel's (and the device's) TX stamp of a probe.
    pub fn tx_stamp(
        &mut self,
        sequence: u32,
        kernel: Option<WallNanos>,
        hardware: Option<WallNanos>,
        out: &mut impl FnMut(Emission),
    ) {
        self.stamp_seen = true;
        self.stamps_expected = true;
        let index = unwrap_sequence(sequence, self.next);
        let Some(slot) = self.slots.get(index) else {
            return;
        };
        // The first copy's stamp is the one that counts.
        slot.kernel = slot.kernel.or(kernel);
        slot.hardware = slot.hardware.or(hardware);
        if slot.state == State::Held {
            self.measure(index, out);
        }
    }

    /// TX stamps may have been lost from now back to the oldest undecided probe: a full
    /// receive buffer drops them without a trace.
    pub fn stamps_doubtful(&mut self) {
        for index in self.settled..self.next {
            if let Some(slot) = self.slots.get(index) {
                slot.doubtful = true;
            }
        }
    }

    /// Our own socket dropped this many datagrams (`SO_RXQ_OVFL`).
    pub fn overflowed(&mut self, datagrams: u64, out: &mut impl FnMut(Emission)) {
        self.overflows += datagrams;
        emit(out, Output::Count(Counter::ReceiveOverflows, datagrams));
        self.stamps_doubtful();
    }

    /// The wall clock was set: what is in flight has stamps of two times.
    pub fn clock_stepped(&mut self, out: &mut impl FnMut(Emission)) {
        self.generation += 1;
        let settled = self.settled;
        for slot in self.slots.all() {
            slot.stepped |= slot.index >= settled;
        }
        self.break_chains(out);
    }

    /// An ICMP error named one of our probes. Returns nothing and decides nothing: the
    /// probe's wait does.
    pub fn icmp_error(
        &mut self,
        kind: u8,
        code: u8,
        from: std::net::IpAddr,
        out: &mut impl FnMut(Emission),
    ) {
        emit(out, Output::Count(Counter::IcmpErrors, 1));
        emit(out, Output::Icmp { kind, code, from });
    }

    pub(super) fn break_chains(&mut self, out: &mut impl FnMut(Emission)) {
        for (jitter, (pdv, quantity)) in self.jitter.iter_mut().zip(
            self.pdv
                .iter_mut()
                .zip([Quantity::ForwardPdv, Quantity::ReversePdv]),
        ) {
            jitter.break_chain();
            pdv.evaluate(|value| sample(out, quantity, value));
        }
    }
}
