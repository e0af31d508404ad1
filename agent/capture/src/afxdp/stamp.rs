//! From the monotonic time in front of a frame to wall time, without a clock read per frame.

use base::{MonoNanos, WallNanos};
use sys::clock::{mono_now, wall_now};

/// How long an offset between the clocks is used: the wall clock is slewed by at most 500 ppm
/// (adjtimex), 5 microseconds in this time, and a step is seen after it.
const REFRESH_NS: u64 = 10_000_000;

/// One reading of both clocks.
#[derive(Copy, Clone, Debug)]
struct Reading {
    /// In the middle of reading.
    mono: u64,
    /// What to add to monotonic time.
    offset: i64,
    /// The true offset is within this of `offset`.
    error_ns: u64,
}

fn read() -> Reading {
    let once = || {
        let before = mono_now().0;
        let wall = wall_now().0;
        let after = mono_now().0;
        let width = after.saturating_sub(before);
        let mono = before + width / 2;
        Reading {
            mono,
            offset: wall.wrapping_sub(mono).cast_signed(),
            error_ns: width / 2 + 1,
        }
    };
    // The narrowest of three: any of them may have been interrupted.
    let mut best = once();
    for _ in 0..2 {
        let again = once();
        if again.error_ns <= best.error_ns {
            best = again;
        }
    }
    best
}

/// The conversion; the frames' own times say when the offset is old.
#[derive(Clone, Debug)]
pub(super) struct Converter {
    now: Option<Reading>,
    read: fn() -> Reading,
}

impl Converter {
    pub(super) const fn new() -> Self {
        Self { now: None, read }
    }

    /// The wall time of a frame.
    #[inline]
    pub(super) fn wall(&mut self, at: MonoNanos) -> WallNanos {
        let reading = match self.now {
            Some(reading) if at.0 < reading.mono + REFRESH_NS => reading,
            before => self.refresh(before),
        };
        WallNanos(at.0).offset(reading.offset)
    }

    #[cold]
    fn refresh(&mut self, before: Option<Reading>) -> Reading {
        let mut fresh = (self.read)();
        // Differences that are the noise of reading would move frames against each other.
        if let Some(before) = before
            && fresh.offset.abs_diff(before.offset) <= fresh.error_ns + before.error_ns
        {
            fresh.offset = before.offset;
        }
        self.now = Some(fresh);
        fresh
    }
}

/// Frames that share a time with the one before them, in a row, while a queue is fast.
pub(super) const SHARED: u32 = 7;
/// Frames over which the rate is measured.
const WINDOW: u32 = 2048;
/// A queue is fast that has a window in this time: 2 million frames a second. Its frames then
/// are 0.5 microseconds apart at most, in runs of the driver of 64.
const FAST_NS: u64 = 1_024_000;

/// Whether frames come so fast that a clock read for each costs more than it tells: it is a
/// fifth of what the kernel does for a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    fast: bool,
    frames: u32,
    since: MonoNanos,
}

impl Pace {
    /// After so many further frames, the last of them of this time: `Some` on a change.
    pub(super) fn saw(&mut self, frames: usize, newest: MonoNanos) -> Option<bool> {
        self.frames = self
            .frames
            .saturating_add(u32::try_from(frames).unwrap_or(u32::MAX));
        if self.frames < WINDOW {
            return None;
        }
        let took = newest.since(self.since).saturating_mul(WINDOW.into());
        let per_window = took / u64::from(self.frames);
        let fast = per_window <= FAST_NS && newest.0 != 0;
        (self.frames, self.since) = (0, newest);
        (std::mem::replace(&mut self.fast, fast) != fast).then_some(fast)
    }

    /// Before sleeping: whether it was fast, which it is no more.
    pub(super) fn rest(&mut self) -> bool {
        self.frames = 0;
        std::mem::take(&mut self.fast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static CLOCKS: Cell<Reading> = const {
            Cell::new(Reading { mono: 0, offset: 0, error_ns: 0 })
        };
        static READS: Cell<u32> = const { Cell::new(0) };
    }

    fn fake() -> Reading {
        READS.set(READS.get() + 1);
        CLOCKS.get()
    }

    fn set(mono: u64, offset: i64) {
        CLOCKS.set(Reading {
            mono,
            offset,
            error_ns: 20,
        });
    }

    #[test]
    fn steps_are_followed_within_the_time_and_noise_is_not() {
        let mut converter = Converter {
            now: None,
            read: fake,
        };
        set(1_000, 5_000_000);
        assert_eq!(converter.wall(MonoNanos(900)), WallNanos(5_000_900));
        // The clocks move, but the reading is fresh: also for a frame from before it.
        set(2_000, 7_000_000);
        for at in [800, 1_000, 999 + REFRESH_NS] {
            assert_eq!(converter.wall(MonoNanos(at)).0, 5_000_000 + at);
        }
        assert_eq!(READS.get(), 1);
        // A step of the wall clock back, seen by the first frame after the time.
        set(1_000 + REFRESH_NS, -3_000);
        let at = MonoNanos(1_000 + REFRESH_NS);
        assert_eq!(converter.wall(at).0, at.0 - 3_000);
        assert_eq!(READS.get(), 2);
        // 40 ns of difference are within the error of two readings.
        set(1_000 + 2 * REFRESH_NS, -3_040);
        let at = MonoNanos(1_000 + 2 * REFRESH_NS);
        assert_eq!(converter.wall(at).0, at.0 - 3_000);
        set(1_000 + 3 * REFRESH_NS, -3_041);
        let at = MonoNanos(1_000 + 3 * REFRESH_NS);
        assert_eq!(converter.wall(at).0, at.0 - 3_041);
    }

    #[test]
    fn a_queue_is_fast_from_two_million_frames_a_second() {
        // Runs of 64 frames, each so many ns after the one before.
        let run = |pace: &mut Pace, at: &mut u64, runs: u32, every_ns: u64| {
            let mut changes = Vec::new();
            for _ in 0..runs {
                *at += every_ns;
                changes.extend(pace.saw(64, MonoNanos(*at)));
            }
            changes
        };
        let (mut pace, mut at) = (Pace::default(), 1_000_000_000);
        // The first window begins at no known time.
        assert_eq!(run(&mut pace, &mut at, 100, 33_000), []);
        assert_eq!(run(&mut pace, &mut at, 100, 31_000), [true]);
        assert_eq!(run(&mut pace, &mut at, 100, 31_000), []);
        assert_eq!(run(&mut pace, &mut at, 100, 33_000), [false]);
        assert_eq!(run(&mut pace, &mut at, 100, 10_000), [true]);
        assert!(pace.rest() && !pace.rest());
        // After a pause the first window is not fast.
        at += 1_000_000;
        assert_eq!(run(&mut pace, &mut at, 32, 10_000), []);
        assert_eq!(run(&mut pace, &mut at, 32, 10_000), [true]);
        // A driver without times.
        let mut pace = Pace::default();
        for _ in 0..1000 {
            assert_eq!(pace.saw(256, MonoNanos(0)), None);
        }
    }

    #[test]
    fn now_is_now() {
        let mut converter = Converter::new();
        for _ in 0..100 {
            let before = wall_now();
            let converted = converter.wall(mono_now());
            let after = wall_now();
            // A reading may be off by half its width, here 100 microseconds when interrupted.
            let margin = 1_000_000;
            assert!(converted.delta(before) >= -margin && after.delta(converted) >= -margin);
        }
    }
}
