//! Peers that are no relatives of ours: stamp-suite 0.8.0 on either end, and a plain RFC 8762
//! reflector written from the RFC alone. What `ping` says is held against what the relay did.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use base::Direction;
use lab::relay::truth::held_both_ways_ns;
use lab::relay::{Delay, Impairment, RelayConfig, RelayLog, Truth};
use lab::{Direct, Host, Lab, LinkOptions, Relayed, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, trial};
use serde_json::Value;

use crate::commands::{PATIENCE, Pinged, Plain, Reflecting, missing_python, number, ping, tool};

/// What the relay holds every packet, each way.
const DELAY_NS: u64 = 5_000_000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        for stateful in [true, false] {
            let kind = if stateful { "stateful" } else { "stateless" };
            trials.push(trial(
                &format!("interop::stamp_suite_reflects_{family}_{kind}"),
                missing_suite,
                move || suite_reflects(v6, stateful),
            ));
            trials.push(trial(
                &format!("interop::plain_reflector_{family}_{kind}"),
                missing_python,
                move || plain_reflects(v6, stateful),
            ));
        }
        trials.push(trial(
            &format!("interop::stamp_suite_sends_{family}"),
            missing_suite,
            move || suite_sends(v6),
        ));
    }
    trials.push(trial(
        "interop::twamp_light_answers_with_41_octets",
        missing_python,
        twamp_light,
    ));
    trials.push(trial(
        "interop::numbers_wrap_and_restart",
        missing_python,
        wraps_and_restarts,
    ));
    trials
}

fn missing_suite() -> Option<String> {
    let suite = || suite().err().map(|error| error.to_string());
    missing().or_else(suite)
}

fn suite() -> Result<std::path::PathBuf> {
    tool("NETSONDE_STAMP_SUITE", "tools/bin/stamp-suite")
}

/// Two hosts, 5 ms each way and nothing else.
fn five_milliseconds(lab: &Lab) -> Result<Relayed> {
    let plan = Impairment::default().with_delay(Delay::Fixed(DELAY_NS));
    let config = RelayConfig {
        realtime: Some(10),
        ..RelayConfig::both(1, &plan)
    };
    Relayed::new(lab, LinkOptions::default(), &config)
}

fn start_suite(host: &Host, address: IpAddr, words: &str) -> Result<Running> {
    let address = address.to_string();
    let mut args = vec!["-i", "--local-addr", &address, "--output-format", "json"];
    args.extend(words.split_whitespace());
    let mut running = host.spawn(suite()?, &args)?;
    running.wait_line("listening", PATIENCE)?;
    Ok(running)
}

/// The last line of JSON that stamp-suite printed.
fn summary(stdout: &str) -> Result<Value> {
    let line = stdout.lines().rev().find(|line| line.starts_with('{'));
    Ok(serde_json::from_str(line.context("no JSON")?)?)
}

fn median(values: &[i64]) -> Result<i64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().context("no values")
}

/// All answered, nothing else happened.
fn check_clean(pinged: &Pinged, count: u64) -> Result<()> {
    pinged.check_sum()?;
    ensure!(pinged.finished.code() == 0, "{:?}", pinged.finished);
    ensure!(pinged.number("sent")? == count && pinged.number("received")? == count);
    for key in [
        "late",
        "duplicates_reverse",
        "reordered_reverse",
        "stray_replies",
        "malformed_replies",
        "reflector_resets",
        "send_errors",
        "lost_local",
        "lost_unattributed",
    ] {
        ensure!(pinged.number(key)? == 0, "{key}: {}", pinged.report);
    }
    ensure!(pinged.report["protocol"] == "stamp", "{}", pinged.report);
    Ok(())
}

/// Directions are claimed exactly when the reflector has numbers of its own.
fn check_directions(pinged: &Pinged, stateful: bool) -> Result<()> {
    for key in [
        "lost_forward",
        "lost_reverse",
        "duplicates_forward",
        "reordered_forward",
    ] {
        let claimed = !pinged.report[key].is_null();
        ensure!(
            claimed == stateful,
            "{key}: {} of {stateful}",
            pinged.report[key]
        );
    }
    Ok(())
}

/// RTT and both ways of each probe against what the relay held it. The peers take their
/// stamps in user space, so that what is left over is theirs, and more on a busy machine.
fn check_delays(pinged: &Pinged, log: &RelayLog) -> Result<()> {
    let held = held_both_ways_ns(&log.counted());
    let mut over: [Vec<i64>; 3] = Default::default();
    for line in pinged.with_verdict("received") {
        let seq = u32::try_from(number(line, "seq")?)?;
        let Some([forward, reverse]) = held.get(&seq) else {
            continue;
        };
        let at = |key: &str| Ok::<_, anyhow::Error>(number(line, key)?.cast_signed());
        let [t1, t2, t3, t4] = [at("t1_ns")?, at("t2_ns")?, at("t3_ns")?, at("t4_ns")?];
        let rtt = line["rtt_ns"].as_i64().context("rtt_ns")?;
        ensure!(rtt == (t4 - t1) - (t3 - t2), "{line}");
        let (forward, reverse) = (forward.cast_signed(), reverse.cast_signed());
        over[0].push(rtt - forward - reverse);
        over[1].push(t2 - t1 - forward);
        over[2].push(t4 - t3 - reverse);
    }
    ensure!(over[0].len() > 50, "only {} probes", over[0].len());
    for (what, over) in ["rtt", "forward", "reverse"].iter().zip(&over) {
        let least = over.iter().min().context("no values")?;
        let median = median(over)?;
        ensure!(
            *least >= -1_000 && median < DELAY_NS.cast_signed() / 2,
            "{what}: beyond what the relay held, least {least} ns, median {median} ns"
        );
    }
    Ok(())
}

fn suite_reflects(v6: bool, stateful: bool) -> Result<()> {
    let state = if stateful { "--stateful-reflector" } else { "" };
    for (theirs, ours) in [
        ("NTP", "ntp"),
        ("PTP", "ptp"),
        ("NTP", "ptp"),
        ("PTP", "ntp"),
    ] {
        // The smallest, with three octets that are no TLV, and a large one.
        for size in ["", "--no-private-tlv", "-s 95 --no-private-tlv", "-s 1400"] {
            if theirs != "NTP" && size != "-s 1400" {
                continue;
            }
            let words = format!("-c 100 -i 3ms -W 5s --timestamp-format {ours} {size}");
            let lab = Lab::new()?;
            let mut net = five_milliseconds(&lab)?;
            let to = net.b.address(v6);
            let suite = start_suite(&net.b, to, &format!("-K {theirs} {state}"))?;
            let pinged = ping(&net.a, to, &words)?;
            // Killed: once it had a packet it never clears its socket's readiness, spins,
            // and does not see SIGINT, so that its own numbers cannot be had.
            drop(suite);
            let log = net.stop()?;
            let said = || format!("stamp-suite {theirs} {state}, ping {words}");
            check_clean(&pinged, 100).with_context(said)?;
            check_directions(&pinged, stateful).with_context(said)?;
            check_delays(&pinged, &log).with_context(said)?;
            // An uncounted opening probe is two packets of one number.
            let [asked, answered] = Direction::ALL.map(|way| log.output(way).len() as u64);
            ensure!(
                asked == answered && asked >= 100 + pinged.number("uncounted")?,
                "{}: {asked} requests, {answered} replies, {}",
                said(),
                pinged.report
            );
        }
    }
    Ok(())
}

fn suite_sends(v6: bool) -> Result<()> {
    for words in [
        "-K NTP",
        "-K PTP --ssid 77",
        "--location --timestamp-info --cos --dscp 10 --follow-up-telemetry --direct-measurement",
        "--ber",
    ] {
        let lab = Lab::new()?;
        let mut net = five_milliseconds(&lab)?;
        let reflecting = Reflecting::start(&net.b, "")?;
        let (to, from) = (net.b.address(v6).to_string(), net.a.address(v6).to_string());
        let mut args = vec!["--remote-addr", &to, "--local-addr", &from];
        // Not from port 862: a reflector does not answer that.
        args.extend([
            "--local-port",
            "40000",
            "--count",
            "100",
            "--send-delay",
            "3",
        ]);
        args.extend(["-L", "5", "-R", "--output-format", "json"]);
        args.extend(words.split_whitespace());
        let finished = net.a.spawn(suite()?, &args)?.finish(PATIENCE)?;
        let log = net.stop()?;
        let counters = reflecting.stop()?;
        let told = summary(&finished.stdout)?;
        ensure!(
            told["packets_sent"] == 100
                && told["packets_received"] == 100
                && told["packets_lost"] == 0,
            "{words}: {told}"
        );
        ensure!(
            counters["requests"] == 100 && counters["replies"] == 100,
            "{words}: {counters}"
        );
        ensure!(counters["sessions_begun"] == 1 && counters["sender_restarts"] == 0);
        ensure!(counters["malformed_tlvs"] == 0, "{words}: {counters}");
        // `seq=98 rtt=0.117ms ttl=64 ...`, by its own clock in user space.
        let held = held_both_ways_ns(&log);
        let mut over = Vec::new();
        for line in finished
            .stdout
            .lines()
            .filter(|line| line.starts_with("seq="))
        {
            let word = |key| line.split(' ').find_map(|word| word.strip_prefix(key));
            let seq: u32 = word("seq=").context("seq")?.parse()?;
            let rtt = word("rtt=").and_then(|rtt| rtt.strip_suffix("ms"));
            let rtt_ms: f64 = rtt.context("rtt")?.parse()?;
            let [forward, reverse] = held.get(&seq).context("not in the relay's log")?;
            over.push((rtt_ms * 1e6) as i64 - forward.cast_signed() - reverse.cast_signed());
        }
        let (least, median) = (over.iter().min().context("no lines")?, median(&over)?);
        ensure!(
            over.len() == 100 && *least >= -2_000 && median < DELAY_NS.cast_signed() / 2,
            "{words}: {} lines, beyond what the relay held: least {least}, median {median} ns",
            over.len()
        );
    }
    Ok(())
}

/// With loss each way at chosen places, so that the directions have something to say.
fn plain_reflects(v6: bool, stateful: bool) -> Result<()> {
    for words in ["", "--timestamp-format ptp -s 500", "--no-private-tlv"] {
        let way = |ratio| {
            Impairment::default()
                .with_loss(ratio)
                .with_delay(Delay::Fixed(DELAY_NS))
        };
        let config = RelayConfig {
            forward: way(0.05),
            reverse: way(0.03),
            ..RelayConfig::new(7)
        };
        let lab = Lab::new()?;
        let mut net = Relayed::new(&lab, LinkOptions::default(), &config)?;
        let to = net.b.address(v6);
        let kind = if stateful { "" } else { "--stateless" };
        let plain = Plain::start(&net.b, to, kind)?;
        let pinged = ping(&net.a, to, &format!("-c 300 -i 3ms -W 5s {words}"))?;
        plain.stop()?;
        let log = net.stop()?;
        pinged.check_sum()?;
        check_directions(&pinged, stateful)?;
        let log = counted_by_records(&log, &pinged)?;
        let truth = Truth::of(&log);
        check_delays(&pinged, &log)?;
        let lost = truth.lost_forward + truth.lost_reverse;
        ensure!(
            truth.lost_forward > 3 && truth.lost_reverse > 1,
            "{truth:?}"
        );
        ensure!(
            pinged.number("received")? == truth.answered && pinged.number("lost")? == lost,
            "{words}: {truth:?} {}",
            pinged.report
        );
        let unattributed = pinged.number("lost_unattributed")?;
        if stateful {
            let told = (
                pinged.number("lost_forward")?,
                pinged.number("lost_reverse")?,
            );
            let real = (truth.lost_forward, truth.lost_reverse);
            // The last probes may stay open, when the first closing probes got no answer.
            ensure!(
                told.0.abs_diff(real.0) + told.1.abs_diff(real.1) <= unattributed
                    && unattributed <= pinged.number("uncounted")?,
                "{words}: {told:?} of {real:?}, {unattributed} unattributed"
            );
        } else {
            ensure!(unattributed == lost, "{unattributed} of {lost}");
        }
    }
    Ok(())
}

/// The log of the counted probes alone, told by their numbers: without the private TLV the
/// relay cannot tell them.
fn counted_by_records(log: &RelayLog, pinged: &Pinged) -> Result<RelayLog> {
    let counted = sequences(pinged.records.iter())?;
    Ok(log.filtered(|record| {
        record
            .probe()
            .is_some_and(|probe| counted.contains(&u64::from(probe)))
    }))
}

fn sequences<'a>(lines: impl Iterator<Item = &'a Value>) -> Result<BTreeSet<u64>> {
    lines.map(|line| number(line, "seq")).collect()
}

/// RFC 5357 appendix I: replies end after the TTL, whatever the request had behind it.
fn twamp_light() -> Result<()> {
    for (v6, words) in [
        (false, ""),
        (true, ""),
        (false, "-s 300"),
        (false, "--no-private-tlv"),
    ] {
        let lab = Lab::new()?;
        let net = Direct::new(&lab, LinkOptions::default())?;
        let to = net.b.address(v6);
        let plain = Plain::start(&net.b, to, "--twamp-light")?;
        let pinged = ping(&net.a, to, &format!("-c 100 -i 3ms -W 5s {words}"))?;
        let told = plain.stop()?;
        check_clean(&pinged, 100)?;
        check_directions(&pinged, true)?;
        ensure!(told["reply_octets"] == serde_json::json!([41]), "{told}");
        let resized = pinged.number("resized_replies")?;
        ensure!(told["replies"] == resized, "{resized} resized, {told}");
        ensure!(pinged.report["hops_forward"] == 0 && pinged.report["hops_reverse"] == 0);
    }
    Ok(())
}

fn wraps_and_restarts() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    let to = net.b.address(false);
    // The reflector's numbers pass 2^32 in the middle.
    let plain = Plain::start(&net.b, to, "--first 4294967250")?;
    let pinged = ping(&net.a, to, "-c 100 -i 3ms -W 5s")?;
    plain.stop()?;
    check_clean(&pinged, 100)?;
    check_directions(&pinged, true)?;
    let numbers = sequences(pinged.records.iter())?;
    ensure!(numbers.len() == 100, "{} different numbers", numbers.len());
    let theirs: BTreeSet<u64> = pinged
        .records
        .iter()
        .filter_map(|line| line["reflector_seq"].as_u64())
        .collect();
    ensure!(theirs.contains(&u64::from(u32::MAX)) && theirs.contains(&0));

    let plain = Plain::start(&net.b, to, "--restart-after 50")?;
    let pinged = ping(&net.a, to, "-c 100 -i 3ms -W 5s")?;
    plain.stop()?;
    pinged.check_sum()?;
    ensure!(
        pinged.number("received")? == 100 && pinged.number("reflector_resets")? == 1,
        "{}",
        pinged.report
    );
    for key in ["lost", "duplicates_reverse", "reordered_reverse"] {
        ensure!(pinged.number(key)? == 0, "{key}: {}", pinged.report);
    }
    Ok(())
}
