//! A real Prometheus scrapes a running agent, with native histograms and without, and what it
//! computes is held against the agent's own `--records`.
//!
//! A scrape is a moment in the middle of a run. The records are in the order in which probes
//! were decided, so that the first so many of them are what that scrape saw: every bucket and
//! every counter can be counted again.

#[path = "prometheus/answers.rs"]
mod answers;
#[path = "prometheus/server.rs"]
mod server;

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use lab::relay::{Delay, Impairment, RelayConfig};
use lab::{Lab, LinkOptions, Relayed, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};
use serde_json::Value;

use crate::commands::{PATIENCE, Reflecting, records_of};
use answers::Answers;
use server::{Prometheus, get};

const AGENT: u16 = 9_862;
/// How long is probed before Prometheus is asked.
const MEASURED: Duration = Duration::from_secs(14);
/// How long packets are lost. Until a loss has its direction it is not exported, which may
/// take some seconds.
const LOSSY: Duration = Duration::from_secs(7);
/// Asked about a moment that is over, so that no scrape of before is still on its way.
const SETTLED: Duration = Duration::from_secs(2);
const FAMILY: &str = "netsonde_probe_rtt_seconds";

pub(crate) fn trials() -> Vec<Trial> {
    let needs = || missing().or_else(|| missing_program("prometheus", "prometheus"));
    vec![trial("prometheus::scrapes_the_agent", needs, scrapes)]
}

/// One in 53 is held 8 ms longer on its way: p50 and p99 are of different modes, and both
/// are spread by the way back.
fn two_modes(lossy: bool) -> RelayConfig {
    let loss = |ratio| if lossy { ratio } else { 0.0 };
    let forward = (0..53).map(|n| if n == 17 { 9_000_000 } else { 1_000_000 });
    RelayConfig {
        forward: Impairment::default()
            .with_delay(Delay::List(forward.collect()))
            .with_loss(loss(0.02)),
        reverse: Impairment::default()
            .with_delay(Delay::Uniform(500_000, 2_500_000))
            .with_loss(loss(0.01)),
        ..RelayConfig::new(5)
    }
}

/// The probes: the label `probe`, the target, the protocol.
const PROBED: [(&str, &str, &str); 3] = [
    ("four", "10.0.0.2", "stamp"),
    ("six", "fd00::2", "stamp"),
    ("echo", "10.0.0.2", "icmp"),
];

fn start_agent(net: &Relayed) -> Result<(Running, std::path::PathBuf)> {
    let (config, records) = (net.a.file("netsonde.toml")?, net.a.file("agent.jsonl")?);
    let state = net.a.file("state")?;
    let mut text = format!(
        "[agent]\nlisten = \"127.0.0.1:{AGENT}\"\nuser = \"\"\nstate_directory = {state:?}\n\
         labels = {{ fleet = \"lab\" }}\n[limits]\npackets_per_second = 0\n"
    );
    for (name, target, protocol) in PROBED {
        text.push_str(&format!(
            "[[probe]]\nname = \"{name}\"\ntargets = [\"{target}\"]\nprotocol = \"{protocol}\"\n\
             interval = \"10ms\"\nwait = \"200ms\"\n"
        ));
    }
    std::fs::write(&config, text)?;
    let (config, file) = (config.to_string_lossy(), records.to_string_lossy());
    let args = ["agent", "--config", &config, "--records", &file];
    Ok((net.a.spawn(netsonde()?, &args)?, records))
}

fn scrapes() -> Result<()> {
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), &two_modes(true))?;
    let reflecting = Reflecting::start(&net.b, "")?;
    let scraping = [
        Prometheus::start(&net.a, 9_090, true)?,
        Prometheus::start(&net.a, 9_091, false)?,
    ];
    let begun = Instant::now();
    let (agent, path) = start_agent(&net)?;
    std::thread::sleep(LOSSY.saturating_sub(begun.elapsed()));
    net.configure(&two_modes(false))?;
    std::thread::sleep(MEASURED.saturating_sub(begun.elapsed()));
    let text = get(&net.a, AGENT, "/metrics")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let at = (now - SETTLED).as_secs_f64();
    let mut answers = Vec::new();
    for prometheus in &scraping {
        answers.push(Answers::ask(prometheus, at)?);
    }
    for prometheus in scraping {
        let finished = prometheus.running.stop("TERM", PATIENCE)?;
        let complaints = finished.stderr.lines().filter(|line| {
            let loud = line.contains("level=warn") || line.contains("level=error");
            loud && !line.contains("SIGTERM")
        });
        let complaints: Vec<_> = complaints.collect();
        ensure!(complaints.is_empty(), "Prometheus: {complaints:?}");
    }
    let finished = agent.stop("TERM", PATIENCE)?;
    ensure!(finished.code() == 0, "the agent: {finished:?}");
    reflecting.stop()?;
    net.stop()?;

    check_promtool(&text)?;
    let records = records_of(&path)?;
    for (native, answers) in [true, false].into_iter().zip(&answers) {
        for (name, target, protocol) in PROBED {
            let own: Vec<&Value> = records
                .iter()
                .filter(|line| line["target"] == target)
                .filter(|line| line["source_port"].is_null() == (protocol == "icmp"))
                .collect();
            answers
                .check(name, native, &own)
                .with_context(|| format!("probe {name}, native {native}"))?;
        }
    }
    Ok(())
}

fn check_promtool(text: &str) -> Result<()> {
    ensure!(text.contains(FAMILY), "{text}");
    let mut promtool = Running::start(Command::new("promtool").args(["check", "metrics"]))?;
    promtool.write(text)?;
    let finished = promtool.finish(PATIENCE)?;
    ensure!(
        finished.code() == 0 && finished.stderr.is_empty(),
        "promtool check metrics: {finished:?}"
    );
    Ok(())
}
