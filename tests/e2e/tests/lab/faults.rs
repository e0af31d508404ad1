//! A reflector that misbehaves, one way at a time: what each kind of bad reply does to the
//! numbers of `ping` is held against what the reflector says that it did. Whatever it sends,
//! `sent = received + lost + discarded`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use lab::{Direct, Lab, LinkOptions};
use libtest_mimic::Trial;
use netsonde_e2e::trial;
use serde_json::Value;

use crate::commands::{Pinged, Plain, missing_python, number, ping};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = FAULTS
        .iter()
        .map(|fault| {
            let name = format!("faults::{}", fault.name);
            trial(&name, missing_python, || misbehaves(fault))
        })
        .collect();
    let name = "faults::nothing_but_rubbish";
    trials.push(trial(name, missing_python, nothing_but_rubbish));
    trials
}

/// What one kind of bad reply does to the numbers of `ping`.
struct Fault {
    /// As `reflector.py` calls it.
    name: &'static str,
    /// Further options of `ping`.
    words: &'static str,
    /// Together they count every bad reply, those to uncounted probes too.
    every: &'static [&'static str],
    /// It counts the bad replies to counted probes.
    counted: Option<&'static str>,
    /// So many times.
    times: u64,
    /// Whether the probe is lost.
    lost: bool,
}

const FAULT: Fault = Fault {
    name: "",
    words: "",
    every: &[],
    counted: None,
    times: 1,
    lost: false,
};

static FAULTS: &[Fault] = &[
    Fault {
        name: "truncate",
        every: &["malformed_replies"],
        lost: true,
        ..FAULT
    },
    Fault {
        name: "ssid",
        every: &["stray_replies"],
        lost: true,
        ..FAULT
    },
    Fault {
        name: "t1",
        every: &["stray_replies"],
        lost: true,
        ..FAULT
    },
    Fault {
        name: "sequence",
        every: &["stray_replies"],
        lost: true,
        ..FAULT
    },
    Fault {
        name: "random",
        every: &["stray_replies"],
        lost: true,
        ..FAULT
    },
    Fault {
        name: "random-length",
        every: &["stray_replies", "malformed_replies"],
        lost: true,
        ..FAULT
    },
    Fault {
        name: "other-address",
        lost: true,
        ..FAULT
    },
    Fault {
        name: "other-port",
        lost: true,
        ..FAULT
    },
    Fault {
        name: "negative-dwell",
        counted: Some("negative_dwell"),
        ..FAULT
    },
    Fault {
        name: "huge-dwell",
        counted: Some("excessive_dwell"),
        ..FAULT
    },
    Fault {
        name: "duplicate",
        counted: Some("duplicates_reverse"),
        ..FAULT
    },
    Fault {
        name: "storm",
        counted: Some("duplicates_reverse"),
        times: 49,
        ..FAULT
    },
    Fault {
        name: "shrink",
        words: "-s 200",
        every: &["resized_replies"],
        ..FAULT
    },
    Fault {
        name: "grow",
        words: "-s 200",
        every: &["resized_replies"],
        ..FAULT
    },
    Fault {
        name: "tlv-bomb",
        words: "-s 1000",
        ..FAULT
    },
    Fault {
        name: "report",
        words: "-s 200",
        ..FAULT
    },
    Fault {
        name: "forged-report",
        words: "-s 200",
        ..FAULT
    },
];

fn misbehaves(fault: &Fault) -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    net.b.ip("address add 10.0.0.9/24 dev eth0")?;
    net.a
        .ip("neighbour replace 10.0.0.9 lladdr 02:00:00:00:00:02 dev eth0 nud permanent")?;
    let to = net.b.address(false);
    let words = format!("--fault {} --every 10 --other 10.0.0.9", fault.name);
    let plain = Plain::start(&net.b, to, &words)?;
    let unheard = net.a.stack_counter("UdpNoPorts")?;
    let pinged = ping(&net.a, to, &format!("-c 200 -i 3ms -W 5s {}", fault.words))?;
    let told = plain.stop()?;
    let unheard = net.a.stack_counter("UdpNoPorts")? - unheard;
    pinged.check_sum()?;
    ensure!(pinged.finished.code() == 0, "{:?}", pinged.finished);

    let bad: Vec<u64> = told["bad"]
        .as_array()
        .context("bad")?
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    let sequences: BTreeSet<u64> = pinged
        .records
        .iter()
        .map(|line| number(line, "seq"))
        .collect::<Result<_>>()?;
    let counted = bad.iter().filter(|seq| sequences.contains(seq)).count() as u64;
    ensure!(counted >= 19, "only {counted} bad replies");
    let bad = bad.len() as u64;

    let mut expected: BTreeMap<&str, u64> = [
        "late",
        "duplicates_reverse",
        "reordered_reverse",
        "send_errors",
        "skipped",
        "lost_local",
        "receive_overflows",
        "reflector_resets",
    ]
    .into_iter()
    .map(|key| (key, 0))
    .collect();
    for key in ["malformed_replies", "stray_replies", "resized_replies"] {
        if !fault.every.contains(&key) {
            expected.insert(key, 0);
        }
    }
    let lost = if fault.lost { counted } else { 0 };
    let mut received = 200 - lost;
    expected.extend([("sent", 200), ("lost", lost)]);
    if let Some(key) = fault.counted {
        let found = &pinged.report["discarded"][key];
        if found.is_null() {
            expected.insert(key, counted * fault.times);
        } else {
            ensure!(*found == counted, "{key}: {found} of {counted}");
            received -= counted;
        }
    }
    expected.insert("received", received);
    for (key, value) in expected {
        let found = pinged.number(key)?;
        ensure!(
            found == value,
            "{key}: {found}, expected {value}; {told}; {}",
            pinged.report
        );
    }
    if !fault.every.is_empty() {
        let keys = fault.every.iter();
        let sum: u64 = keys.map(|key| pinged.number(key)).sum::<Result<_>>()?;
        ensure!(sum == bad, "{:?} are {sum}, bad were {bad}", fault.every);
    }
    if fault.every.len() == 2 {
        let short = number(&told, "reply_octets_short")?;
        ensure!(pinged.number("malformed_replies")? == short, "{told}");
    }
    if fault.name.starts_with("other") {
        ensure!(unheard == bad, "the host refused {unheard} of {bad}");
    }
    check_attribution(&pinged)
}

/// Whatever a reflector claims: the places add up to what was lost.
fn check_attribution(pinged: &Pinged) -> Result<()> {
    let places = [
        "lost_forward",
        "lost_reverse",
        "lost_unattributed",
        "lost_local",
    ];
    let mut sum = 0;
    for key in places {
        sum += pinged.report[key].as_u64().unwrap_or(0);
    }
    ensure!(sum == pinged.number("lost")?, "{}", pinged.report);
    Ok(())
}

/// Never one good reply: all is lost, the counters say why, and the exit code is 1.
fn nothing_but_rubbish() -> Result<()> {
    for (fault, v6) in [
        ("random-length", false),
        ("tlv-bomb", false),
        ("forged-report", true),
        ("random", true),
    ] {
        let lab = Lab::new()?;
        let net = Direct::new(&lab, LinkOptions::default())?;
        let to = net.b.address(v6);
        let words = format!("--fault {fault} --every 1 --good-first 0");
        let plain = Plain::start(&net.b, to, &words)?;
        let words = "-c 100 -i 3ms -W 5s --protocol stamp -s 120";
        let pinged = ping(&net.a, to, words)?;
        let told = plain.stop()?;
        pinged.check_sum()?;
        check_attribution(&pinged)?;
        if ["tlv-bomb", "forged-report"].contains(&fault) {
            // Good but for their TLVs.
            ensure!(pinged.number("received")? == 100, "{}", pinged.report);
            continue;
        }
        ensure!(pinged.finished.code() == 1, "{:?}", pinged.finished);
        ensure!(pinged.number("lost")? == 100, "{}", pinged.report);
        let refused = pinged.number("malformed_replies")? + pinged.number("stray_replies")?;
        ensure!(told["replies"] == refused, "{refused} refused, {told}");
    }
    Ok(())
}
