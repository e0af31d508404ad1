//! How the kernel schedules this thread, and what the process costs.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;

use crate::call::{check, failed};

/// Puts this thread under `SCHED_FIFO`; its children fall back to normal.
///
/// # Errors
/// Without `CAP_SYS_NICE` and without `RLIMIT_RTPRIO`.
pub fn set_fifo(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is readable through the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    check(result).map(drop).map_err(|error| {
        failed(
            "sched_setscheduler",
            format!("SCHED_FIFO priority {priority} (CAP_SYS_NICE)"),
            error,
        )
    })
}

/// As [`set_fifo`], but the threads that this one starts inherit it: each may then confirm
/// it with [`set_fifo`] of the same priority after capabilities are dropped. Take it back
/// with [`set_normal`] as soon as the thread that needs it is started.
///
/// # Errors
/// Without `CAP_SYS_NICE` and without `RLIMIT_RTPRIO`.
pub fn set_fifo_for_children(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: `parameters` is readable through the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    check(result).map(drop).map_err(|error| {
        failed(
            "sched_setscheduler",
            format!("SCHED_FIFO priority {priority} (CAP_SYS_NICE)"),
            error,
        )
    })
}

/// Puts this thread back under the normal scheduler.
///
/// # Errors
/// Never in practice.
pub fn set_normal() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is readable through the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    check(result)
        .map(drop)
        .map_err(|error| failed("sched_setscheduler", "SCHED_OTHER", error))
}

/// How late this thread's timers may fire to be batched with others; the default is 50 us.
///
/// # Errors
/// Never in practice.
pub fn set_timer_slack(ns: u64) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, ns.max(1), 0, 0, 0) };
    check(result)
        .map(drop)
        .map_err(|error| failed("PR_SET_TIMERSLACK", format!("{ns} ns"), error))
}

/// Binds this thread to one CPU.
///
/// # Errors
/// When there is no such CPU, or it is not allowed.
pub fn pin(cpu: usize) -> io::Result<()> {
    let object = || format!("CPU {cpu}");
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        let error = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(failed("sched_setaffinity", object(), error));
    }
    // SAFETY: zeroed, and all zero is the empty set.
    let set = unsafe { set.assume_init_mut() };
    // SAFETY: `cpu` is inside the set, as checked above.
    unsafe { libc::CPU_SET(cpu, set) };
    // SAFETY: `set` is readable for its size; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    check(result)
        .map(drop)
        .map_err(|error| failed("sched_setaffinity", object(), error))
}

/// CPU time that all threads of the process have used, in nanoseconds.
#[must_use]
pub fn process_cpu_time() -> u64 {
    let mut time = crate::clock::timespec(0);
    // SAFETY: `time` is writable through the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Names this thread (the process, if it is the main thread); cut at 15 bytes.
///
/// # Errors
/// When the name holds a NUL.
pub fn set_thread_name(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: `name` ends in NUL and lives through the call.
    let result = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
    check(result)
        .map(drop)
        .map_err(|error| failed("PR_SET_NAME", name.to_string_lossy(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn status(field: &str) -> String {
        let text = fs::read_to_string("/proc/thread-self/status").expect("status");
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.expect("the field").trim().to_owned()
    }

    /// Each in a thread of its own, which takes its settings with it.
    fn in_thread(body: impl FnOnce() + Send + 'static) {
        std::thread::spawn(body).join().expect("the thread");
    }

    #[test]
    fn names_and_cpus_are_those_of_proc() {
        in_thread(|| {
            set_thread_name("probe-thread-with-a-long-name").expect("name");
            assert_eq!(status("Name:"), "probe-thread-wi");
            assert!(set_thread_name("a\0b").is_err());
            let allowed = status("Cpus_allowed_list:");
            let first = allowed.split(['-', ',']).next().expect("a CPU");
            pin(first.parse().expect("a number")).expect("pin");
            assert_eq!(status("Cpus_allowed_list:"), first);
            for cpu in [1023, 1024, usize::MAX] {
                let error = pin(cpu).expect_err("no such CPU").to_string();
                assert!(error.contains(&format!("CPU {cpu}")), "{error}");
            }
        });
    }

    #[test]
    fn slack_is_set_for_this_thread() {
        in_thread(|| {
            set_timer_slack(1).expect("slack");
            // SAFETY: no pointers are passed.
            assert_eq!(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }, 1);
        });
    }

    #[test]
    fn fifo_is_obtained_or_says_which_capability_is_missing() {
        in_thread(|| match set_fifo(1) {
            Ok(()) => {
                // SAFETY: no pointers are passed; 0 is this thread.
                let policy = unsafe { libc::sched_getscheduler(0) };
                assert_eq!(policy, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK);
            }
            Err(error) => assert!(error.to_string().contains("CAP_SYS_NICE"), "{error}"),
        });
        assert!(set_fifo(1000).is_err());
    }

    #[test]
    fn cpu_time_passes_while_it_is_used() {
        let start = process_cpu_time();
        let mut last = start;
        while last < start + 1_000_000 {
            let now = process_cpu_time();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        // The oracle is getrusage, in microseconds; wall time would be far ahead of it.
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` is writable through the call.
        assert_eq!(unsafe { libc::getrusage(0, usage.as_mut_ptr()) }, 0);
        // SAFETY: filled by the call, and all zero before.
        let usage = unsafe { usage.assume_init() };
        let micros = [usage.ru_utime, usage.ru_stime]
            .map(|time| (time.tv_sec * 1_000_000 + time.tv_usec).cast_unsigned())
            .iter()
            .sum::<u64>();
        let after = process_cpu_time();
        assert!((last / 1000 - 2..=after / 1000 + 2).contains(&micros));
    }
}
