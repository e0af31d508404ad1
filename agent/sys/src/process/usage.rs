//! What a child used, by the kernel's own account.

use std::io;

use super::{Exit, Pid};
use crate::call::{check, failed};

/// Processor time and memory of a process that ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// In user mode, its children's that it waited for included.
    pub user_ns: u64,
    /// In the kernel, likewise.
    pub system_ns: u64,
    /// The most memory that was resident, of it or any of these children. Before its `exec`
    /// a child counts its parent's: measure from a small process.
    pub peak_rss_bytes: u64,
}

fn ns(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_usec).unwrap_or(0) * 1_000
}

/// Waits for a child to end: how, and what it used. The child must not be waited for by
/// anybody else.
///
/// # Errors
/// When it is no child of ours.
pub fn wait_with_usage(child: Pid) -> io::Result<(Exit, Usage)> {
    let mut status = 0;
    // SAFETY: a structure of integers, for which zero is a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `status` and `used` are writable through the call.
        let got = unsafe { libc::wait4(child.0, &raw mut status, 0, &raw mut used) };
        match check(got) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("wait4", format!("process {child}"), error)),
        }
    }
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    };
    let usage = Usage {
        user_ns: ns(used.ru_utime),
        system_ns: ns(used.ru_stime),
        // getrusage(2): kilobytes.
        peak_rss_bytes: u64::try_from(used.ru_maxrss).unwrap_or(0) * 1_024,
    };
    Ok((exit, usage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is waited for by its number")]
    fn a_child_that_works_has_used_time_and_memory() {
        // 64 MiB of shell variable and some arithmetic.
        let script = "x=$(head -c 67108864 /dev/zero | tr '\\0' x); i=0; \
                      while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 3";
        let child = Command::new("sh").args(["-c", script]).spawn();
        let child = child.expect("a shell");
        let pid = Pid(child.id().cast_signed());
        let (exit, usage) = wait_with_usage(pid).expect("our child");
        assert_eq!(exit, Exit::Code(3));
        assert!(usage.user_ns > 1_000_000, "{usage:?}");
        assert!(usage.peak_rss_bytes > 64 << 20, "{usage:?}");
        assert!(wait_with_usage(pid).is_err(), "it is gone");
    }
}
