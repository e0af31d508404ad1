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
