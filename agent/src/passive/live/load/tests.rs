use std::collections::BTreeMap;

use base::{Address, FlowEnd, FlowKey, GroupKey, SideSummary};
use record::series::Interval;

use super::*;

/// Packets of the flows in a table, and of those that ended: what is true.
#[derive(Default)]
struct Table {
    flows: BTreeMap<u32, u64>,
    ended: u64,
    next: u32,
}

impl Table {
    fn summary(number: u32, packets: u64) -> FlowSummary {
        let side = |packets| SideSummary {
            packets,
            bytes: 100 * packets,
            ..SideSummary::default()
        };
        FlowSummary {
            flow: FlowKey(number),
            group: GroupKey(0),
            protocol: 6,
            ends: [(Address::v4(1), 1), (Address::v4(2), 2)],
            first: WallNanos(1),
            last: WallNanos(2),
            rtt_method: None,
            sides: [side(packets), side(0)],
        }
    }

    fn sent(&self) -> u64 {
        self.ended + self.flows.values().sum::<u64>()
    }
}

/// A worker and its reader, a step at a time.
struct World {
    table: Table,
    load: Load<Interval>,
    shares: Shares,
    walked: u64,
}

/// What can happen between two loads, in any order.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Step {
    /// A packet of a new flow, and of the oldest.
    Packets,
    /// The oldest flow ends.
    End,
    /// The table is walked.
    Walk,
    /// The load is handed over and taken.
    Take,
}

impl World {
    fn new() -> Self {
        Self {
            table: Table::default(),
            load: Load::new(1, 0, false),
            shares: Shares::new(std::iter::once(1), 1),
            walked: 0,
        }
    }

    fn walk(&mut self) {
        let flows = self.table.flows.iter();
        let flows = flows.map(|(number, packets)| Table::summary(*number, *packets));
        self.load.walk(flows, WallNanos(0));
        self.walked = self.table.sent();
    }

    fn end(&mut self) {
        let Some((number, packets)) = self.table.flows.pop_first() else {
            return;
        };
        self.table.ended += packets;
        let summary = Table::summary(number, packets);
        let end = FlowEnd::Closed;
        self.load
            .tally
            .observe(&Observation::Ended { summary, end });
    }

    fn take(&mut self) {
        self.shares.take(0, &mut self.load);
        self.load.clear();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Packets => {
                self.table.next += 1;
                self.table.flows.insert(self.table.next, 0);
                for packets in self.table.flows.values_mut().take(2) {
                    *packets += 1;
                }
            }
            Step::End => self.end(),
            Step::Walk => self.walk(),
            Step::Take => self.take(),
        }
    }

    fn shown(&self) -> u64 {
        let sent = self.shares.sent(0);
        assert_eq!(sent.bytes[0], 100 * sent.packets[0]);
        assert_eq!(sent.segments, sent.packets);
        sent.packets[0]
    }
}

/// All orders of seven steps: what is shown is what was so at the last walk that was taken.
#[test]
fn what_was_sent_never_falls_and_is_exact_at_the_end() {
    const STEPS: [Step; 4] = [Step::Packets, Step::End, Step::Walk, Step::Take];
    for order in 0..4_u32.pow(7) {
        let mut world = World::new();
        let mut taken = 0;
        for at in 0..7 {
            let step = STEPS[(order / 4_u32.pow(at) % 4) as usize];
            world.step(step);
            if step == Step::Take {
                taken = world.walked;
            }
            assert_eq!(world.shown(), taken, "{order}, step {at}");
        }
        // As a worker ends: every flow ends, the table is walked, the load goes.
        while !world.table.flows.is_empty() {
            world.end();
        }
        world.walk();
        world.take();
        assert_eq!(world.shown(), world.table.sent(), "{order}");
        assert!(world.shown() >= taken);
    }
}
