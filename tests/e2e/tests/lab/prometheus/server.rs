//! A Prometheus in a host of the lab: starting it, asking it, and both forms in which it has a
//! histogram.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use lab::{Host, Running};
use serde_json::Value;

use super::{AGENT, FAMILY};
use crate::commands::PATIENCE;

/// A Prometheus in the agent's host.
pub(super) struct Prometheus {
    pub(super) running: Running,
    host: Host,
    port: u16,
}

impl Prometheus {
    pub(super) fn start(host: &Host, port: u16, native: bool) -> Result<Self> {
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
    pub(super) fn query(&self, query: &str, at: f64) -> Result<Vec<Value>> {
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
    pub(super) fn value(&self, query: &str, at: f64) -> Result<f64> {
        let result = self.query(query, at)?;
        let [only] = result.as_slice() else {
            bail!("{query}: {} results", result.len());
        };
        let text = only["value"][1].as_str().context("no value")?;
        Ok(text.parse()?)
    }

    pub(super) fn whole(&self, query: &str, at: f64) -> Result<u64> {
        let value = self.value(query, at)?;
        ensure!(value.fract() == 0.0 && value >= 0.0, "{query} is {value}");
        Ok(value as u64)
    }
}

/// A GET inside a host; the body of the answer.
pub(super) fn get(host: &Host, port: u16, path: &str) -> Result<String> {
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

pub(super) type Histogram = (u64, f64, Vec<(f64, f64, u64)>);

pub(super) fn native_histogram(
    prometheus: &Prometheus,
    labels: &str,
    at: f64,
) -> Result<Histogram> {
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

pub(super) fn classic_histogram(
    prometheus: &Prometheus,
    labels: &str,
    at: f64,
) -> Result<Histogram> {
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
