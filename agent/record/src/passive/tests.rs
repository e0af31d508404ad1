use base::{
    FlowEnd, Frame, GroupKey, Leg, LossPlace, RttMethod, SideSummary, TcpClass, TcpClasses,
    WallNanos,
};

use super::*;

fn rtt(group: u16, method: RttMethod, leg: Leg, ns: u64) -> Observation {
    Observation::Rtt {
        flow: FlowKey(0),
        group: GroupKey(group),
        method,
        leg,
        ns,
    }
}

fn flow(number: u32, bytes: u64) -> FlowSummary {
    let side = SideSummary {
        packets: 3,
        bytes,
        mss: Some(1000 + number as u16),
        largest_packet_bytes: number,
        ..SideSummary::default()
    };
    FlowSummary {
        flow: FlowKey(number),
        group: GroupKey(0),
        protocol: 6,
        ends: [(Address::v4(1), 1), (Address::v4(2), 2)],
        first: WallNanos(u64::from(number)),
        last: WallNanos(9),
        rtt_method: None,
        sides: [side, SideSummary::default()],
    }
}

fn ended(number: u32, bytes: u64) -> Observation {
    Observation::Ended {
        summary: flow(number, bytes),
        end: FlowEnd::Idle,
    }
}

/// Methods, legs, groups and senders are never mixed.
#[test]
fn every_value_is_in_its_own_place() {
    let mut stats: CaptureStats = CaptureStats::new(2, 4);
    let mut wanted = 0;
    for (group, method, leg) in (0..2).flat_map(|group| {
        RttMethod::ALL
            .iter()
            .flat_map(move |method| Leg::ALL.iter().map(move |leg| (group, *method, *leg)))
    }) {
        wanted += 1;
        for _ in 0..wanted {
            stats.observe(&rtt(group, method, leg, wanted));
        }
    }
    let mut number = 0;
    for group in stats.groups() {
        for method in RttMethod::ALL {
            for leg in Leg::ALL {
                number += 1;
                let values = group.rtts(*method, *leg).expect("values");
                assert_eq!(values.count(), number);
                assert_eq!(values.min(), values.max());
                assert_eq!(values.min(), Some(number as i64));
            }
        }
    }
    let total = stats.total();
    let both = total.rtts(RttMethod::Handshake, Leg::Near).expect("both");
    assert_eq!(both.count(), 1 + 17);
}

#[test]
fn frames_count_once_in_each_of_their_classes() {
    let mut stats: CaptureStats = CaptureStats::new(1, 0);
    let mut classes = TcpClasses::NONE;
    classes.insert(TcpClass::DuplicateAck);
    classes.insert(TcpClass::ZeroWindow);
    for (sender, segments) in [(Sender::Near, 1), (Sender::Remote, 40), (Sender::Remote, 2)] {
        stats.observe(&Observation::Tcp {
            flow: FlowKey(0),
            group: GroupKey(0),
            sender,
            classes,
            segments,
        });
    }
    stats.observe(&Observation::Loss {
        flow: FlowKey(0),
        group: GroupKey(0),
        sender: Sender::Remote,
        place: LossPlace::Before,
        segments: 7,
    });
    let total = stats.total();
    assert_eq!(total.frames(TcpClass::DuplicateAck), 3);
    assert_eq!(total.counts.classes[1][TcpClass::ZeroWindow.index()], 2);
    assert_eq!(total.frames(TcpClass::Retransmission), 0);
    assert_eq!(total.counts.losses[1][LossPlace::Before.index()], 7);
    assert_eq!(total.lost(LossPlace::After), 0);
    // A group that is not there is nobody's.
    stats.observe(&rtt(7, RttMethod::Dns, Leg::Near, 1));
    assert!(stats.total().rtts(RttMethod::Dns, Leg::Near).is_none());
}

#[test]
fn merging_two_is_as_if_one_had_seen_it_all() {
    let observations: Vec<Observation> = (1..200u32)
        .flat_map(|n| {
            [
                rtt(0, RttMethod::Timestamp, Leg::Remote, u64::from(n) * 7919),
                ended(n, u64::from(n * 31 % 101)),
                Observation::TooBig {
                    flow: None,
                    group: GroupKey(0),
                    next_hop_mtu: 1400 + n % 40,
                    from: Address::v4(5),
                },
                Observation::Reordering {
                    flow: FlowKey(n),
                    group: GroupKey(0),
                    sender: Sender::Near,
                    bytes: n,
                    late_ns: 3,
                },
            ]
        })
        .collect();
    let mut whole: CaptureStats = CaptureStats::new(1, 5);
    let (mut first, mut second) = (whole.clone(), whole.clone());
    for (at, observation) in observations.iter().enumerate() {
        whole.observe(observation);
        if at < 400 {
            first.observe(observation);
        } else {
            second.observe(observation);
        }
    }
    first.merge(&second);
    let (one, two) = (whole.total(), first.total());
    let summary = |of: &GroupStats| {
        let rtt = of.rtts(RttMethod::Timestamp, Leg::Remote).expect("values");
        rtt.summary()
    };
    assert_eq!(summary(&one), summary(&two));
    assert_eq!(one.ended, two.ended);
    assert_eq!(
        (one.traffic.packets, one.traffic.segments),
        ([199 * 3, 0], [199 * 3, 0])
    );
    assert_eq!(two.traffic, one.traffic);
    assert_eq!(whole.top.sorted(), first.top.sorted());
    assert_eq!(whole.mss, [Some((1001, 1199)), None]);
    assert_eq!(
        (whole.mss, whole.largest_packet_bytes),
        (first.mss, [199, 0])
    );
    // 40 sizes do not fit a list of 32: nothing is lost silently.
    assert_eq!(whole.too_big.len(), MOST_NAMED);
    for stats in [&whole, &first] {
        let named: u64 = stats.too_big.iter().map(|too_big| too_big.count).sum();
        assert_eq!(named + stats.unnamed, 199);
    }
    whole.clear();
    assert!(
        whole
            .total()
            .rtts(RttMethod::Timestamp, Leg::Remote)
            .is_some_and(|d| d.count() == 0)
    );
    assert_eq!(whole.top.sorted(), []);
    assert_eq!(whole.total().ended, [0; FlowEnd::COUNT]);
}

#[test]
fn the_largest_flows_are_kept() {
    let mut top = TopFlows::new(3);
    for (number, bytes) in [(1, 10), (2, 50), (3, 20), (4, 5), (5, 20), (6, 60)] {
        top.offer(&flow(number, bytes));
    }
    let kept: Vec<u32> = top.sorted().iter().map(|flow| flow.flow.0).collect();
    assert_eq!(kept, [6, 2, 3]);
    let mut none = TopFlows::new(0);
    none.offer(&flow(1, 10));
    assert_eq!(none.iter().count(), 0);
}

#[test]
fn octets_are_counted_in_windows_with_traffic() {
    let bytes = [0; 100];
    let mut windows: Windows = windows_of();
    let at = |ms: u64| {
        Frame::ethernet(
            &bytes,
            WallNanos(1_700_000_000_000_000_000 + ms * 1_000_000),
        )
    };
    // 300 octets in the first millisecond; one frame is late; then quiet for 2 s.
    windows.take(&[at(0), at(0), at(0), at(1), at(0), at(5)]);
    // A window may begin in one store and end in another.
    let mut next: Windows = windows_of();
    next.resume(windows.open());
    next.take(&[at(2000), at(2001)]);
    next.finish();
    windows.merge(&next);
    let mut bursts = Vec::new();
    windows
        .bursts()
        .for_each(|value, count| bursts.push((value, count)));
    assert_eq!(bursts, [(100, 3), (200, 1), (300, 1)]);
    let mut seconds = Vec::new();
    windows
        .seconds()
        .for_each(|value, count| seconds.push((value, count)));
    assert_eq!(seconds, [(200, 1), (600, 1)]);
}
