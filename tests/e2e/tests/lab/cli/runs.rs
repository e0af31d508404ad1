//! How runs look and end: signals in every mode, terminals of several widths, options.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::{Direct, Lab, LinkOptions};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};
use serde_json::Value;

use super::super::commands::{PATIENCE, Reflecting, ping, records_of};
use super::{adds_up, has, number, pair, run, start, target};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "cli::a_signal_ends_every_mode_with_its_numbers",
            missing,
            signals,
        ),
        trial(
            "cli::a_second_signal_ends_at_once_with_numbers",
            missing,
            twice,
        ),
        trial("cli::the_table_fits_its_terminal", needs_script, terminals),
        trial("cli::source_ports_are_sessions", missing, source_ports),
        trial("cli::options_arrive_at_the_reflector", missing, options),
    ]
}

fn needs_script() -> Option<String> {
    missing().or_else(|| missing_program("script", "bsdutils"))
}

fn signals() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let reflector = Reflecting::start(&b, "")?;
    let log = a.file("probes")?;
    for (mode, signal) in [
        ("", "INT"),
        ("-q", "TERM"),
        ("--json", "INT"),
        ("--json-stream", "HUP"),
    ] {
        let _ = std::fs::remove_file(&log);
        let running = start(
            &a,
            &format!("ping 10.0.0.2 -i 1ms {mode} --records {}", log.display()),
        )?;
        // Until the first block of records is on the disk, so that probes were answered.
        let limit = Instant::now() + PATIENCE;
        while std::fs::metadata(&log).map_or(0, |file| file.len()) == 0 {
            ensure!(Instant::now() < limit, "no records: {}", running.stderr());
            std::thread::yield_now();
        }
        let finished = running.stop(signal, PATIENCE)?;
        ensure!(finished.code() == 0, "{mode}: {finished:?}");
        ensure!(finished.stderr.is_empty(), "{mode}: {finished:?}");
        let records = records_of(&log)?.len() as u64;
        ensure!(records > 100, "{mode}: {records} records");
        if mode.starts_with("--json") {
            let report = target(&finished)?;
            adds_up(&report)?;
            ensure!(
                number(&report, "sent")? == records,
                "{mode}: {records}: {report}"
            );
            ensure!(number(&report, "lost")? == 0, "{mode}: {report}");
        } else {
            has(
                &finished,
                &format!("sent {records}, received {records}, lost 0 (0%)\n"),
            )?;
        }
    }
    reflector.stop()?;
    Ok(())
}

fn twice() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b: _b } = pair(&lab)?;
    let mut running = start(&a, "ping 10.0.0.9 --protocol icmp -W 30 -i 100ms")?;
    running.wait_line("sent 10, lost 0", PATIENCE)?;
    running.signal("INT")?;
    running.wait_line(
        "waiting up to 30.0s for the probes in flight; Ctrl-C again ends at once",
        PATIENCE,
    )?;
    let finished = running.stop("INT", PATIENCE)?;
    ensure!(finished.code() == 5, "{finished:?}");
    has(&finished, ", received 0, lost 0")?;
    ensure!(
        finished.stderr.lines().count() == 1
            && finished
                .stderr
                .starts_with("netsonde: ended at once by a second signal"),
        "{finished:?}"
    );
    Ok(())
}

/// What a terminal shows: escape sequences taken out.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        let sequence = &rest[at..];
        let end = sequence.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &sequence[end + 1..]);
    }
    out.push_str(rest);
    out
}

fn terminals() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let reflector = Reflecting::start(&b, "")?;
    for (columns, head) in [
        (40, "target        sent    lost     p99"),
        (
            80,
            "target         sent            lost      p50      p99      max",
        ),
        (
            200,
            "target         sent            lost      p50      p99      max",
        ),
    ] {
        let command = format!(
            "stty cols {columns} rows 24; exec {} ping 10.0.0.2 fd00::2 127.0.0.1",
            netsonde()?.display()
        );
        let mut running = a.spawn("script", &["-qfec", &command, "/dev/null"])?;
        running.wait_line("target ", PATIENCE)?;
        // The third target is probed by ICMP, and so begins last.
        loop {
            let row = running.wait_line("127.0.0.1  ", PATIENCE)?;
            if row.split_whitespace().nth(1) != Some("0") {
                break;
            }
        }
        // The terminal makes a signal of it.
        running.write("\u{3}")?;
        let limit = Instant::now() + PATIENCE;
        while !running.has_ended()? {
            ensure!(Instant::now() < limit, "{}", running.stdout());
            std::thread::yield_now();
        }
        let finished = running.finish(PATIENCE)?;
        ensure!(finished.code() == 0, "{finished:?}");
        let (_, table) = finished
            .stdout
            .split_once("\u{1b}[?25l")
            .context("no cursor was hidden")?;
        let (table, summary) = table
            .split_once("\u{1b}[?25h")
            .context("no cursor came back")?;
        for line in plain(table).lines() {
            let line = line.trim_matches('\r');
            let announced = line.contains(": STAMP on") || line.contains(": ICMP echo");
            ensure!(
                announced || line.chars().count() < columns,
                "{columns}: {line:?}"
            );
            ensure!(
                !line.starts_with("target") || line == head,
                "{columns}: {line:?}"
            );
        }
        for target in ["--- 10.0.0.2 ", "--- fd00::2 ", "--- 127.0.0.1 "] {
            ensure!(summary.contains(target), "{summary}");
        }
    }
    reflector.stop()?;
    Ok(())
}

fn source_ports() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let reflector = Reflecting::start(&b, "")?;
    let pinged = ping(
        &a,
        b.address(false),
        "-c 100 --source-ports 8 --poisson -I eth0",
    )?;
    ensure!(pinged.finished.code() == 0, "{:?}", pinged.finished);
    pinged.check_sum()?;
    for (key, wanted) in [
        ("sent", 800),
        ("received", 800),
        ("source_ports", 8),
        ("lost_forward", 0),
    ] {
        ensure!(pinged.number(key)? == wanted, "{key}: {}", pinged.report);
    }
    let mut ports: BTreeMap<u64, u64> = BTreeMap::new();
    for line in &pinged.records {
        *ports.entry(number(line, "source_port")?).or_default() += 1;
    }
    ensure!(
        ports.len() == 8 && ports.values().all(|count| *count == 100),
        "{ports:?}"
    );
    ensure!(
        number(&reflector.stop()?, "sessions_begun")? == 8,
        "sessions"
    );
    Ok(())
}

/// Size, DSCP, TTL and format, seen by what they do at the other end.
fn options() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let reflector = Reflecting::start(&b, "")?;
    lab::nft::run(
        &b,
        "table inet seen {
            counter dscp {}
            chain input {
                type filter hook input priority 0;
                udp dport 862 ip dscp 46 ip ttl 64 ip length 1500 counter name dscp
                udp dport 862 ip6 dscp 46 ip6 hoplimit 64 ip6 length 1460 counter name dscp
            }
        }",
    )?;
    let mut seen = 0;
    for (v6, format) in [(false, "ptp"), (true, "ntp")] {
        let words = format!(
            "-c 50 -s 1500 --dscp 46 -t 64 --timestamp-format {format} --assume-synchronised"
        );
        let pinged = ping(&a, b.address(v6), &words)?;
        pinged.check_sum()?;
        for (key, wanted) in [
            ("received", 50),
            ("dscp_sent", 46),
            ("packet_bytes", 1500),
            ("hops_forward", 0),
        ] {
            ensure!(pinged.number(key)? == wanted, "{key}: {}", pinged.report);
        }
        // One machine has one clock: what is assumed is true.
        for key in ["forward_delay_ns", "reverse_delay_ns"] {
            let least = pinged.report[key]["min"].as_i64().unwrap_or(i64::MIN);
            ensure!((0..5_000_000).contains(&least), "{key}: {}", pinged.report);
        }
        seen += 50 + pinged.number("uncounted")?;
        ensure!(
            lab::nft::counter(&b, "dscp")? >= seen,
            "not as asked for on the wire"
        );
    }
    // Several targets in one document, in their order.
    let finished = run(&a, "ping 10.0.0.2 fd00::2 127.0.0.1 -c 10 --json", 0)?;
    let document: Value = serde_json::from_str(&finished.stdout)?;
    let told: Vec<&str> = document["targets"]
        .as_array()
        .context("targets")?
        .iter()
        .filter_map(|target| target["protocol"].as_str())
        .collect();
    ensure!(told == ["stamp", "stamp", "icmp"], "{document}");
    reflector.stop()?;
    Ok(())
}
