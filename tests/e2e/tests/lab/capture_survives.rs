//! What `netsonde capture` survives, and what it says when it cannot: devices that go and come,
//! other programs, limits, floods, and more flows than memory.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lab::traffic::send_frames;
use lab::{Finished, Host, Lab};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};
use serde_json::Value;

use super::capture_equal::{
    DEVICE, HEADER, adds_up, capture, handed_up, listener, mixture, sum, take_all,
};
use super::commands::{PATIENCE, document, number};

pub(crate) fn trials() -> Vec<Trial> {
    let util_linux = || missing().or_else(|| missing_program("setpriv", "util-linux"));
    let mut trials = Vec::new();
    for backend in BACKENDS {
        let name = format!("survives::{backend}_on_a_device_that_is_made_again");
        trials.push(trial(&name, missing, move || made_again(backend)));
    }
    trials.extend([
        trial("survives::a_second_program_on_the_device", missing, second),
        trial("survives::no_privilege", util_linux, unprivileged),
        trial("survives::a_small_memlock_limit", util_linux, memlock),
        trial("survives::a_filter_that_makes_no_sense", missing, filter),
        trial("survives::a_flood_of_connections", missing, flood),
        trial("survives::ten_million_flows", missing, memory),
    ]);
    trials
}

const BACKENDS: [&str; 3] = ["afpacket", "afxdp", "pcap"];

fn quiet_pair(lab: &Lab) -> Result<(Host, Host)> {
    let a = lab.host("a")?;
    let b = listener(lab, &a, DEVICE, 0xb0)?;
    Ok((a, b))
}

fn send(a: &Host, count: usize) -> Result<()> {
    send_frames(a, DEVICE, &mixture(count))?;
    handed_up()
}

/// Nothing on standard output, one line on standard error that holds `text`.
fn refused(finished: &Finished, code: i32, text: &str) -> Result<()> {
    ensure!(
        finished.code() == code
            && finished.stdout.is_empty()
            && finished.stderr.lines().count() == 1
            && finished.stderr.starts_with("netsonde: ")
            && finished.stderr.contains(text),
        "{code} and {text:?}: {finished:?}"
    );
    Ok(())
}

fn run(host: &Host, program: &str, words: &str) -> Result<Finished> {
    let args: Vec<&str> = words.split_whitespace().collect();
    host.spawn(program, &args)?.finish(PATIENCE)
}

fn made_again(backend: &str) -> Result<()> {
    let lab = Lab::new()?;
    let (a, b) = quiet_pair(&lab)?;
    let words = format!("--json --duration 60 {}", take_all(backend));
    let running = capture(&b, backend, &words)?;
    send(&a, 100)?;
    b.ip("link del eth0\n")?;
    running.wait_error_line("eth0: it is gone; waiting for it", PATIENCE)?;
    lab::topology::join((&a, DEVICE, 0xb0), (&b, DEVICE, 0xb1), 9_001)?;
    running.wait_error_line("eth0: it is back", PATIENCE)?;
    send(&a, 150)?;
    let document = document(&running.stop("INT", PATIENCE)?)?;
    ensure!(document["interruptions"] == 1, "{document}");
    ensure!(
        number(&document, "frames")? == 250 && sum(&document["capture_drops"])? == 0,
        "{} of 250, {}",
        document["frames"],
        document["capture_drops"]
    );
    adds_up(&document)
}

fn second() -> Result<()> {
    let lab = Lab::new()?;
    let (a, b) = quiet_pair(&lab)?;
    let first = capture(&b, "afxdp", "--json --duration 60 --xdp-take all")?;
    let binary = netsonde()?;
    let links: Value = serde_json::from_str(&b.run("ip", &["-j", "-d", "link", "show", DEVICE])?)?;
    let id = links[0]["xdp"]["prog"]["id"]
        .as_u64()
        .context("no program")?;
    for mode in ["auto", "native", "generic"] {
        let words = format!("capture -i eth0 --backend afxdp --json --xdp-mode {mode}");
        let finished = run(&b, &binary.to_string_lossy(), &words)?;
        refused(&finished, 3, &format!("program id {id}"))?;
        ensure!(finished.stderr.contains("left alone"), "{finished:?}");
    }
    send(&a, 50)?;
    let document = document(&first.stop("INT", PATIENCE)?)?;
    ensure!(document["frames"] == 50, "{document}");
    // Gone with its owner.
    capture(&b, "afxdp", "--json")?.stop("INT", PATIENCE)?;
    Ok(())
}

/// Somebody with no capability but these, running a copy that anybody can execute.
fn nobody(host: &Host, capabilities: &[&str], limit: &str, words: &str) -> Result<Finished> {
    let copy: PathBuf = host.file("netsonde")?;
    std::fs::copy(netsonde()?, &copy)?;
    let with = |option: &str| {
        let more = capabilities.iter().map(|name| format!(",+{name}"));
        format!("--{option}=-all{}", more.collect::<String>())
    };
    let line = format!(
        "{limit} setpriv --reuid 65534 --regid 65534 --clear-groups {} {} {} {} capture {words}",
        with("inh-caps"),
        with("ambient-caps"),
        with("bounding-set"),
        copy.display()
    );
    run(host, "env", &line)
}

fn unprivileged() -> Result<()> {
    let lab = Lab::new()?;
    let (_a, b) = quiet_pair(&lab)?;
    for (backend, capability) in [
        ("auto", "CAP_NET_RAW"),
        ("afpacket", "CAP_NET_RAW"),
        ("pcap", "CAP_NET_RAW"),
        ("afxdp", "CAP_BPF"),
    ] {
        for how in ["", "--json"] {
            let words = format!("-i eth0 --backend {backend} --duration 1 {how}");
            refused(&nobody(&b, &[], "", &words)?, 3, capability)?;
        }
    }
    // The packet socket needs that one alone, and says what it does without.
    let finished = nobody(&b, &["net_raw"], "", "-i eth0 --duration 100ms --json")?;
    let document = document(&finished)?;
    ensure!(document["backend"] == "afpacket", "{document}");
    Ok(())
}

fn memlock() -> Result<()> {
    let lab = Lab::new()?;
    let (_a, b) = quiet_pair(&lab)?;
    let some = ["net_raw", "net_admin", "bpf", "perfmon"];
    let limit = "prlimit --memlock=65536:65536";
    let words = |backend| format!("-i eth0 --backend {backend} --json --duration 100ms");
    let finished = nobody(&b, &some, limit, &words("afxdp"))?;
    refused(&finished, 3, "the memlock limit is 65536 bytes; raise it")?;
    let links = b.run("ip", &["-d", "link", "show", DEVICE])?;
    ensure!(!links.contains("prog/xdp"), "its program stays: {links}");
    // What the packet socket maps is not pinned.
    for backend in ["afpacket", "pcap"] {
        document(&nobody(&b, &some, limit, &words(backend))?)?;
    }
    // It was the limit.
    let all = [&some[..], &["ipc_lock"]].concat();
    document(&nobody(&b, &all, limit, &words("afxdp"))?)?;
    let finished = nobody(&b, &some[..3], limit, &words("afxdp"))?;
    refused(&finished, 3, "it needs CAP_PERFMON beside CAP_BPF")
}

fn filter() -> Result<()> {
    let lab = Lab::new()?;
    let (_a, b) = quiet_pair(&lab)?;
    let binary = netsonde()?;
    for backend in BACKENDS {
        let words = format!("capture -i eth0 --backend {backend} --duration 1 tcp prot 1");
        let finished = run(&b, &binary.to_string_lossy(), &words)?;
        refused(&finished, 2, "filter \"tcp prot 1\"")?;
    }
    Ok(())
}

const SYN: u8 = 2;
const ACK: u8 = 16;

/// A TCP segment without options, in a frame for nobody. Nobody checks its sums.
fn segment(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    numbers: (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xa2, 2, 0, 0, 0, 0, 0xa1, 8, 0, 0x45, 0];
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(from.0.octets());
    frame.extend(to.0.octets());
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend(numbers.0.to_be_bytes());
    frame.extend(numbers.1.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// A connection that goes on under a flood of SYNs, of which 200 times as many come as the
/// table has places.
fn flood() -> Result<()> {
    const ROUNDS: u32 = 100;
    const SYNS: u32 = 2_000;
    let lab = Lab::new()?;
    let (a, b) = quiet_pair(&lab)?;
    let words = "--json --duration 60 --max-flows 1000";
    let running = capture(&b, "afpacket", words)?;
    let client = (Ipv4Addr::new(192, 0, 2, 1), 40_000);
    let server = (Ipv4Addr::new(192, 0, 2, 2), 80);
    send_frames(
        &a,
        DEVICE,
        &[
            segment(client, server, (999, 0), SYN, &[]),
            segment(server, client, (4_999, 1_000), SYN | ACK, &[]),
            segment(client, server, (1_000, 5_000), ACK, &[]),
        ],
    )?;
    for round in 0..ROUNDS {
        let mut frames: Vec<Vec<u8>> = (0..SYNS)
            .map(|i| {
                let from = Ipv4Addr::from_bits(0x0a00_0000 + round * SYNS + i);
                segment((from, 1_024), server, (i, 0), SYN, &[])
            })
            .collect();
        let at = 1_000 + round * 100;
        frames.push(segment(client, server, (at, 5_000), ACK, &[1; 100]));
        frames.push(segment(server, client, (5_000, at + 100), ACK, &[]));
        send_frames(&a, DEVICE, &frames)?;
    }
    handed_up()?;
    let document = document(&running.stop("INT", PATIENCE)?)?;
    ensure!(sum(&document["capture_drops"])? == 0, "{document}");
    let sent = ROUNDS * (SYNS + 2) + 3;
    ensure!(document["frames"] == sent, "{document}");
    adds_up(&document)?;
    let flows = &document["flows"];
    let [seen, active, evicted] = ["seen", "active", "evicted"].map(|key| flows[key].as_u64());
    ensure!(seen == Some(u64::from(ROUNDS * SYNS + 1)), "{flows}");
    ensure!(active <= Some(1_000), "{flows}");
    ensure!(
        active
            .zip(evicted)
            .map(|(active, evicted)| active + evicted)
            == seen,
        "{flows}"
    );
    // One flow from the beginning to the end, and the largest.
    let flow = &document["top_flows"][0];
    ensure!(
        flow["near"]["port"] == 40_000
            && flow["near"]["packets"] == ROUNDS + 2
            && flow["remote"]["packets"] == ROUNDS + 1
            && flow["near"]["bytes"] == 40 * (ROUNDS + 2) + 100 * ROUNDS,
        "{flow}"
    );
    let rtt = &document["rtt"];
    ensure!(
        rtt["handshake"]["remote_ns"]["count"] == 1
            && rtt["handshake"]["near_ns"]["count"] == 1
            && rtt["sequence"]["remote_ns"]["count"] == ROUNDS + 1,
        "{rtt}"
    );
    ensure!(document["tcp"]["retransmissions"] == 0, "{document}");
    Ok(())
}

/// VmHWM of a process, octets.
fn most_resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmHWM")?.parse::<u64>()? << 10)
}

/// Flows of a SYN and a segment that nobody acknowledges, through a pipe.
fn memory() -> Result<()> {
    const FLOWS: u32 = 10_000_000;
    const EARLY: u32 = 1_000_000;
    const CHUNK: u32 = 4_000;
    const CAPACITY: u64 = 100_000;
    /// The pool has two places a flow of 24 octets.
    const SEGMENTS: u64 = 2 * CAPACITY * 24;
    /// The program, its libraries, histograms and the reader's buffers.
    const BASE: u64 = 16 << 20;
    /// From a million flows to ten.
    const GROWTH: u64 = 2 << 20;
    let lab = Lab::new()?;
    let host = lab.host("a")?;
    let words = "capture -r - --json --max-flows 100000";
    let args: Vec<&str> = words.split_whitespace().collect();
    let mut running = host.spawn(netsonde()?, &args)?;
    running.write_bytes(&HEADER)?;

    let server = (Ipv4Addr::new(192, 0, 2, 2), 80);
    let client = (Ipv4Addr::UNSPECIFIED, 0);
    let frames = [
        segment(client, server, (1, 0), SYN, &[]),
        segment(client, server, (2, 1), ACK, &[0xa5]),
    ];
    let mut flow = Vec::new();
    for frame in &frames {
        let length = (frame.len() as u32).to_le_bytes();
        flow.extend([0; 8]);
        flow.extend(length);
        flow.extend(length);
        flow.extend(frame);
    }
    let second = 16 + frames[0].len();
    let mut chunk = flow.repeat(CHUNK as usize);
    let mut early = 0;
    for first in (0..FLOWS).step_by(CHUNK as usize) {
        for (number, flow) in (first..).zip(chunk.chunks_exact_mut(flow.len())) {
            for at in [0, second] {
                let record = &mut flow[at..];
                // A microsecond a flow.
                record[..4].copy_from_slice(&(number / 1_000_000).to_le_bytes());
                record[4..8].copy_from_slice(&(number % 1_000_000).to_le_bytes());
                // Source address and port, behind the record's header.
                record[42..46].copy_from_slice(&(0x0a00_0000 + (number >> 10)).to_be_bytes());
                let port = 1_024 + (number & 1_023) as u16;
                record[50..52].copy_from_slice(&port.to_be_bytes());
            }
        }
        running.write_bytes(&chunk)?;
        if first + CHUNK == EARLY {
            early = most_resident(running.pid())?;
        }
    }
    let late = most_resident(running.pid())?;
    let document = document(&running.finish(PATIENCE)?)?;
    ensure!(document["frames"] == 2 * FLOWS, "{document}");
    let flows = &document["flows"];
    ensure!(flows["seen"] == FLOWS, "{flows}");
    ensure!(number(flows, "active")? <= CAPACITY, "{flows}");
    ensure!(
        number(flows, "active")? + number(flows, "evicted")? == u64::from(FLOWS),
        "{flows}"
    );
    // The kernel's own sums per processor may be some pages behind.
    ensure!(
        early > 0 && late.saturating_sub(early) <= GROWTH,
        "{early} octets after {EARLY} flows, {late} after {FLOWS}"
    );
    let bound = 192 * CAPACITY + SEGMENTS + BASE;
    ensure!(late <= bound, "{late} octets, {bound} are allowed");
    Ok(())
}
