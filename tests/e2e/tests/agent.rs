//! The agent as a user runs it: the real binary on loopback, its signals, its HTTP, its
//! exit codes, and what `/proc` says about its privileges.

#[path = "agent/capture.rs"]
mod capture;
#[path = "agent/device.rs"]
mod device;
#[path = "agent/privileges.rs"]
mod privileges;
#[path = "agent/rig.rs"]
mod rig;
#[path = "agent/stop.rs"]
mod stop;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use netsonde_e2e as e2e;
use rig::{Agent, Place, failure, run, until};

const SENT: &str = "netsonde_probe_sent_packets_total{probe=\"self\"";

/// A test and what it is called.
type Named = (&'static str, fn() -> Result<()>);

fn main() {
    let binary = || e2e::netsonde().err().map(|error| error.to_string());
    let plain: [Named; 13] = [
        ("measures_and_exports", measures_and_exports),
        (
            "a_reload_keeps_what_did_not_change",
            a_reload_keeps_what_did_not_change,
        ),
        ("a_bad_reload_changes_nothing", a_bad_reload_changes_nothing),
        (
            "the_last_valid_configuration_starts",
            the_last_valid_configuration_starts,
        ),
        (
            "a_port_in_use_leaves_nothing_behind",
            a_port_in_use_leaves_nothing_behind,
        ),
        (
            "a_wrong_configuration_is_one_line",
            a_wrong_configuration_is_one_line,
        ),
        (
            "what_check_prints_is_a_configuration",
            what_check_prints_is_a_configuration,
        ),
        ("status_without_an_agent", status_without_an_agent),
        (
            "a_name_that_does_not_resolve_is_a_problem",
            a_name_that_does_not_resolve_is_a_problem,
        ),
        ("systemd_is_told", systemd_is_told),
        ("records_hold_every_probe", records_hold_every_probe),
        (
            "the_installed_configuration_is_silent",
            the_installed_configuration_is_silent,
        ),
        ("memory_is_what_check_says", memory_is_what_check_says),
    ];
    let mut trials: Vec<Trial> = plain
        .into_iter()
        .map(|(name, test)| e2e::trial(name, binary, test))
        .collect();
    trials.extend(privileges::trials());
    trials.extend(device::trials());
    trials.extend(capture::trials());
    trials.extend(stop::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn measures_and_exports() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure(&place.reflector_and_probe())?;
    let agent = Agent::start(&config, &[], &[])?;
    agent.until_metric("netsonde_probe_up{probe=\"self\"", |up| up == 1.0)?;
    agent.until_metric("netsonde_probe_rtt_seconds_count{probe=\"self\"", |count| {
        count >= 10.0
    })?;
    for (path, code) in [("/healthz", 200), ("/readyz", 200), ("/nothing", 404)] {
        ensure!(agent.get(path)?.0 == code, "{path}: {:?}", agent.get(path)?);
    }
    let (code, text) = agent.ask(&[])?;
    ensure!(code == 0 && text.starts_with("healthy: "), "{code}: {text}");
    ensure!(text.contains(&place.address), "{text}");
    let (code, json) = agent.ask(&["--json"])?;
    let document: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(code == 0 && document["schema"] == 1, "{document}");
    let target = &document["targets"][0];
    ensure!(
        target["lost"] == 0 && target["protocol"] == "stamp",
        "{target}"
    );
    let reflected = document["reflector"]["reflected"].as_u64();
    ensure!(reflected >= target["received"].as_u64(), "{document}");
    // A stopped agent says nothing more and ends well.
    let status = agent.stop()?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

fn since(agent: &Agent, index: usize) -> Result<String> {
    let document = agent.status()?;
    let since = document["targets"][index]["since"].as_str();
    Ok(since.context("no such target")?.to_owned())
}

fn a_reload_keeps_what_did_not_change() -> Result<()> {
    let place = Place::new()?;
    let first = place.reflector_and_probe();
    let config = place.configure(&first)?;
    let mut agent = Agent::start(&config, &[], &[])?;
    let before = agent.until_metric(SENT, |sent| sent >= 10.0)?;
    let born = since(&agent, 0)?;
    let other = format!(
        "[[probe]]\nname = \"other\"\ntargets = [\"{}\"]\nprotocol = \"stamp\"\nport = 18620\n",
        place.address
    );
    std::fs::write(place.path("conf.d/10.toml"), &other)?;
    agent.signal("HUP")?;
    let line = agent.logged("config_reloaded")?;
    ensure!(
        line.contains("1 targets added, 0 removed, 0 relabelled, 1 kept"),
        "{line}"
    );
    agent.until_metric("netsonde_probe_up{probe=\"other\"", |up| up == 1.0)?;
    let after = agent.until_metric(SENT, |sent| sent > before)?;
    ensure!(since(&agent, 0)? == born, "the unchanged target began anew");
    // Another label: the same series, the same session.
    place.configure(&first.replace("interval", "labels = { path = \"dx\" }\ninterval"))?;
    agent.signal("HUP")?;
    let line = agent.logged("config_reloaded")?;
    ensure!(
        line.contains("0 targets added, 0 removed, 1 relabelled, 1 kept"),
        "{line}"
    );
    agent.until_metric(SENT, |sent| sent > after)?;
    let (_, text) = agent.get("/metrics")?;
    ensure!(text.contains("path=\"dx\""), "the label is not there");
    // Another interval: another session, from zero.
    place.configure(&first.replace("20ms", "30ms"))?;
    agent.signal("HUP")?;
    let line = agent.logged("config_reloaded")?;
    ensure!(
        line.contains("1 targets added, 1 removed, 0 relabelled, 1 kept"),
        "{line}"
    );
    until("the changed target", || {
        Ok((since(&agent, 0)? != born).then_some(()))
    })?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn a_bad_reload_changes_nothing() -> Result<()> {
    let place = Place::new()?;
    let good = place.reflector_and_probe();
    let config = place.configure(&good)?;
    let mut agent = Agent::start(&config, &[], &[])?;
    let before = agent.until_metric(SENT, |sent| sent >= 1.0)?;
    let sha = agent.status()?["config"]["sha256"].clone();
    place.configure(&format!("{good}intervall = 5\n"))?;
    agent.signal("HUP")?;
    let line = agent.logged("config_rejected")?;
    ensure!(line.contains("did you mean 'interval'?"), "{line}");
    agent.until_metric("netsonde_config_last_reload_successful", |value| {
        value == 0.0
    })?;
    agent.until_metric(SENT, |sent| sent > before)?;
    ensure!(agent.status()?["config"]["sha256"] == sha);
    let (code, text) = agent.ask(&[])?;
    ensure!(
        code == 4 && text.starts_with("unhealthy: "),
        "{code}: {text}"
    );
    ensure!(text.contains("probe[0].intervall"), "{text}");
    // A reflector that cannot be had is refused as a whole, too: the probe stays.
    let taken = std::net::UdpSocket::bind((place.address.as_str(), 0))?;
    let listen = taken.local_addr()?.to_string();
    let old = format!("{}:18620", place.address);
    place.configure(&good.replace(&old, &listen).replace("20ms", "30ms"))?;
    agent.signal("HUP")?;
    let line = agent.logged("config_rejected")?;
    ensure!(line.contains("the port is in use"), "{line}");
    let now = agent.metric(SENT)?.unwrap_or(0.0);
    agent.until_metric(SENT, |sent| sent > now)?;
    place.configure(&good)?;
    agent.signal("HUP")?;
    agent.logged("config_reloaded")?;
    agent.until_metric("netsonde_config_last_reload_successful", |value| {
        value == 1.0
    })?;
    ensure!(agent.ask(&[])?.0 == 0);
    Ok(())
}

fn the_last_valid_configuration_starts() -> Result<()> {
    let place = Place::new()?;
    let good = place.reflector_and_probe();
    let config = place.configure(&good)?;
    let agent = Agent::start(&config, &[], &[])?;
    ensure!(agent.stop()?.success());
    place.configure(&good.replace("20ms", "20parsecs"))?;
    let mut agent = Agent::start(&config, &[], &[])?;
    let line = agent.logged("config_rejected")?;
    ensure!(line.contains("'20parsecs' is no duration"), "{line}");
    ensure!(
        line.contains("the last valid configuration is in force"),
        "{line}"
    );
    agent.until_metric("netsonde_config_last_reload_successful", |value| {
        value == 0.0
    })?;
    agent.until_metric(SENT, |sent| sent > 0.0)?;
    ensure!(agent.ask(&[])?.0 == 4);
    // Repaired and reloaded, it is in order again.
    place.configure(&good)?;
    agent.signal("HUP")?;
    agent.logged("config_reloaded")?;
    agent.until_metric("netsonde_config_last_reload_successful", |value| {
        value == 1.0
    })?;
    Ok(())
}

fn a_port_in_use_leaves_nothing_behind() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure(&place.reflector_and_probe())?;
    let config = config.to_str().context("path")?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listen = taken.local_addr()?;
    let set = format!("agent.listen={listen}");
    let (code, line) = failure(&["agent", "--config", config, "--set", &set])?;
    ensure!(code == 2, "{code}");
    ensure!(
        line.contains("agent.listen") && line.contains("the port is in use"),
        "{line}"
    );
    // The reflector's port is free again, and was the first to be asked for next.
    let reflector = format!("{}:18620", place.address);
    let taken = std::net::UdpSocket::bind(&reflector)?;
    let (code, line) = failure(&["agent", "--config", config])?;
    ensure!(
        code == 2 && line.contains("reflector.listen"),
        "{code}: {line}"
    );
    ensure!(line.contains(&reflector), "{line}");
    drop(taken);
    Ok(())
}

fn a_wrong_configuration_is_one_line() -> Result<()> {
    let place = Place::new()?;
    for (text, words) in [
        (
            "uzer = \"x\"\n",
            "netsonde.toml:4: agent.uzer: unknown key; did you mean 'user'?",
        ),
        (
            "[limits]\npackets_per_second = \"many\"\n",
            "netsonde.toml:5: limits.packets_per_second",
        ),
        (
            "[[probe]]\ntargets = [\"10.0.0.300\"]\n",
            "probe[0].targets[0]: '10.0.0.300' is neither",
        ),
        ("[mtu]\ninterval = \"60s\"\n", "mtu: is not in this version"),
        (
            "[capture]\nbackend = \"afpakcet\"\n",
            "capture.backend: 'afpakcet' is no known value; did you mean 'afpacket'?",
        ),
        ("[agent\n", "netsonde.toml:4: "),
    ] {
        let config = place.configure(text)?;
        let config = config.to_str().context("path")?;
        for arguments in [
            &["agent", "--config", config][..],
            &["agent", "--config", config, "--check"],
        ] {
            let (code, line) = failure(arguments)?;
            ensure!(code == 2 && line.contains(words), "{code}: {line}");
        }
    }
    let missing = place.path("missing.toml");
    let (code, line) = failure(&["agent", "--config", missing.to_str().context("path")?])?;
    ensure!(
        code == 2 && line.contains("missing.toml: cannot be read"),
        "{code}: {line}"
    );
    Ok(())
}

fn what_check_prints_is_a_configuration() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure(&place.reflector_and_probe())?;
    let config = config.to_str().context("path")?;
    let printed = run(&["agent", "--config", config, "--check", "--print"])?;
    ensure!(printed.status.success());
    let again = place.path("printed.toml");
    std::fs::write(&again, &printed.stdout)?;
    let again = again.to_str().context("path")?;
    let twice = run(&["agent", "--config", again, "--check", "--print"])?;
    ensure!(
        twice.stdout == printed.stdout,
        "it does not read back as itself"
    );
    let checked = run(&["agent", "--config", config, "--check"])?;
    let text = String::from_utf8(checked.stdout)?;
    for words in [
        "valid, sha256 ",
        "probe self: 1 targets, 50.000 packets/s",
        "memory: ",
        "series: ",
    ] {
        ensure!(text.contains(words), "{text}");
    }
    Ok(())
}

fn status_without_an_agent() -> Result<()> {
    // Nobody listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (code, line) = failure(&["status", "--address", &free.to_string()])?;
    ensure!(code == 1, "{code}");
    ensure!(
        line.contains(&free.to_string()) && line.contains("is the agent running?"),
        "{line}"
    );
    Ok(())
}

fn a_name_that_does_not_resolve_is_a_problem() -> Result<()> {
    let place = Place::new()?;
    let more = "[[probe]]\nname = \"dns\"\ntargets = [\"nosuch.invalid\"]\nprotocol = \"stamp\"\n";
    let config = place.configure(&format!("{}{more}", place.reflector_and_probe()))?;
    let mut agent = Agent::start(&config, &[], &[])?;
    agent.logged("resolve_failed")?;
    // It delays nobody else, and is not fatal.
    agent.until_metric(SENT, |sent| sent > 0.0)?;
    let (code, text) = agent.ask(&[])?;
    ensure!(
        code == 4 && text.contains("nosuch.invalid of probe dns: its name does not resolve"),
        "{text}"
    );
    ensure!(agent.stop()?.success());
    Ok(())
}

fn systemd_is_told() -> Result<()> {
    let place = Place::new()?;
    let path = place.path("notify");
    let systemd = UnixDatagram::bind(&path)?;
    systemd.set_read_timeout(Some(Duration::from_secs(30)))?;
    let heard = || -> Result<String> {
        let mut buffer = [0; 256];
        let len = systemd.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
    };
    let config = place.configure(&place.reflector_and_probe())?;
    let path = path.to_str().context("path")?;
    let agent = Agent::start(&config, &[], &[("NOTIFY_SOCKET", path)])?;
    let text = heard()?;
    ensure!(text == "READY=1\nSTATUS=1 targets, reflecting", "{text}");
    agent.signal("HUP")?;
    let text = heard()?;
    ensure!(text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{text}");
    ensure!(heard()?.starts_with("READY=1\n"));
    agent.signal("INT")?;
    ensure!(heard()? == "STOPPING=1");
    Ok(())
}

fn records_hold_every_probe() -> Result<()> {
    let place = Place::new()?;
    let records = place.path("records.jsonl");
    let config = place.configure(&place.reflector_and_probe())?;
    let arguments = ["--records", records.to_str().context("path")?];
    let agent = Agent::start(&config, &arguments, &[])?;
    let before = agent.until_metric(SENT, |sent| sent >= 50.0)?;
    ensure!(agent.stop()?.success());
    let text = std::fs::read_to_string(&records)?;
    let mut numbers = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        ensure!(
            line["target"] == place.address.as_str() && line["verdict"] == "received",
            "{line}"
        );
        numbers.push(line["seq"].as_u64().context("no number")?);
    }
    // All that had been sent is there, each once, the probes in flight at the end included.
    ensure!(
        numbers.len() as f64 >= before,
        "{} of {before}",
        numbers.len()
    );
    let mut once = numbers.clone();
    once.sort_unstable();
    once.dedup();
    ensure!(once.len() == numbers.len(), "a probe is there twice");
    Ok(())
}

fn the_installed_configuration_is_silent() -> Result<()> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib/netsonde.toml");
    let place = Place::new()?;
    let state = format!("agent.state_directory={}", place.path("state").display());
    std::fs::copy(sample, place.path("netsonde.toml"))?;
    let set = ["--set", "agent.listen=127.0.0.1:0", "--set", &state];
    let agent = Agent::start(&place.path("netsonde.toml"), &set, &[])?;
    // All sockets of all its processes: one TCP listener on loopback.
    let inodes = socket_inodes(agent.pid())?;
    let mut found = Vec::new();
    for table in [
        "tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "icmp", "icmp6",
    ] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields
                .iter()
                .any(|field| inodes.iter().any(|inode| inode == field))
            {
                found.push(format!("{table} {}", fields[1]));
            }
        }
    }
    let port = format!("tcp 0100007F:{:04X}", agent.api.port());
    ensure!(found == [port.clone()], "{found:?}, not only {port}");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid()))?;
    ensure!(
        children.trim().is_empty(),
        "an opener that nobody can need: {children}"
    );
    ensure!(agent.stop()?.success());
    Ok(())
}

fn socket_inodes(pid: u32) -> Result<Vec<String>> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between the listing and the look.
        let Ok(target) = std::fs::read_link(entry?.path()) else {
            continue;
        };
        let text = target.to_string_lossy().into_owned();
        if let Some(inode) = text
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inodes.push(inode.to_owned());
        }
    }
    Ok(inodes)
}

/// The sum that `--check` prints, in KiB: typical and at most.
fn predicted(config: &str) -> Result<(f64, f64)> {
    let text = String::from_utf8(run(&["agent", "--config", config, "--check"])?.stdout)?;
    let line = text
        .lines()
        .find(|line| line.starts_with("memory: "))
        .context("no sum")?;
    let sum = line.split(" = ").nth(1).context("no sum")?;
    let mut numbers = sum.split(' ').filter_map(|word| word.parse::<f64>().ok());
    Ok((
        numbers.next().context("typical")?,
        numbers.next().context("at most")?,
    ))
}

fn memory_is_what_check_says() -> Result<()> {
    let place = Place::new()?;
    let prefix = place
        .address
        .rsplit_once('.')
        .context("address")?
        .0
        .to_owned();
    let targets: Vec<String> = (1..=200).map(|n| format!("\"{prefix}.{n}\"")).collect();
    let text = format!(
        "user = \"\"\n[limits]\npackets_per_second = 0\n[reflector]\nlisten = [\"0.0.0.0:18621\"]\nmax_sessions = 256\n\
         [[probe]]\nname = \"many\"\ntargets = [{}]\nprotocol = \"stamp\"\nport = 18621\ninterval = \"100ms\"\nassume_synchronised = true\n",
        targets.join(", ")
    );
    let config = place.configure(&text)?;
    let (typical, most) = predicted(config.to_str().context("path")?)?;
    let agent = Agent::start(&config, &[], &[])?;
    agent.until_metric("netsonde_probe_sent_packets_total{probe=\"many\"", |sent| {
        sent >= 100.0
    })?;
    let got = agent
        .metric("netsonde_process_resident_memory_bytes")?
        .context("no metric")?
        / 1024.0;
    ensure!(got <= most, "{got} KiB, more than the {most} KiB at most");
    ensure!(
        (0.4..1.25).contains(&(got / typical)),
        "{got} KiB, typical are {typical} KiB"
    );
    ensure!(agent.stop()?.success());
    Ok(())
}
