//! The relay as a program: another plan while it runs, real TCP through it, its end, and links
//! that go down under it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base::Direction::{self, Forward};
use lab::proxy::Proxy;
use lab::relay::{Delay, Loss, Matching, Pick, RelayConfig};
use lab::traffic::{Blast, Capture, blast};
use lab::{Host, Impairment, Lab, LinkOptions, RelayLog, Relayed};

use super::{forward, settle};

pub(super) fn replans() -> Result<()> {
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), &RelayConfig::new(1))?;
    let capture = Capture::start(&net.b, 862)?;
    let before = net.between.device_counter("right", "tx_packets")?;
    blast(&net.a, &net.b, Blast::default())?;
    let plan = Impairment {
        loss: vec![Loss::Pick(Pick::List(vec![0, 2]))],
        ..Impairment::default()
    };
    // Everything sent so far has to be through before the plan changes.
    settle(&net, before + 1_000)?;
    net.configure(&forward(1, plan))?;
    blast(&net.a, &net.b, Blast::default())?;
    settle(&net, before + 1_998)?;
    net.configure(&RelayConfig::new(1))?;
    blast(&net.a, &net.b, Blast::default())?;
    let log = net.stop()?;
    let lost: Vec<_> = log.lost(Forward).map(|record| record.index).collect();
    ensure!(lost == [1_000, 1_002], "{lost:?}");
    ensure!(capture.stop()?.len() == 2_998);
    Ok(())
}

/// Through a proxy into the one host, over the relay to the other, every byte.
pub(super) fn tcp() -> Result<()> {
    let lab = Lab::new()?;
    let plan = Impairment::default()
        .with_loss(0.01)
        .with_reordering(0.01, 3);
    let config = RelayConfig {
        matching: Matching::Ip,
        ..RelayConfig::both(2, &plan)
    };
    let mut net = Relayed::new(&lab, LinkOptions::default(), &config)?;
    let listener = net
        .b
        .namespace()
        .run(|| TcpListener::bind((net.b.ipv4(), 0)))??;
    let proxy = Proxy::start(&net.a, listener.local_addr()?, 0)?;
    let echo = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let mut back = stream.try_clone()?;
        std::io::copy(&mut stream, &mut back)
    });
    let content: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = TcpStream::connect(proxy.address())?;
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut upward, sent) = (client.try_clone()?, content.clone());
    let writer = std::thread::spawn(move || {
        upward.write_all(&sent)?;
        upward.shutdown(Shutdown::Write)
    });
    let mut returned = Vec::new();
    client.read_to_end(&mut returned)?;
    ensure!(
        returned == content,
        "{} of {} bytes came back",
        returned.len(),
        content.len()
    );
    ensure!(echo.join().is_ok() && writer.join().is_ok());
    drop(proxy);
    let log = net.stop()?;
    for direction in Direction::ALL {
        let totals = log.totals(direction);
        ensure!(
            totals.lost > 0 && totals.balance() && totals.own_failures() == 0,
            "{totals:?}"
        );
    }
    Ok(())
}

pub(super) fn sigterm() -> Result<()> {
    let lab = Lab::new()?;
    // Held for longer than the test: the end must send them.
    let plan = Impairment::default().with_delay(Delay::Fixed(600_000_000_000));
    let mut net = Relayed::new(&lab, LinkOptions::default(), &forward(1, plan))?;
    let capture = Capture::start(&net.b, 862)?;
    let before = net.between.device_counter("left", "rx_packets")?;
    blast(&net.a, &net.b, Blast::default())?;
    ensure!(net.between.device_counter("left", "rx_packets")? >= before + 1_000);
    let relay = net.relay.take().context("a relay")?;
    let path = relay.log_path().to_owned();
    let finished = relay.terminate()?;
    ensure!(finished.code() == 0, "{finished:?}");
    let log = RelayLog::read(&path)?;
    ensure!(log.output(Forward).len() == 1_000 && log.totals(Forward).balance());
    ensure!(capture.stop()?.len() == 1_000);
    Ok(())
}

pub(super) fn link_down() -> Result<()> {
    let lab = Lab::new()?;
    let mut net = Relayed::new(&lab, LinkOptions::default(), &RelayConfig::new(1))?;
    let to = net.b.ipv4().to_string();
    let ping = |net: &Relayed| net.a.run("ping", &["-c", "1", "-w", "5", "-W", "1", &to]);
    ping(&net)?;
    for (host, device) in [(net.a.clone(), "eth0"), (net.between.clone(), "left")] {
        host.ip(&format!("link set {device} down\n"))?;
        ensure!(ping(&net).is_err(), "{device} is down");
        host.ip(&format!("link set {device} up\n"))?;
        // The kernel looks at carriers once a second or so, of all namespaces together; until
        // then ARP gives up, and ping with it.
        for (host, device) in [(&net.a, "eth0"), (&net.between, "left")] {
            until_up(host, device)?;
        }
        // Its neighbours went with the link: found again by ARP, through the relay.
        ping(&net).context(device)?;
    }
    // `ping -w` sends again until it is answered, so how many there were is the kernel's to say:
    // what the far host took in and gave out is what the relay passed, and no more.
    let counted = [
        net.b.stack_counter("IcmpInEchos")?,
        net.b.stack_counter("IcmpOutEchoReps")?,
    ];
    let log = net.stop()?;
    for (direction, echoes) in Direction::ALL.into_iter().zip(counted) {
        let totals = log.totals(direction);
        ensure!(
            totals.balance() && totals.matched == echoes && echoes >= 3,
            "the kernel had {echoes} echoes: {totals:?}"
        );
    }
    Ok(())
}

/// Waits for a device that has its carrier again.
fn until_up(host: &Host, device: &str) -> Result<()> {
    let path = format!("/sys/class/net/{device}/operstate");
    let deadline = Instant::now() + Duration::from_secs(20);
    while host.run("cat", &[&path])?.trim() != "up" {
        ensure!(Instant::now() < deadline, "{device} stays down");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
