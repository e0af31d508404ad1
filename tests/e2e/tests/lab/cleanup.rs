//! A lab leaves nothing behind, however its process ends.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Direct, Lab, LinkOptions, Relay, RelayConfig, Relayed, Running};
use libtest_mimic::Trial;
use netsonde_e2e::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(
            "cleanup::after_a_panic",
            lab::cleanup::missing,
            after_a_panic,
        ),
        trial(
            "cleanup::leftovers_of_the_dead",
            lab::cleanup::missing,
            leftovers,
        ),
        trial("hosts_reach_each_other", lab::cleanup::missing, reach),
    ];
    for end in ["INT", "TERM", "KILL", "abort", "panic", "exit"] {
        let name = format!("cleanup::after_{end}");
        trials.push(trial(&name, lab::cleanup::missing, move || after(end)));
    }
    trials
}

/// Independent of the lab: what the kernel has mounted.
fn names() -> Result<BTreeSet<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let prefix = "/run/netns/";
    Ok(mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1)?.strip_prefix(prefix))
        .map(str::to_owned)
        .collect())
}

fn names_of(pid: u32) -> Result<BTreeSet<String>> {
    let prefix = format!("ns-{pid}-");
    let all = names()?;
    Ok(all
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .collect())
}

/// Folders of the hosts of a process.
fn files_of(pid: u32) -> Result<Vec<String>> {
    let prefix = format!("netsonde-ns-{pid}-");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            files.push(name);
        }
    }
    Ok(files)
}

fn after_a_panic() -> Result<()> {
    let before = names()?;
    let thread = std::thread::spawn(|| {
        let lab = Lab::new().expect("a lab");
        let net = Direct::new(&lab, LinkOptions::default()).expect("a pair");
        let _sleeper = net.a.spawn("sleep", &["600"]).expect("sleep");
        // Its output is noise in a test that passes.
        std::panic::set_hook(Box::new(|_| {}));
        panic!("on purpose");
    });
    let ended = thread.join();
    let _ = std::panic::take_hook();
    ensure!(ended.is_err(), "it should have panicked");
    ensure!(names()? == before, "left behind: {:?}", names()?);
    Ok(())
}

/// Another process of this very program: it makes a lab with a program inside, says so and
/// ends as it is told.
pub(crate) fn victim(end: &str) -> ! {
    let lab = Lab::new().expect("a lab");
    let net = Relayed::new(&lab, LinkOptions::default(), &RelayConfig::new(1)).expect("a net");
    let sleeper = net.b.spawn("sleep", &["600"]).expect("sleep");
    println!(
        "made {} {}",
        sleeper.pid(),
        net.relay.as_ref().and_then(Relay::pid).unwrap_or(0)
    );
    std::io::stdout().flush().expect("flush");
    match end {
        "abort" => std::process::abort(),
        "panic" => panic!("on purpose"),
        "exit" => std::process::exit(0),
        _ => loop {
            std::thread::park();
        },
    }
}

fn after(end: &'static str) -> Result<()> {
    let own = std::env::current_exe()?;
    let mut command = Command::new(own);
    command.env("NETSONDE_LAB_VICTIM", end);
    let mut victim = Running::start(&mut command)?;
    let pid = victim.pid();
    let made = victim.wait_line("made ", Duration::from_secs(20))?;
    let inside: Vec<String> = made.split(' ').skip(1).map(str::to_owned).collect();
    if ["INT", "TERM", "KILL"].contains(&end) {
        ensure!(
            names_of(pid)?.len() == 3,
            "three hosts: {:?}",
            names_of(pid)?
        );
        victim.signal(end)?;
    }
    let _ = victim.finish(Duration::from_secs(20));
    // The reaper works after the death: a condition to wait for, not a time.
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let names = names_of(pid)?;
        let alive: Vec<_> = inside
            .iter()
            .filter(|pid| Path::new(&format!("/proc/{pid}/ns/net")).exists())
            .collect();
        let files = files_of(pid)?;
        if names.is_empty() && alive.is_empty() && files.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < limit,
            "left behind: {names:?}, processes {alive:?}, files {files:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn leftovers() -> Result<()> {
    let mut child = Command::new("true").spawn()?;
    let dead = format!("ns-{}-0", child.id());
    child.wait()?;
    let add = Command::new("ip").args(["netns", "add", &dead]).status()?;
    ensure!(add.success() && names()?.contains(&dead), "ip netns add");
    // A process that starts afterwards finds it; this one looked before.
    after("exit")?;
    ensure!(!names()?.contains(&dead), "{dead} is still there");
    Ok(())
}

fn reach() -> Result<()> {
    let lab = Lab::new()?;
    for discover_neighbours in [false, true] {
        let options = LinkOptions {
            discover_neighbours,
            ..LinkOptions::default()
        };
        let net = Relayed::new(&lab, options, &RelayConfig::new(1))?;
        for v6 in [false, true] {
            let to = net.b.address(v6).to_string();
            // The largest packet that a link of 9001 bytes carries.
            let size = if v6 { "8953" } else { "8973" };
            let args = [
                "-c", "3", "-i", "0.01", "-w", "5", "-M", "do", "-s", size, &to,
            ];
            net.a.run("ping", &args).context("through a relay")?;
        }
    }
    let net = lab::Routed::new(&lab, 9_001)?;
    for v6 in [false, true] {
        let to = net.b.address(v6).to_string();
        let said = net
            .a
            .run("ping", &["-c", "1", "-w", "5", &to])
            .context("routed")?;
        ensure!(said.contains("ttl=63"), "one router between: {said}");
    }
    Ok(())
}
