//! Round trips: tshark's to the nanosecond where nothing was sent again; tcptrace's in
//! number, and its other counts, everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, trial};
use serde_json::Value;

use crate::captures::{all_public, fresh, missing_public, public, scenarios, scratch};
use crate::differences::OTHER_TIMES;
use crate::ours::{self, analyse};
use crate::tcptrace::{self, COMPARED, Side, by_ends, connections};
use crate::tshark::{self, Word};

const TUNNEL: &str = "it looks into no tunnel and under no second tag";
const NO_LENGTH: &str = "it takes an IP length of 0 for an empty packet";

/// Captures in which tcptrace does not see every connection, and why; those that it sees are
/// compared.
const PARTLY_SEEN: &[(&str, &str)] = &[
    ("sv_vxlan3.pcap", TUNNEL),
    ("tcpdump_bigtcp-ipv4-vxlan-ipv4.pcap", TUNNEL),
    ("tcpdump_bigtcp-ipv4.pcap", NO_LENGTH),
    ("tcpdump_geneve-gcp.pcap", TUNNEL),
    ("tcpdump_geneve.pcap", TUNNEL),
    ("tcpdump_gso-ipv4-vxlan-ipv4.pcap", TUNNEL),
    ("tcpdump_ipv4_tcp_http_xml_tso.pcap", NO_LENGTH),
    ("zeek_erspan.pcap", TUNNEL),
    ("zeek_gre-sample.pcap", TUNNEL),
    ("zeek_http-qinq-0.pcap", TUNNEL),
    ("zeek_mixed-vlan-mpls.pcap", TUNNEL),
    ("zeek_mpls-in-vlan.pcap", TUNNEL),
    ("zeek_pppoe-over-qinq.pcap", TUNNEL),
    ("zeek_tunnels_4in6.pcap", TUNNEL),
    ("zeek_vxlan-http.pcap", TUNNEL),
];

/// Captures that tcptrace misreads, and why.
const MISREAD: &[(&str, &str)] = &[
    (
        "zeek_ipv6-http-atomic-frag.pcap",
        "it reads an IPv6 fragment header as one of TCP",
    ),
    (
        "zeek_tcp_fin_retransmission.pcap",
        "it takes the SYN-ACK behind a FIN for another connection",
    ),
    (
        "zeek_tcp_reassembly.pcap",
        "of frames shorter than their IP length it counts the length; we, as tshark, the octets",
    ),
];

/// What is not compared on fresh captures of a scenario, and why.
const UNSETTLED: &[(&str, &str, &str)] = &[(
    "everything",
    "triple_duplicate_acks",
    "when ACKs overtake one another tcptrace now and then counts one more or less of 80",
)];

/// Samples that tshark does not have, and why: capture, frame, ns.
const ONLY_OURS: &[(&str, u64, u64, &str)] = &[(
    "zeek_tcp_handshake-reorder.pcap",
    3,
    294_000,
    "tcptrace has it too: the ACK of a SYN-ACK that was captured before its SYN",
)];

pub(crate) fn trials() -> Vec<Trial> {
    let needs = || {
        missing()
            .or_else(tshark::missing)
            .or_else(tcptrace::missing)
    };
    let needs_public = move || needs().or_else(missing_public);
    let mut trials = Vec::new();
    for name in all_public() {
        let path = public(&name);
        let title = format!("rtt::tshark::{name}");
        trials.push(trial(&title, needs_public, move || equal_ack_rtts(&path)));
        // It reads no pcapng.
        let misread = MISREAD.iter().any(|(known, _)| *known == name);
        if name.ends_with(".pcap") && !misread {
            let path = public(&name);
            let title = format!("tcptrace::{name}");
            trials.push(trial(&title, needs_public, move || equal_counts(&path)));
        }
    }
    for scenario in scenarios() {
        let title = format!("rtt::tshark::fresh_{}", scenario.name);
        let run = scenario.clone();
        trials.push(trial(&title, needs, move || {
            let captured = fresh(&run)?;
            for (place, path) in &captured.files {
                equal_ack_rtts(path).context(place.name())?;
            }
            Ok(())
        }));
        let title = format!("tcptrace::fresh_{}", scenario.name);
        trials.push(trial(&title, needs, move || {
            let captured = fresh(&scenario)?;
            for (place, path) in &captured.files {
                // tcptrace has microseconds: what is sent within one is sent at once.
                let coarse = in_microseconds(path)?;
                equal_counts(&coarse).context(place.name())?;
                std::fs::remove_file(coarse)?;
            }
            Ok(())
        }));
    }
    trials
}

/// Frame and time of each sample, in streams in which nothing was sent again.
fn equal_ack_rtts(capture: &Path) -> Result<()> {
    let theirs = Word::of(capture)?;
    let ours = analyse(capture, ours::TSHARK)?;
    let name = capture.file_name().unwrap_or_default().to_string_lossy();
    let other = |stream: &u64| {
        let mut known = OTHER_TIMES.iter();
        known.any(|(file, number, _)| *file == name && number == stream)
    };
    let clean = |stream: &u64| !theirs.doubtful.contains(stream) && !other(stream);
    let wanted: BTreeSet<(u64, u64)> = theirs
        .ack_rtts
        .iter()
        .filter(|rtt| clean(&rtt.stream))
        .map(|rtt| (rtt.frame, rtt.ns))
        .collect();
    let got: BTreeSet<(u64, u64)> = ours
        .rtts_by("sequence")
        .into_iter()
        .filter(|(frame, _)| theirs.streams.get(frame).is_some_and(clean))
        .collect();
    let allowed: BTreeSet<(u64, u64)> = ONLY_OURS
        .iter()
        .filter(|(known, ..)| *known == name)
        .map(|(_, frame, ns, _)| (*frame, *ns))
        .collect();
    let got: BTreeSet<_> = got.difference(&allowed).copied().collect();
    let missing: Vec<_> = wanted.difference(&got).take(10).collect();
    let surplus: Vec<_> = got.difference(&wanted).take(10).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "{} of tshark's, {} of ours; only tshark's (frame, ns): {missing:?}; only ours: {surplus:?}",
        wanted.len(),
        got.len()
    );
    Ok(())
}

/// A copy of a classic pcap file of nanoseconds with whole microseconds.
fn in_microseconds(path: &Path) -> Result<PathBuf> {
    const HEADER: usize = 24;
    const RECORD: usize = 16;
    let word = |bytes: &[u8], at: usize| -> Result<u32> {
        let word = bytes.get(at..at + 4).context("cut short")?;
        Ok(u32::from_le_bytes(*word.first_chunk().context("a word")?))
    };
    let mut bytes = std::fs::read(path)?;
    ensure!(word(&bytes, 0)? == 0xa1b2_3c4d, "no nanoseconds");
    bytes[..4].copy_from_slice(&0xa1b2_c3d4u32.to_le_bytes());
    let mut at = HEADER;
    while at < bytes.len() {
        let us = word(&bytes, at + 4)? / 1_000;
        let length = word(&bytes, at + 8)? as usize;
        bytes[at + 4..at + 8].copy_from_slice(&us.to_le_bytes());
        at += RECORD + length;
    }
    let name = path.file_name().context("a file")?.to_string_lossy();
    let coarse = scratch()?.join(format!("coarse-{name}"));
    std::fs::write(&coarse, bytes)?;
    Ok(coarse)
}

/// Every count of every pair of ends.
fn equal_counts(capture: &Path) -> Result<()> {
    let theirs = by_ends(&connections(capture)?)?;
    let ours = flows_by_ends(&analyse(capture, ours::TCPTRACE)?.flows)?;
    let mut wrong = Vec::new();
    let file = capture.file_name().unwrap_or_default().to_string_lossy();
    let partly = PARTLY_SEEN.iter().any(|(known, _)| *known == file);
    let both: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    for ends in both {
        if partly && !theirs.contains_key(ends) {
            continue;
        }
        let (Some(theirs), Some(ours)) = (theirs.get(ends), ours.get(ends)) else {
            wrong.push(format!(
                "{ends:?}: tcptrace {}, we {}",
                theirs.contains_key(ends),
                ours.contains_key(ends)
            ));
            continue;
        };
        for (end, (theirs, ours)) in ends.iter().zip(theirs.iter().zip(ours)) {
            for (name, key) in COMPARED {
                let unsettled = |(scenario, what, _): &(&str, &str, &str)| {
                    file.starts_with("coarse-") && file.contains(scenario) && what == &key
                };
                if UNSETTLED.iter().any(unsettled) {
                    continue;
                }
                let (wanted, got) = (theirs.get(name), ours.get(name));
                if wanted != got && got.is_some() {
                    wrong.push(format!(
                        "{ends:?}, sent by {end}: {key} {got:?}, tcptrace's {name} {wanted:?}"
                    ));
                }
            }
        }
    }
    let count = wrong.len();
    wrong.truncate(20);
    ensure!(count == 0, "{count} differ:\n{}", wrong.join("\n"));
    Ok(())
}

fn end_of(side: &Value) -> Result<String> {
    let address = side["address"].as_str().context("no address")?;
    let port = side["port"].as_u64().context("no port")?;
    Ok(format!("{address}:{port}"))
}

/// Ours in tcptrace's words.
fn flows_by_ends(flows: &[Value]) -> Result<BTreeMap<[String; 2], [Side; 2]>> {
    let partial = std::env::var_os("NETSONDE_ORACLE_PARTIAL").is_some();
    let mut sums: BTreeMap<[String; 2], [Side; 2]> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| flow["protocol"] == "tcp") {
        let mut sides = [&flow["near"], &flow["remote"]];
        let mut ends = [end_of(sides[0])?, end_of(sides[1])?];
        if ends[1] < ends[0] {
            ends.reverse();
            sides.reverse();
        }
        let known = sums.entry(ends).or_default();
        for (known, side) in known.iter_mut().zip(sides) {
            for (name, key) in COMPARED {
                let more = &side[key];
                // The bare loop of the bench does not know all of them; the command does.
                if more.is_null() && side.get(key).is_some() && partial {
                    continue;
                }
                let more = more.as_u64();
                let more = more.with_context(|| format!("{key} in {flow}"))?;
                *known.entry(name.to_owned()).or_default() += more;
            }
        }
    }
    Ok(sums)
}
