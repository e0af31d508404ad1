//! Our packets as others read them: tshark's dissector and scapy's layers on a capture of
//! both hosts, against what `--records` says of the same probes, field by field.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::{Direct, Lab, LinkOptions, Running};
use libtest_mimic::Trial;
use netsonde_e2e::trial;
use serde_json::Value;

use crate::commands::{PATIENCE, Pinged, Reflecting, number, ping, script, tool};
use crate::dump::{Dump, epoch_ns, fields, missing_tshark, of_day_ns};

const PROBES: u64 = 60;
const DAY_NS: u64 = 86_400_000_000_000;
/// Types of RFC 8972, and our private one.
const EXTRA_PADDING: u64 = 1;
const PRIVATE: u64 = 241;
/// Flags of RFC 8972 section 4.
const UNRECOGNISED: u64 = 0x80;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for v6 in [false, true] {
        for format in ["ntp", "ptp"] {
            let family = if v6 { "ipv6" } else { "ipv4" };
            trials.push(trial(
                &format!("dissect::{family}_{format}"),
                missing,
                move || both_dissectors(v6, format),
            ));
        }
    }
    trials
}

fn python() -> Result<std::path::PathBuf> {
    tool("NETSONDE_SCAPY_PYTHON", "scapy/bin/python")
}

fn missing() -> Option<String> {
    missing_tshark().or_else(|| python().err().map(|error| error.to_string()))
}

/// One run with captures on both hosts.
struct Run {
    pinged: Pinged,
    format: &'static str,
    v6: bool,
    /// Bytes of IP packet that were asked for.
    size: Option<u64>,
    /// Whether the reflector fills our private TLV.
    reports: bool,
    /// scapy's reading, on the sender's host and on the reflector's.
    scapy: [Vec<Value>; 2],
}

fn both_dissectors(v6: bool, format: &'static str) -> Result<()> {
    for (size, words, reflector) in [
        (None, "--dscp 46", ""),
        (Some(1_234), "-s 1234", "--no-private-tlv"),
        (None, "--no-private-tlv", ""),
        (Some(9_001), "-s 9001", ""),
    ] {
        let lab = Lab::new()?;
        let net = Direct::new(&lab, LinkOptions::default())?;
        for host in [&net.a, &net.b] {
            // A checksum that is left to the device is wrong in a capture.
            host.offloads_off("eth0")?;
        }
        let reflecting = Reflecting::start(&net.b, reflector)?;
        let dumps = [Dump::start(&net.a)?, Dump::start(&net.b)?];
        let words = format!("-c {PROBES} -i 3ms -W 5s --timestamp-format {format} {words}");
        let pinged = ping(&net.a, net.b.address(v6), &words)?;
        reflecting.stop()?;
        let paths = Dump::stop(&net.a, &net.b, dumps)?;
        let run = Run {
            pinged,
            format,
            v6,
            size,
            reports: reflector.is_empty() && !words.contains("--no-private-tlv"),
            scapy: [dissect(&paths[0])?, dissect(&paths[1])?],
        };
        run.check(&words)
            .with_context(|| format!("ping {words}, reflect {reflector}"))?;
        run.check_tshark(&paths[0])
            .with_context(|| format!("tshark, ping {words}, reflect {reflector}"))?;
    }
    Ok(())
}

fn dissect(path: &Path) -> Result<Vec<Value>> {
    let mut command = std::process::Command::new(python()?);
    command.arg(script("dissect.py")).arg(path);
    let finished = Running::start(&mut command)?.finish(PATIENCE)?;
    ensure!(finished.code() == 0, "scapy: {}", finished.stderr);
    let lines = finished.stdout.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// At most a nanosecond apart: NTP's fraction is finer, but no multiple of it.
fn near(a: u64, b: u64) -> bool {
    a.abs_diff(b) <= 1
}

impl Run {
    fn records(&self) -> Result<BTreeMap<u64, &Value>> {
        let by_seq = |line| Ok((number(line, "seq")?, line));
        self.pinged.with_verdict("received").map(by_seq).collect()
    }

    fn check(&self, words: &str) -> Result<()> {
        self.pinged.check_sum()?;
        ensure!(self.pinged.number("received")? == PROBES);
        let records = self.records()?;
        let [sender, reflector] = &self.scapy;
        let is = |reply: bool| move |packet: &&Value| packet["reply"] == reply;
        let requests: Vec<&Value> = sender.iter().filter(is(false)).collect();
        let replies: Vec<&Value> = sender.iter().filter(is(true)).collect();
        ensure!(requests.len() == replies.len() && requests.len() as u64 > PROBES);
        let ssid = &requests[0]["ssid"];
        ensure!(*ssid != 0, "no session identifier");
        let mut sent: BTreeMap<u64, &Value> = BTreeMap::new();
        for packet in sender {
            self.check_packet(packet, words)
                .with_context(|| packet.to_string())?;
            ensure!(packet["ssid"] == *ssid, "another session: {packet}");
        }
        for request in requests {
            sent.insert(number(request, "seq")?, request);
        }
        let numbers: Vec<u64> = sent.keys().copied().collect();
        ensure!(
            numbers.iter().copied().eq(0..numbers.len() as u64),
            "numbers from 0 without gaps: {numbers:?}"
        );
        let mut seen = 0;
        let mut until_stamped = Vec::new();
        for reply in replies {
            let seq = number(reply, "sender_seq")?;
            let request = sent.get(&seq).context("a reply to nothing")?;
            self.check_pair(request, reply)
                .with_context(|| format!("{request}\n{reply}"))?;
            if let Some(record) = records.get(&seq) {
                let took = self
                    .check_record(record, request, reply)
                    .with_context(|| format!("{record}\n{request}\n{reply}"))?;
                until_stamped.push(took);
                seen += 1;
            }
        }
        ensure!(seen == PROBES, "{seen} records have their packets");
        // Between the two the sender may be descheduled, but not each time.
        until_stamped.sort_unstable();
        let typical = until_stamped[until_stamped.len() / 2];
        ensure!(typical < 5_000_000, "T1 is {typical} ns behind its packet");
        // T2 is the stamp with which the reflector's kernel handed the request on, to the
        // capture there as well.
        for request in reflector.iter().filter(is(false)) {
            if let Some(record) = records.get(&number(request, "seq")?) {
                let (t2, at) = (number(record, "t2_ns")?, number(request, "at_ns")?);
                ensure!(near(t2, at), "T2 {t2}, captured at {at}");
            }
        }
        Ok(())
    }

    /// What holds for every packet of ours, request or reply.
    fn check_packet(&self, packet: &Value, words: &str) -> Result<()> {
        ensure!(packet["checksums"] == true, "a checksum");
        ensure!(packet["ttl"] == 255, "TTL");
        ensure!(packet["mbz"] == 0, "MBZ");
        ensure!(
            packet["left_over"] == 0,
            "octets behind the last TLV that are none"
        );
        let fragment = if self.v6 { Value::Null } else { true.into() };
        ensure!(packet["dont_fragment"] == fragment, "DF");
        let estimate = &packet["estimate"];
        ensure!(
            estimate["Z"] == u8::from(self.format == "ptp"),
            "Z: {estimate}"
        );
        // The lab's clock is not synchronised; RFC 4656: the multiplier is never 0.
        ensure!(
            estimate["S"] == 0 && estimate["multiplier"] != 0,
            "{estimate}"
        );
        if let Some(size) = self.size {
            ensure!(packet["ip_bytes"] == size, "size");
        }
        let request = packet["reply"] == false;
        let tos = if words.contains("--dscp 46") && request {
            46 << 2
        } else {
            0
        };
        ensure!(packet["tos"] == tos, "TOS");
        let flags_of = |kind| match (request, kind) {
            (true, _) => UNRECOGNISED,
            (false, EXTRA_PADDING) => 0,
            (false, PRIVATE) if self.reports => 0,
            _ => UNRECOGNISED,
        };
        for tlv in packet["tlvs"].as_array().context("tlvs")? {
            let kind = number(tlv, "type")?;
            ensure!(tlv["whole"] == true && [EXTRA_PADDING, PRIVATE].contains(&kind));
            ensure!(tlv["flags"] == flags_of(kind), "flags of type {kind}");
        }
        Ok(())
    }

    /// A reply against its request.
    fn check_pair(&self, request: &Value, reply: &Value) -> Result<()> {
        for key in ["ip_bytes", "ssid"] {
            ensure!(request[key] == reply[key], "{key}");
        }
        ensure!(request["timestamp"]["raw"] == reply["sender_timestamp"]["raw"]);
        ensure!(request["estimate"] == reply["sender_estimate"]);
        ensure!(request["source"] == reply["destination"]);
        ensure!(request["destination"] == reply["source"]);
        ensure!(reply["sender_ttl"] == 255, "TTL at the reflector");
        let [asked, answered] = [request, reply].map(|packet| packet["tlvs"].as_array());
        let (asked, answered) = (asked.context("tlvs")?, answered.context("tlvs")?);
        ensure!(asked.len() == answered.len(), "TLVs");
        for (asked, answered) in asked.iter().zip(answered) {
            ensure!(asked["type"] == answered["type"] && asked["length"] == answered["length"]);
            // What the reflector did not understand, and padding, comes back as it went.
            let copied = asked["value"] == answered["value"];
            ensure!(
                copied || (asked["type"] == PRIVATE && self.reports),
                "value"
            );
        }
        Ok(())
    }

    /// The packets of a counted probe against its record. Returns for how many nanoseconds
    /// the kernel's T1 is behind the one that the packet carries.
    fn check_record(&self, record: &Value, request: &Value, reply: &Value) -> Result<u64> {
        let at = |key| number(record, key);
        let wire = |packet: &Value, key: &str| number(&packet[key], "ns");
        let (t1, t2, t3, t4) = (at("t1_ns")?, at("t2_ns")?, at("t3_ns")?, at("t4_ns")?);
        ensure!(near(t2, wire(reply, "receive_timestamp")?), "T2 {t2}");
        ensure!(near(t3, wire(reply, "timestamp")?), "T3 {t3}");
        // The kernel stamps a packet once, for every reader.
        ensure!(t4 == number(reply, "at_ns")?, "T4 {t4}");
        // T1 is stamped behind the tap of the capture, and both behind what the packet says.
        let (written, tapped) = (wire(request, "timestamp")?, number(request, "at_ns")?);
        ensure!(
            written <= tapped && tapped <= t1,
            "T1 {t1}, written {written}, tapped {tapped}"
        );
        ensure!(record["reflector_seq"] == reply["seq"], "reflector_seq");
        ensure!(record["source_port"] == request["ports"][0], "source_port");
        ensure!(record["ttl_forward"] == reply["sender_ttl"], "ttl_forward");
        ensure!(record["ttl_reverse"] == reply["ttl"], "ttl_reverse");
        Ok(t1 - written)
    }

    fn check_tshark(&self, path: &Path) -> Result<()> {
        let records = self.records()?;
        let rows = fields(
            path,
            &[
                "frame.time_epoch",
                "udp.srcport",
                "udp.checksum.status",
                if self.v6 { "ipv6.hlim" } else { "ip.ttl" },
                if self.v6 {
                    "ipv6.version"
                } else {
                    "ip.checksum.status"
                },
                "_ws.malformed",
                "_ws.expert.message",
                "twamp.test.seq_number",
                "twamp.test.timestamp",
                "twamp.test.error_estimate.z",
                "twamp.test.error_estimate.multiplier",
                "twamp.test.receive_timestamp",
                "twamp.test.sender_seq_number",
                "twamp.test.sender_timestamp",
                "twamp.test.sender_ttl",
            ],
        )?;
        ensure!(rows.len() == self.scapy[0].len(), "{} packets", rows.len());
        let mut seen = 0;
        let mut written: BTreeMap<String, String> = BTreeMap::new();
        for row in &rows {
            let [at, port, udp, ttl, ip, malformed, expert, rest @ ..] = row.as_slice() else {
                anyhow::bail!("{row:?}");
            };
            let [
                seq,
                timestamp,
                z,
                multiplier,
                received,
                sender_seq,
                sender_t1,
                sender_ttl,
            ] = rest
            else {
                anyhow::bail!("{row:?}");
            };
            let ip_good = if self.v6 { "6" } else { "1" };
            ensure!(
                udp == "1" && ip == ip_good && ttl == "255" && malformed.is_empty(),
                "{row:?}"
            );
            ensure!(expert.is_empty(), "tshark remarks {expert}: {row:?}");
            // Every packet is read as a reply: in a request the rest must be zero.
            let request = port != "862";
            let bit = if self.format == "ptp" { "1" } else { "0" };
            let bits = [bit, if request { "0" } else { bit }].join(",");
            ensure!(*z == bits, "Z: {row:?}");
            ensure!(!multiplier.starts_with("0,"), "multiplier: {row:?}");
            if request {
                ensure!(
                    received.starts_with("Jan  1, 1970 00:00:00.000000000")
                        && received == sender_t1
                        && sender_seq == "0"
                        && sender_ttl == "0",
                    "MBZ: {row:?}"
                );
                written.insert(seq.clone(), timestamp.clone());
                continue;
            }
            ensure!(sender_ttl == "255", "{row:?}");
            // tshark 4.0 reads the copy of T1 as NTP whatever its Z says; scapy's raw octets
            // were compared above.
            let copied = written.get(sender_seq) == Some(sender_t1);
            ensure!(copied || self.format == "ptp", "T1: {row:?}");
            let Some(record) = records.get(&sender_seq.parse()?) else {
                continue;
            };
            seen += 1;
            ensure!(record["reflector_seq"] == seq.parse::<u64>()?, "{row:?}");
            ensure!(number(record, "t4_ns")? == epoch_ns(at)?, "T4: {row:?}");
            for (key, text) in [("t3_ns", timestamp), ("t2_ns", received)] {
                let recorded = number(record, key)?;
                let told = of_day_ns(text)?;
                ensure!(near(recorded % DAY_NS, told), "{key} {recorded}: {row:?}");
            }
        }
        ensure!(seen == PROBES, "{seen} records have their packets");
        Ok(())
    }
}
