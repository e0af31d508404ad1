//! What is kept of a flow that is not TCP: counts and its estimator.

use base::{Sender, SideSummary};

use super::time::U48;
use crate::passive::datagram::{DatagramState, Kind};

#[derive(Copy, Clone, Debug)]
struct Side {
    bytes: U48,
    packets: U48,
    largest: u16,
}

/// See the module.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Datagram {
    sides: [Side; 2],
    pub(crate) state: DatagramState,
}

impl Datagram {
    pub(crate) const EMPTY: Self = Self::new(DatagramState::new(Kind::Plain));

    pub(crate) const fn new(state: DatagramState) -> Self {
        Self {
            sides: [Side {
                bytes: U48::new(0),
                packets: U48::new(0),
                largest: 0,
            }; 2],
            state,
        }
    }

    #[inline]
    pub(crate) fn count(&mut self, sender: Sender, bytes: u32, packets: u32, packet_bytes: u32) {
        let side = &mut self.sides[sender.index()];
        side.bytes.add(bytes);
        side.packets.add(packets);
        side.largest = side.largest.max(packet_bytes.min(0xffff) as u16);
    }

    pub(crate) const fn packets(&self, sender: Sender) -> u64 {
        self.sides[sender.index()].packets.get()
    }

    pub(crate) fn side(&self, sender: Sender) -> SideSummary {
        let side = &self.sides[sender.index()];
        SideSummary {
            packets: side.packets.get(),
            bytes: side.bytes.get(),
            // Of the remote leg: who asks is mostly near.
            rtt_ns: match sender {
                Sender::Near => self.state.rtt_ns(),
                Sender::Remote => None,
            },
            largest_packet_bytes: u32::from(side.largest),
            ..SideSummary::default()
        }
    }
}
