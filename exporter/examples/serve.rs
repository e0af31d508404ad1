//! Serves a target with a known distribution, to look at with a real Prometheus:
//! `cargo run -p netsonde-exporter --example serve -- 127.0.0.1:9862`.
//!
//! A second argument gives a number of targets, all alike, to see what a scrape costs.
//! Every tick records the same 2 000 values (three decades with a tail), so that
//! `histogram_quantile` over any range must give the quantiles that are printed here.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::{Output, Quantity, Sample, TargetKey, WallNanos};
use netsonde_exporter::{Encoding, Role, ServerOptions, spawn};
use record::series::ClassicBounds;
use record::snapshot::{BuildInfo, TargetSnapshot};
use record::{Snapshot, TargetSeries};

fn now() -> WallNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallNanos(since.map_or(0, |since| since.as_nanos() as u64))
}

/// About log-normal around 250 us: the product of uniform factors.
fn values() -> Vec<i64> {
    let mut state = 1u64;
    let mut factor = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    (0..2_000)
        .map(|_| {
            let sum: f64 = (0..6).map(|_| factor()).sum();
            (250_000.0 * (sum * 1.4).exp()) as i64
        })
        .collect()
}

fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let values = values();
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let targets: u32 = std::env::args()
        .nth(2)
        .and_then(|number| number.parse().ok())
        .unwrap_or(1);
    for (name, rank) in [("p50", 1_000), ("p90", 1_800), ("p99", 1_980)] {
        println!("{name} {} s", sorted[rank - 1] as f64 / 1e9);
    }
    let second = 1_000_000_000;
    let mut series = TargetSeries::new(second / 2_000, second, &ClassicBounds::default());
    let start = now();
    let build = BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..BuildInfo::default()
    };
    let snapshot = |series: &TargetSeries| Snapshot {
        not_ready: Vec::new(),
        started_at: start,
        targets: (0..targets)
            .map(|number| {
                Arc::new(TargetSnapshot {
                    key: TargetKey(number),
                    probe: Arc::from("example"),
                    target: Arc::from(format!("nowhere-{number}")),
                    labels: Arc::from([]),
                    address: None,
                    az_id: String::new(),
                    protocol_requested: "stamp",
                    protocol: None,
                    why: None,
                    interval_ns: second / 2_000,
                    since: start,
                    counters: series.counters,
                    gauges: series.gauges,
                    stamped: series.stamped,
                    loss: series.loss,
                    settled_loss: series.settled_loss(),
                    problem: String::new(),
                    series: series.snapshot(),
                })
            })
            .collect(),
        ..Snapshot::starting(build.clone(), now())
    };
    let (sender, receiver) = tokio::sync::watch::channel(Arc::new(snapshot(&series)));
    let listener = TcpListener::bind(address)?;
    let server = spawn(
        ServerOptions::new(vec![(listener, Role::Full)], Encoding::default()),
        receiver,
    )?;
    println!("http://{}/metrics", server.addresses()[0]);
    loop {
        for (place, value) in values.iter().enumerate() {
            series.apply(&Output::Sample(Sample {
                quantity: Quantity::Rtt,
                value: *value,
            }));
            let signed = if place % 2 == 0 { *value } else { -*value };
            series.apply(&Output::Sample(Sample {
                quantity: Quantity::ForwardIpdv,
                value: signed,
            }));
        }
        series.tick();
        sender.send_replace(Arc::new(snapshot(&series)));
        std::thread::sleep(Duration::from_secs(1));
    }
}
