//! Faults that the kernel injects: the counters say exactly what happened.

use anyhow::{Result, ensure};
use base::Direction;
use lab::traffic::{Blast, Capture, blast};
use lab::{Direct, Lab, LinkOptions, Routed, nft};
use libtest_mimic::Trial;
use netsonde_e2e::{missing_program, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let needs = || lab::cleanup::missing().or_else(|| missing_program("nft", "nftables"));
    vec![
        trial("kernel::loses_every_nth", needs, loses),
        trial("kernel::duplicates_every_nth", needs, duplicates),
        trial("kernel::limits_one_direction", needs, limits),
    ]
}

fn loses() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    nft::lose_every(&net.b, 10)?;
    let what = Blast::default();
    // The kernel's own count of datagrams, since a capture sees them before nftables.
    let before = net.b.stack_counter("UdpNoPorts")?;
    blast(&net.a, &net.b, what)?;
    ensure!(nft::counter(&net.b, "lost")? == 100);
    let arrived = net.b.stack_counter("UdpNoPorts")? - before;
    ensure!(arrived == 900, "{arrived} of 900 arrived");
    Ok(())
}

fn duplicates() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    nft::duplicate_every(&net.a, 10)?;
    let capture = Capture::start(&net.b, 862)?;
    // Raw frames that bypass the queue bypass this hook: a plain socket sends.
    let to = std::net::SocketAddr::from((net.b.ipv4(), 862));
    let socket = net
        .a
        .namespace()
        .run(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
    for number in 0..1_000u32 {
        socket.send_to(&number.to_be_bytes(), to)?;
    }
    let arrived = capture.stop()?.len();
    ensure!(nft::counter(&net.a, "duplicated")? == 100);
    ensure!(arrived == 1_100, "{arrived} of 1100 arrived");
    Ok(())
}

fn limits() -> Result<()> {
    let lab = Lab::new()?;
    let net = Routed::new(&lab, 9_001)?;
    net.limit(Direction::Forward, 1_500)?;
    for (v6, fits, too_big, counter) in [
        (false, "1472", "1473", "IcmpInDestUnreachs"),
        (true, "1452", "1453", "Icmp6InPktTooBigs"),
    ] {
        let ping = |from: &lab::Host, to: &lab::Host, size: &str| {
            let to = to.address(v6).to_string();
            let args = ["-c", "1", "-w", "5", "-W", "1", "-M", "do", "-s", size, &to];
            from.run("ping", &args).is_ok()
        };
        ensure!(ping(&net.a, &net.b, fits), "v6 {v6}: what fits passes");
        let before = net.a.stack_counter(counter)?;
        ensure!(
            !ping(&net.a, &net.b, too_big),
            "v6 {v6}: what is larger does not"
        );
        ensure!(
            net.a.stack_counter(counter)? == before + 1,
            "v6 {v6}: and the router says so"
        );
    }
    // Only forward is limited: B to A carries a whole 9001-byte datagram one way.
    let capture = Capture::start(&net.a, 862)?;
    let from = net
        .b
        .namespace()
        .run(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
    from.send_to(&[0; 8_973], (net.a.ipv4(), 862))?;
    let arrived = capture.stop()?;
    ensure!(
        arrived.len() == 1 && arrived[0].ip_len == 9_001,
        "{arrived:?}"
    );

    nft::silence_too_big(&net.router)?;
    let before = net.a.stack_counter("IcmpInDestUnreachs")?;
    net.a.run("ip", &["route", "flush", "cache"])?;
    let to = net.b.ipv4().to_string();
    let lost = net.a.run(
        "ping",
        &["-c", "1", "-W", "1", "-M", "do", "-s", "4000", &to],
    );
    ensure!(lost.is_err(), "a black hole");
    ensure!(net.a.stack_counter("IcmpInDestUnreachs")? == before);
    ensure!(nft::counter(&net.router, "silenced")? == 1);
    Ok(())
}
