//! What `ping` reports is what the relay did, packet by packet: loss by direction,
//! duplicates, reordering, over many seeds, with our reflector and with one that knows
//! nothing but RFC 8762.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base::Direction::{Forward, Reverse};
use lab::relay::{Record, Truth, Verdict};
use lab::{Impairment, Lab, LinkOptions, RelayConfig, RelayLog, Relayed};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, netsonde, trial};
use serde_json::Value;

const PROBES: u64 = 10_000;
/// Runs side by side: none of this is about time.
const AT_ONCE: usize = 4;

/// Of the seeds 1 to 20 those that miss R1's bound with a plain reflector, in every run,
/// since the seed alone decides what the relay does. No algorithm can keep it always
/// (kernel-and-lab E12): a hidden duplicate right beside a forward loss looks like a reverse
/// loss. Of 1000 simulated seeds 54 miss it.
const UNDECIDABLE: [u64; 2] = [2, 15];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "exact::our_reflector_tells_every_direction",
            missing,
            || over_seeds(20, &[], check_ours),
        ),
        trial(
            "exact::a_plain_reflector_tells_all_but_hidden_duplicates",
            missing,
            || over_seeds(20, &UNDECIDABLE, check_plain),
        ),
        trial(
            "exact::without_duplicates_a_plain_reflector_is_exact",
            missing,
            || over_seeds(4, &[], check_plain_without_duplicates),
        ),
        trial(
            "exact::a_stateless_reflector_claims_no_direction",
            missing,
            || over_seeds(2, &[], check_stateless),
        ),
        trial(
            "exact::bursts_and_outages_have_their_shape",
            missing,
            bursts,
        ),
    ]
}

/// Runs `check` for the seeds 1 to `count`, some at a time, and reports every failure; only
/// the seeds in `misses` may be [`OutOfBound`].
fn over_seeds(count: u64, misses: &[u64], check: fn(u64) -> Result<()>) -> Result<()> {
    let next = AtomicU64::new(1);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > count {
                        return;
                    }
                    let Err(error) = check(seed) else { continue };
                    let text = format!("seed {seed}: {error:#}");
                    if error.is::<OutOfBound>() && misses.contains(&seed) {
                        println!("bound missed, as known: {text}");
                    } else if let Ok(mut list) = failures.lock() {
                        list.push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    ensure!(
        failures.is_empty(),
        "{} of {count} seeds:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

/// The impairment of the issue: 5 % loss forward, 2 % reverse, 1 % duplicates and 1 %
/// reordering each way.
fn impairment(seed: u64, duplicates: f64) -> RelayConfig {
    let way = |loss| {
        Impairment::default()
            .with_loss(loss)
            .with_duplicates(duplicates)
            .with_reordering(0.01, 2)
    };
    RelayConfig {
        forward: way(0.05),
        reverse: way(0.02),
        ..RelayConfig::new(seed)
    }
}

/// One run: what `ping --json` says of its target, and the relay's whole log.
fn run(config: &RelayConfig, reflector: &[&str], ping: &[&str]) -> Result<(Value, RelayLog)> {
    let binary = netsonde()?;
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), config)?;
    let args = [&["reflect"], reflector].concat();
    let mut reflecting = net.b.spawn(&binary, &args)?;
    reflecting.wait_line("reflecting", Duration::from_secs(10))?;
    let target = net.b.ipv4().to_string();
    let count = PROBES.to_string();
    let args = [
        &["ping", &target, "-c", &count, "-i", "1ms", "--json"],
        ping,
    ]
    .concat();
    let pinged = net
        .a
        .spawn(&binary, &args)?
        .finish(Duration::from_secs(90))?;
    ensure!(
        pinged.code() == 0,
        "ping ended with {}: {}",
        pinged.code(),
        pinged.stderr
    );
    reflecting.stop("TERM", Duration::from_secs(10))?;
    let log = net.stop()?;
    for direction in base::Direction::ALL {
        let totals = log.totals(direction);
        ensure!(
            totals.own_failures() == 0,
            "the relay lost packets itself: {totals:?}"
        );
    }
    let document: Value = serde_json::from_str(&pinged.stdout)?;
    let target = document["targets"].get(0).context("no target")?.clone();
    Ok((target, log))
}

fn number(report: &Value, key: &str) -> Result<u64> {
    report[key]
        .as_u64()
        .with_context(|| format!("{key} is {}", report[key]))
}

/// What holds for every run: totals, and received + lost + discarded = sent.
fn check_totals(report: &Value, truth: &Truth) -> Result<()> {
    let get = |key| number(report, key);
    ensure!(get("sent")? == PROBES, "sent {}", get("sent")?);
    ensure!(
        truth.probes + get("lost_local")? == PROBES,
        "the relay saw {}",
        truth.probes
    );
    ensure!(
        get("received")? == truth.answered,
        "received {} of {truth:?}",
        get("received")?
    );
    ensure!(
        get("lost")? == truth.lost_forward + truth.lost_reverse,
        "{truth:?}"
    );
    let discarded: u64 = report["discarded"]
        .as_object()
        .context("no discarded")?
        .values()
        .filter_map(Value::as_u64)
        .sum();
    ensure!(get("received")? + get("lost")? + discarded == get("sent")?);
    ensure!(get("late")? == 0 && get("skipped")? == 0 && get("send_errors")? == 0);
    Ok(())
}

fn check_reordering(report: &Value, truth: &Truth) -> Result<()> {
    let found = (
        number(report, "reordered_forward")?,
        number(report, "reordered_reverse")?,
    );
    let expected = (truth.reordered_forward, truth.reordered_reverse);
    ensure!(
        found == expected,
        "reordered {found:?}, the relay says {expected:?}"
    );
    Ok(())
}

fn check_ours(seed: u64) -> Result<()> {
    let (report, log) = run(&impairment(seed, 0.01), &[], &[])?;
    let truth = Truth::of(&log.counted());
    check_totals(&report, &truth)?;
    let keys = [
        "lost_forward",
        "lost_reverse",
        "duplicates_forward",
        "duplicates_reverse",
    ];
    let mut found = [0; 4];
    for (place, key) in found.iter_mut().zip(keys) {
        *place = number(&report, key)?;
    }
    let expected = [
        truth.lost_forward,
        truth.lost_reverse,
        truth.duplicates_forward,
        truth.duplicates_reverse,
    ];
    ensure!(
        found == expected,
        "{keys:?} are {found:?}, the relay says {expected:?}"
    );
    ensure!(number(&report, "lost_unattributed")? == 0);
    check_reordering(&report, &truth)
}

/// Kernel-and-lab R1: |forward - true| <= unattributed <= hidden duplicates + unanswered
/// closing probes.
fn check_bound(report: &Value, truth: &Truth, unanswered_closing: u64) -> Result<()> {
    let (forward, reverse) = (
        number(report, "lost_forward")?,
        number(report, "lost_reverse")?,
    );
    let unattributed = number(report, "lost_unattributed")?;
    let parts = forward + reverse + unattributed + number(report, "lost_local")?;
    ensure!(parts == number(report, "lost")?, "the parts are {parts}");
    let off = forward.abs_diff(truth.lost_forward);
    let bound = truth.hidden_duplicates + unanswered_closing;
    // Whatever cannot be told, it is never more than a few probes in ten thousand.
    ensure!(
        off <= 5 && unattributed <= bound + 3,
        "lost_forward is {off} off: {truth:?}"
    );
    if off > unattributed || unattributed > bound {
        return Err(OutOfBound(format!(
            "lost_forward {forward} is {off} off, unattributed {unattributed}, bound {bound}: {truth:?}"
        ))
        .into());
    }
    Ok(())
}

/// R1's bound missed: see [`UNDECIDABLE`].
#[derive(Debug)]
struct OutOfBound(String);

impl std::fmt::Display for OutOfBound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutOfBound {}

fn plain(seed: u64, duplicates: f64) -> Result<()> {
    let config = impairment(seed, duplicates);
    let (report, log) = run(&config, &["--no-private-tlv"], &[])?;
    let truth = Truth::of(&log.counted());
    check_totals(&report, &truth)?;
    check_reordering(&report, &truth)?;
    check_bound(&report, &truth, unanswered_closing(&log)?)
}

/// Uncounted probes behind the last counted one of which no reply was delivered.
fn unanswered_closing(log: &RelayLog) -> Result<u64> {
    let counted = log.counted();
    let last = counted.of(Forward).filter_map(Record::probe).max();
    let last = last.context("no counted probe")?;
    let closing = |record: &&Record| record.uncounted == Some(true);
    let sent = log.of(Forward).filter(closing).filter_map(Record::probe);
    let sent: BTreeSet<u32> = sent.filter(|probe| *probe > last).collect();
    let replies = log.of(Reverse).filter(|record| record.left());
    let answered: BTreeSet<u32> = replies.filter_map(Record::probe).collect();
    Ok(sent.difference(&answered).count() as u64)
}

fn check_plain(seed: u64) -> Result<()> {
    plain(seed, 0.01)
}

fn check_plain_without_duplicates(seed: u64) -> Result<()> {
    plain(seed, 0.0)
}

fn check_stateless(seed: u64) -> Result<()> {
    let config = impairment(seed, 0.01);
    let (report, log) = run(&config, &["--stateless", "--no-private-tlv"], &[])?;
    let truth = Truth::of(&log.counted());
    check_totals(&report, &truth)?;
    ensure!(
        report["lost_forward"].is_null() && report["lost_reverse"].is_null(),
        "{report}"
    );
    ensure!(number(&report, "lost_unattributed")? == number(&report, "lost")?);
    Ok(())
}

/// From the first lost request of a run to the next one that passed, by when they came to
/// the relay: the longest.
fn longest_run_ns(log: &RelayLog) -> Option<u64> {
    let mut requests: Vec<&Record> = log.of(Forward).filter(|record| record.copy == 0).collect();
    requests.sort_by_key(|record| record.index);
    let mut began = None;
    let mut longest = None;
    for record in requests {
        if record.verdict == Verdict::Lost {
            began = began.or(Some(record.in_ns));
        } else if let Some(began) = began.take() {
            longest = longest.max(Some(record.in_ns.saturating_sub(began)));
        }
    }
    longest
}

/// 5 lost of every 100 forward: runs of 5, an outage each.
fn bursts() -> Result<()> {
    let mut config = RelayConfig::new(1);
    config.forward.loss.push(lab::relay::Loss::Burst {
        every: 100,
        length: 5,
    });
    let (report, log) = run(&config, &[], &[])?;
    let log = log.counted();
    let truth = Truth::of(&log);
    check_totals(&report, &truth)?;
    ensure!(number(&report, "lost_forward")? == truth.lost_forward && truth.lost_forward >= 490);
    let runs = &report["loss_run_packets"];
    // The opening probes share the relay's count, so that the first or last run may be cut.
    ensure!(runs["p50"] == 5 && runs["max"] == 5, "{runs}");
    let outages = number(&report, "outages")?;
    ensure!((98..=101).contains(&outages), "{outages} outages");
    let longest = number(&report, "longest_outage_ns")?;
    // Five intervals, more where a busy machine sent late: the relay saw when.
    let real = longest_run_ns(&log).context("the relay lost nothing")?;
    ensure!(
        longest >= 4_900_000 && longest.abs_diff(real) < 5_000_000,
        "longest outage {longest} ns, by the relay's log {real} ns"
    );
    ensure!(report["longest_outage_at"].is_string(), "{report}");
    Ok(())
}
