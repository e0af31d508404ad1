//! Nothing of a lab outlives its process.
//!
//! A host removes itself when dropped; that covers the end of a test and a panic. For every
//! other end (Ctrl-C, SIGTERM, SIGKILL, `abort`) a reaper waits: a shell that reads from a
//! pipe whose other end only this process holds, deaf to the signals that a terminal sends
//! to all. When the pipe closes it kills what still runs in this process's namespaces and
//! removes them and their files. What a killed reaper left behind goes at the next start.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use sys::netns;

/// `$1` is the prefix of the names of one process, `$2` that of its folders.
const REAPER: &str = r#"
trap '' HUP INT TERM QUIT
read -r _
for mount in /run/netns/"$1"*; do
    [ -e "$mount" ] || continue
    name=${mount##*/}
    inside=$(ip netns pids "$name")
    [ -z "$inside" ] || kill -KILL $inside
    ip netns delete "$name"
done
rm -rf -- "$2"*
"#;

static REAPER_PROCESS: OnceLock<Result<Child, String>> = OnceLock::new();

/// Starts the reaper of this process, once, and removes what dead processes left.
///
/// # Errors
/// When no process can be started.
pub fn prepare() -> Result<()> {
    let started = REAPER_PROCESS.get_or_init(|| {
        for name in leftovers() {
            kill_inside(&name);
            let _ = std::fs::remove_dir_all(folder_of(&name));
        }
        let _ = netns::remove_leftovers();
        start_reaper().map_err(|error| format!("{error:#}"))
    });
    match started {
        Ok(_) => Ok(()),
        Err(text) => anyhow::bail!("{text}"),
    }
}

fn start_reaper() -> Result<Child> {
    use std::os::unix::process::CommandExt;
    Command::new("sh")
        .args(["-c", REAPER, "netsonde-lab-reaper"])
        .arg(format!("ns-{}-", std::process::id()))
        .arg(folder_of(&format!("ns-{}-", std::process::id())))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Of its own group, so that Ctrl-C at a terminal does not reach it.
        .process_group(0)
        .spawn()
        .context("start the reaper")
}

/// Where files of the host with this namespace lie.
pub(crate) fn folder_of(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("netsonde-{name}"))
}

/// Names whose makers are dead.
fn leftovers() -> Vec<String> {
    let entries = std::fs::read_dir(netns::DIRECTORY);
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let maker = netns::maker(name);
            maker.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
        })
        .collect()
}

/// Ends every process that still runs in a namespace of ours.
pub fn kill_inside(name: &str) {
    let Ok(listed) = Command::new("ip").args(["netns", "pids", name]).output() else {
        return;
    };
    let own = std::process::id().to_string();
    let pids = String::from_utf8_lossy(&listed.stdout).into_owned();
    let pids: Vec<_> = pids.split_whitespace().filter(|pid| *pid != own).collect();
    if !pids.is_empty() {
        // `kill` of the shell: the one that is always there.
        let _ = Command::new("sh")
            .args(["-c", "kill -KILL \"$@\"", "sh"])
            .args(pids)
            .stderr(Stdio::null())
            .status();
    }
}

/// What a lab needs and this machine or user does not have, in one line; `None` if all is
/// there. For harnesses that report a test as ignored.
#[must_use]
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(look_for_missing).clone()
}

fn look_for_missing() -> Option<String> {
    for (tool, package) in [("ip", "iproute2"), ("ethtool", "ethtool")] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()));
        if !found {
            return Some(format!(
                "`{tool}` is not installed (Debian package {package})"
            ));
        }
    }
    match netns::Namespace::create(&netns::unique_name()) {
        Ok(_) => None,
        Err(error) => Some(format!("no network namespaces (root needed): {error}")),
    }
}

/// Runs a program to its end and says what it said if it failed.
pub(crate) fn checked(command: &mut Command, input: Option<&str>) -> Result<String> {
    use std::io::Write;
    command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        input
            .map(|text| format!(" (input: {text})"))
            .unwrap_or_default(),
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
