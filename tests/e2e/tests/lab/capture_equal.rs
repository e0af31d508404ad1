//! `netsonde capture` by every backend on the same frames: the same flows, counts and times,
//! and no frame without an account.
//!
//! Here is what these trials and those of `capture_survives` share: a host that only listens, a
//! capture on it, frames of many kinds, and sums that must be right. The trials are in
//! `capture_equal/`.

#[path = "capture_equal/accounts.rs"]
mod accounts;
#[path = "capture_equal/agree.rs"]
mod agree;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::traffic::udp_frame;
use lab::{Host, Lab, Running};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};
use serde_json::Value;

use super::commands::{PATIENCE, number};
use agree::{Form, agree};

pub(crate) fn trials() -> Vec<Trial> {
    let tcpdump = || missing().or_else(|| missing_program("tcpdump", "tcpdump"));
    let mut trials = vec![
        trial("equal::backends_agree_on_what_arrives", tcpdump, || {
            agree(Form::Plain)
        }),
        trial("equal::backends_agree_on_a_mirror", tcpdump, || {
            agree(Form::Mirror)
        }),
        trial(
            "equal::file_accounts_for_every_frame",
            missing,
            accounts::file,
        ),
    ];
    for backend in ["afpacket", "afxdp", "pcap"] {
        let name = format!("equal::{backend}_accounts_for_every_frame");
        trials.push(trial(&name, missing, move || accounts::accounts(backend)));
        let name = format!("equal::{backend}_accounts_for_a_flood_of_frames");
        trials.push(trial(&name, missing, move || accounts::flood(backend)));
    }
    trials
}

pub(super) const DEVICE: &str = "eth0";

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

/// Words for a backend to take all that comes.
pub(super) fn take_all(backend: &str) -> &'static str {
    match backend {
        "afxdp" => "--xdp-take all",
        _ => "",
    }
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

/// Little-endian, version 2.4, all octets kept, Ethernet.
pub(super) const HEADER: [u8; 24] = [
    0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
];

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
