//! No frame without an account: what the kernel says has arrived is analysed, or in a counter with
//! its reason, whether the reader keeps up or not.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ebpf::generator::{Generator, Plan};
use lab::traffic::send_frames;
use lab::{Host, Lab};
use netsonde_e2e::netsonde;

use super::{DEVICE, HEADER, adds_up, capture, handed_up, listener, mixture, sum, take_all};
use crate::commands::{PATIENCE, document, number};

/// Nothing comes any more after so long.
const QUIET: Duration = Duration::from_millis(50);

/// A part of a [`mixture`].
const FILTER: &str = "udp port 1001";

/// How many of so many pass [`FILTER`].
fn passing(count: usize) -> u64 {
    let passes = |i: &usize| i % 10 > 1 && i % 3 == 1;
    (0..count).filter(passes).count() as u64
}

/// Frames that reached the layer which the backend captures at, by the kernel's counters.
fn reached(host: &Host, backend: &str) -> Result<u64> {
    match backend {
        "afxdp" => host.xdp_packets(DEVICE),
        _ => host.device_counter(DEVICE, "rx_packets"),
    }
}

pub(super) fn accounts(backend: &'static str) -> Result<()> {
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
    let take = take_all(backend);
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
pub(super) fn flood(backend: &'static str) -> Result<()> {
    const FRAMES: u32 = 1_000_000;
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let b = listener(&lab, &a, "eth0", 0xb0)?;
    // Without it, or an XDP program, a veth takes no frames of XDP. It merges none of these.
    b.run("ethtool", &["-K", DEVICE, "gro", "on"])?;
    let take = take_all(backend);
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

pub(super) fn file() -> Result<()> {
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
