//! What an agent keeps in memory, and that `agent --check` says so.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Host, Lab};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, netsonde, trial};

const METRICS: &str = "127.0.0.1:9862";
/// By when ten answers of each target must be in.
const PATIENCE: Duration = Duration::from_secs(60);
/// As a scraper would: the memory is that of an agent which is scraped now and then.
const BETWEEN_SCRAPES: Duration = Duration::from_secs(1);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("memory::twenty_targets_stay_under_25_mb", missing, || {
            let run = run(20)?;
            ensure!(run.resident_kib < 25_000, "{run:?}");
            run.check_formula()
        }),
        trial(
            "memory::a_thousand_targets_stay_under_256_kib_each",
            missing,
            || {
                let run = run(1_000)?;
                ensure!(run.resident_kib / 1_000 < 256, "{run:?}");
                run.check_formula()
            },
        ),
    ]
}

/// Resident memory after some seconds and a scrape, and what `--check` says.
#[derive(Debug)]
struct Run {
    resident_kib: u64,
    typical_kib: u64,
    most_kib: u64,
}

impl Run {
    /// The formula's typical sum is near the truth, its greatest above it.
    fn check_formula(&self) -> Result<()> {
        let near = self.typical_kib * 6 / 10..=self.typical_kib * 11 / 10;
        ensure!(
            near.contains(&self.resident_kib) && self.resident_kib <= self.most_kib,
            "{self:?}"
        );
        Ok(())
    }
}

fn run(targets: u32) -> Result<Run> {
    let binary = netsonde()?;
    let lab = Lab::new()?;
    let host = lab.host("a")?;
    let mut reflector = host.spawn(&binary, &["reflect", "--listen", "0.0.0.0:862"])?;
    reflector.wait_line("reflecting", Duration::from_secs(10))?;
    let config = host.file("agent.toml")?;
    let state = host.file("state")?;
    std::fs::write(
        &config,
        configuration(targets, state.to_str().context("path")?),
    )?;
    let config = config.to_str().context("path")?;

    let checked = host.run(
        &binary.to_string_lossy(),
        &["agent", "--config", config, "--check"],
    )?;
    let line = checked
        .lines()
        .find(|line| line.starts_with("memory:"))
        .context("no memory line")?;
    let kib = |unit: &str| -> Result<u64> {
        let before = line.split(unit).next().context("no sum")?;
        Ok(before
            .trim()
            .rsplit(' ')
            .next()
            .context("no number")?
            .parse()?)
    };
    let (typical_kib, most_kib) = (kib("KiB typical")?, kib("KiB at most")?);

    let mut agent = host.spawn(&binary, &["agent", "--config", config])?;
    // Every series has its buckets after some probes, and a scrape takes what it takes.
    let limit = Instant::now() + PATIENCE;
    while received(&host)? < f64::from(targets) * 10.0 {
        ensure!(!agent.has_ended()?, "{}", agent.stderr());
        ensure!(Instant::now() < limit, "only {} answers", received(&host)?);
        std::thread::sleep(BETWEEN_SCRAPES);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let resident_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse().ok())
        .context("no VmRSS")?;
    agent.stop("TERM", Duration::from_secs(20))?;
    Ok(Run {
        resident_kib,
        typical_kib,
        most_kib,
    })
}

/// Answers so far, of all targets; none while the agent does not listen yet.
fn received(host: &Host) -> Result<f64> {
    // Its failure is no error of ours: the agent may still be starting.
    let script = format!("curl -s http://{METRICS}/metrics || true");
    let metrics = host.run("sh", &["-c", &script])?;
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("netsonde_probe_received_packets_total{"));
    Ok(counted
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

/// Loopback addresses, once a second each.
fn configuration(targets: u32, state: &str) -> String {
    let mut text = format!(
        "[agent]\nlisten = \"{METRICS}\"\nstate_directory = \"{state}\"\nuser = \"\"\n\
         [limits]\npackets_per_second = 10000\n\
         [[probe]]\nname = \"memory\"\nprotocol = \"stamp\"\ninterval = \"1s\"\ntargets = ["
    );
    for n in 1..=targets {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + n);
        let _ = write!(text, "\"{address}\",");
    }
    text.push_str("]\n");
    text
}
