//! A device that goes down, or goes for good and is made again; and a process that may do less than
//! it would like to.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base::LinkType;
use capture::afpacket::open;
use capture::{AfPacketOptions, AfPacketSource, Filter, Source, SourceError};
use lab::traffic::send_frames;
use lab::{Capability, Direct, Lab};

use super::{DEVICE, Tally, datagrams, drain, drops_of, on_device, read_until, sources_on};

/// Reads what came of so many frames, the first since the sources were opened.
fn read_all(sources: &mut [AfPacketSource], frames: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    read_until(
        sources,
        &mut tally,
        |_, _| (),
        |tally| Ok(tally.all() >= frames),
    )?;
    Ok(tally)
}

pub(super) fn down_and_up() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let mut sources = sources_on(&net.b, &on_device(), 2)?;
    send_frames(&net.a, DEVICE, &datagrams(&net, 100, |_| 9))?;
    ensure!(read_all(&mut sources, 100)?.lent >= 100);
    net.b.ip("link set eth0 down\n")?;
    for source in &mut sources {
        ensure!(drain(source, |_| ())? == 0, "down: quiet, and no error");
    }
    // Older kernels refuse a group on a device that is down, one worker they do not.
    let mut begun_down = sources_on(&net.b, &on_device(), 1)?;
    net.b.ip("link set eth0 up\n")?;
    send_frames(&net.a, DEVICE, &datagrams(&net, 100, |_| 9))?;
    let tally = read_all(&mut sources, 100)?;
    ensure!(
        tally.lent >= 100 && tally.drops == [0; 3],
        "up again: {tally:?}"
    );
    let tally = read_all(&mut begun_down, 100)?;
    ensure!(
        tally.lent >= 100 && tally.drops == [0; 3],
        "begun while down: {tally:?}"
    );
    Ok(())
}

/// Polls until the source says that its device is gone; returns what it lent before.
fn until_gone(source: &mut AfPacketSource) -> Result<u64> {
    let mut lent = 0;
    for _ in 0..100 {
        match source.poll(Duration::from_millis(50), |frames| {
            lent += frames.len() as u64;
        }) {
            Ok(_) => {}
            Err(SourceError::System { object, error, .. }) => {
                ensure!(
                    object == DEVICE && error.to_string().contains("No such device"),
                    "{error}"
                );
                return Ok(lent);
            }
            Err(error) => bail!("{error}"),
        }
    }
    bail!("a device that is gone was not noticed")
}

pub(super) fn made_again() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    for workers in [1, 2] {
        let options = AfPacketOptions {
            filter: Some(Filter::compile(&["udp".to_owned()], &[LinkType::Ethernet])?),
            ..on_device()
        };
        let mut sources = sources_on(&net.b, &options, workers)?;
        let before = net.b.stack_counter("UdpNoPorts")?;
        send_frames(&net.a, DEVICE, &datagrams(&net, 100, |_| 9))?;
        // Past the sockets that capture, when they are here.
        while net.b.stack_counter("UdpNoPorts")? < before + 100 {
            std::thread::yield_now();
        }
        net.b.ip("link del eth0\n")?;
        let mut lent = 0;
        for source in &mut sources {
            lent += until_gone(source)?;
        }
        ensure!(lent == 100, "what was captured before is lent: {lent}");
        let rejected = drops_of(&mut sources)?[0];
        lab::topology::join((&net.a, DEVICE, 1), (&net.b, DEVICE, 2), 9_001)?;
        net.b.ip("address add 10.0.0.2/24 dev eth0\n")?;
        let opened = net.b.namespace().run(|| open(&options, workers))??;
        for (source, socket) in sources.iter_mut().zip(&opened.sockets) {
            source.reopen(socket, &options, workers)?;
        }
        ensure!(drops_of(&mut sources)?[0] >= rejected, "counters go on");
        send_frames(&net.a, DEVICE, &datagrams(&net, 100, |_| 9))?;
        let tally = read_all(&mut sources, rejected + 100)?;
        ensure!(tally.lent == 100 && tally.drops[1..] == [0, 0], "{tally:?}");
    }
    Ok(())
}

pub(super) fn unprivileged() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let options = AfPacketOptions {
        filter: Some(Filter::compile(&["udp".to_owned()], &[LinkType::Ethernet])?),
        ignore_outgoing: true,
        ..on_device()
    };
    let opened = net.b.namespace().run(|| open(&options, 2))??;
    let mut sources = net.b.run_with_only(&[], || -> Result<_> {
        let refused = AfPacketSource::open_group(&options, 1).err();
        let why = refused.context("opened without a capability")?.to_string();
        ensure!(why.contains("CAP_NET_RAW"), "{why}");
        let sockets = opened.sockets.iter();
        let made = sockets.map(|socket| AfPacketSource::new(socket, &options, 2));
        Ok(made.collect::<Result<Vec<_>, _>>()?)
    })??;
    send_frames(&net.a, DEVICE, &datagrams(&net, 300, |_| 9))?;
    let tally = net.b.run_with_only(&[], || read_all(&mut sources, 300))??;
    ensure!(tally.lent == 300 && tally.drops[1..] == [0, 0], "{tally:?}");
    Ok(())
}

/// What a kernel or a container without eBPF gets: the same counts, and it is told.
pub(super) fn without_ebpf() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let words = ["udp", "port", "1001"].map(str::to_owned);
    let options = AfPacketOptions {
        filter: Some(Filter::compile(&words, &[LinkType::Ethernet])?),
        ignore_outgoing: true,
        ..on_device()
    };
    let opened = net.b.run_with_only(&[Capability::NetRaw], || {
        AfPacketSource::open_group(&options, 2)
    })??;
    ensure!(
        opened.fanout.is_none() && opened.notes.len() == 2,
        "{:?}",
        opened.notes
    );
    ensure!(
        opened.notes.iter().all(|note| note.contains("CAP_BPF")),
        "{:?}",
        opened.notes
    );
    let mut sources = opened.sources;
    ensure!(!sources.iter().any(AfPacketSource::filters_in_kernel));
    send_frames(&net.a, DEVICE, &datagrams(&net, 300, |i| 1_000 + i % 3))?;
    let tally = read_all(&mut sources, 300)?;
    ensure!((tally.lent, tally.drops) == (100, [200, 0, 0]), "{tally:?}");
    Ok(())
}
