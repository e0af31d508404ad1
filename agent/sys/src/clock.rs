//! The two clocks, and what the kernel knows of the wall clock's quality.
//!
//! Owns: reading and waiting. Never sets a clock. Kernel stamps are of the wall clock.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

pub use base::ClockState;
use base::{MonoNanos, WallNanos};

use crate::call::{check, check_size, failed};

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Cannot fail with these clocks and a valid pointer; if it did, time stays 0.
    // SAFETY: `time` is writable through the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Now, by `CLOCK_MONOTONIC`.
#[must_use]
pub fn mono_now() -> MonoNanos {
    MonoNanos(read_clock(libc::CLOCK_MONOTONIC))
}

/// Now, by `CLOCK_REALTIME`.
#[must_use]
pub fn wall_now() -> WallNanos {
    WallNanos(read_clock(libc::CLOCK_REALTIME))
}

/// Sleeps until a point of the monotonic clock; signals do not end it early. Returns at
/// once if the point has passed.
pub fn sleep_until(deadline: MonoNanos) {
    let time = timespec(deadline.0);
    loop {
        // SAFETY: `time` is readable through the call, and no remainder is asked for.
        let result = unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &raw const time,
                ptr::null_mut(),
            )
        };
        if result != libc::EINTR {
            return;
        }
    }
}

pub(crate) fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000).cast_signed(),
        tv_nsec: (ns % 1_000_000_000).cast_signed(),
    }
}

/// Asks the kernel about the wall clock; changes nothing.
///
/// # Errors
/// When the call is forbidden, as by some seccomp filters.
pub fn clock_state() -> io::Result<ClockState> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: zeroed modes make it a pure query that fills the struct.
    let result = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    let clock = check(result).map_err(|error| failed("adjtimex", "of the wall clock", error))?;
    // SAFETY: zeroed before, and all zero is a valid timex.
    let state = unsafe { state.assume_init() };
    let unsynchronised = state.status & libc::STA_UNSYNC != 0 || clock == libc::TIME_ERROR;
    Ok(ClockState {
        synchronised: !unsynchronised,
        // Microseconds.
        error_ns: u64::try_from(state.maxerror)
            .unwrap_or(0)
            .saturating_mul(1000),
        tai_offset_s: state.tai,
    })
}

/// Tells when the wall clock was set (not slewed): a timer that the kernel cancels then.
#[derive(Debug)]
pub struct StepWatch {
    fd: OwnedFd,
}

impl StepWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// When the kernel has no descriptor to give.
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, flags) };
        let fd = check(fd).map_err(|error| failed("timerfd_create", "CLOCK_REALTIME", error))?;
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let watch = Self { fd };
        watch.arm()?;
        Ok(watch)
    }

    fn arm(&self) -> io::Result<()> {
        let never = libc::itimerspec {
            it_interval: timespec(0),
            it_value: libc::timespec {
                tv_sec: libc::time_t::MAX,
                tv_nsec: 0,
            },
        };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: `never` is readable through the call, and no old value is asked for.
        let result = unsafe {
            libc::timerfd_settime(
                self.fd.as_raw_fd(),
                flags,
                &raw const never,
                ptr::null_mut(),
            )
        };
        match check(result) {
            // The clock was set in this moment; the timer is armed all the same.
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
            Err(error) => Err(failed("timerfd_settime", "CLOCK_REALTIME", error)),
            Ok(_) => Ok(()),
        }
    }

    /// Whether the clock was set since the last call; never blocks. Readable in a poller
    /// exactly when this would say true.
    pub fn stepped(&mut self) -> bool {
        let mut expirations = 0_u64;
        // SAFETY: `expirations` is writable for the eight bytes asked for.
        let got = unsafe {
            libc::read(
                self.fd.as_raw_fd(),
                (&raw mut expirations).cast(),
                size_of::<u64>(),
            )
        };
        let stepped =
            matches!(check_size(got), Err(error) if error.raw_os_error() == Some(libc::ECANCELED));
        if stepped {
            // It stays armed after a cancelled read; a failure here changes nothing.
            let _ = self.arm();
        }
        stepped
    }
}

impl AsFd for StepWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Instant, SystemTime};

    #[test]
    fn the_clocks_are_those_of_std() {
        let before = SystemTime::now();
        let ours = wall_now();
        let after = SystemTime::now();
        let ns = |at: SystemTime| {
            at.duration_since(SystemTime::UNIX_EPOCH)
                .expect("after 1970")
                .as_nanos()
        };
        assert!(ns(before) <= u128::from(ours.0) && u128::from(ours.0) <= ns(after));
    }

    #[test]
    fn sleeping_ends_at_the_deadline_and_not_before() {
        let began = Instant::now();
        let start = mono_now();
        sleep_until(start.plus(3_000_000));
        assert!(mono_now().since(start) >= 3_000_000);
        assert!(began.elapsed().as_nanos() >= 3_000_000);
        let late = mono_now();
        sleep_until(start);
        assert!(mono_now().since(late) < 1_000_000_000);
    }

    #[test]
    fn the_state_of_the_clock_is_told() {
        let state = clock_state().expect("adjtimex");
        // maxerror grows to 16 s and stays there while nothing synchronises.
        assert!(state.error_ns <= 16_000_000_000, "{state:?}");
        assert!(state.synchronised || state.error_ns > 0, "{state:?}");
        assert!((0..100).contains(&state.tai_offset_s), "{state:?}");
    }

    #[test]
    fn no_step_is_seen_where_none_was() {
        let mut watch = StepWatch::new().expect("a timer");
        assert!(!watch.stepped());
        sleep_until(mono_now().plus(2_000_000));
        assert!(!watch.stepped());
    }
}
