//! What the hot loops allocate, by a counting global allocator: nothing, but for the loops
//! that say so. `cargo test -p netsonde-bench -- --nocapture` prints the table.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Frame, WallNanos};
use capture::file::FileSource;
use capture::{Polled, Source};
use measure::passive::{Analyser, Classifier, Options};
use netsonde_bench::loops::{self, Loop};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to `System` unchanged (`realloc` by the default, which calls these
// two); the counters are thread-local cells without destructor, so that they allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|cell| cell.set(cell.get() + 1));
        BYTES.with(|cell| cell.set(cell.get() + layout.size() as u64));
        // SAFETY: the caller's promise for `alloc` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise for `dealloc` is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls and bytes of `run`, and what it returned.
fn counted<R>(run: impl FnOnce() -> R) -> (u64, u64, R) {
    let before = (CALLS.with(Cell::get), BYTES.with(Cell::get));
    let result = run();
    let after = (CALLS.with(Cell::get), BYTES.with(Cell::get));
    (after.0 - before.0, after.1 - before.1, result)
}

fn measure(hot: &mut Loop) -> u64 {
    // Past a whole wait of the session, ticks of the reflector, growth of every table.
    hot.packets_at_least(20_000);
    let (calls, bytes, packets) = counted(|| hot.packets_at_least(10_000));
    println!(
        "{}/allocations: {:.4} calls, {:.1} bytes a packet",
        hot.name,
        calls as f64 / packets as f64,
        bytes as f64 / packets as f64
    );
    calls
}

#[test]
fn the_counter_counts() {
    let (calls, bytes, _) = counted(|| drop(std::hint::black_box(Box::new(1_u64))));
    assert_eq!((calls, bytes), (1, 8));
}

#[test]
fn no_hot_loop_allocates_per_packet() {
    for mut hot in loops::hot() {
        let calls = measure(&mut hot);
        if hot.allocates {
            // A tick's snapshot, not a packet's.
            assert!(calls > 0, "{} is marked without need", hot.name);
            assert!(calls < 10_000 / 10, "{}: {calls}", hot.name);
        } else {
            assert_eq!(calls, 0, "{}", hot.name);
        }
    }
}

#[test]
fn a_scrape_says_what_it_allocates() {
    for mut hot in loops::exporter() {
        assert!(hot.allocates);
        hot.pass();
        let (calls, bytes, ()) = counted(|| hot.pass());
        println!(
            "{}/allocations: {:.1} calls, {:.0} bytes a target",
            hot.name,
            calls as f64 / hot.packets as f64,
            bytes as f64 / hot.packets as f64
        );
        assert!(calls > 0);
    }
}

/// The public captures; none where there are none.
fn captures() -> Vec<PathBuf> {
    let folder = std::env::var_os("NETSONDE_PCAPS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/pcaps"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no captures in {}", folder.display());
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is_capture = |path: &PathBuf| {
        let extension = path.extension().and_then(|text| text.to_str());
        matches!(extension, Some("pcap" | "pcapng"))
    };
    paths.filter(is_capture).collect()
}

fn analyser(flows: u32, classifier: Classifier) -> Analyser {
    let mut options = Options::new([0x9e37_79b9_7f4a_7c15; 8]);
    options.classifier = classifier;
    options.details = true;
    (options.flows, options.segments) = (flows, flows * 2);
    Analyser::new(options)
}

#[test]
fn the_analyser_allocates_nothing_for_any_capture() {
    let mut frames = 0;
    for path in captures() {
        for classifier in [Classifier::Tshark, Classifier::Tcptrace] {
            // From the first frame on: all is there when it is made.
            let mut analyser = analyser(64, classifier);
            let mut source = FileSource::open(&path).expect("a capture");
            let mut calls = 0;
            let mut last = WallNanos(0);
            let mut seen = 0_u64;
            loop {
                let polled = source.poll(Duration::ZERO, |batch: &[Frame<'_>]| {
                    let mut emit = |number, _| seen = seen.max(number);
                    calls += counted(|| analyser.batch(batch, &mut emit)).0;
                    last = batch.last().map_or(last, |frame| frame.at);
                    calls += counted(|| analyser.tick(last, &mut emit)).0;
                });
                // What cannot be read is another test's.
                if matches!(polled, Ok(Polled::End) | Err(_)) {
                    break;
                }
            }
            calls += counted(|| analyser.finish(&mut |_, _| {})).0;
            frames += analyser.counters().frames;
            assert_eq!(calls, 0, "{}", path.display());
            assert!(seen <= analyser.counters().frames);
        }
    }
    println!("analyser/captures/allocations: none in {frames} frames");
}

/// A frame without payload from one of very many sources.
fn fill(frame: &mut [u8; 54], number: u32) {
    let tcp = number.is_multiple_of(2);
    frame.fill(0);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[17] = 40;
    frame[22] = 64;
    frame[23] = if tcp { 6 } else { 17 };
    frame[26..30].copy_from_slice(&(0x0b00_0000 + number).to_be_bytes());
    frame[30..34].copy_from_slice(&[192, 0, 2, 7]);
    frame[36..38].copy_from_slice(&[0, 53]);
    if tcp {
        // A SYN.
        frame[46..48].copy_from_slice(&[0x50, 2]);
    } else {
        frame[39] = 20;
    }
}

#[test]
fn a_million_flows_through_a_small_table_allocate_nothing() {
    const FLOWS: u32 = 1_000_000;
    let mut analyser = analyser(5000, Classifier::Tshark);
    let mut octets = [[0; 54]; 32];
    let (mut calls, mut ended) = (0, 0_u64);
    let mut now = 1_700_000_000_000_000_000;
    for first in (0..FLOWS).step_by(32) {
        for (frame, number) in octets.iter_mut().zip(first..) {
            fill(frame, number);
        }
        now += 64_000;
        let frames = octets
            .each_ref()
            .map(|octets| Frame::ethernet(octets, WallNanos(now)));
        calls += counted(|| analyser.batch(&frames, &mut |_, _| ended += 1)).0;
        if first % 4096 == 0 {
            calls += counted(|| analyser.tick(WallNanos(now), &mut |_, _| ended += 1)).0;
        }
    }
    let counters = analyser.counters();
    assert_eq!(calls, 0);
    assert_eq!((counters.flows, counters.balance()), (u64::from(FLOWS), 0));
    assert_eq!(ended + u64::from(analyser.active()), u64::from(FLOWS));
    println!("analyser/million-flows/allocations: none, {ended} flows ended");
}
