//! What one Prometheus answers about every probe at one moment, and the same from the records:
//! counters and buckets to the number, quantiles within the width of a bucket.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::server::{Prometheus, classic_histogram, native_histogram};
use super::{FAMILY, PROBED};

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

/// What one Prometheus knows of every probe at one moment.
#[derive(Default)]
pub(super) struct Answers(BTreeMap<&'static str, Answer>);

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
    pub(super) fn ask(prometheus: &Prometheus, at: f64) -> Result<Self> {
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

    pub(super) fn check(&self, name: &str, native: bool, records: &[&Value]) -> Result<()> {
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
