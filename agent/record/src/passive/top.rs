//! The largest flows: those that carried most octets.

use base::FlowSummary;

/// A bounded list. Offering a flow costs one comparison unless it is among the largest.
#[derive(Clone, Debug, Default)]
pub struct TopFlows {
    flows: Vec<FlowSummary>,
    most: usize,
    /// Octets of the smallest in a full list; 0 while there is room.
    least: u64,
}

/// Octets of both ends.
const fn octets(flow: &FlowSummary) -> u64 {
    flow.sides[0].bytes + flow.sides[1].bytes
}

impl TopFlows {
    /// For so many flows; 0: none.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            flows: Vec::with_capacity(most),
            most,
            least: if most == 0 { u64::MAX } else { 0 },
        }
    }

    /// Takes a flow if it is among the largest so far.
    pub fn offer(&mut self, flow: &FlowSummary) {
        if self.flows.len() < self.most {
            self.flows.push(*flow);
        } else {
            if octets(flow) <= self.least {
                return;
            }
            let smallest = self.flows.iter_mut().min_by_key(|flow| octets(flow));
            if let Some(smallest) = smallest {
                *smallest = *flow;
            }
        }
        if self.flows.len() == self.most {
            self.least = self.flows.iter().map(octets).min().unwrap_or(u64::MAX);
        }
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = &FlowSummary> {
        self.flows.iter()
    }

    /// The largest first; those of equal size in the order of their beginning.
    #[must_use]
    pub fn sorted(&self) -> Vec<FlowSummary> {
        let mut sorted = self.flows.clone();
        sorted.sort_by_key(|flow| (std::cmp::Reverse(octets(flow)), flow.first, flow.ends));
        sorted
    }

    /// Forgets all; keeps the memory.
    pub fn clear(&mut self) {
        self.flows.clear();
        self.least = if self.most == 0 { u64::MAX } else { 0 };
    }
}
