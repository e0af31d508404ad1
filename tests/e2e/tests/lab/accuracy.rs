//! The numbers are the path's own: nothing lost or skipped where nothing is lost, and
//! delays that are what the relay really did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base::Direction;
use lab::relay::truth::held_both_ways_ns;
use lab::relay::{Delay, Record};
use lab::{Direct, Impairment, Lab, LinkOptions, RelayConfig, Relayed};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, netsonde, trial};
use serde_json::Value;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "accuracy::a_clean_path_loses_and_skips_nothing_at_1_ms",
            missing,
            || undisturbed(10_000, "1ms", &[]),
        ),
        trial(
            "accuracy::a_clean_path_loses_and_skips_nothing_at_100_us",
            missing,
            || undisturbed(100_000, "100us", &[]),
        ),
        trial(
            "accuracy::realtime_at_100_us_loses_and_skips_nothing",
            missing,
            || undisturbed(50_000, "100us", &["--realtime"]),
        ),
        trial("accuracy::delays_are_what_the_relay_did", missing, delays),
    ]
}

fn report(stdout: &str) -> Result<Value> {
    let document: Value = serde_json::from_str(stdout)?;
    document["targets"].get(0).cloned().context("no target")
}

fn undisturbed(count: u64, interval: &str, more: &[&str]) -> Result<()> {
    let binary = netsonde()?;
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    let mut reflector = net.b.spawn(&binary, &["reflect"])?;
    reflector.wait_line("reflecting", Duration::from_secs(10))?;
    let (target, counted) = (net.b.ipv4().to_string(), count.to_string());
    let args = [
        &["ping", &target, "-c", &counted, "-i", interval, "--json"],
        more,
    ]
    .concat();
    let pinged = net
        .a
        .spawn(&binary, &args)?
        .finish(Duration::from_secs(60))?;
    ensure!(pinged.code() == 0, "{}", pinged.stderr);
    let report = report(&pinged.stdout)?;
    for (key, expected) in [
        ("sent", count),
        ("received", count),
        ("lost", 0),
        ("skipped", 0),
        ("late", 0),
        ("send_errors", 0),
        ("duplicates_forward", 0),
        ("duplicates_reverse", 0),
    ] {
        ensure!(
            report[key] == expected,
            "{key} is {}, not {expected}",
            report[key]
        );
    }
    // The kernel's own count of what came is the oracle: the counted probes and the uncounted.
    let uncounted = report["uncounted"].as_u64().context("uncounted")?;
    let came = net.b.stack_counter("UdpInDatagrams")?;
    ensure!(
        came >= count + uncounted,
        "the reflector's kernel saw {came} datagrams"
    );
    Ok(())
}

/// Per probe, what `--records` says.
struct Measured {
    rtt_ns: i64,
    forward_ns: i64,
    reverse_ns: i64,
}

fn records(text: &str) -> Result<BTreeMap<u32, Measured>> {
    let mut measured = BTreeMap::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line)?;
        if record["verdict"] != "received" {
            continue;
        }
        let get = |key: &str| {
            record[key]
                .as_i64()
                .with_context(|| format!("{key}: {line}"))
        };
        let seq = u32::try_from(get("seq")?)?;
        let (t1, t2, t3, t4) = (get("t1_ns")?, get("t2_ns")?, get("t3_ns")?, get("t4_ns")?);
        let one = Measured {
            rtt_ns: get("rtt_ns")?,
            forward_ns: t2 - t1,
            reverse_ns: t4 - t3,
        };
        ensure!(
            one.rtt_ns == (t4 - t1) - (t3 - t2),
            "rtt is not (T4-T1)-(T3-T2): {line}"
        );
        measured.insert(seq, one);
    }
    Ok(measured)
}

/// What is left of the delays of some probes when the relay's own holding is taken away:
/// round trip, forward, reverse; in nanoseconds, sorted.
type Residues = [Vec<i64>; 3];

/// The residues of those that the relay was told to hold, and of those that it was not. For
/// the round trip, of those held either way, and neither way.
fn residues(config: &RelayConfig, count: usize) -> Result<(Residues, Residues)> {
    let binary = netsonde()?;
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), config)?;
    let mut reflector = net.b.spawn(&binary, &["reflect"])?;
    reflector.wait_line("reflecting", Duration::from_secs(10))?;
    let file = net.a.file("records.jsonl")?;
    let path = file.to_str().context("path")?;
    let (target, counted) = (net.b.ipv4().to_string(), count.to_string());
    let args = [
        "ping",
        &target,
        "-c",
        &counted,
        "-i",
        "2ms",
        "--json",
        "--assume-synchronised",
        "--records",
        path,
    ];
    let pinged = net
        .a
        .spawn(&binary, &args)?
        .finish(Duration::from_secs(60))?;
    ensure!(pinged.code() == 0, "{}", pinged.stderr);
    let measured = records(&std::fs::read_to_string(&file)?)?;
    let log = net.stop()?.counted();
    let held = held_both_ways_ns(&log);
    ensure!(
        measured.len() == count && held.len() == count,
        "{} {}",
        measured.len(),
        held.len()
    );
    // By the plan, not by how long it took: a late undelayed packet is undelayed.
    let [delayed_forward, delayed_reverse] = Direction::ALL.map(|way| {
        let delayed = log.of(way).filter(|record| record.due_ns > record.in_ns);
        delayed.filter_map(Record::probe).collect::<BTreeSet<_>>()
    });
    let (mut delayed, mut undelayed) = (Residues::default(), Residues::default());
    for (seq, one) in &measured {
        let held_up = (delayed_forward.contains(seq), delayed_reverse.contains(seq));
        let [forward, reverse] = held
            .get(seq)
            .context("not in the relay's log")?
            .map(u64::cast_signed);
        for (way, late, ns) in [
            (0, held_up.0 || held_up.1, one.rtt_ns - forward - reverse),
            (1, held_up.0, one.forward_ns - forward),
            (2, held_up.1, one.reverse_ns - reverse),
        ] {
            let side = if late { &mut delayed } else { &mut undelayed };
            side[way].push(ns);
        }
    }
    for way in delayed.iter_mut().chain(&mut undelayed) {
        ensure!(way.len() >= count / 20, "only {} of a kind", way.len());
        way.sort_unstable();
    }
    Ok((delayed, undelayed))
}

fn quantile(sorted: &[i64], per_mille: usize) -> i64 {
    sorted[(sorted.len() - 1) * per_mille / 1000]
}

/// Delays of 100 us to 20 ms, another for every probe, in both directions; every other
/// block of packets has none, so that what the path takes by itself is known from the same
/// run. Blocks, since the relay keeps the order: one behind a held one is held too.
fn delays() -> Result<()> {
    let way = |factor: u64, block: u64| {
        let held = (1..=block).map(|n| n * factor % 20_000_000 + 100_000);
        let list = (0..block).map(|_| 0).chain(held).collect();
        Impairment::default().with_delay(Delay::List(list))
    };
    let config = RelayConfig {
        // Two lengths, for probes that are held both ways, either way and neither way.
        forward: way(7_919_000, 80),
        reverse: way(3_571_000, 40),
        realtime: Some(20),
        ..RelayConfig::new(1)
    };
    let (delayed, undelayed) = residues(&config, 4_000)?;
    for (way, name) in ["round trip", "forward", "reverse"].iter().enumerate() {
        let base = quantile(&undelayed[way], 500);
        let mut off: Vec<i64> = delayed[way].iter().map(|ns| (ns - base).abs()).collect();
        off.sort_unstable();
        let (median, p99) = (quantile(&off, 500), quantile(&off, 990));
        println!("{name}: undelayed median {base} ns; off by {median} ns (median), {p99} ns (p99)");
        ensure!(median <= 20_000, "{name}: off by {median} ns (median)");
        ensure!(
            p99 <= 50_000,
            "{name}: off by {p99} ns (p99), median {median} ns"
        );
    }
    Ok(())
}
