//! What allocates and what must not, by a counting global allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use base::{Counter, Gauge, Output, Quantity, Sample, StampPoint, StampSource};
use netsonde_record::series::{ClassicBounds, Unit};
use netsonde_record::{Distribution, TargetSeries, TargetStats, handoff, memory, results};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn note(calls: u64, bytes: i64) {
    CALLS.with(|cell| cell.set(cell.get() + calls));
    LIVE.with(|cell| cell.set(cell.get() + bytes));
}

// SAFETY: every call goes to `System` unchanged; the counters are plain thread-local cells
// without destructor, so that reading them allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise for `alloc` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(1, -(layout.size() as i64));
        // SAFETY: the caller's promise for `dealloc` is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls(run: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    run();
    CALLS.with(Cell::get) - before
}

/// Values over the whole range and beyond it, both signs.
fn values() -> impl Iterator<Item = i64> + Clone {
    (0..10_000_i64).map(|step| step.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> (step % 60))
}

#[test]
fn the_counter_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn recording_never_allocates() {
    let mut distribution = Distribution::signed();
    assert_eq!(
        calls(|| values().for_each(|value| distribution.record(value))),
        0
    );
    assert_eq!(distribution.count(), 10_000);
}

#[test]
fn applying_an_output_never_allocates() {
    let mut stats = TargetStats::new();
    let from = std::net::IpAddr::from([192, 0, 2, 1]);
    let count = calls(|| {
        for (place, value) in values().enumerate() {
            let quantity = Quantity::ALL[place % Quantity::COUNT];
            stats.apply(&Output::Sample(Sample { quantity, value }));
            stats.apply(&Output::Count(Counter::ALL[place % Counter::COUNT], 1));
            stats.apply(&Output::Gauge(Gauge::Up, 1.0));
            stats.apply(&Output::Stamped(StampPoint::T1, StampSource::Kernel));
            stats.apply(&Output::Errno(place as i32 % 40));
            stats.apply(&Output::Icmp {
                kind: (place % 50) as u8,
                code: 0,
                from,
            });
        }
    });
    assert_eq!(count, 0);
    assert!(stats.icmp_others > 0);
}

#[test]
fn rings_never_allocate_on_the_writer() {
    let (mut sender, mut receiver) = results::channel(16);
    let mut accepted = 0;
    let count = calls(|| accepted = (0..100).filter(|number| sender.push(*number)).count());
    assert_eq!((count, accepted), (0, 16));
    assert_eq!(receiver.drain(drop), 16);

    let (mut writer, mut reader) = handoff::pair(2, Distribution::new);
    let worker = std::thread::spawn(move || {
        let (mut exchanges, mut recorded) = (0u64, 0u64);
        let count = calls(|| {
            for value in values().cycle() {
                writer.record(value);
                recorded += 1;
                exchanges += u64::from(writer.exchange());
                if exchanges == 50 {
                    break;
                }
            }
        });
        writer.finish();
        (count, recorded)
    });
    let mut total = 0;
    loop {
        let over = reader.is_abandoned();
        reader.take(|buffer| {
            total += buffer.count();
            buffer.clear();
        });
        if over {
            break;
        }
        std::thread::yield_now();
    }
    let (count, recorded) = worker.join().expect("the worker ends");
    assert_eq!(count, 0);
    assert_eq!(total, recorded);
}

/// A target at one probe a second for ten minutes over a jittery path, with two
/// snapshots alive.
#[test]
fn the_memory_formula_holds() {
    let bounds = ClassicBounds::default();
    let footprint = memory::per_target(1_000_000_000, 1_000_000_000, &bounds);
    // The bucket tables are made once per process, by the first lookups.
    for unit in [Unit::Nanoseconds, Unit::Packets] {
        assert_eq!(unit.slot(0), None);
    }
    let before = LIVE.with(Cell::get);
    let mut target = TargetSeries::new(1_000_000_000, 1_000_000_000, &bounds);
    let mut kept = [target.snapshot(), target.snapshot()];
    for second in 0..600_i64 {
        for quantity in Quantity::ALL {
            let step = (second * 7919 + quantity.index() as i64 * 104_729) % 1_000;
            let size = 100_000 + step * step;
            let value = if quantity.is_signed() && step % 2 == 0 {
                -size
            } else {
                size
            };
            target.apply(&Output::Sample(Sample {
                quantity: *quantity,
                value,
            }));
        }
        target.tick();
        kept[second as usize % 2] = target.snapshot();
    }
    let used = usize::try_from(LIVE.with(Cell::get) - before).expect("memory grew");
    assert!(used <= footprint.typical, "{used} of {footprint:?}");
    assert!(
        used * 2 >= footprint.typical,
        "the formula is idle: {used} of {footprint:?}"
    );
    assert!(footprint.typical < 256 * 1024, "{footprint:?}");
    assert!(footprint.typical <= footprint.upper);
}

/// After the first value of each method and leg: a capture worker's path per packet.
#[test]
fn observing_traffic_allocates_once_per_distribution() {
    use base::{FlowKey, GroupKey, Leg, LossPlace, Observation, RttMethod, Sender};
    use netsonde_record::passive::{CaptureStats, Windows, windows_of};

    let mut stats: CaptureStats = CaptureStats::new(2, 10);
    let mut windows: Windows = windows_of();
    let bytes = [0; 60];
    let mut round = |windows: &mut Windows, times: u64| {
        for at in 0..times {
            let time = base::WallNanos(1 + at * 100_000);
            windows.take(&[base::Frame::ethernet(&bytes, time); 3]);
            for method in RttMethod::ALL {
                for leg in Leg::ALL {
                    stats.observe(&Observation::Rtt {
                        flow: FlowKey(0),
                        group: GroupKey(1),
                        method: *method,
                        leg: *leg,
                        ns: at << (at % 40),
                    });
                }
            }
            stats.observe(&Observation::Loss {
                flow: FlowKey(0),
                group: GroupKey(0),
                sender: Sender::Near,
                place: LossPlace::After,
                segments: 1,
            });
            stats.observe(&Observation::TooBig {
                flow: None,
                group: GroupKey(0),
                next_hop_mtu: at as u32,
                from: base::Address::v4(1),
            });
        }
    };
    // A distribution has a box and the counts in it.
    let first = calls(|| round(&mut windows, 1));
    assert_eq!(first, 2 * (RttMethod::COUNT * Leg::COUNT) as u64);
    assert_eq!(calls(|| round(&mut windows, 10_000)), 0);
}
