//! Children, limits and memory of this process.

mod usage;

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::call::{check, check_long, failed};
use crate::signal::Signal;

pub use usage::{Usage, wait_with_usage};

/// A process.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pid(pub i32);

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How a child ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The exit code of a child whose function panicked.
pub const PANICKED: i32 = 101;

/// Forks; the child runs `body` and exits with its result, the parent gets its number.
///
/// Only for a process with one thread: in the child no other thread exists any more, and a
/// lock that one of them held stays locked. The child flushes nothing of the parent's.
///
/// # Errors
/// As fork(2).
pub fn fork_child(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child runs ordinary code, which is sound in a single-threaded process, as
    // documented; with threads, glibc keeps its own locks usable after fork.
    let pid = unsafe { libc::fork() };
    let pid = check(pid).map_err(|error| failed("fork", "this process", error))?;
    if pid > 0 {
        return Ok(Pid(pid));
    }
    // Nothing may unwind into the parent's frames a second time.
    let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
    // SAFETY: ends the child without running the parent's exit handlers.
    unsafe { libc::_exit(code) }
}

/// This process gets `signal` when the thread that forked it ends. Look at
/// [`parent`] afterwards: it may have ended before.
///
/// # Errors
/// Never in practice.
pub fn set_parent_death_signal(signal: Signal) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number(), 0, 0, 0) };
    check(result)
        .map(drop)
        .map_err(|error| failed("PR_SET_PDEATHSIG", "this process", error))
}

/// The parent.
#[must_use]
pub fn parent() -> Pid {
    Pid(std::os::unix::process::parent_id().cast_signed())
}

/// Names this thread, which in `main` names the process; cut at 15 bytes.
///
/// # Errors
/// When the name holds a NUL.
pub fn set_name(name: &str) -> io::Result<()> {
    crate::sched::set_thread_name(name)
}

/// Waits for a child to end.
///
/// # Errors
/// When it is no child of ours.
pub fn wait(child: Pid) -> io::Result<Exit> {
    loop {
        if let Some(exit) = wait_with(child, 0)? {
            return Ok(exit);
        }
    }
}

/// How a child ended, `None` while it runs.
///
/// # Errors
/// When it is no child of ours.
pub fn try_wait(child: Pid) -> io::Result<Option<Exit>> {
    wait_with(child, libc::WNOHANG)
}

fn wait_with(child: Pid, flags: i32) -> io::Result<Option<Exit>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable through the call.
        let got = unsafe { libc::waitpid(child.0, &raw mut status, flags) };
        match check(got) {
            Ok(0) => return Ok(None),
            Ok(_) if libc::WIFEXITED(status) => {
                return Ok(Some(Exit::Code(libc::WEXITSTATUS(status))));
            }
            Ok(_) if libc::WIFSIGNALED(status) => {
                return Ok(Some(Exit::Signal(libc::WTERMSIG(status))));
            }
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("waitpid", format!("process {child}"), error)),
        }
    }
}

/// Sends a signal to one process (never to a group).
///
/// # Errors
/// When there is no such process, or it is not ours to signal.
pub fn kill(process: Pid, signal: Signal) -> io::Result<()> {
    let object = || format!("process {process}");
    if process.0 <= 0 {
        // 0, -1 and below mean groups and everybody.
        let error = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(failed("kill", object(), error));
    }
    // SAFETY: no pointers are passed.
    let result = unsafe { libc::kill(process.0, signal.number()) };
    check(result)
        .map(drop)
        .map_err(|error| failed("kill", object(), error))
}

/// A descriptor of a process: readable once it has ended.
///
/// # Errors
/// When there is no such process.
pub fn pidfd(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.0, 0) };
    let fd = check_long(fd)
        .map_err(|error| failed("pidfd_open", format!("process {process}"), error))?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: a new descriptor that nobody else owns; the kernel sets close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Raises the number of files that may be open to the hard limit; returns it.
///
/// # Errors
/// Never in practice.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable through the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    check(result).map_err(|error| failed("getrlimit", "RLIMIT_NOFILE", error))?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is readable through the call.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        check(result).map_err(|error| failed("setrlimit", "RLIMIT_NOFILE", error))?;
    }
    Ok(limit.rlim_cur)
}

/// Memory of this process that is resident, in bytes.
///
/// # Errors
/// When /proc is not there.
pub fn rss_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")
        .map_err(|error| failed("read", "/proc/self/statm", error))?;
    let pages: Option<u64> = text
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    // SAFETY: no pointers are passed.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages
        .zip(u64::try_from(page_bytes).ok())
        .map(|(pages, page_bytes)| pages * page_bytes)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests;
