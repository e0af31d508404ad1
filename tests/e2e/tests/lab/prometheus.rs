//! A real Prometheus scrapes a running agent, with native histograms and without, and what it
//! computes is held against the agent's own `--records`.
//!
//! A scrape is a moment in the middle of a run. The records are in the order in which probes
//! were decided, so that the first so many of them are what that scrape saw: every bucket and
//! every counter can be counted again.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use lab::relay::{Delay, Impairment, RelayConfig};
use lab::{Host, Lab, LinkOptions, Relayed, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};
use serde_json::Value;

use crate::commands::{PATIENCE, Reflecting, records_of};

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

/// A Prometheus in the agent's host.
struct Prometheus {
    running: Running,
    host: Host,
    port: u16,
}

impl Prometheus {
    fn start(host: &Host, port: u16, native: bool) -> Result<Self> {
        let (config, data) = (
            host.file(&format!("prometheus-{port}.yml"))?,
            host.file(&format!("tsdb-{port}"))?,
        );
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
                 - {{job_name: netsonde, static_configs: [{{targets: ['127.0.0.1:{AGENT}']}}]}}\n"
            ),
        )?;
        let config = format!("--config.file={}", config.display());
        let data = format!("--storage.tsdb.path={}", data.display());
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let mut args = vec![config.as_str(), &data, &listen];
        if native {
            args.push("--enable-feature=native-histograms");
        }
        let running = host.spawn("prometheus", &args)?;
        running.wait_error_line("Server is ready to receive web requests", PATIENCE)?;
        Ok(Self {
            running,
            host: host.clone(),
            port,
        })
    }

    /// An instant query: label sets and what belongs to each.
    fn query(&self, query: &str, at: f64) -> Result<Vec<Value>> {
        let encoded: String = query
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).into(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let path = format!("/api/v1/query?query={encoded}&time={at:.3}");
        let answer: Value = serde_json::from_str(&get(&self.host, self.port, &path)?)?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array();
        Ok(result.context("no result")?.clone())
    }

    /// The only value of a query that has one.
    fn value(&self, query: &str, at: f64) -> Result<f64> {
        let result = self.query(query, at)?;
        let [only] = result.as_slice() else {
            bail!("{query}: {} results", result.len());
        };
        let text = only["value"][1].as_str().context("no value")?;
        Ok(text.parse()?)
    }

    fn whole(&self, query: &str, at: f64) -> Result<u64> {
        let value = self.value(query, at)?;
        ensure!(value.fract() == 0.0 && value >= 0.0, "{query} is {value}");
        Ok(value as u64)
    }
}

/// A GET inside a host; the body of the answer.
fn get(host: &Host, port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = host.namespace().run(|| TcpStream::connect(address))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: no chunks in the answer.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    ensure!(head.contains(" 200 "), "{path}: {answer}");
    Ok(body.to_owned())
}

/// What the records say of one probe up to a scrape.
struct Seen {
    /// Sorted RTTs in seconds.
    rtt: Vec<f64>,
}

impl Seen {
    /// The first records of a probe, of which `received` were received and `lost` lost: if
    /// they are not there in just that number, the scrape and the records disagree.
    fn new(records: &[&Value], received: u64, lost: u64) -> Result<Self> {
        let decided = records.iter().filter(|line| {
            let verdict = line["verdict"].as_str().unwrap_or_default();
            ["received", "lost", "lost_local"].contains(&verdict)
        });
        let first: Vec<_> = decided.take((received + lost) as usize).collect();
        let answered = first.iter().filter(|line| line["verdict"] == "received");
        let mut rtt: Vec<f64> = answered
            .map(|line| Ok(line["rtt_ns"].as_i64().context("rtt_ns")? as f64 / 1e9))
            .collect::<Result<_>>()?;
        ensure!(
            rtt.len() as u64 == received && first.len() as u64 == received + lost,
            "{received} received and {lost} lost in Prometheus, the records have {} of {}",
            rtt.len(),
            first.len()
        );
        rtt.sort_by(f64::total_cmp);
        Ok(Self { rtt })
    }

    fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.rtt.len() as f64).ceil() as usize;
        self.rtt[rank.clamp(1, self.rtt.len()) - 1]
    }

    /// Values in (after, to].
    fn between(&self, after: f64, to: f64) -> u64 {
        let up_to = |bound: f64| self.rtt.partition_point(|value| *value <= bound);
        (up_to(to) - up_to(after)) as u64
    }
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

/// What one Prometheus knows of every probe at one moment.
#[derive(Default)]
struct Answers(BTreeMap<&'static str, Answer>);

struct Answer {
    received: u64,
    lost: u64,
    count: u64,
    sum: f64,
    /// By quantile.
    quantiles: Vec<(f64, f64)>,
    /// (after, to], how many.
    buckets: Vec<(f64, f64, u64)>,
}

impl Answers {
    fn ask(prometheus: &Prometheus, at: f64) -> Result<Self> {
        let mut all = Self::default();
        ensure!(prometheus.value("up", at)? == 1.0, "the scrape failed");
        let native = prometheus.query(FAMILY, at)?.len() == PROBED.len();
        for (name, target, protocol) in PROBED {
            let labels = format!(
                "{{probe=\"{name}\",target=\"{target}\",protocol=\"{protocol}\",fleet=\"lab\"}}"
            );
            let counter = |metric: &str| {
                let query = format!("sum(netsonde_probe_{metric}{labels})");
                prometheus.whole(&query, at)
            };
            let (received, lost) = (
                counter("received_packets_total")?,
                counter("lost_packets_total")?,
            );
            let sent = counter("sent_packets_total")?;
            ensure!(
                counter("discarded_packets_total")? == 0,
                "{name}: discarded"
            );
            // Open are those whose wait of 200 ms has not passed.
            ensure!(
                (received + lost..=received + lost + 21).contains(&sent),
                "{name}: sent {sent}, received {received}, lost {lost}"
            );
            let quantile = |q: f64| {
                let series = if native {
                    String::new()
                } else {
                    "_bucket".to_owned()
                };
                let query = format!("histogram_quantile({q}, {FAMILY}{series}{labels})");
                Ok((q, prometheus.value(&query, at)?))
            };
            let (count, sum, buckets) = if native {
                native_histogram(prometheus, &labels, at)?
            } else {
                classic_histogram(prometheus, &labels, at)?
            };
            all.0.insert(
                name,
                Answer {
                    received,
                    lost,
                    count,
                    sum,
                    quantiles: [0.5, 0.9, 0.99]
                        .into_iter()
                        .map(quantile)
                        .collect::<Result<_>>()?,
                    buckets,
                },
            );
        }
        Ok(all)
    }

    fn check(&self, name: &str, native: bool, records: &[&Value]) -> Result<()> {
        let answer = self.0.get(name).context("not asked")?;
        ensure!(
            answer.received > 700 && answer.lost > 5,
            "{}",
            answer.received
        );
        let seen = Seen::new(records, answer.received, answer.lost)?;
        ensure!(answer.count == answer.received, "count {}", answer.count);
        let sum: f64 = seen.rtt.iter().sum();
        ensure!(
            (answer.sum - sum).abs() < 1e-6,
            "sum {} and {sum}",
            answer.sum
        );
        for (after, to, count) in &answer.buckets {
            let real = seen.between(*after, *to);
            ensure!(real == *count, "({after}, {to}] has {count} of {real}");
        }
        let all: u64 = answer.buckets.iter().map(|bucket| bucket.2).sum();
        ensure!(all == answer.count, "{all} in the buckets");
        for (q, told) in &answer.quantiles {
            let real = seen.quantile(*q);
            if *q > 0.98 {
                let kind = if native { "native" } else { "classic" };
                println!("{name}: p99 {told:.6} s, {kind}; records {real:.6} s");
            }
            if native {
                ensure!((told / real - 1.0).abs() < 0.025, "q {q}: {told} of {real}");
                continue;
            }
            let bucket = answer
                .buckets
                .iter()
                .find(|bucket| bucket.0 < real && real <= bucket.1);
            let (after, to, _) = bucket.context("no bucket")?;
            ensure!(
                after <= told && told <= to,
                "q {q}: {told} not in ({after}, {to}], where {real} is"
            );
        }
        Ok(())
    }
}

type Histogram = (u64, f64, Vec<(f64, f64, u64)>);

fn native_histogram(prometheus: &Prometheus, labels: &str, at: f64) -> Result<Histogram> {
    let found = prometheus.query(&format!("{FAMILY}{labels}"), at)?;
    let histogram = &found.first().context("no series")?["histogram"][1];
    let float = |value: &Value| Ok::<f64, anyhow::Error>(value.as_str().context("text")?.parse()?);
    let mut buckets = Vec::new();
    for bucket in histogram["buckets"].as_array().context("buckets")? {
        // Which of the bounds are inside: 0 is (a, b].
        ensure!(bucket[0] == 0, "{bucket}");
        let count = float(&bucket[3])?;
        buckets.push((float(&bucket[1])?, float(&bucket[2])?, count as u64));
    }
    // Schema 5: 32 buckets to every doubling.
    let widest = buckets
        .iter()
        .map(|bucket| bucket.1 / bucket.0)
        .fold(0.0, f64::max);
    ensure!(widest < 2f64.powf(1.001 / 32.0), "a bucket of {widest}");
    Ok((
        float(&histogram["count"])? as u64,
        float(&histogram["sum"])?,
        buckets,
    ))
}

fn classic_histogram(prometheus: &Prometheus, labels: &str, at: f64) -> Result<Histogram> {
    let mut upper: Vec<(f64, u64)> = Vec::new();
    for series in prometheus.query(&format!("{FAMILY}_bucket{labels}"), at)? {
        let bound = series["metric"]["le"].as_str().context("le")?.parse()?;
        let count: f64 = series["value"][1].as_str().context("count")?.parse()?;
        upper.push((bound, count as u64));
    }
    upper.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut buckets = Vec::new();
    let (mut after, mut below) = (0.0, 0);
    for (bound, count) in upper {
        ensure!(count >= below, "the buckets are not cumulative");
        buckets.push((after, bound, count - below));
        (after, below) = (bound, count);
    }
    Ok((
        prometheus.whole(&format!("{FAMILY}_count{labels}"), at)?,
        prometheus.value(&format!("{FAMILY}_sum{labels}"), at)?,
        buckets,
    ))
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
