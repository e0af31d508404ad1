//! Requests made to break `netsonde reflect`: truncated, oversized, full of TLVs, replayed,
//! spoofed, from where they may not come. A capture of the reflector's host witnesses that no
//! reply is larger than its request and none comes unasked; the reflector's own counters have
//! to add up, reason by reason.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Direct, Lab, LinkOptions};
use libtest_mimic::Trial;
use netsonde_e2e::trial;
use serde_json::Value;

use crate::commands::{PATIENCE, Reflecting, number, script};
use crate::dump::{Dump, fields, missing_tshark};

/// What a case of `hostile.py` comes to.
#[derive(Copy, Clone)]
enum Fate {
    /// Every datagram is answered.
    Answered,
    /// Every datagram is dropped for this reason.
    Dropped(&'static str),
    /// So many are answered, the others dropped for this reason.
    Partly(u64, &'static str),
    /// The kernel keeps it from the reflector.
    Unseen,
}
use Fate::{Answered, Dropped, Partly, Unseen};

type Cases = &'static [(&'static str, Fate)];

const ALWAYS: Cases = &[
    ("tiny", Dropped("too_short")),
    ("sizes", Answered),
    ("above_the_link", Dropped("send_failed")),
    ("too_long", Dropped("too_long")),
    ("noise", Answered),
    ("tlv_bombs", Answered),
    ("broken_tlvs", Answered),
    ("from_862", Dropped("reflector_loop")),
    ("not_allowed", Dropped("not_allowed")),
    ("replayed", Answered),
    ("backwards", Answered),
];

/// Only with IPv4: raw IPv6 sockets do not let a source be chosen so easily.
const SPOOFED: Cases = &[
    ("spoofed", Answered),
    ("spoofed_ports", Dropped("reflector_loop")),
    ("unroutable", Dropped("send_failed")),
    ("from_broadcast", Dropped("send_failed")),
    ("martians", Unseen),
    ("bad_checksums", Unseen),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        trials.push(trial(
            &format!("hostile::requests_{family}"),
            missing_tshark,
            move || {
                let allow = "--allow 10.0.0.1,fd00::1";
                let short = &[("short", Dropped("too_short"))];
                attack(v6, allow, &[ALWAYS, short])
            },
        ));
        trials.push(trial(
            &format!("hostile::twamp_light_{family}"),
            missing_tshark,
            move || {
                let short: Cases = &[("tiny", Dropped("too_short")), ("short", Answered)];
                attack(v6, "--twamp-light", &[short])
            },
        ));
        trials.push(trial(
            &format!("hostile::to_everybody_{family}"),
            missing_tshark,
            move || {
                let everybody: Cases = &[("to_everybody", Dropped("bad_address"))];
                // IPv6 has no broadcast.
                let subnet: Cases = &[("to_subnet", Dropped("send_failed"))];
                attack(v6, "", &[everybody, if v6 { &[] } else { subnet }])
            },
        ));
    }
    trials.push(trial("hostile::spoofed", missing_tshark, || {
        attack(false, "", &[SPOOFED])
    }));
    trials.push(trial("hostile::limits", missing_tshark, || {
        // One of the 100 sessions is the ordinary one.
        let full: Cases = &[("sessions", Partly(99, "table_full"))];
        attack(false, "--max-sessions 100", &[full])?;
        // A tenth of a second's worth at once, and what comes due while it is sent.
        let limited: Cases = &[("burst", Partly(10, "rate_limited"))];
        attack(false, "--rate 100", &[limited])
    }));
    trials
}

fn attack(v6: bool, words: &str, cases: &[Cases]) -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    for host in [&net.a, &net.b] {
        host.offloads_off("eth0")?;
    }
    net.a
        .ip("address add 10.0.0.7/24 dev eth0\naddress add fd00::7/64 dev eth0 nodad\n")?;
    // Those whose addresses are used in vain: replies to them have to be on the wire.
    let spoofed = (20..100).map(|host| {
        format!("neighbour replace 10.0.0.{host} lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n")
    });
    net.b.ip(&spoofed.collect::<String>())?;
    let reflecting = Reflecting::start(&net.b, words)?;
    let dump = Dump::start(&net.b)?;

    let (to, source) = (net.b.address(v6).to_string(), net.a.address(v6).to_string());
    let script = script("hostile.py");
    let other = if v6 { "fd00::7" } else { "10.0.0.7" };
    let mut args = vec![script.as_str(), "--to", &to, "--source", &source];
    args.extend(["--other-source", other]);
    let cases: Vec<_> = cases.iter().copied().flatten().copied().collect();
    args.extend(cases.iter().map(|case| case.0));
    let begun = Instant::now();
    let finished = net.a.spawn("python3", &args)?.finish(PATIENCE)?;
    let took = begun.elapsed();
    ensure!(finished.code() == 0, "hostile.py: {}", finished.stderr);
    let sent: Value = serde_json::from_str(&finished.stdout)?;

    let [path] = Dump::stop(&net.a, &net.b, [dump])?;
    let counters = reflecting.stop()?;
    let replies = witness(&path, net.b.address(v6), words.contains("--twamp-light"))?;
    check(&cases, &sent, &counters, replies, took).with_context(|| format!("{sent}; {counters}"))
}

/// Every reply answers a request of its own and is no larger. Returns how many there were.
fn witness(path: &Path, reflector: IpAddr, twamp_light: bool) -> Result<u64> {
    let (source, destination) = match reflector {
        IpAddr::V4(_) => ("ip.src", "ip.dst"),
        IpAddr::V6(_) => ("ipv6.src", "ipv6.dst"),
    };
    let names = [
        source,
        destination,
        "udp.srcport",
        "udp.dstport",
        "udp.payload",
    ];
    let own = reflector.to_string();
    // Requests that wait for an answer, by who asked and what a reply repeats of them.
    let mut asked: HashMap<[String; 3], Vec<usize>> = HashMap::new();
    let mut replies = 0;
    for row in fields(path, &names)? {
        let [from, to, from_port, to_port, payload] = row.as_slice() else {
            anyhow::bail!("{row:?}");
        };
        let octets = payload.len() / 2;
        let hex = |at: usize, count: usize| payload.get(2 * at..2 * (at + count));
        // Who claims to be the reflector is no reply.
        if *from != own || *to == own {
            // Sequence, timestamp and error estimate; less is never answered.
            if let Some(head) = hex(0, 14) {
                let key = [from.clone(), from_port.clone(), head.to_owned()];
                asked.entry(key).or_default().push(octets);
            }
            continue;
        }
        ensure!(from_port == "862", "{row:?}");
        replies += 1;
        let head = hex(24, 14).context("a short reply")?.to_owned();
        let waiting = asked.get_mut(&[to.clone(), to_port.clone(), head]);
        let request = waiting.and_then(|waiting| (!waiting.is_empty()).then(|| waiting.remove(0)));
        let request = request.with_context(|| format!("nobody asked for {row:?}"))?;
        let allowed = if twamp_light {
            request.max(44)
        } else {
            request
        };
        ensure!(
            octets == allowed,
            "{octets} octets for a request of {request}: {row:?}"
        );
    }
    Ok(replies)
}

fn check(
    cases: &[(&'static str, Fate)],
    sent: &Value,
    counters: &Value,
    captured: u64,
    took: Duration,
) -> Result<()> {
    let exchanges = number(sent, "exchanges")?;
    let (mut requests, mut replies) = (exchanges, exchanges);
    let mut dropped: HashMap<&str, u64> = HashMap::new();
    for (name, fate) in cases {
        let count = number(sent, name)?;
        ensure!(count > 0, "{name} sent nothing");
        requests += count;
        match *fate {
            Answered => replies += count,
            Dropped(reason) => *dropped.entry(reason).or_default() += count,
            Partly(answered, reason) => {
                replies += answered;
                *dropped.entry(reason).or_default() += count - answered;
            }
            Unseen => requests -= count,
        }
    }
    let told = counters["dropped"].as_object().context("dropped")?;
    let all: u64 = told.values().filter_map(Value::as_u64).sum();
    let (asked, answered) = (number(counters, "requests")?, number(counters, "replies")?);
    ensure!(asked == answered + all, "the counters do not add up");
    ensure!(captured == answered, "{captured} replies captured");
    ensure!(asked == requests, "{requests} requests expected");
    ensure!(counters["receive_overflows"] == 0);
    // A rate lets some more through as time passes: 100 a second here.
    let slack = if dropped.contains_key("rate_limited") {
        took.as_millis() as u64 / 10 + 1
    } else {
        0
    };
    ensure!(
        (replies..=replies + slack).contains(&answered),
        "{replies} replies expected"
    );
    for (reason, count) in told {
        let expected = dropped.get(reason.as_str()).copied().unwrap_or(0);
        let count = count.as_u64().context("a count")?;
        ensure!(
            (expected.saturating_sub(slack)..=expected).contains(&count),
            "{reason}: {count}, expected {expected}"
        );
    }
    let broken = sent["broken_tlvs"].as_u64();
    let malformed = number(counters, "malformed_tlvs")?;
    // Noise is malformed more often than not, and octets behind the last TLV are.
    ensure!(malformed >= broken.unwrap_or(0), "{malformed} malformed");
    Ok(())
}
