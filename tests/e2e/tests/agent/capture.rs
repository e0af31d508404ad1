//! Traffic that is watched live: by the command, and by the agent, whose opener opens the
//! device again that went away.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Direct, Host, Lab, LinkOptions};
use libtest_mimic::Trial;
use netsonde_e2e as e2e;
use serde_json::Value;

use crate::Named;
use crate::rig::until;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [Named; 4] = [
        ("a_capture_sees_every_echo", a_capture_sees_every_echo),
        (
            "several_workers_share_the_flows_out",
            several_workers_share_the_flows_out,
        ),
        (
            "the_agent_captures_a_device_that_comes_back",
            the_agent_captures_a_device_that_comes_back,
        ),
        (
            "a_reload_under_traffic_loses_no_frame",
            a_reload_under_traffic_loses_no_frame,
        ),
    ];
    tests
        .into_iter()
        .map(|(name, test)| e2e::trial(name, e2e::missing, test))
        .collect()
}

/// `netsonde ping` with ICMP: what it says is what the capture must see.
fn ping(host: &Host, binary: &Path, count: u32) -> Result<Value> {
    let count = count.to_string();
    let args = [
        "ping",
        "10.0.0.2",
        "--protocol",
        "icmp",
        "-c",
        &count,
        "-i",
        "5ms",
        "--json",
    ];
    let finished = host.spawn(binary, &args)?.finish(PATIENCE)?;
    ensure!(finished.code() == 0, "{finished:?}");
    let document: Value = serde_json::from_str(&finished.stdout)?;
    Ok(document["targets"][0].clone())
}

fn last_line(text: &str) -> Result<Value> {
    let line = text.lines().last().context("no document")?;
    Ok(serde_json::from_str(line)?)
}

fn a_capture_sees_every_echo() -> Result<()> {
    let lab = Lab::new()?;
    let link = Direct::new(&lab, LinkOptions::default())?;
    let binary = e2e::netsonde()?;
    let written = link.a.file("echo.pcapng")?;
    let flows = link.a.file("flows.jsonl")?;
    let args = [
        "capture",
        "-i",
        "eth0",
        "--json-stream",
        "-w",
        written.to_str().context("path")?,
        "--flows",
        flows.to_str().context("path")?,
        "icmp",
    ];
    let mut capture = link.a.spawn(&binary, &args)?;
    // A line a second: from the first one on it captures.
    capture.wait_line("\"backend\":\"afpacket\"", PATIENCE)?;
    let told = ping(&link.a, &binary, 200)?;
    let ended = capture.stop("INT", PATIENCE)?;
    ensure!(ended.code() == 0, "{ended:?}");
    let document = last_line(&ended.stdout)?;
    let rtt = &document["rtt"]["icmp"]["remote_ns"];
    let sent = told["sent"].as_u64().context("sent")?;
    ensure!(document["frames"] == 2 * sent, "{document}");
    ensure!(rtt["count"] == told["received"], "{rtt} {told}");
    ensure!(document["degraded"] == false, "{document}");
    ensure!(document["written"]["frames"] == 2 * sent, "{document}");
    ensure!(
        document["rtt"]["icmp"]["near_ns"]["count"] == 0,
        "{document}"
    );
    // Seen at the device, an echo is away no longer than the prober says, to the microsecond
    // that both stamps may differ by.
    let of = |value: &Value| value["p50"].as_u64().context("p50");
    let (ours, theirs) = (of(rtt)?, of(&told["rtt_ns"])?);
    ensure!(
        ours < theirs + 20_000,
        "{ours} ns captured, {theirs} ns probed"
    );
    // The file says the same; this host is near, as the kernel said which way frames went.
    let again = link
        .a
        .command(&binary)
        .args(["capture", "--json", "-r"])
        .arg(&written)
        .output()?;
    let again: Value = serde_json::from_slice(&again.stdout)?;
    for key in ["frames", "rtt", "decode"] {
        ensure!(again[key] == document[key], "{key}: {again}");
    }
    let flows = std::fs::read_to_string(&flows)?;
    let flow = last_line(&flows)?;
    ensure!(flow["near"]["address"] == "10.0.0.1", "{flow}");
    ensure!(flow["near"]["packets"] == sent, "{flow}");
    ensure!(flow["remote"]["packets"] == told["received"], "{flow}");
    Ok(())
}

fn several_workers_share_the_flows_out() -> Result<()> {
    let lab = Lab::new()?;
    let link = Direct::new(&lab, LinkOptions::default())?;
    let binary = e2e::netsonde()?;
    let args = [
        "capture",
        "-i",
        "eth0",
        "--json-stream",
        "--workers",
        "4",
        "icmp",
    ];
    let mut capture = link.a.spawn(&binary, &args)?;
    capture.wait_line("\"backend\":\"afpacket\"", PATIENCE)?;
    let mut sent = 0;
    for _ in 0..8 {
        sent += ping(&link.a, &binary, 20)?["sent"]
            .as_u64()
            .context("sent")?;
    }
    let ended = capture.stop("INT", PATIENCE)?;
    let document = last_line(&ended.stdout)?;
    // Both directions of each flow came to one worker: every request met its reply.
    ensure!(
        document["rtt"]["icmp"]["remote_ns"]["count"] == sent,
        "{document}"
    );
    ensure!(document["frames"] == 2 * sent, "{document}");
    ensure!(document["flows"]["seen"] == 8, "{document}");
    let intervals = ended.stdout.lines().count() - 1;
    let mut frames = 0;
    for line in ended.stdout.lines().take(intervals) {
        let interval: Value = serde_json::from_str(line)?;
        frames += interval["frames"].as_u64().context("frames")?;
    }
    ensure!(frames <= 2 * sent, "{frames} in intervals, {sent} sent");
    Ok(())
}

fn the_agent_captures_a_device_that_comes_back() -> Result<()> {
    let lab = Lab::new()?;
    let link = Direct::new(&lab, LinkOptions::default())?;
    let binary = e2e::netsonde()?;
    let state = link.a.file("state")?;
    let config = link.a.file("netsonde.toml")?;
    std::fs::write(
        &config,
        format!(
            "[agent]\nlisten = \"127.0.0.1:9862\"\nuser = \"nobody\"\nstate_directory = {state:?}\n\
             [capture]\ninterface = \"eth0\"\nworkers = 2\nfilter = \"icmp\"\n\
             group_by = [\"10.0.0.0/24=lab\"]\n"
        ),
    )?;
    let config = config.to_str().context("path")?;
    link.a.ip("link set lo up\n")?;
    let agent = link.a.spawn(&binary, &["agent", "--config", config])?;
    agent.wait_error_line("started", PATIENCE)?;
    let status = || -> Result<Value> {
        let output = link
            .a
            .command(&binary)
            .args(["status", "--json"])
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let frames = |wanted: u64| -> Result<Value> {
        let capture = until("the capture's frames", || {
            let capture = status()?["capture"].clone();
            let enough = capture["frames"].as_u64() >= Some(wanted);
            Ok(enough.then_some(capture))
        });
        let capture = capture
            .with_context(|| format!("{wanted} frames: {:?}\n{}", status(), agent.stderr()))?;
        ensure!(capture["frames"] == wanted, "{wanted} frames: {capture}");
        Ok(capture)
    };
    frames(0)?;
    let sent = ping(&link.a, &binary, 50)?["sent"]
        .as_u64()
        .context("sent")?;
    let capture = frames(2 * sent)?;
    ensure!(capture["backend"] == "afpacket", "{capture}");
    let metric = |start: &str| -> Result<Option<f64>> {
        let output = link
            .a
            .command("curl")
            .args(["-s", "http://127.0.0.1:9862/metrics"])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().find(|line| line.starts_with(start));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        Ok(value)
    };
    let rtt = "netsonde_flow_rtt_seconds_count{method=\"icmp\",leg=\"remote\",group=\"lab\"";
    ensure!(metric(rtt)? == Some(sent as f64), "{:?}", metric(rtt)?);
    let lost = "netsonde_capture_dropped_frames_total{reason=\"ring_full\"";
    ensure!(metric(lost)? == Some(0.0), "{:?}", metric(lost)?);

    link.a.ip("link delete eth0\n")?;
    agent.wait_error_line("capture failed: eth0: it is gone", PATIENCE)?;
    lab::topology::join((&link.a, "eth0", 1), (&link.b, "eth0", 2), 9_001)?;
    for (host, own, other) in [(&link.a, 1, 2), (&link.b, 2, 1)] {
        host.ip(&format!(
            "address add 10.0.0.{own}/24 dev eth0\n\
             neighbour add 10.0.0.{other} lladdr 02:00:00:00:00:0{other} dev eth0 nud permanent\n"
        ))?;
    }
    agent.wait_error_line("new=\"capture healthy\"", PATIENCE)?;
    let more = ping(&link.a, &binary, 50)?["sent"]
        .as_u64()
        .context("sent")?;
    let capture = frames(2 * (sent + more))?;
    ensure!(capture["interruptions"] == 1, "{capture}");
    let end = agent.stop("TERM", PATIENCE)?;
    ensure!(end.code() == 0, "{end:?}");
    Ok(())
}

/// Groups change while frames come: what is exported never falls, and is what was sent.
fn a_reload_under_traffic_loses_no_frame() -> Result<()> {
    const RELOADS: usize = 4;
    let lab = Lab::new()?;
    let link = Direct::new(&lab, LinkOptions::default())?;
    let binary = e2e::netsonde()?;
    let state = link.a.file("state")?;
    let config = link.a.file("netsonde.toml")?;
    let configure = |groups: &str| {
        std::fs::write(
            &config,
            format!(
                "[agent]\nlisten = \"127.0.0.1:9862\"\nuser = \"\"\nstate_directory = {state:?}\n\
                 [capture]\ninterface = \"eth0\"\nworkers = 2\nfilter = \"icmp\"\n\
                 group_by = [{groups}]\n"
            ),
        )
    };
    configure("\"10.0.0.0/24=lab\"")?;
    link.a.ip("link set lo up\n")?;
    let path = config.to_str().context("path")?;
    let agent = link.a.spawn(&binary, &["agent", "--config", path])?;
    agent.wait_error_line("started", PATIENCE)?;
    let metrics = || -> Result<String> {
        let output = link
            .a
            .command("curl")
            .args(["-s", "http://127.0.0.1:9862/metrics"])
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    // Of all series of these families.
    let sum = |text: &str, family: &str| -> f64 {
        let of = text.lines().filter(|line| {
            line.strip_prefix(family)
                .is_some_and(|rest| rest.starts_with(['{', '}', ' ']))
        });
        of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    const FAMILIES: [&str; 4] = [
        "netsonde_capture_frames_total",
        "netsonde_capture_dropped_frames_total{reason=\"ring_full\"",
        "netsonde_flows_total",
        "netsonde_flow_packets_total",
    ];
    let mut before = [0.0; FAMILIES.len()];
    let mut look = || -> Result<[f64; FAMILIES.len()]> {
        let text = metrics()?;
        let now = FAMILIES.map(|family| sum(&text, family));
        for (at, family) in FAMILIES.iter().enumerate() {
            ensure!(now[at] >= before[at], "{family} fell: {before:?} {now:?}");
        }
        before = now;
        Ok(now)
    };
    let args = [
        "ping",
        "10.0.0.2",
        "--protocol",
        "icmp",
        "-c",
        "15000",
        "-i",
        "1ms",
        "--json",
    ];
    let pinging = link.a.spawn(&binary, &args)?;
    for reload in 0..RELOADS {
        // A name that stays, and one that comes and goes.
        let extra = if reload % 2 == 0 {
            ", \"10.9.0.0/16=other\""
        } else {
            ""
        };
        configure(&format!("\"10.0.0.0/24=lab\"{extra}"))?;
        let frames = look()?[0];
        agent.signal("HUP")?;
        until("frames after the reload", || {
            Ok((look()?[0] > frames).then_some(()))
        })?;
        until("the groups of the reload", || {
            let there = metrics()?.contains("group=\"other\"");
            Ok((there == (reload % 2 == 0)).then_some(()))
        })?;
    }
    let finished = pinging.finish(PATIENCE)?;
    ensure!(finished.code() == 0, "{finished:?}");
    let told: Value = serde_json::from_str(&finished.stdout)?;
    let told = &told["targets"][0];
    let of = |key: &str| told[key].as_u64().context("a count");
    let all = (of("sent")? + of("received")?) as f64;
    let last = until("all frames", || {
        let now = look()?;
        Ok((now[0] == all && now[3] == all).then_some(now))
    });
    let last = last.with_context(|| format!("{all} sent: {:?}\n{}", look(), agent.stderr()))?;
    // Each reload may see the one flow anew, on whichever worker.
    ensure!(last[1] == 0.0 && last[2] >= 1.0, "{last:?}");
    ensure!(last[2] <= 1.0 + RELOADS as f64, "{last:?}");
    let end = agent.stop("TERM", PATIENCE)?;
    ensure!(end.code() == 0, "{end:?}");
    Ok(())
}
