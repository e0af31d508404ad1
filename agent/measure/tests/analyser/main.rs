//! The analyser from outside: frames in, observations out.

extern crate netsonde_measure as measure;

mod accounts;
mod clocks;
mod connections;
mod copies;
mod fragmenting;
mod frames;
mod pieces;
mod reference;

use base::{FlowEnd, FlowSummary, Leg, LossPlace, Observation, RttMethod, TcpClass};

use frames::Said;

impl Said {
    fn rtts(&self, wanted: RttMethod) -> Vec<(u64, Leg, u64)> {
        let of = |(number, one): &(u64, Observation)| match one {
            Observation::Rtt {
                method, leg, ns, ..
            } if *method == wanted => Some((*number, *leg, *ns)),
            _ => None,
        };
        self.seen.iter().filter_map(of).collect()
    }

    /// The frames that are of a class.
    fn classed(&self, class: TcpClass) -> Vec<u64> {
        let of = |(number, one): &(u64, Observation)| match one {
            Observation::Tcp { classes, .. } => classes.contains(class).then_some(*number),
            _ => None,
        };
        self.seen.iter().filter_map(of).collect()
    }

    fn losses(&self) -> Vec<(u64, LossPlace, u32)> {
        let of = |(number, one): &(u64, Observation)| match one {
            Observation::Loss {
                place, segments, ..
            } => Some((*number, *place, *segments)),
            _ => None,
        };
        self.seen.iter().filter_map(of).collect()
    }

    fn ended(&self) -> Vec<(FlowEnd, FlowSummary)> {
        let of = |(_, one): &(u64, Observation)| match one {
            Observation::Ended { summary, end } => Some((*end, *summary)),
            _ => None,
        };
        self.seen.iter().filter_map(of).collect()
    }
}
