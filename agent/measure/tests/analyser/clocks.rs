//! Floods, full tables and clocks that are set.

use base::{FlowEnd, Frame};
use measure::passive::{Analyser, Unmeasured};

use crate::frames::{ACK, Captured, SEED, SYN, Talk, analyse, options, segment};

const SECOND_US: u64 = 1_000_000;

/// A SYN of the flood: another source each time, all else the same, as simple tools do it.
fn syn(number: u32, at_ns: u64) -> Captured {
    let [_, a, b, c] = number.to_be_bytes();
    let mut talk = Talk::new(&format!("11.{a}.{b}.{c}:1024"), "192.0.2.7:80");
    talk.now_ns = at_ns;
    talk.tcp(0, segment(SYN, 1, 0, 0)).clone()
}

#[test]
fn a_flood_of_syns_puts_out_syns_and_not_connections() {
    const PLACES: u32 = 1000;
    const SYNS: u32 = 1_000_000;
    const CONNECTIONS: u32 = 100;
    let mut analyser = Analyser::new(options(PLACES));
    let mut ended = [0u64; FlowEnd::COUNT];
    let mut emit = |_, one: base::Observation| {
        if let base::Observation::Ended { end, .. } = one {
            ended[end.index()] += 1;
        }
    };
    let mut talks: Vec<Talk> = (0..CONNECTIONS)
        .map(|n| Talk::new(&format!("10.0.0.{n}:40000"), "192.0.2.7:80"))
        .collect();
    for talk in &mut talks {
        let frames = std::mem::take(&mut talk.handshake().frames);
        for frame in &frames {
            analyser.batch(&[frame.frame()], &mut emit);
        }
    }
    // A million in ten seconds; each connection says something every second.
    let mut flood = syn(0, talks[0].now_ns);
    for n in 0..SYNS {
        let [_, a, b, c] = n.to_be_bytes();
        flood.octets[27..30].copy_from_slice(&[a, b, c]);
        flood.at_ns += 10_000;
        analyser.batch(&[flood.frame()], &mut emit);
        if n % 1000 == 0 {
            let at = (n / 1000 % CONNECTIONS) as usize;
            let said = 1001 + n / 1000 / CONNECTIONS * 10;
            talks[at].now_ns = flood.at_ns;
            let frame = talks[at].tcp(0, segment(ACK, said, 5001, 10)).clone();
            analyser.batch(&[frame.frame()], &mut emit);
        }
        assert!(analyser.active() <= PLACES);
    }
    let alive = analyser.flows().filter(|flow| flow.sides[1].packets > 0);
    let (alive, counters) = (alive.count(), analyser.counters());
    assert_eq!(counters.balance(), 0);
    assert_eq!(counters.capture_duplicates, 0);
    let gone = ended[FlowEnd::Evicted.index()];
    assert_eq!(counters.flows, gone + u64::from(analyser.active()));
    assert_eq!(counters.ended[FlowEnd::Evicted.index()], gone);
    assert!(gone >= u64::from(SYNS - PLACES));
    // 100 are; without a start for conversations none.
    assert!(alive >= 95, "{alive} connections of {CONNECTIONS} are left");
    assert_eq!(counters.unmeasured[Unmeasured::TableFull.index()], 0);
}

#[test]
fn the_smallest_table_evicts_and_counts() {
    let mut talk = Talk::v4();
    for n in 0..500u32 {
        let frame = syn(n, talk.now_ns + u64::from(n) * 1000);
        talk.frames.push(frame);
    }
    for flows in [1, 2, 15] {
        let said = analyse(options(flows), &talk.frames);
        let counters = &said.counters;
        let refused = counters.unmeasured[Unmeasured::TableFull.index()];
        assert_eq!(counters.flows + refused, 500);
        assert!(counters.ended[FlowEnd::Evicted.index()] > 0);
        let stopped = counters.ended[FlowEnd::Stopped.index()];
        assert!((1..=u64::from(flows)).contains(&stopped));
    }
}

/// Two flows that end; a third one keeps the time.
fn quiet_after(step_us: i64) -> (Vec<(u64, FlowEnd)>, u64) {
    let mut frames = Vec::new();
    let mut talk = Talk::v4();
    talk.handshake();
    frames.append(&mut talk.frames);
    frames.push(syn(7, talk.now_ns));
    let mut other = Talk::new("10.0.0.9:1", "10.0.0.8:2");
    other.now_ns = talk.now_ns.wrapping_add_signed(step_us * 1000);
    let from = other.now_ns;
    for _ in 0..400 {
        other.wait_us(SECOND_US);
        other.udp(0, &[1]);
        other.udp(1, &[1]);
    }
    frames.append(&mut other.frames);
    let said = analyse(options(100), &frames);
    let ends = said.seen.iter().filter_map(|(number, one)| match one {
        base::Observation::Ended { end, .. } if *end != FlowEnd::Stopped => {
            let at = frames[*number as usize - 1].at_ns;
            Some((at.saturating_sub(from) / 1_000_000_000, *end))
        }
        _ => None,
    });
    (ends.collect(), said.counters.clock_back)
}

#[test]
fn flows_end_whatever_the_clock_does() {
    // 30 s for the SYN without an answer, 300 s for the connection, two of the wheel's slots
    // of a second, and 7 s of a batch.
    let (ends, back) = quiet_after(0);
    assert_eq!((ends.len(), back), (2, 0));
    assert!((30..40).contains(&ends[0].0), "{ends:?}");
    assert!((300..310).contains(&ends[1].0), "{ends:?}");
    // Set back by an hour, or by a day: from then on they are quiet.
    for hours in [1, 24] {
        let (ends, back) = quiet_after(-3600 * hours * SECOND_US.cast_signed());
        assert_eq!((ends.len(), back), (2, 1), "{ends:?}");
        assert!((30..50).contains(&ends[0].0), "{ends:?}");
        assert!((300..320).contains(&ends[1].0), "{ends:?}");
    }
    // Set forward: both have been quiet for an hour.
    let (ends, back) = quiet_after(3600 * SECOND_US.cast_signed());
    assert_eq!((ends.len(), back), (2, 0));
    assert!(ends.iter().all(|end| end.0 <= 7), "{ends:?}");
}

#[test]
fn a_clock_that_is_set_back_gives_no_round_trip() {
    let mut talk = Talk::v4();
    talk.handshake();
    talk.tcp(1, segment(ACK, 5001, 1001, 1000).stamps(5, 5));
    talk.now_ns -= 3_600_000_000_000;
    talk.tcp(0, segment(ACK, 1001, 6001, 0).stamps(6, 5));
    let said = analyse(options(10), &talk.frames);
    assert_eq!(said.rtts(base::RttMethod::Timestamp), []);
    assert_eq!(said.rtts(base::RttMethod::Sequence).len(), 2);
    let flow = said.ended()[0].1;
    assert!(flow.first > flow.last, "{flow:?}");
    assert_eq!(flow.first.0 >> 10, crate::frames::START >> 10);
}

#[test]
fn memory_is_what_the_options_say() {
    for flows in [1 << 10, 1 << 14, 131_072, 1_000_000, 2_000_000] {
        for per_flow in [1, 2, 4] {
            let mut with = measure::passive::Options::new(SEED);
            (with.flows, with.segments) = (flows, flows * per_flow);
            let limit = 192 * u64::from(flows) + 24 * u64::from(flows * per_flow);
            assert!(with.bytes() <= limit, "{flows}: {}", with.bytes());
        }
    }
}

#[test]
fn time_passes_without_traffic_by_ticks() {
    let mut talk = Talk::v4();
    talk.handshake();
    let mut analyser = Analyser::new(options(10));
    let frames: Vec<Frame<'_>> = talk.frames.iter().map(Captured::frame).collect();
    analyser.batch(&frames, &mut |_, _| {});
    let mut ended = 0;
    for second in 1..310u64 {
        let now = base::WallNanos(talk.now_ns + second * 1_000_000_000);
        analyser.tick(now, &mut |_, _| ended += 1);
        if second < 300 {
            assert_eq!(ended, 0, "after {second} s");
        }
    }
    assert_eq!((ended, analyser.active()), (1, 0));
}
