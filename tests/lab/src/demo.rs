//! The demonstration: two hosts, a link of 9001 bytes that misbehaves a little, the real
//! binary on both ends, and at the end what was injected beside what was measured.
//!
//! The measured `ping` sends packets of a size of its own, by which the relay's log tells
//! its packets from those of the agent and of the `ping` that is shown live.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base::Direction::{Forward, Reverse};
use base::units::format_ns;
use serde_json::Value;

use crate::host::Lab;
use crate::proxy::Proxy;
use crate::relay::truth::held_both_ways_ns;
use crate::relay::{Delay, Impairment, Record, RelayConfig, RelayLog, Truth};
use crate::running::Running;
use crate::topology::{LinkOptions, Relayed};

/// Size of the IP packets of the `ping` that is compared: the link's.
const COMPARED_BYTES: u16 = 9_001;
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9_862);

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The binary.
    pub netsonde: PathBuf,
    /// The relay's binary.
    pub relay: PathBuf,
    /// Where `/metrics` is offered on this machine; 0: any free port.
    pub port: u16,
    /// How many probes are compared.
    pub count: u32,
    /// Time between two of them.
    pub interval: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            netsonde: "netsonde".into(),
            relay: "netsonde-relay".into(),
            port: 0,
            count: 1_500,
            interval: "10ms",
        }
    }
}

/// What the link does: some loss, copies and overtaking, and different delays each way.
#[must_use]
pub fn impairment(seed: u64) -> RelayConfig {
    let way = |loss, delay| {
        Impairment::default()
            .with_loss(loss)
            .with_duplicates(0.01)
            .with_reordering(0.01, 2)
            .with_delay(delay)
    };
    RelayConfig {
        seed,
        forward: way(0.02, Delay::Uniform(400_000, 600_000)),
        reverse: way(0.01, Delay::Uniform(900_000, 1_100_000)),
        ..RelayConfig::default()
    }
}

/// Runs it all, to its end.
///
/// # Errors
/// When anything does not start or ends badly.
pub fn run(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let config = impairment(1);
    let mut net = Relayed::with_program(&lab, LinkOptions::default(), &config, &options.relay)?;
    println!(
        "host a ({}) and host b ({}), a link of 9001 bytes; on it:\n\
         forward 2 % loss, 400-600 us; reverse 1 % loss, 900-1100 us;\n\
         1 % duplicates and 1 % reordering each way\n",
        net.a.ipv4(),
        net.b.ipv4()
    );
    let reflector = net.b.spawn(
        &options.netsonde,
        &[
            "reflect",
            "--listen",
            "0.0.0.0:862",
            "--allow",
            "10.0.0.0/24",
        ],
    )?;
    let agent = start_agent(&net, &options.netsonde)?;
    let proxy = Proxy::start(&net.a, METRICS, options.port)?;
    println!("host b: netsonde reflect (process {})", reflector.pid());
    println!("host a: netsonde agent (process {})", agent.pid());
    println!(
        "metrics, as long as this runs: http://{}/metrics\n",
        proxy.address()
    );

    let target = net.b.ipv4().to_string();
    let count = options.count.to_string();
    let size = COMPARED_BYTES.to_string();
    // Both hosts have this machine's clock, so one-way delays may be asked for.
    let ping = [
        "ping",
        &target,
        "-c",
        &count,
        "-i",
        options.interval,
        "--assume-synchronised",
    ];
    let compared = [ping.as_slice(), &["-s", &size, "--json"]].concat();
    let compared = net.a.spawn(&options.netsonde, &compared)?;
    // The same path once more, for the eye: it has this terminal.
    let live = net.a.command(&options.netsonde).args(ping).status()?;
    let compared = compared.finish(Duration::from_secs(120))?;
    ensure!(
        live.success() && compared.status.success(),
        "ping failed: {}",
        compared.stderr
    );
    let report: Value = serde_json::from_str(&compared.stdout).context("ping --json")?;

    ensure_scrape(&proxy)?;
    if std::io::stdin().is_terminal() {
        println!("the agent measures on; open that address, or press Enter to end");
        std::io::stdin().read_line(&mut String::new())?;
    }
    agent.stop("TERM", Duration::from_secs(20))?;
    reflector.stop("TERM", Duration::from_secs(20))?;
    let log = net.stop()?;
    print!("\n{}", comparison(&log, &report["targets"][0]));
    Ok(())
}

fn start_agent(net: &Relayed, netsonde: &Path) -> Result<Running> {
    let path = net.a.file("netsonde.toml")?;
    let state = net.a.file("state")?;
    let text = format!(
        "[agent]\n\
         listen = \"{METRICS}\"\n\
         user = \"\"\n\
         state_directory = \"{}\"\n\
         [[probe]]\n\
         name = \"demo\"\n\
         targets = [\"{}\"]\n\
         protocol = \"stamp\"\n\
         interval = \"100ms\"\n",
        state.display(),
        net.b.ipv4()
    );
    std::fs::write(&path, text)?;
    let mut agent = net
        .a
        .spawn(netsonde, &["agent", "--config", &path.to_string_lossy()])?;
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let listens = net
            .a
            .namespace()
            .run(|| std::net::TcpStream::connect(METRICS))?;
        if listens.is_ok() {
            return Ok(agent);
        }
        ensure!(!agent.has_ended()?, "the agent ended: {}", agent.stderr());
        ensure!(
            Instant::now() < limit,
            "the agent does not listen: {}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Fetches the metrics as a browser would and says how much came.
fn ensure_scrape(proxy: &Proxy) -> Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(proxy.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(
        text.starts_with("HTTP/1.1 200"),
        "/metrics answered {text:.60}"
    );
    let series = text
        .lines()
        .filter(|line| line.starts_with("netsonde_"))
        .count();
    println!(
        "\nhttp://{}/metrics has {series} lines of samples",
        proxy.address()
    );
    Ok(())
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// The table: what the relay's log says of the compared probes, and what `ping` reported.
#[must_use]
pub fn comparison(log: &RelayLog, report: &Value) -> String {
    let log = log
        .counted()
        .filtered(|record| record.ip_len == COMPARED_BYTES);
    let truth = Truth::of(&log);
    let held = held_both_ways_ns(&log);
    let held_median = median(
        held.values()
            .map(|[forward, reverse]| forward + reverse)
            .collect(),
    );
    let of = |direction| {
        let held = log
            .output(direction)
            .into_iter()
            .filter_map(Record::held_ns);
        median(held.collect())
    };
    let count = |key: &str| report[key].as_u64().map_or("-".into(), |n| n.to_string());
    let ns = |value: &Value| value.as_f64().map_or("-".into(), format_ns);
    let told = |ns: Option<u64>| ns.map_or("-".into(), |ns| format_ns(ns as f64));
    let mut rows = vec![("".to_owned(), "injected".to_owned(), "measured".to_owned())];
    for (name, injected, key) in [
        ("probes", truth.probes, "sent"),
        ("answered", truth.answered, "received"),
        ("lost forward", truth.lost_forward, "lost_forward"),
        ("lost reverse", truth.lost_reverse, "lost_reverse"),
        (
            "duplicates forward",
            truth.duplicates_forward,
            "duplicates_forward",
        ),
        (
            "duplicates reverse",
            truth.duplicates_reverse,
            "duplicates_reverse",
        ),
        (
            "reordered forward",
            truth.reordered_forward,
            "reordered_forward",
        ),
        (
            "reordered reverse",
            truth.reordered_reverse,
            "reordered_reverse",
        ),
    ] {
        rows.push((name.into(), injected.to_string(), count(key)));
    }
    let rtt = ns(&report["rtt_ns"]["p50"]);
    rows.push((
        "delay both ways, p50".into(),
        told(held_median),
        format!("{rtt} (rtt)"),
    ));
    for (name, direction, key) in [
        ("delay forward, p50", Forward, "forward_delay_ns"),
        ("delay reverse, p50", Reverse, "reverse_delay_ns"),
    ] {
        rows.push((name.into(), told(of(direction)), ns(&report[key]["p50"])));
    }
    rows.iter()
        .map(|(name, injected, measured)| format!("{name:<22}{injected:>12}  {measured}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_dash_and_other_sizes_do_not_count() {
        let report = serde_json::json!({
            "sent": 3, "received": 2, "lost_forward": 1, "rtt_ns": {"p50": 1_500_000},
            "forward_delay_ns": null,
        });
        let table = comparison(&RelayLog::default(), &report);
        let line = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name));
            let words = line.map(|line| line[name.len()..].split_whitespace());
            words.map(Iterator::collect::<Vec<_>>).unwrap_or_default()
        };
        assert_eq!(line("probes"), ["0", "3"]);
        assert_eq!(line("lost forward"), ["0", "1"]);
        assert_eq!(line("lost reverse"), ["0", "-"]);
        assert_eq!(line("delay both ways, p50"), ["-", "1.50ms", "(rtt)"]);
        assert_eq!(line("delay forward, p50"), ["-", "-"]);
    }
}
