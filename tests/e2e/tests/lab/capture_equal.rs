//! `netsonde capture` by every backend on the same frames: the same flows, counts and times,
//! and no frame without an account.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ebpf::generator::{Generator, Plan};
use lab::relay::{Delay, Impairment, RelayConfig};
use lab::tcp::{Place, Scenario, Stack, Traffic};
use lab::traffic::{replay, send_frames, udp_frame};
use lab::{Host, Lab, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};
use serde_json::Value;

use super::commands::{PATIENCE, number};

pub(crate) fn trials() -> Vec<Trial> {
    let tcpdump = || missing().or_else(|| missing_program("tcpdump", "tcpdump"));
    let mut trials = vec![
        trial("equal::backends_agree_on_what_arrives", tcpdump, || {
            agree(Form::Plain)
        }),
        trial("equal::backends_agree_on_a_mirror", tcpdump, || {
            agree(Form::Mirror)
        }),
        trial("equal::file_accounts_for_every_frame", missing, file),
    ];
    for backend in ["afpacket", "afxdp", "pcap"] {
        let name = format!("equal::{backend}_accounts_for_every_frame");
        trials.push(trial(&name, missing, move || accounts(backend)));
        let name = format!("equal::{backend}_accounts_for_a_flood_of_frames");
        trials.push(trial(&name, missing, move || flood(backend)));
    }
    trials
}

pub(super) const DEVICE: &str = "eth0";
const MS: u64 = 1_000_000;
/// Nothing comes any more after so long.
const QUIET: Duration = Duration::from_millis(50);
/// RTT medians by AF_XDP may differ by so much from those by the packet socket. Its times are
/// taken by a program in the device's poll and not when the frame is queued for that, and in
/// this trial by another device, to which each frame is sent after the first: some
/// microseconds for every frame, which a round trip has twice and with both signs. To this
/// comes a step of the histograms, 1/200 of the value.
const RTT_BOUND_NS: u64 = 10_000;

/// A host with a device to `a`, where nothing is said but what a test sends: no addresses, and
/// frames that are for nobody there.
pub(super) fn listener(lab: &Lab, a: &Host, device: &str, n: u8) -> Result<Host> {
    let host = lab.host("listener")?;
    for host in [a, &host] {
        host.silence()?;
    }
    lab::topology::join((a, device, n), (&host, DEVICE, n + 1), 9_001)?;
    a.offloads_off(device)?;
    host.offloads_off(DEVICE)?;
    Ok(host)
}

/// Starts `netsonde capture`; returns when it captures.
pub(super) fn capture(host: &Host, backend: &str, words: &str) -> Result<Running> {
    let line = format!("capture -i {DEVICE} --backend {backend} {words}");
    let args: Vec<&str> = line.split_whitespace().collect();
    let running = host.spawn(netsonde()?, &args)?;
    running.wait_error_line(&format!("backend {backend}"), PATIENCE)?;
    Ok(running)
}

/// The document of a run that ended well.
pub(super) fn document(finished: &lab::Finished) -> Result<Value> {
    ensure!(finished.code() == 0, "{finished:?}");
    let line = finished.stdout.lines().last().context("no document")?;
    Ok(serde_json::from_str(line)?)
}

/// Counters of an object in sum.
pub(super) fn sum(counters: &Value) -> Result<u64> {
    let counters = counters.as_object().context("counters")?;
    Ok(counters.values().filter_map(Value::as_u64).sum())
}

/// Every frame has been decoded or has a reason, and every packet was measured or has one.
pub(super) fn adds_up(document: &Value) -> Result<()> {
    let of = |key| number(document, key);
    ensure!(
        of("frames")? == of("decoded")? + sum(&document["decode"])?
            && of("decoded")? == of("measured")? + sum(&document["unmeasured"])?,
        "{document}"
    );
    Ok(())
}

// The same flows, counts and times.

#[derive(Copy, Clone, PartialEq, Eq)]
enum Form {
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

fn agree(form: Form) -> Result<()> {
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
    replay(&a, &["eth0", "eth1"], &frames)?;
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

// No frame without an account.

/// Of each ten: six datagrams to three ports, an ARP request, one of a protocol that nobody
/// knows, one cut within its UDP header, one datagram more.
pub(super) fn mixture(count: usize) -> Vec<Vec<u8>> {
    let hardware = ([2, 0, 0, 0, 0, 0xa1], [2, 0, 0, 0, 0, 0xa2]);
    let address = |n| std::net::IpAddr::from([192, 0, 2, n]);
    let mut other = vec![0; 60];
    other[..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xa2, 2, 0, 0, 0, 0, 0xa1]);
    let typed = |kind: [u8; 2]| {
        let mut frame = other.clone();
        frame[12..14].copy_from_slice(&kind);
        frame
    };
    let datagram = |i: usize| {
        let ports = (20_000 + (i % 1_000) as u16, 1_000 + (i % 3) as u16);
        udp_frame(hardware, (address(1), address(2)), ports, &[0xa5; 32])
    };
    (0..count)
        .map(|i| match i % 10 {
            0 => typed([8, 6]),
            1 => typed([0x88, 0xb5]),
            2 => datagram(i)[..38].to_vec(),
            _ => datagram(i),
        })
        .collect()
}

/// What [`FILTER`] lets pass of these.
const FILTER: &str = "udp port 1001";
fn passing(count: usize) -> u64 {
    let passes = |i: &usize| i % 10 > 1 && i % 3 == 1;
    (0..count).filter(passes).count() as u64
}

/// Frames that reached the layer which the backend captures at, by the kernel's counters.
fn reached(host: &Host, backend: &str) -> Result<u64> {
    if backend != "afxdp" {
        return host.device_counter(DEVICE, "rx_packets");
    }
    let text = host.run("ethtool", &["-S", DEVICE])?;
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    lines
        .filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with("_xdp_packets"))
        .map(|(_, value)| Ok(value.parse::<u64>()?))
        .sum()
}

/// Until no processor has a packet in its queue that was received and not handed up yet.
pub(super) fn handed_up() -> Result<()> {
    let limit = Instant::now() + PATIENCE;
    loop {
        // net/core/net-procfs.c: the twelfth number is the length of both queues.
        let text = std::fs::read_to_string("/proc/net/softnet_stat")?;
        let mut lengths = text.lines().map(|line| line.split(' ').nth(11));
        if lengths.all(|length| length == Some("00000000")) {
            return Ok(());
        }
        ensure!(Instant::now() < limit, "a backlog stays");
        std::thread::yield_now();
    }
}

fn accounts(backend: &'static str) -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let b = listener(&lab, &a, "eth0", 0xb0)?;
    for (overload, filter) in [(false, ""), (false, FILTER), (true, ""), (true, FILTER)] {
        account(&a, &b, backend, overload, filter)
            .with_context(|| format!("overload {overload}, filter {filter:?}"))?;
    }
    Ok(())
}

fn account(a: &Host, b: &Host, backend: &str, overload: bool, filter: &str) -> Result<()> {
    let take = if backend == "afxdp" {
        "--xdp-take all"
    } else {
        ""
    };
    let words = format!("--json --duration 60 --ring 256K {take} {filter}");
    let running = capture(b, backend, &words)?;
    let before = reached(b, backend)?;
    let lost_before = a.device_counter(DEVICE, "tx_dropped")?;
    // Nobody reads while more comes than any ring holds.
    let count = if overload { 60_000 } else { 600 };
    if overload {
        running.signal("STOP")?;
    }
    send_frames(a, DEVICE, &mixture(count))?;
    handed_up()?;
    let limit = Instant::now() + PATIENCE;
    let arrived = loop {
        let arrived = reached(b, backend)? - before;
        let lost = a.device_counter(DEVICE, "tx_dropped")? - lost_before;
        if arrived + lost == count as u64 {
            break arrived;
        }
        if Instant::now() > limit {
            bail!("{count} sent, {arrived} arrived, {lost} lost by the device");
        }
    };
    if overload {
        running.signal("CONT")?;
    }
    let document = document(&running.stop("INT", PATIENCE)?)?;
    let drops = &document["capture_drops"];
    let frames = number(&document, "frames")?;
    let filtered = number(drops, "filtered")?;
    let lost = sum(drops)? - filtered;
    ensure!(
        frames + filtered + lost == arrived,
        "{count} sent, {arrived} arrived: {frames} analysed, {drops}"
    );
    adds_up(&document)?;
    ensure!(document["degraded"] == (lost > 0), "{document}");
    if overload {
        ensure!(lost > 10_000, "no overload: {drops}");
        ensure!((filtered > 0) != filter.is_empty(), "{drops}");
        return Ok(());
    }
    ensure!(arrived == count as u64 && lost == 0, "{arrived}: {drops}");
    let passing = if filter.is_empty() {
        arrived
    } else {
        passing(count)
    };
    ensure!(frames == passing, "{frames} of {passing} passed");
    // Datagrams alone are packets; the rest has its reasons.
    if filter.is_empty() {
        ensure!(
            number(&document, "decoded")? == 7 * arrived / 10,
            "{document}"
        );
        ensure!(document["decode"]["arp"] == arrived / 10, "{document}");
    }
    Ok(())
}

/// Frames as fast as the kernel makes them, while they are read: rings overflow and empty all
/// the time.
fn flood(backend: &'static str) -> Result<()> {
    const FRAMES: u32 = 1_000_000;
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let b = listener(&lab, &a, "eth0", 0xb0)?;
    // Without it, or an XDP program, a veth takes no frames of XDP. It merges none of these.
    b.run("ethtool", &["-K", DEVICE, "gro", "on"])?;
    let take = if backend == "afxdp" {
        "--xdp-take all"
    } else {
        ""
    };
    let words = format!("--json --duration 60 --ring 256K {take}");
    let running = capture(&b, backend, &words)?;
    let before = reached(&b, backend)?;
    let plan = Plan {
        from: [2, 0, 0, 0, 0, 0xa1],
        to: [2, 0, 0, 0, 0, 0xa2],
        source: Ipv4Addr::new(172, 16, 0, 1),
        destination: Ipv4Addr::new(192, 0, 2, 2),
        port: 443,
        frame_bytes: 96,
        flows: 100_000,
        rate: None,
    };
    let index = a.run("cat", &["/sys/class/net/eth0/ifindex"])?;
    let index = index.trim().parse()?;
    let made = a.namespace().run(|| -> Result<u64> {
        let mut generator = Generator::load(&plan)?;
        generator.run(index, FRAMES)?;
        Ok(generator.sent()?)
    })??;
    handed_up()?;
    // The device's own queue has no counter: until nothing moves.
    let mut arrived = reached(&b, backend)? - before;
    let limit = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(QUIET);
        let now = reached(&b, backend)? - before;
        if now == arrived {
            break;
        }
        arrived = now;
        ensure!(Instant::now() < limit, "frames do not end");
    }
    let document = document(&running.stop("INT", PATIENCE)?)?;
    let drops = &document["capture_drops"];
    let frames = number(&document, "frames")?;
    ensure!(
        frames + sum(drops)? == arrived && arrived <= made,
        "{made} made, {arrived} arrived: {frames} analysed, {drops}"
    );
    ensure!(
        frames > 1_000 && document["tcp"]["segments"] == frames,
        "{document}"
    );
    adds_up(&document)
}

/// A pcap file of these, with microseconds.
fn pcap<'f>(frames: impl IntoIterator<Item = &'f Vec<u8>>) -> Vec<u8> {
    let mut file = HEADER.to_vec();
    for (i, frame) in frames.into_iter().enumerate() {
        let length = frame.len() as u32;
        for word in [
            1_700_000_000 + i as u32 / 1_000,
            i as u32 % 1_000,
            length,
            length,
        ] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// Little-endian, version 2.4, all octets kept, Ethernet.
pub(super) const HEADER: [u8; 24] = [
    0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
];

fn file() -> Result<()> {
    const COUNT: usize = 50_000;
    let lab = Lab::new()?;
    let host = lab.host("a")?;
    let path = host.file("mixture.pcap")?;
    std::fs::write(&path, pcap(&mixture(COUNT)))?;
    for filter in ["", FILTER] {
        let line = format!("capture --json -r {} {filter}", path.display());
        let args: Vec<&str> = line.split_whitespace().collect();
        let document = document(&host.spawn(netsonde()?, &args)?.finish(PATIENCE)?)?;
        let drops = &document["capture_drops"];
        let frames = number(&document, "frames")?;
        let filtered = number(drops, "filtered")?;
        let passing = if filter.is_empty() {
            COUNT as u64
        } else {
            passing(COUNT)
        };
        ensure!(frames == passing, "{frames} of {passing} passed");
        ensure!(
            frames + filtered == COUNT as u64 && sum(drops)? == filtered,
            "{frames} analysed, {drops}"
        );
        adds_up(&document)?;
    }
    Ok(())
}
