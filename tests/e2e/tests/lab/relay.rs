//! The relay does what its log says: every claim is compared with a capture at the receiving
//! host and with the kernel's counters.
//!
//! Here is what every trial shares, with what it checks of each run, and the trials of a relay
//! that does nothing or everything; the others are by subject in `relay/`.

#[path = "relay/arrivals.rs"]
mod arrivals;
#[path = "relay/content.rs"]
mod content;
#[path = "relay/rate.rs"]
mod rate;
#[path = "relay/runs.rs"]
mod runs;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use base::Direction::{self, Forward, Reverse};
use lab::relay::reordering::reordered;
use lab::relay::{Delay, RelayConfig, Verdict};
use lab::traffic::{Arrival, Blast, Capture, blast};
use lab::{Impairment, Lab, LinkOptions, RelayLog, Relayed};
use libtest_mimic::Trial;
use netsonde_e2e::trial;

type Test = fn() -> Result<()>;

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 14] = [
        ("relay::passes_everything_unharmed", passes),
        ("relay::loses_what_it_says", arrivals::loses),
        ("relay::duplicates_what_it_says", arrivals::duplicates),
        ("relay::reorders_what_it_says", arrivals::reorders),
        ("relay::delays_as_it_says", arrivals::delays),
        ("relay::corrupts_what_it_says", content::corrupts),
        ("relay::limits_the_size", content::limits),
        ("relay::pretends_hops", content::hops),
        ("relay::does_all_at_once_both_ways", all_at_once),
        ("relay::changes_its_plan_on_order", runs::replans),
        ("relay::carries_tcp_in_spite_of_loss", runs::tcp),
        ("relay::finishes_its_log_on_sigterm", runs::sigterm),
        ("relay::survives_a_link_that_goes_down", runs::link_down),
        ("relay::carries_100_000_packets_a_second", rate::throughput),
    ];
    let trials = tests.map(|(name, test)| trial(name, lab::cleanup::missing, test));
    let mut trials = Vec::from(trials);
    if std::env::var_os("NETSONDE_LONG").is_some() {
        trials.push(trial(
            "relay::headroom",
            lab::cleanup::missing,
            rate::headroom,
        ));
    }
    trials
}

/// What a run showed: the log, and what a capture at the receiver saw.
struct Seen {
    log: RelayLog,
    arrivals: Vec<Arrival>,
}

/// Sends through a relay, forward or reverse, and checks what holds for every run: the
/// relay failed nothing, its totals balance, and the capture saw the log's output, packet
/// by packet and in its order.
fn run(config: &RelayConfig, direction: Direction, what: Blast) -> Result<Seen> {
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), config)?;
    let (from, to) = match direction {
        Forward => (net.a.clone(), net.b.clone()),
        Reverse => (net.b.clone(), net.a.clone()),
    };
    let capture = Capture::start(&to, what.port)?;
    let into_relay = |net: &Relayed| match direction {
        Forward => net.between.device_counter("left", "rx_packets"),
        Reverse => net.between.device_counter("right", "rx_packets"),
    };
    let before = into_relay(&net)?;
    blast(&from, &to, what)?;
    let came = into_relay(&net)? - before;
    let log = net.stop()?;
    let arrivals = capture.stop()?;
    let totals = log.totals(direction);
    ensure!(
        totals.own_failures() == 0,
        "the relay lost packets: {totals:?}"
    );
    ensure!(totals.balance(), "packets in no counter: {totals:?}");
    ensure!(totals.matched == u64::from(what.count), "{totals:?}");
    ensure!(
        came >= totals.matched && totals.received >= came,
        "kernel {came}, {totals:?}"
    );
    let output = log.output(direction);
    ensure!(
        output.len() as u64 == totals.matched + totals.copies - totals.lost - totals.too_big,
        "{totals:?}"
    );
    let logged: Vec<_> = output.iter().map(|record| record.sequence).collect();
    let captured: Vec<_> = arrivals
        .iter()
        .map(|arrival| Some(arrival.number))
        .collect();
    // A corrupted number is another number: `corrupts` looks at those.
    if totals.corrupted == 0 {
        ensure!(logged == captured, "the log's output is not what arrived");
    }
    Ok(Seen { log, arrivals })
}

fn forward(seed: u64, plan: Impairment) -> RelayConfig {
    RelayConfig {
        forward: plan,
        ..RelayConfig::new(seed)
    }
}

/// Waits until the kernel has seen so many packets leave the relay, and then no more for
/// 200 ms: neighbour discovery is among them, so that the last one of ours may still be held.
fn settle(net: &Relayed, packets: u64) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    let (mut seen, mut since) = (0, Instant::now());
    while seen < packets || since.elapsed() < Duration::from_millis(200) {
        let now = net.between.device_counter("right", "tx_packets")?;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        ensure!(Instant::now() < limit, "the relay does not forward");
    }
    Ok(())
}

fn passes() -> Result<()> {
    for v6 in [false, true] {
        for direction in Direction::ALL {
            let what = Blast {
                v6,
                payload: if v6 { 8_953 } else { 8_973 },
                ..Blast::default()
            };
            let seen = run(&RelayConfig::new(1), direction, what)?;
            ensure!(seen.arrivals.len() == 1_000);
            ensure!(
                seen.arrivals
                    .iter()
                    .all(|a| a.intact && a.ip_len == 9_001 && a.ttl == 255)
            );
            for record in &seen.log.records {
                ensure!(
                    record.in_ns <= record.out_ns && record.ttl == 255,
                    "{record:?}"
                );
                ensure!(
                    record.ports == (40_000, 862) && record.ip_len == 9_001,
                    "{record:?}"
                );
                ensure!(record.source.is_ipv6() == v6, "{record:?}");
            }
        }
    }
    Ok(())
}

fn all_at_once() -> Result<()> {
    let plan = Impairment::default()
        .with_loss(0.05)
        .with_duplicates(0.01)
        .with_reordering(0.01, 2)
        .with_delay(Delay::Uniform(100_000, 300_000));
    let what = Blast {
        count: 10_000,
        rate: 10_000,
        ..Blast::default()
    };
    for direction in Direction::ALL {
        let seen = run(&RelayConfig::both(11, &plan), direction, what)?;
        let expected: usize = seen
            .log
            .of(direction)
            .filter(|record| record.verdict == Verdict::Forwarded)
            .count();
        ensure!(seen.arrivals.len() == expected);
        let arrived = reordered(seen.arrivals.iter().map(|arrival| arrival.number.into()));
        let logged = reordered(seen.log.output(direction).iter().map(|record| record.index));
        ensure!(arrived == logged && logged > 50, "{arrived} and {logged}");
    }
    Ok(())
}
