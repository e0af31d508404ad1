//! What passive measurement adds up to: observations by group, and what was sent when.
//!
//! Owns counters and distributions of the values that [`base::Observation`] carries, per
//! group, per method and per leg, never mixed. A capture worker fills one of these and hands
//! it over ([`crate::handoff`]); the publisher merges. A distribution is allocated at the first
//! value of its method, leg and group: nothing is allocated per packet, and what a capture
//! does not show costs nothing. Lists (who said "too big", black holes) are bounded; what does
//! not fit is counted. Times are nanoseconds, sizes octets.

mod group;
mod top;
mod windows;

use base::{Address, FlowKey, FlowSummary, Observation, Sender};

pub use group::{GroupCounts, GroupStats, Merge, Traffic, Values};
pub use top::TopFlows;
pub use windows::{OpenWindows, Windows, windows_of};

use crate::Distribution;

/// Different routers with different sizes that are kept apart; and as many black holes.
pub const MOST_NAMED: usize = 32;

/// Who said that packets are too big, and for which size.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct TooBig {
    /// Who says so.
    pub from: Address,
    /// The next hop's MTU; 0: an old router that does not say.
    pub next_hop_mtu: u32,
    /// How often.
    pub count: u64,
}

/// A flow whose full-size packets do not get through.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BlackHole {
    /// Which flow; its number may be another flow's later.
    pub flow: FlowKey,
    /// Who sends it.
    pub sender: Sender,
    /// Octets of the IP packet.
    pub packet_bytes: u32,
    /// How often it was suspected.
    pub count: u64,
}

/// Everything that a capture's observations add up to.
#[derive(Clone, Debug)]
pub struct CaptureStats<D = Distribution> {
    groups: Vec<GroupStats<D>>,
    /// Different routers and sizes, at most [`MOST_NAMED`].
    pub too_big: Vec<TooBig>,
    /// At most [`MOST_NAMED`].
    pub black_holes: Vec<BlackHole>,
    /// Observations that a full list could not name.
    pub unnamed: u64,
    /// The largest of the flows that ended.
    pub top: TopFlows,
    /// The smallest and the largest MSS option of flows that ended, by [`Sender::index`].
    pub mss: [Option<(u16, u16)>; 2],
    /// The largest IP packet of flows that ended, by [`Sender::index`].
    pub largest_packet_bytes: [u32; 2],
}

impl<D: Values> CaptureStats<D> {
    /// For so many groups (at least one), keeping so many of the largest flows.
    #[must_use]
    pub fn new(groups: usize, top: usize) -> Self {
        Self {
            groups: (0..groups.max(1)).map(|_| GroupStats::default()).collect(),
            too_big: Vec::with_capacity(MOST_NAMED),
            black_holes: Vec::with_capacity(MOST_NAMED),
            unnamed: 0,
            top: TopFlows::new(top),
            mss: [None; 2],
            largest_packet_bytes: [0; 2],
        }
    }

    /// Takes one observation.
    #[inline]
    pub fn observe(&mut self, observation: &Observation) {
        match *observation {
            Observation::Rtt {
                group,
                method,
                leg,
                ns,
                ..
            } => {
                if let Some(group) = self.groups.get_mut(usize::from(group.0)) {
                    group.rtt(method, leg, ns);
                }
            }
            Observation::Tcp {
                group,
                sender,
                classes,
                ..
            } => {
                if let Some(group) = self.groups.get_mut(usize::from(group.0)) {
                    group.classes(sender, classes);
                }
            }
            _ => self.rare(observation),
        }
    }

    /// What does not come with every other frame.
    #[inline(never)]
    fn rare(&mut self, observation: &Observation) {
        let group = match observation {
            Observation::Rtt { group, .. }
            | Observation::Tcp { group, .. }
            | Observation::Loss { group, .. }
            | Observation::Reordering { group, .. }
            | Observation::TooBig { group, .. }
            | Observation::BlackHole { group, .. } => *group,
            Observation::Ended { summary, .. } => summary.group,
        };
        let Some(stats) = self.groups.get_mut(usize::from(group.0)) else {
            return;
        };
        match *observation {
            Observation::Rtt { .. } | Observation::Tcp { .. } => {}
            Observation::Loss {
                sender,
                place,
                segments,
                ..
            } => stats.counts.losses[sender.index()][place.index()] += u64::from(segments),
            Observation::Reordering {
                sender,
                bytes,
                late_ns,
                ..
            } => stats.reordering(sender, bytes, late_ns),
            Observation::TooBig {
                next_hop_mtu, from, ..
            } => {
                stats.counts.too_big += 1;
                self.name_too_big(TooBig {
                    from,
                    next_hop_mtu,
                    count: 1,
                });
            }
            Observation::BlackHole {
                flow,
                sender,
                packet_bytes,
                ..
            } => {
                stats.counts.black_holes += 1;
                self.name_black_hole(BlackHole {
                    flow,
                    sender,
                    packet_bytes,
                    count: 1,
                });
            }
            Observation::Ended { ref summary, end } => {
                stats.ended[end.index()] += 1;
                stats.traffic.add_flow(summary);
                self.note_sizes(summary);
                self.top.offer(summary);
            }
        }
    }

    fn name_too_big(&mut self, new: TooBig) {
        let room = self.too_big.len() < MOST_NAMED;
        let known = self
            .too_big
            .iter_mut()
            .find(|known| known.from == new.from && known.next_hop_mtu == new.next_hop_mtu);
        match known {
            Some(known) => known.count += new.count,
            None if room => self.too_big.push(new),
            None => self.unnamed += new.count,
        }
    }

    fn name_black_hole(&mut self, new: BlackHole) {
        let room = self.black_holes.len() < MOST_NAMED;
        let known = self
            .black_holes
            .iter_mut()
            .find(|known| known.flow == new.flow && known.sender == new.sender);
        match known {
            Some(known) => {
                known.count += new.count;
                known.packet_bytes = known.packet_bytes.max(new.packet_bytes);
            }
            None if room => self.black_holes.push(new),
            None => self.unnamed += new.count,
        }
    }

    /// Of a flow that ended.
    fn note_sizes(&mut self, flow: &FlowSummary) {
        for sender in Sender::ALL {
            let (of, side) = (sender.index(), &flow.sides[sender.index()]);
            if let Some(mss) = side.mss {
                let (low, high) = self.mss[of].unwrap_or((mss, mss));
                self.mss[of] = Some((low.min(mss), high.max(mss)));
            }
            let largest = &mut self.largest_packet_bytes[of];
            *largest = (*largest).max(side.largest_packet_bytes);
        }
    }

    /// The groups, by [`base::GroupKey`].
    #[must_use]
    pub fn groups(&self) -> &[GroupStats<D>] {
        &self.groups
    }

    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.groups.iter_mut().for_each(GroupStats::clear);
        self.too_big.clear();
        self.black_holes.clear();
        self.unnamed = 0;
        self.top.clear();
        self.mss = [None; 2];
        self.largest_packet_bytes = [0; 2];
    }
}

impl<D: Merge> CaptureStats<D> {
    /// All groups together.
    #[must_use]
    pub fn total(&self) -> GroupStats<D> {
        let mut total = GroupStats::default();
        for group in &self.groups {
            total.merge(group);
        }
        total
    }

    /// Adds another worker's or another interval's; both are of the same groups.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.groups.iter_mut().zip(&other.groups) {
            ours.merge(theirs);
        }
        for too_big in &other.too_big {
            self.name_too_big(*too_big);
        }
        for hole in &other.black_holes {
            self.name_black_hole(*hole);
        }
        self.unnamed += other.unnamed;
        for flow in other.top.iter() {
            self.top.offer(flow);
        }
        for (ours, theirs) in self.mss.iter_mut().zip(other.mss) {
            *ours = match (*ours, theirs) {
                (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                (one, other) => one.or(other),
            };
        }
        for (ours, theirs) in self
            .largest_packet_bytes
            .iter_mut()
            .zip(other.largest_packet_bytes)
        {
            *ours = (*ours).max(theirs);
        }
    }
}

#[cfg(test)]
mod tests;
