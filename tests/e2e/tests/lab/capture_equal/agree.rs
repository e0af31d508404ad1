//! The same flows, counts and times by every backend: the frames of real TCP are sent once more, at
//! their times, to all of them, and each must say what the reader of tcpdump's file says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::relay::{Delay, Impairment, RelayConfig};
use lab::tcp::{Place, Scenario, Stack, Traffic};
use lab::traffic::{replay, udp_frame};
use lab::{Host, Lab};
use netsonde_e2e::netsonde;
use serde_json::Value;

use super::{DEVICE, adds_up, capture, listener};
use crate::commands::{PATIENCE, document};

const MS: u64 = 1_000_000;
/// RTT medians by AF_XDP may differ by so much from those by the packet socket. Its times are
/// taken by a program in the device's poll and not when the frame is queued for that, and in
/// this trial on another device, to which each frame is flooded beside the first
/// ([`one_device`]): some microseconds for every frame, which a round trip has twice and with
/// both signs. To this comes a step of the histograms, 1/200 of the value.
const RTT_BOUND_NS: u64 = 10_000;

#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// The frames themselves.
    Plain,
    /// In VXLAN, as a traffic mirror sends them.
    Mirror,
}

/// Frames of real TCP with loss, reordering and duplicates, with their times (ns).
fn traffic(lab: &Lab, folder: &Path) -> Result<Vec<(u64, Vec<u8>)>> {
    let lossy = || {
        Impairment::default()
            .with_delay(Delay::Fixed(2 * MS))
            .with_loss(0.01)
            .with_reordering(0.005, 4)
            .with_duplicates(0.005)
    };
    let scenario = Scenario {
        name: "equal".to_owned(),
        stack: Stack::default(),
        relay: Some(RelayConfig {
            forward: lossy(),
            reverse: lossy(),
            ..RelayConfig::new(20)
        }),
        second: None,
        mtu: 1_500,
        traffic: Traffic::Short {
            connections: 60,
            at_once: 8,
            request: 4_000,
            response: 20_000,
        },
        places: vec![Place::Client],
        snaplen: 0,
    };
    let captured = scenario.run(lab, folder)?;
    records(&std::fs::read(captured.at(Place::Client)?)?)
}

/// The records of a pcap file with nanoseconds, as tcpdump writes them here.
fn records(file: &[u8]) -> Result<Vec<(u64, Vec<u8>)>> {
    let word = |at: usize| -> Result<u32> {
        let bytes = file.get(at..at + 4).context("the file ends early")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    };
    ensure!(word(0)? == 0xa1b2_3c4d, "not in nanoseconds");
    let (mut at, mut records) = (24, Vec::new());
    while at < file.len() {
        let [seconds, ns, kept, whole] = [word(at)?, word(at + 4)?, word(at + 8)?, word(at + 12)?];
        ensure!(kept == whole, "a frame is not whole");
        let bytes = file.get(at + 16..at + 16 + kept as usize);
        let at_ns = u64::from(seconds) * 1_000_000_000 + u64::from(ns);
        records.push((at_ns, bytes.context("the file ends early")?.to_vec()));
        at += 16 + kept as usize;
    }
    Ok(records)
}

/// In VXLAN with the network 7 (RFC 7348 section 5).
fn mirrored(frame: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0, 7, 0];
    payload.extend(frame);
    let address = |n| std::net::IpAddr::from([192, 0, 2, n]);
    let hardware = ([2, 0, 0, 0, 0, 0xa1], [2, 0, 0, 0, 0, 0xa2]);
    udp_frame(
        hardware,
        (address(1), address(2)),
        (50_000, 4_789),
        &payload,
    )
}

/// What a run says, and its flows by their ends, without their times.
struct Said {
    document: Value,
    flows: BTreeMap<String, Value>,
}

fn said(finished: &lab::Finished, flows: &Path) -> Result<Said> {
    let document = document(finished)?;
    adds_up(&document)?;
    let mut by_ends = BTreeMap::new();
    for line in std::fs::read_to_string(flows)?.lines() {
        let mut flow: Value = serde_json::from_str(line)?;
        let ends =
            ["near", "remote"].map(|end| format!("{} {}", flow[end]["address"], flow[end]["port"]));
        let fields = flow.as_object_mut().context("no flow")?;
        for time in ["rtt", "first_at", "last_at", "duration_ns"] {
            fields.remove(time).context("a time is missing")?;
        }
        let twice = by_ends.insert(ends.join(" "), flow);
        ensure!(twice.is_none(), "twice: {ends:?}");
    }
    Ok(Said {
        document,
        flows: by_ends,
    })
}

/// The device of [`one_device`].
const BRIDGE: &str = "br0";

/// Makes a device that sends each frame by all of these at once: a bridge, which knows no receiver
/// and floods. Two sends would not do: who is preempted between them for a tick sends the second
/// frame milliseconds late, beside frames that come later everywhere else, and its class and
/// round trips are truly other ones. The kernel floods without a pause
/// (net/core/dev.c, `__dev_direct_xmit`: softirqs are off until the bridge is done).
fn one_device(host: &Host, devices: &[&str]) -> Result<()> {
    let mut lines =
        format!("link add {BRIDGE} type bridge mcast_snooping 0\nlink set {BRIDGE} up\n");
    for device in devices {
        lines.push_str(&format!("link set {device} master {BRIDGE}\n"));
    }
    host.ip(&lines).map(drop)
}

pub(super) fn agree(form: Form) -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let folder = a.file("captures")?;
    let mut frames = traffic(&lab, &folder)?;
    if form == Form::Mirror {
        for (_, bytes) in &mut frames {
            *bytes = mirrored(bytes);
        }
    }
    // The packet socket, libpcap and tcpdump on one device; AF_XDP takes all of another.
    let b = listener(&lab, &a, "eth0", 0xb0)?;
    let c = listener(&lab, &a, "eth1", 0xc0)?;
    let file = b.file("all.pcap")?;
    let file = file.to_str().context("path")?;
    let dump = [
        "-n",
        "-i",
        DEVICE,
        "-s",
        "0",
        "-B",
        "65536",
        "-U",
        "-Z",
        "root",
        "-w",
        file,
        "--time-stamp-precision=nano",
    ];
    let dump = b.spawn("tcpdump", &dump)?;
    dump.wait_error_line("listening on", PATIENCE)?;
    let take = if form == Form::Mirror {
        "mirror"
    } else {
        "all"
    };
    let mut runs = Vec::new();
    for (host, backend, more) in [
        (&b, "afpacket", ""),
        (&b, "pcap", ""),
        (&c, "afxdp", &*format!("--xdp-take {take}")),
    ] {
        let flows = host.file(&format!("{backend}.jsonl"))?;
        let words = format!(
            "--json -c {} --duration 20 --flows {} {more}",
            frames.len(),
            flows.display()
        );
        runs.push((backend, capture(host, backend, &words)?, flows));
    }
    one_device(&a, &["eth0", "eth1"])?;
    replay(&a, BRIDGE, &frames)?;
    let mut all = Vec::new();
    for (backend, running, flows) in runs {
        all.push((backend, said(&running.finish(PATIENCE)?, &flows)?));
    }
    // What the others have seen it has too, but maybe not written.
    let limit = Instant::now() + PATIENCE;
    while records(&std::fs::read(file)?).map_or(0, |records| records.len()) < frames.len() {
        ensure!(Instant::now() < limit, "tcpdump lacks frames");
    }
    dump.stop("INT", PATIENCE)?;
    let flows = b.file("file.jsonl")?;
    let args = ["capture", "-r", file, "--json", "--flows"];
    let args = [&args[..], &[flows.to_str().context("path")?]].concat();
    let theirs = said(&b.spawn(netsonde()?, &args)?.finish(PATIENCE)?, &flows)?;
    let count = |pointer: &str| theirs.document.pointer(pointer).and_then(Value::as_u64);
    ensure!(count("/frames") == Some(frames.len() as u64));
    for of in [
        "retransmissions",
        "fast_retransmissions",
        "out_of_order",
        "duplicate_acks",
    ] {
        ensure!(
            count(&format!("/tcp/{of}")) > Some(0),
            "no {of}: {}",
            theirs.document["tcp"]
        );
    }
    ensure!(count("/flows/seen") >= Some(60));
    for (backend, ours) in &all {
        compare(backend, ours, &theirs).with_context(|| format!("{backend} and the file"))?;
    }
    Ok(())
}

/// The packet socket gives the file's reader its own times: everything is equal. AF_XDP has
/// times of its own; the classes that depend on time (fast retransmission, out-of-order,
/// retransmission: by 20 ms, and 3 ms or the first round trip) are equal all the same, since
/// the gaps were kept.
fn compare(backend: &str, ours: &Said, theirs: &Said) -> Result<()> {
    for key in [
        "frames",
        "bytes",
        "capture_drops",
        "decoded",
        "decode",
        "measured",
        "unmeasured",
        "packets",
        "fragments",
        "clock_back",
        "tcp",
    ] {
        let (ours, theirs) = (&ours.document[key], &theirs.document[key]);
        ensure!(
            !ours.is_null() && ours == theirs,
            "{key}: {ours}, not {theirs}"
        );
    }
    let seen = |said: &Said| said.document["flows"]["seen"].clone();
    ensure!(seen(ours) == seen(theirs), "flows: {}", seen(ours));
    ensure!(ours.flows.len() == theirs.flows.len());
    for (ends, flow) in &theirs.flows {
        let own = ours.flows.get(ends);
        ensure!(own == Some(flow), "{ends}: {own:?}, not {flow}");
    }
    let (own, other) = (&ours.document["rtt"], &theirs.document["rtt"]);
    if backend != "afxdp" {
        ensure!(own == other, "{own}, not {other}");
        return Ok(());
    }
    let mut compared = 0;
    for (method, legs) in other.as_object().context("rtt")? {
        for (leg, rtt) in legs.as_object().context("legs")? {
            let own = &own[method][leg];
            ensure!(
                own["count"] == rtt["count"],
                "{method} {leg}: {own}, not {rtt}"
            );
            let Some((own, rtt)) = own["p50"].as_u64().zip(rtt["p50"].as_u64()) else {
                continue;
            };
            ensure!(
                own.abs_diff(rtt) <= RTT_BOUND_NS + rtt / 200,
                "{method} {leg}: median {own}, not {rtt}"
            );
            compared += 1;
        }
    }
    // Both legs of handshake, timestamp and sequence.
    ensure!(compared == 6, "{compared} medians");
    Ok(())
}
