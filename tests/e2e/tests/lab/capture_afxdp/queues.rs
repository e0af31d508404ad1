//! AF_XDP on a device with two receive queues: one source for both, one for each, one for one.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use capture::afxdp::{AfXdpSource, Attach, Options, Queues};
use capture::{DropReason, Source};
use lab::{Direct, Lab};

use super::{DEVICE, PORT, drain, number, open, options};

/// A pair of veths with two receive queues each; the sender's hash chooses.
fn two_queues(lab: &Lab) -> Result<Direct> {
    let net = Direct::silent(lab)?;
    net.a.ip("link delete eth0\n")?;
    let namespace = net.b.namespace().name();
    let several = "numrxqueues 2 numtxqueues 2";
    net.a.ip(&format!(
        "link add eth0 address 02:00:00:00:00:01 {several} type veth peer name eth0 address 02:00:00:00:00:02 {several} netns {namespace}\n\
         link set eth0 up\naddress add 10.0.0.1/24 dev eth0\n"
    ))?;
    net.b
        .ip("link set eth0 up\naddress add 10.0.0.2/24 dev eth0\n")?;
    let neighbour = "neighbour replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent\n";
    net.a.ip(neighbour)?;
    Ok(net)
}

pub(super) fn queues() -> Result<()> {
    let lab = Lab::new()?;
    let net = two_queues(&lab)?;
    let sockets = net.a.namespace().run(|| {
        (0..16)
            .map(|_| UdpSocket::bind("0.0.0.0:0"))
            .collect::<Result<Vec<_>, _>>()
    })??;
    let to = SocketAddr::from((net.b.ipv4(), PORT));
    // Neither evenly nor in turn: runs of one queue longer than a batch are among them.
    let send = |count: u32| -> Result<()> {
        let mut state = 1u32;
        let mut socket = 0;
        for number in 0..count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 24 < 16 || number % 200 < 60 {
                socket = (state >> 8) as usize % sockets.len();
            }
            // With the space of the Ethernet, IP and UDP headers the number is at 42.
            sockets[socket].send_to(&number.to_be_bytes(), to)?;
        }
        Ok(())
    };

    let mut source = open(&net.b, &options(Attach::Native))?;
    ensure!(source.queues().eq([0, 1]), "{source:?}");
    // All wait in the rings before the first poll.
    send(2_000)?;
    let mut numbers = Vec::new();
    let mut times = Vec::new();
    drain(&mut source, 2_000, |frame| {
        numbers.push(number(frame));
        times.push(frame.at);
    })?;
    ensure!(times.is_sorted(), "not in order of time");
    ensure!(numbers == (0..2_000).collect::<Vec<_>>(), "{numbers:?}");
    let said = net.b.run("ethtool", &["-S", DEVICE])?;
    for queue in 0..2 {
        let counter = format!("rx_queue_{queue}_xdp_packets: 0\n");
        ensure!(!said.contains(&counter), "only one queue was used: {said}");
    }
    ensure!(source.drops()?.lost() == 0);
    drop(source);

    // One source a queue: together all, once.
    let each = net
        .b
        .namespace()
        .run(|| AfXdpSource::open_each(&options(Attach::Native)))??;
    ensure!(each.len() == 2);
    send(1_000)?;
    let mut numbers = Vec::new();
    let (mut filtered, mut lent) = (0, 0);
    for mut source in each {
        let some = drain(&mut source, 0, |frame| numbers.push(number(frame)))?;
        ensure!(some > 0, "a queue without frames");
        lent += some;
        filtered += source.drops()?.get(DropReason::Filtered);
        ensure!(source.drops()?.lost() == 0);
    }
    numbers.sort_unstable();
    ensure!(lent == 1_000 && numbers == (0..1_000).collect::<Vec<_>>());
    ensure!(filtered < 100, "counted by one of them: {filtered}");

    // One queue of the two: the other's frames stay with the host, and are counted.
    let one = Options {
        queues: Queues::List(vec![1]),
        ..options(Attach::Native)
    };
    let mut source = open(&net.b, &one)?;
    send(1_000)?;
    let lent = drain(&mut source, 1, |_| {})? as u64;
    let drops = source.drops()?;
    let missed = drops.get(DropReason::RedirectFailed);
    ensure!(missed > 0 && lent + missed == 1_000, "{lent}: {drops:?}");
    let none = Options {
        queues: Queues::List(vec![2]),
        ..options(Attach::Native)
    };
    let error = open(&net.b, &none).expect_err("no such queue");
    ensure!(error.to_string().contains("has no queue 2"), "{error:#}");
    Ok(())
}
