//! How many packets a second the relay carries without a loss of its own. The sender is on the
//! same machine: what was offered is taken from the kernel's stamps, not from the plan.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base::Direction::Forward;
use lab::relay::RelayConfig;
use lab::traffic::Blast;

use super::run;

/// How far one relay goes, for whoever has to choose between it and the kernel's means.
pub(super) fn headroom() -> Result<()> {
    for rate in [150_000u32, 200_000, 300_000, 400_000] {
        let what = Blast {
            count: rate * 3,
            rate: rate.into(),
            ..Blast::default()
        };
        match run(&RelayConfig::new(1), Forward, what) {
            Ok(_) => println!("relay: {rate} packets/s for 3 s, none lost"),
            Err(error) => {
                println!("relay: {rate} packets/s: {error:#}");
                break;
            }
        }
    }
    Ok(())
}

pub(super) fn throughput() -> Result<()> {
    let what = Blast {
        count: 1_000_000,
        rate: 100_000,
        ..Blast::default()
    };
    let started = Instant::now();
    let seen = run(&RelayConfig::new(1), Forward, what)?;
    ensure!(
        seen.arrivals.len() == 1_000_000,
        "{} arrived",
        seen.arrivals.len()
    );
    // When each came in is the sender's doing: how fast it really was on this machine.
    let mut offered: Vec<u64> = seen.log.of(Forward).map(|record| record.in_ns).collect();
    offered.sort_unstable();
    let mut carried: Vec<u64> = seen.arrivals.iter().map(|arrival| arrival.at_ns).collect();
    carried.sort_unstable();
    let (rate_in, rate_out) = (per_second(&offered)?, per_second(&carried)?);
    let busiest = busiest_second(&offered);
    println!(
        "relay: offered {rate_in:.0} packets/s, {busiest} in the busiest second; carried \
         {rate_out:.0}, none lost, in {:?}",
        started.elapsed()
    );
    ensure!(
        rate_out > 0.99 * rate_in,
        "carried {rate_out:.0} packets/s of {rate_in:.0} offered"
    );
    // A sender that was held up catches up, so that some second has its rate in full.
    ensure!(busiest >= 99_000, "only {busiest} in the busiest second");
    Ok(())
}

/// The mean rate over sorted times.
fn per_second(times_ns: &[u64]) -> Result<f64> {
    let (first, last) = times_ns
        .first()
        .zip(times_ns.last())
        .context("no packets")?;
    Ok((times_ns.len() - 1) as f64 / ((last - first) as f64 / 1e9))
}

/// The most packets within any second, of sorted times.
fn busiest_second(times_ns: &[u64]) -> usize {
    let mut begin = 0;
    let mut most = 0;
    for (end, at) in times_ns.iter().enumerate() {
        while at - times_ns[begin] >= 1_000_000_000 {
            begin += 1;
        }
        most = most.max(end + 1 - begin);
    }
    most
}
