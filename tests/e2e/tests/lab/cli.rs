//! `ping` and `reflect` as people type them: what is said, what is counted, and the exit
//! code, when the path, the host or the command line is not as it should be.

#[path = "cli/input.rs"]
mod input;
#[path = "cli/runs.rs"]
mod runs;

use anyhow::{Context, Result, ensure};
use lab::{Direct, Finished, Host, Lab, LinkOptions, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, netsonde, trial};
use serde_json::Value;

use super::commands::{PATIENCE, Reflecting, number};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(
            "cli::without_a_reflector_there_is_icmp_and_the_reason",
            missing,
            without_a_reflector,
        ),
        trial(
            "cli::a_silent_address_ends_with_the_causes",
            missing,
            silent_address,
        ),
        trial(
            "cli::what_nobody_answers_arp_for_is_lost_here",
            missing,
            nobody_on_the_link,
        ),
        trial(
            "cli::a_link_that_goes_down_is_no_loss_of_the_path",
            missing,
            link_down_and_up,
        ),
        trial(
            "cli::a_device_that_goes_away_ends_nothing",
            missing,
            device_gone,
        ),
        trial(
            "cli::a_firewall_of_this_host_is_named",
            missing,
            refused_by_this_host,
        ),
        trial(
            "cli::a_reflector_that_restarts_is_seen_once",
            missing,
            reflector_restarts,
        ),
        trial(
            "cli::a_reflector_that_comes_late_gives_directions",
            missing,
            reflector_comes_late,
        ),
    ];
    trials.extend(input::trials());
    trials.extend(runs::trials());
    trials
}

/// Two hosts that find each other as hosts do.
fn pair(lab: &Lab) -> Result<Direct> {
    let options = LinkOptions {
        discover_neighbours: true,
        ..LinkOptions::default()
    };
    Direct::new(lab, options)
}

/// Starts `netsonde`; `words` are arguments separated by spaces.
fn start(host: &Host, words: &str) -> Result<Running> {
    let args: Vec<&str> = words.split_whitespace().collect();
    host.spawn(netsonde()?, &args)
}

/// Runs it to its end, which must have this exit code.
fn run(host: &Host, words: &str, code: i32) -> Result<Finished> {
    let finished = start(host, words)?.finish(PATIENCE)?;
    ensure!(
        finished.code() == code,
        "{words}: exit code {code} was expected: {finished:?}"
    );
    Ok(finished)
}

/// The only target of a document, and of the last line of a stream.
fn target(finished: &Finished) -> Result<Value> {
    let line = finished.stdout.lines().last().context("no document")?;
    let document: Value = serde_json::from_str(line)?;
    Ok(document["targets"][0].clone())
}

fn has(finished: &Finished, text: &str) -> Result<()> {
    ensure!(
        finished.stdout.contains(text),
        "no {text:?} in {finished:?}"
    );
    Ok(())
}

/// Everything that was sent has one verdict.
fn adds_up(report: &Value) -> Result<()> {
    let discarded = report["discarded"].as_object().context("discarded")?;
    let discarded: u64 = discarded.values().filter_map(Value::as_u64).sum();
    let number = |key| number(report, key);
    ensure!(
        number("sent")? == number("received")? + number("lost")? + discarded,
        "{report}"
    );
    Ok(())
}

fn without_a_reflector() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = pair(&lab)?;
    for (v6, packet) in [(false, 84), (true, 104)] {
        let to = b.address(v6);
        let finished = run(&a, &format!("ping {to} -w 2"), 0)?;
        let first = finished.stdout.lines().next().unwrap_or_default();
        ensure!(
            first
                == format!(
                    "{to}: ICMP echo, since no STAMP reflector answers on UDP port 862 (port unreachable)"
                ),
            "{first}"
        );
        let finished = run(&a, &format!("ping {to} -w 2 --json"), 0)?;
        let report = target(&finished)?;
        for (key, wanted) in [
            ("protocol", "icmp"),
            ("protocol_requested", "auto"),
            ("protocol_reason", "stamp_refused"),
        ] {
            ensure!(report[key] == wanted, "{key}: {report}");
        }
        // ICMP's pace, not STAMP's: one in 200 ms.
        let sent = number(&report, "sent")?;
        ensure!((9..=11).contains(&sent), "{sent} sent in 2 s");
        ensure!(number(&report, "received")? == sent, "{report}");
        ensure!(number(&report, "packet_bytes")? == packet, "{report}");
        ensure!(number(&report, "payload_bytes")? == 56, "{report}");
        ensure!(number(&report["rtt_ns"], "count")? == sent, "{report}");
    }
    Ok(())
}

/// A rule of this host's own firewall.
fn rule(host: &Host, hook: &str, verdict: &str) -> Result<()> {
    let script = format!(
        "table inet silence {{
            chain drops {{
                type filter hook {hook} priority 0;
                meta l4proto {{ udp, icmp, ipv6-icmp }} {verdict}
            }}
        }}"
    );
    lab::nft::run(host, &script)
}

fn silent_address() -> Result<()> {
    let lab = Lab::new()?;
    // Without ARP: the rule drops neighbour discovery too.
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    rule(&b, "input", "drop")?;
    for v6 in [false, true] {
        let to = b.address(v6);
        let finished = run(&a, &format!("ping {to} -c 5 -W 300ms"), 1)?;
        has(&finished, "on UDP port 862 (3 probes unanswered)\n")?;
        has(
            &finished,
            "sent 5, received 0, lost 5 (100%), direction unknown\n",
        )?;
        has(
            &finished,
            "no answer at all; likely causes, in order:\n  1. a security group",
        )?;
        ensure!(finished.stderr.is_empty(), "{finished:?}");
        let finished = run(
            &a,
            &format!("ping {to} -c 20 -W 300ms --protocol stamp -q"),
            1,
        )?;
        has(&finished, "sent 20, received 0, lost 20 (100%)")?;
        has(
            &finished,
            &format!("drops UDP port 862: does ICMP pass? netsonde ping --protocol icmp {to}\n"),
        )?;
        has(
            &finished,
            "  2. no reflector runs there, or it does not --allow this host",
        )?;
    }
    let report = target(&run(&a, "ping 10.0.0.2 -c 5 -W 300ms --json", 1)?)?;
    ensure!(number(&report, "lost")? == 5, "{report}");
    ensure!(number(&report, "lost_local")? == 0, "{report}");
    ensure!(report["loss_ratio"] == 1.0, "{report}");
    ensure!(report["rtt_ns"]["p50"].is_null(), "{report}");
    Ok(())
}

fn nobody_on_the_link() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b: _b } = pair(&lab)?;
    for (to, words) in [
        ("10.0.0.9", "nobody answers ARP for it"),
        ("fd00::9", "nobody answers neighbour discovery for it"),
    ] {
        let report = target(&run(
            &a,
            &format!("ping {to} -c 20 --protocol stamp --json"),
            1,
        )?)?;
        for (key, wanted) in [("sent", 20), ("lost", 20), ("lost_local", 20)] {
            ensure!(number(&report, key)? == wanted, "{key} of {to}: {report}");
        }
        let finished = run(&a, &format!("ping {to} -c 3 -q --protocol icmp"), 1)?;
        has(&finished, "lost 3 (100%): local 3, direction unknown 0\n")?;
        has(&finished, words)?;
    }
    Ok(())
}

fn link_down_and_up() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = pair(&lab)?;
    let reflector = Reflecting::start(&b, "")?;
    let mut ping = start(&a, "ping 10.0.0.2 -i 10ms")?;
    ping.wait_line("sent ", PATIENCE)?;
    a.ip("link set eth0 down\n")?;
    let said = ping.wait_line("cannot send", PATIENCE)?;
    ensure!(
        said == "10.0.0.2: this host cannot send: Network is unreachable (ENETUNREACH)",
        "{said}"
    );
    ping.wait_line("(ENETUNREACH)", PATIENCE)?;
    a.ip("link set eth0 up\n")?;
    ping.wait_line("10.0.0.2: this host sends again", PATIENCE)?;
    ping.wait_line("sent ", PATIENCE)?;
    let finished = ping.stop("INT", PATIENCE)?;
    ensure!(finished.code() == 0, "{finished:?}");
    ensure!(finished.stderr.is_empty(), "{finished:?}");
    has(&finished, ": Network is unreachable (ENETUNREACH)\n")?;
    reflector.stop()?;
    Ok(())
}

fn device_gone() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = pair(&lab)?;
    let _reflector = Reflecting::start(&b, "")?;
    let mut ping = start(&a, "ping 10.0.0.2 -i 10ms -w 3 --json-stream")?;
    ping.wait_line("\"sent\"", PATIENCE)?;
    a.ip("link delete eth0\n")?;
    let finished = ping.finish(PATIENCE)?;
    ensure!(finished.code() == 0, "{finished:?}");
    let report = target(&finished)?;
    adds_up(&report)?;
    let (sent, errors) = (number(&report, "sent")?, number(&report, "send_errors")?);
    // 300 probes in 3 s: about a third before, the rest after.
    ensure!((90..=250).contains(&sent), "{report}");
    ensure!((280..=305).contains(&(sent + errors)), "{report}");
    ensure!(
        report["send_errors_by_errno"]["ENETUNREACH"] == errors,
        "{report}"
    );
    // What was on its way when the device went is all that may be missing.
    ensure!(number(&report, "lost")? <= 2, "{report}");
    Ok(())
}

fn refused_by_this_host() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    rule(&a, "output", "drop")?;
    let finished = run(&a, "ping 10.0.0.2 -c 3", 1)?;
    has(
        &finished,
        "(this host could not send: Operation not permitted (EPERM))\n",
    )?;
    has(
        &finished,
        "sent 0, received 0, lost 0\nsend errors 3: Operation not permitted (EPERM)\n",
    )?;
    has(
        &finished,
        "a firewall rule of this host refuses it: nft list ruleset",
    )?;
    let report = target(&run(&a, "ping 10.0.0.2 -c 3 --json --protocol stamp", 1)?)?;
    ensure!(number(&report, "send_errors")? == 3, "{report}");
    ensure!(report["loss_ratio"].is_null(), "{report}");
    // Larger than the link: once from `send()`, not again from the error queue. The three
    // opening probes are among the reasons.
    let report = target(&run(
        &b,
        "ping 10.0.0.1 -s 9216 -c 10 -W 300ms --json --protocol stamp",
        1,
    )?)?;
    ensure!(number(&report, "send_errors")? == 10, "{report}");
    ensure!(report["send_errors_by_errno"]["EMSGSIZE"] == 13, "{report}");
    Ok(())
}

fn reflector_restarts() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = pair(&lab)?;
    let reflector = Reflecting::start(&b, "")?;
    let mut ping = start(&a, "ping 10.0.0.2 -i 10ms --json-stream")?;
    ping.wait_line("\"sent\"", PATIENCE)?;
    let before = reflector.stop()?;
    let reflector = Reflecting::start(&b, "")?;
    ping.wait_line("\"reflector_resets\":1", PATIENCE)?;
    ping.wait_line("\"sent\"", PATIENCE)?;
    let finished = ping.stop("INT", PATIENCE)?;
    let after = reflector.stop()?;
    ensure!(finished.code() == 0, "{finished:?}");
    let report = target(&finished)?;
    adds_up(&report)?;
    ensure!(number(&report, "reflector_resets")? == 1, "{report}");
    for key in [
        "reordered_forward",
        "reordered_reverse",
        "duplicates_forward",
        "duplicates_reverse",
        "late",
    ] {
        ensure!(number(&report, key)? == 0, "{key}: {report}");
    }
    let lost = number(&report, "lost")?;
    let by_place = [
        "lost_forward",
        "lost_reverse",
        "lost_local",
        "lost_unattributed",
    ];
    let mut sum = 0;
    for key in by_place {
        sum += number(&report, key)?;
    }
    ensure!(sum == lost, "{report}");
    // Both answered every packet that they saw; opening and closing probes are among them.
    let replies = number(&before, "replies")? + number(&after, "replies")?;
    let (received, uncounted) = (number(&report, "received")?, number(&report, "uncounted")?);
    ensure!(
        (received..=received + 2 * uncounted).contains(&replies),
        "{replies} replies, {report}"
    );
    Ok(())
}

fn reflector_comes_late() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = pair(&lab)?;
    let mut ping = start(&a, "ping 10.0.0.2 -i 10ms --json-stream --protocol stamp")?;
    // The first second finds out that nobody answers; here probes are lost already.
    ping.wait_line("\"icmp_errors\":[{", PATIENCE)?;
    ping.wait_line("\"outages\"", PATIENCE)?;
    let reflector = Reflecting::start(&b, "")?;
    ping.wait_line("\"p99\":", PATIENCE)?;
    while !ping
        .wait_line("\"lost_forward\":", PATIENCE)?
        .contains("\"lost\":0,\"lost_forward\":0,")
    {}
    let finished = ping.stop("INT", PATIENCE)?;
    reflector.stop()?;
    ensure!(finished.code() == 0, "{finished:?}");
    let report = target(&finished)?;
    adds_up(&report)?;
    let lost = number(&report, "lost")?;
    ensure!(lost > 0 && number(&report, "received")? > 0, "{report}");
    // Nobody numbered what was lost before the reflector came: it has no direction.
    ensure!(number(&report, "lost_unattributed")? == lost, "{report}");
    ensure!(number(&report, "lost_forward")? == 0, "{report}");
    Ok(())
}
