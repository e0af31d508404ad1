//! What the agent itself uses, from /proc.

use record::snapshot::ProcessStats;

/// What all processes of the agent use; 0 where /proc does not say.
pub(super) fn process(opener: Option<sys::process::Pid>) -> ProcessStats {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let count = |path: &str| std::fs::read_dir(path).map_or(0, |entries| entries.count() as u64);
    let resident = |text: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    let child = opener.map_or(0, |pid| resident(&read(&format!("/proc/{pid}/status"))));
    let max_fds = read("/proc/self/limits")
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
        .unwrap_or(0);
    ProcessStats {
        resident_bytes: sys::process::rss_bytes().unwrap_or(0) + child,
        cpu_ns: sys::sched::process_cpu_time(),
        open_fds: count("/proc/self/fd"),
        max_fds,
        threads: count("/proc/self/task"),
    }
}
