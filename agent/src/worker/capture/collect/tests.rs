use std::sync::mpsc::channel;

use base::{
    Address, FlowKey, FlowSummary, LossPlace, Observation, SideSummary, TcpClass, TcpClasses,
    WallNanos,
};
use record::handoff::{Writer, pair};

use super::*;

/// Groups of ports 1 to 9, each under a name.
fn groups(names: &[&str]) -> Groups {
    let ports: Vec<(u16, String)> = (1..)
        .zip(names.iter().map(|name| (*name).to_owned()))
        .collect();
    Groups::new(&[], &ports).expect("few")
}

fn begin(groups: &Groups, told: &Arc<Told>) -> (Collector, Writer<Load<Interval>>) {
    let (load, loads) = pair(1, || Load::new(groups.count(), 0, false));
    let (gone, _) = channel();
    let collector = Collector::new(Begin {
        loads: vec![(loads, 1)],
        groups: groups.clone(),
        bounds: ClassicBounds::default(),
        described: Described {
            device: "eth0".to_owned(),
            backend: "afpacket",
            reason: String::new(),
        },
        capacity: 16,
        gone,
        told: Arc::clone(told),
    });
    (collector, load)
}

/// A flow of this group ended that had sent so much, beside some of everything else.
fn fill(load: &mut Load<Interval>, group: u16, packets: u64, counters: &mut Counters) {
    let side = |packets| SideSummary {
        packets,
        ..SideSummary::default()
    };
    let (flow, group) = (FlowKey(0), GroupKey(group));
    let summary = FlowSummary {
        flow,
        group,
        protocol: 6,
        ends: [(Address::v4(1), 1), (Address::v4(2), 2)],
        first: WallNanos(1),
        last: WallNanos(2),
        rtt_method: None,
        sides: [side(packets), side(1)],
    };
    let mut classes = TcpClasses::NONE;
    classes.insert(TcpClass::Retransmission);
    for observation in [
        Observation::Ended {
            summary,
            end: FlowEnd::Closed,
        },
        Observation::Rtt {
            flow,
            group,
            method: RttMethod::Timestamp,
            leg: Leg::Remote,
            ns: 1_000 * packets,
        },
        Observation::Tcp {
            flow,
            group,
            sender: End::Near,
            classes,
            segments: 1,
        },
        Observation::Loss {
            flow,
            group,
            sender: End::Near,
            place: LossPlace::After,
            segments: 2,
        },
    ] {
        load.tally.observe(&observation);
    }
    counters.frames += packets + 1;
    counters.flows += 1;
    counters.ended[FlowEnd::Closed.index()] += 1;
    load.counters = Some(counters.clone());
    load.reading = 1;
    load.walk(std::iter::empty(), WallNanos(0));
}

fn of<'s>(snapshot: &'s CaptureSnapshot, service: &str) -> Option<&'s CaptureGroup> {
    snapshot
        .groups
        .iter()
        .find(|group| group.service == service)
}

/// What a reload does: a load that nobody took yet, then other groups on the same sources.
#[test]
fn counters_go_on_under_other_groups() {
    let told = Arc::new(Told::default());
    let zero = measure::passive::Analyser::new(crate::passive::smallest()).counters();
    let old = groups(&["a", "b"]);
    let (mut collector, mut load) = begin(&old, &told);
    let mut counters = zero.clone();
    let number = |name: &str, of: &Groups| -> u16 {
        let all = 0..u16::try_from(of.count()).expect("few");
        let found = all
            .into_iter()
            .find(|at| of.names(GroupKey(*at)).1 == Some(name));
        found.expect("a group")
    };
    fill(&mut load, number("a", &old), 10, &mut counters);
    fill(&mut load, number("b", &old), 20, &mut counters);
    load.drops.add(DropReason::RingFull, 5);
    assert!(load.exchange());
    let first = collector.snapshot();
    assert_eq!((first.frames, first.flows, first.intervals), (32, 2, 1));
    assert_eq!(first.degraded_intervals, 1);
    // The threads end: their last load waits.
    fill(&mut load, number("b", &old), 30, &mut counters);
    load.drops = Drops::default();
    load.drops.add(DropReason::RingFull, 6);
    load.finish();

    let new = groups(&["b", "c"]);
    let (mut next, mut load) = begin(&new, &told);
    next.succeed(collector);
    let second = next.snapshot();
    assert_eq!((second.frames, second.flows, second.intervals), (63, 3, 2));
    let lost = |snapshot: &CaptureSnapshot| {
        let dropped = &snapshot.dropped;
        dropped
            .iter()
            .find(|(reason, _)| *reason == "ring_full")
            .map(|(_, count)| *count)
    };
    assert_eq!(lost(&second), Some(6));
    // That the old sum was lost is known; what was lost at the end is not.
    assert_eq!(
        (second.degraded_intervals, second.interrupted_intervals),
        (2, 0)
    );
    assert_eq!(second.since, first.since);
    assert!(of(&second, "a").is_none());
    assert_eq!(
        of(&second, "c").map(|c| c.traffic),
        Some(Traffic::default())
    );

    // The same sources go on counting what they did not lend.
    let mut counters = zero;
    fill(&mut load, number("b", &new), 40, &mut counters);
    fill(&mut load, number("c", &new), 50, &mut counters);
    load.drops.add(DropReason::RingFull, 6);
    assert!(load.exchange());
    let third = next.snapshot();
    assert_eq!((third.frames, third.flows, third.intervals), (155, 5, 3));
    assert_eq!((lost(&third), third.degraded_intervals), (Some(6), 2));
    let b = of(&third, "b").expect("it is there");
    assert_eq!(b.traffic.packets, [20 + 30 + 40, 3]);
    assert_eq!(b.counts.classes[0][TcpClass::Retransmission.index()], 3);
    assert_eq!(b.counts.losses[0][LossPlace::After.index()], 6);
    let [(_, _, rtt)] = &b.rtt[..] else {
        panic!("{:?}", b.rtt);
    };
    assert_eq!((rtt.count, rtt.sum), (3, 90_000));
    let c = of(&third, "c").expect("it is there");
    assert_eq!((c.traffic.packets, c.rtt.len()), ([50, 1], 1));
    let total: u64 = third
        .groups
        .iter()
        .map(|group| group.traffic.packets[0])
        .sum();
    assert_eq!(
        total,
        20 + 30 + 40 + 50,
        "all but of the group that is gone"
    );
}
