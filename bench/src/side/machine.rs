//! What machine this is, and who else uses its processors.
//!
//! What others use is the sum over all processes but ours, not `/proc/stat`'s total minus
//! ours: the total is sampled at the tick, which beats with a schedule of 1 ms, while the
//! times of processes are exact. Time of processes that ended is in their parents', so the
//! sum keeps it. Before a run, when nothing of ours runs, `/proc/stat` counts as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// More of one core than this, used by others, is a busy machine.
pub const BUSY: f64 = 0.15;
/// How long the machine is watched before anything runs.
pub const WATCHED: Duration = Duration::from_secs(5);
/// `USER_HZ`, the unit of times in `/proc` on every Linux that user space sees.
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine as a report names it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// How many are online.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the system.
    pub system: String,
    /// Whether a hypervisor is below.
    pub virtual_machine: bool,
}

fn value_of(text: &str, key: &str, separator: char) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(separator)?;
        (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    })
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let unknown = || "unknown".to_owned();
        Self {
            cpu: value_of(&cpu, "model name", ':').unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: value_of(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_else(unknown),
            virtual_machine: value_of(&cpu, "flags", ':')
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }
}

/// One process at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Process {
    name: String,
    parent: u32,
    /// Its own.
    ticks: u64,
    /// Of children that it has waited for, with theirs.
    children_ticks: u64,
}

/// All processes at one moment.
#[derive(Clone, Debug)]
pub struct CpuUse {
    at: Instant,
    processes: BTreeMap<u32, Process>,
    /// Of all processors: all but idle and waiting for disks; taken by the hypervisor.
    busy: u64,
    stolen: u64,
}

/// What others used over a while, as shares of one core.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Others {
    /// By processes that are not ours.
    pub processes_ratio: f64,
    /// By the hypervisor for other guests.
    pub stolen_ratio: f64,
    /// By ourselves and what we started.
    pub own_ratio: f64,
    /// By all, as `/proc/stat` says.
    pub machine_ratio: f64,
    /// The process that used most, with its share.
    pub most: Option<(String, f64)>,
}

impl Others {
    /// Whether measurements beside this are worth nothing.
    #[must_use]
    pub fn disturb(&self) -> bool {
        self.processes_ratio + self.stolen_ratio > BUSY
    }

    /// For people: `12 % of a core (most by rustc: 9 %), 1 % stolen`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let most = self
            .most
            .as_ref()
            .map(|(name, share)| format!(", most by {name}: {}", percent(*share)));
        format!(
            "others used {} of a core{}; {} stolen",
            percent(self.processes_ratio),
            most.unwrap_or_default(),
            percent(self.stolen_ratio)
        )
    }
}

/// Fields of `/proc/PID/stat` (proc(5)); the name may hold blanks and parentheses.
fn process(stat: &str) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    // Field 3, the state, is the first of `tail`.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        name: name.to_owned(),
        parent: u32::try_from(number(4)?).ok()?,
        ticks: number(14)? + number(15)?,
        children_ticks: number(16)? + number(17)?,
    })
}

/// Busy and stolen ticks of `/proc/stat`'s first line.
fn machine(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // user nice system idle iowait irq softirq steal; guests are within user.
    let sum: u64 = fields.iter().take(8).sum();
    let (idle, waiting, stolen) = (fields.get(3)?, fields.get(4)?, fields.get(7)?);
    Some((sum - idle - waiting, *stolen))
}

impl CpuUse {
    /// Now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let (busy, stolen) = machine(&stat).context("/proc/stat has no line for all CPUs")?;
        let mut processes = BTreeMap::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            // A process may end while we look.
            let stat = std::fs::read_to_string(entry.path().join("stat"));
            if let Some(process) = stat.ok().as_deref().and_then(process) {
                processes.insert(pid, process);
            }
        }
        Ok(Self {
            at: Instant::now(),
            processes,
            busy,
            stolen,
        })
    }

    /// Whether `pid` is us or was started by us.
    fn is_own(&self, pid: u32) -> bool {
        let mut pid = pid;
        loop {
            if pid == std::process::id() {
                return true;
            }
            match self.processes.get(&pid) {
                Some(process) if process.parent != 0 && process.parent != pid => {
                    pid = process.parent;
                }
                _ => return false,
            }
        }
    }

    /// Threads of the kernel work for whoever makes the traffic.
    fn is_kernel(&self, pid: u32) -> bool {
        const KTHREADD: u32 = 2;
        let parent = self.processes.get(&pid).map(|process| process.parent);
        let is_kthreadd = |pid: u32| {
            let process = self.processes.get(&pid);
            pid == KTHREADD && process.is_some_and(|process| process.name == "kthreadd")
        };
        is_kthreadd(pid) || parent.is_some_and(is_kthreadd)
    }

    fn sum(&self, of: impl Fn(u32) -> bool) -> u64 {
        let wanted = self.processes.iter().filter(|(pid, _)| of(**pid));
        wanted
            .map(|(_, process)| process.ticks + process.children_ticks)
            .sum()
    }

    /// What others used from `earlier` to now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Others {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64();
        let share = |ticks: u64| ticks as f64 / TICKS_PER_SECOND / seconds.max(1e-3);
        let others = |state: &Self| state.sum(|pid| !state.is_own(pid) && !state.is_kernel(pid));
        let own = |state: &Self| state.sum(|pid| state.is_own(pid));
        let most = self
            .processes
            .iter()
            .filter(|(pid, _)| !self.is_own(**pid) && !self.is_kernel(**pid))
            .map(|(pid, process)| {
                let before = earlier.processes.get(pid).map_or(0, |before| before.ticks);
                (process.ticks.saturating_sub(before), &process.name)
            })
            .max()
            .filter(|(ticks, _)| *ticks > 0);
        Others {
            processes_ratio: share(others(self).saturating_sub(others(earlier))),
            stolen_ratio: share(self.stolen.saturating_sub(earlier.stolen)),
            own_ratio: share(own(self).saturating_sub(own(earlier))),
            machine_ratio: share(self.busy.saturating_sub(earlier.busy)),
            most: most.map(|(ticks, name)| (name.clone(), share(ticks))),
        }
    }
}

/// Watches for [`WATCHED`] while nothing of ours runs.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn watch() -> Result<Others> {
    let before = CpuUse::now()?;
    std::thread::sleep(WATCHED);
    let mut others = CpuUse::now()?.since(&before);
    // Nothing of ours ran, so the total is all of others, also of those that we cannot see.
    let unseen = others.machine_ratio - others.own_ratio - others.stolen_ratio;
    others.processes_ratio = others.processes_ratio.max(unseen);
    Ok(others)
}

/// Fails on a busy machine.
///
/// # Errors
/// When others use more than [`BUSY`]; says who.
pub fn require_idle() -> Result<Others> {
    let others = watch()?;
    ensure!(
        !others.disturb(),
        "the machine is busy: {} over {} s (at most {:.0} % are allowed): stop what runs and try again",
        others.in_words(),
        WATCHED.as_secs(),
        BUSY * 100.0
    );
    Ok(others)
}

/// The first line that a program says of its version.
#[must_use]
pub fn version(program: &Path, argument: &str) -> String {
    let output = std::process::Command::new(program).arg(argument).output();
    let Ok(output) = output else {
        return "missing".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_odd_name_is_read() {
        let stat = "77 (a) b (c) S 12 77 77 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 99 1 1";
        let wanted = Process {
            name: "a) b (c".to_owned(),
            parent: 12,
            ticks: 120,
            children_ticks: 7,
        };
        assert_eq!(process(stat), Some(wanted));
        assert_eq!(process("77 (short) S 1"), None);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  10 1 5 1000 50 2 3 4 6 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(machine(stat), Some((25, 4)));
    }

    #[test]
    fn what_we_started_is_ours_and_what_ended_is_not_lost() {
        let own = std::process::id();
        let state = |seconds: u64, list: &[(u32, u32, u64, u64)]| CpuUse {
            at: Instant::now() + Duration::from_secs(seconds),
            processes: list
                .iter()
                .map(|(pid, parent, ticks, children_ticks)| {
                    let name = if *pid == 2 { "kthreadd" } else { "x" };
                    let process = Process {
                        name: name.to_owned(),
                        parent: *parent,
                        ticks: *ticks,
                        children_ticks: *children_ticks,
                    };
                    (*pid, process)
                })
                .collect(),
            busy: 0,
            stolen: 0,
        };
        let (child, other, others_child) = (own + 1, own + 2, own + 3);
        let before = state(
            0,
            &[
                (1, 0, 5, 0),
                (2, 0, 0, 0),
                (3, 2, 10, 0),
                (own, 1, 1, 0),
                (other, 1, 50, 0),
                (others_child, other, 30, 0),
            ],
        );
        // The other's child ended after 20 more ticks and is in its parent's time.
        let after = state(
            10,
            &[
                (1, 0, 5, 0),
                (2, 0, 0, 0),
                (3, 2, 900, 0),
                (own, 1, 101, 0),
                (child, own, 400, 0),
                (other, 1, 50, 50),
            ],
        );
        let others = after.since(&before);
        let near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-3;
        assert!(near(others.processes_ratio, 0.02), "{others:?}");
        assert!(near(others.own_ratio, 0.5), "{others:?}");
        assert!(!others.disturb());
        // The other itself did nothing: nobody is named.
        assert_eq!(others.most, None);
    }
}
