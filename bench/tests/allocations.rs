//! What the hot loops allocate, by a counting global allocator: nothing, but for the loops
//! that say so. `cargo test -p netsonde-bench -- --nocapture` prints the table.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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
