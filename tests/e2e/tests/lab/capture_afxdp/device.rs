//! AF_XDP and the device it is on: other programs, an owner that is killed, a device that goes and
//! comes back, and a host that works on.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use capture::afxdp::{AfXdpSource, Attach, Options, Wanted, XdpMode};
use capture::{Source, SourceError};
use lab::traffic::{Blast, blast};
use lab::{Direct, Host, Lab, Running};

use super::{DEVICE, LIMIT, PORT, drain, open, options};

/// The program on the device by the words of `ip`; independent of ours.
fn program_on(host: &Host) -> Result<Option<u32>> {
    let text = host.run("ip", &["-j", "-d", "link", "show", "dev", DEVICE])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let id = links[0]["xdp"]["prog"]["id"].as_u64();
    Ok(id.map(u32::try_from).transpose()?)
}

/// Both orders: a program attached by a link, and one attached by `ip`.
pub(super) fn other(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let object = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../ebpf/objects/xdp_capture.bpf.o"
    );
    let refused = |id: u32| -> Result<()> {
        for second in [Attach::Native, Attach::Generic, Attach::Auto] {
            let Err(error) = open(&net.b, &options(second)) else {
                bail!("{second:?}: two programs on one device");
            };
            let text = format!("{error:#}");
            ensure!(
                text.contains(&format!("program id {id}")) && text.contains("left alone"),
                "{second:?}: {text}"
            );
            ensure!(program_on(&net.b)? == Some(id), "{second:?} changed it");
        }
        Ok(())
    };
    let mut first = open(&net.b, &options(attach))?;
    let id = program_on(&net.b)?.context("ours is on the device")?;
    refused(id)?;
    let what = Blast {
        count: 10,
        port: PORT,
        ..Blast::default()
    };
    blast(&net.a, &net.b, what)?;
    ensure!(
        drain(&mut first, 10, |_| {})? == 10,
        "the first one works on"
    );
    drop(first);
    ensure!(program_on(&net.b)?.is_none(), "gone with its owner");

    let mode = match attach {
        Attach::Native => "xdpdrv",
        _ => "xdpgeneric",
    };
    let section = "xdp.frags";
    let args = [
        "link", "set", "dev", DEVICE, mode, "object", object, "section", section,
    ];
    net.b.run("ip", &args)?;
    let id = program_on(&net.b)?.context("that of ip")?;
    refused(id)?;
    net.b
        .run("ip", &["link", "set", "dev", DEVICE, mode, "off"])?;
    open(&net.b, &options(attach)).map(drop)
}

/// Another process of this very program: attaches inside a host, says so and waits to be
/// killed.
pub(crate) fn victim(attach: &str) -> ! {
    let attach = match attach {
        "Native" => Attach::Native,
        _ => Attach::Generic,
    };
    let mut source = AfXdpSource::open(&options(attach)).expect("opens");
    println!("attached");
    std::io::stdout().flush().expect("flush");
    loop {
        let _ = source.poll(Duration::from_secs(60), |_| {});
    }
}

pub(super) fn killed(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let mut command: Command = net.b.command(std::env::current_exe()?);
    command.env("NETSONDE_AFXDP_VICTIM", format!("{attach:?}"));
    let mut victim = Running::start(&mut command)?;
    victim.wait_line("attached", LIMIT)?;
    ensure!(program_on(&net.b)?.is_some(), "it said so");
    victim.signal("KILL")?;
    let _ = victim.finish(LIMIT);
    let limit = Instant::now() + LIMIT;
    // The kernel closes its descriptors after the parent was told.
    while program_on(&net.b)?.is_some() {
        ensure!(Instant::now() < limit, "the program outlives its process");
    }
    open(&net.b, &options(attach)).map(drop)
}

pub(super) fn gone(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let mut source = open(&net.b, &options(attach))?;
    // Down and up again is no reason to end.
    net.b.ip("link set eth0 down\nlink set eth0 up\n")?;
    let what = Blast {
        count: 10,
        port: PORT,
        ..Blast::default()
    };
    blast(&net.a, &net.b, what)?;
    ensure!(drain(&mut source, 10, |_| {})? == 10, "down and up");
    let before = source.drops()?;

    net.b.ip("link delete eth0\n")?;
    let limit = Instant::now() + LIMIT;
    let error = loop {
        match source.poll(Duration::from_millis(100), |_| {}) {
            Err(error) => break error,
            Ok(_) => ensure!(Instant::now() < limit, "nobody says that it is gone"),
        }
    };
    ensure!(
        matches!(&error, SourceError::System { object, error, .. }
            if object == DEVICE && error.raw_os_error() == Some(100)),
        "ENETDOWN of eth0: {error}"
    );
    ensure!(source.poll(Duration::ZERO, |_| {}).is_err(), "it stays so");
    ensure!(source.drops()? == before, "the counters stay");
    drop(source);
    let error = open(&net.b, &options(attach)).expect_err("no device");
    ensure!(format!("{error:#}").contains(DEVICE), "{error:#}");
    lab::topology::join((&net.a, DEVICE, 1), (&net.b, DEVICE, 2), 9_001)?;
    let mut source = open(&net.b, &options(attach))?;
    blast(&net.a, &net.b, what)?;
    ensure!(drain(&mut source, 10, |_| {})? == 10, "it came back");
    Ok(())
}

/// The mirror's port is taken, the rest of the host works; with `All` nothing reaches it,
/// but for the port that is spared.
pub(super) fn spares() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let to = net.b.ipv4().to_string();
    let ping = || {
        net.a
            .run("ping", &["-c", "2", "-i", "0.01", "-W", "1", &to])
    };
    let connect = |port: u16| {
        let listener = net
            .b
            .namespace()
            .run(|| std::net::TcpListener::bind(("0.0.0.0", port)))??;
        let to = SocketAddr::from((net.b.ipv4(), port));
        let tried = net.a.namespace().run(|| {
            std::net::TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok()
        })?;
        drop(listener);
        Ok::<bool, anyhow::Error>(tried)
    };
    let source = open(&net.b, &options(Attach::Auto))?;
    ensure!(source.mode() == XdpMode::Native, "{:?}", source.notes());
    ensure!(!source.zero_copy(), "veth has none");
    let notes = source.notes().join("\n");
    for part in ["eth0 (veth): native XDP", "copied, since", "not supported"] {
        ensure!(notes.contains(part), "{part}: {notes}");
    }
    ping().context("a mirror's receiver answers")?;
    drop(source);
    let all = Options {
        wanted: Wanted::All,
        spare_tcp_ports: vec![22],
        ..options(Attach::Auto)
    };
    let mut source = open(&net.b, &all)?;
    ensure!(ping().is_err(), "everything is taken");
    ensure!(connect(22)?, "but not ssh");
    ensure!(!connect(23)?, "and nothing else");
    ensure!(drain(&mut source, 3, |_| {})? >= 3, "pings and the SYN");
    source.arm(false)?;
    ping().context("not any more")?;
    drop(source);
    ping().context("nor after it")?;
    Ok(())
}
