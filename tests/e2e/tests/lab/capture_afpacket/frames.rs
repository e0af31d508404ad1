//! What a frame that is lent says of itself: how many segments it was on the wire, when the kernel
//! stamped it, and which way it went.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base::{LinkType, Passage};
use capture::{AfPacketOptions, Source};
use lab::traffic::{Blast, Capture, blast, send_frames};
use lab::{Direct, Lab};

use super::{DEVICE, Tally, datagrams, drain, drops_of, on_device, read_until, sources_on};

/// Wire segments of a TCP frame, from its own headers and the size of its segments.
fn wire_segments(frame: &base::Frame<'_>) -> Option<u64> {
    let ip = frame.bytes.get(14..)?;
    if frame.bytes.get(12..14)? != [8, 0] || *ip.get(9)? != 6 {
        return None;
    }
    let ip_header = u32::from(ip.first()? & 15) * 4;
    let tcp_header = u32::from(ip.get(ip_header as usize + 12)? >> 4) * 4;
    let payload = u64::from(frame.original_len - 14 - ip_header - tcp_header);
    match u64::from(frame.segment_bytes) {
        0 => Some(1),
        size => Some(payload.div_ceil(size)),
    }
}

pub(super) fn segments() -> Result<()> {
    const BYTES: usize = 30 << 20;
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let source = &mut sources_on(&net.b, &on_device(), 1)?[0];
    let count = || -> Result<[u64; 2]> {
        // What comes in the kernel counts by buffers; what it sends, by wire segments.
        Ok([
            net.a.stack_counter("TcpOutSegs")?,
            net.b.stack_counter("TcpOutSegs")?,
        ])
    };
    let again = || net.a.stack_counter("TcpRetransSegs");
    let (before, again_before) = (count()?, again()?);
    let listener = net.b.namespace().run(|| TcpListener::bind("0.0.0.0:0"))??;
    let to = (net.b.ipv4(), listener.local_addr()?.port());
    let sender = std::thread::spawn({
        let a = net.a.clone();
        move || -> Result<()> {
            let mut stream = a.namespace().run(|| TcpStream::connect(to))??;
            stream.write_all(&vec![1; BYTES])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            // To the end of the other side too: then no more segments come.
            ensure!(stream.read(&mut [0])? == 0);
            Ok(())
        }
    });
    let (mut stream, _) = listener.accept()?;
    let received = std::thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all.len())
    });
    let mut seen = [0; 2];
    let (mut merged, mut frames) = (0, 0);
    let mut each = |frame: &base::Frame<'_>| {
        if let Some(segments) = wire_segments(frame) {
            seen[usize::from(frame.passage == Passage::Sent)] += segments;
            frames += 1;
            merged += u32::from(segments > 1);
        }
    };
    while !(sender.is_finished() && received.is_finished()) {
        source.poll(Duration::from_millis(20), |batch| {
            batch.iter().for_each(&mut each);
        })?;
    }
    sender.join().ok().context("the sender panicked")??;
    ensure!(received.join().ok().context("the receiver panicked")?? == BYTES);
    drain(source, &mut each)?;
    let after = count()?;
    let expected = [after[0] - before[0], after[1] - before[1]];
    ensure!(drops_of(std::slice::from_mut(source))? == [0; 3]);
    ensure!(merged > 100, "offloads were off: {merged} of {frames}");
    // What is sent again may be cut into other segments than the kernel counted; all else is
    // exact. Without the segment sizes the difference would be five-sixths.
    let again = again()? - again_before;
    ensure!(
        seen[0].abs_diff(expected[0]) <= again && seen[1] == expected[1],
        "in and out {seen:?}, the kernel says {expected:?}, {again} of them again"
    );
    Ok(())
}

pub(super) fn stamps() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let mut sources = sources_on(&net.b, &on_device(), 1)?;
    let witness = Capture::start(&net.b, 862)?;
    blast(&net.a, &net.b, Blast::default())?;
    let mut seen = Vec::new();
    let each = |_, frame: &base::Frame<'_>| {
        let number = frame
            .bytes
            .get(42..46)
            .and_then(|word| word.first_chunk::<4>());
        if let (Passage::Received, Some(number)) = (frame.passage, number) {
            seen.push((u32::from_be_bytes(*number), frame.at.0));
        }
    };
    let tally = &mut Tally::default();
    read_until(&mut sources, tally, each, |tally| Ok(tally.all() >= 1_000))?;
    let witnessed: Vec<_> = witness
        .stop()?
        .into_iter()
        .map(|arrival| (arrival.number, arrival.at_ns))
        .collect();
    ensure!(witnessed.len() == 1_000);
    ensure!(
        seen == witnessed,
        "stamps differ from those of another socket"
    );
    let newest = sources[0].newest().map(|at| at.0);
    ensure!(newest >= seen.last().map(|last| last.1));
    ensure!(
        seen.iter().any(|(_, at)| at % 1_000 != 0),
        "not in nanoseconds"
    );
    Ok(())
}

pub(super) fn directions() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let own = net.b.namespace().run(|| UdpSocket::bind("0.0.0.0:0"))??;
    for (ignore_outgoing, workers) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
        let options = AfPacketOptions {
            ignore_outgoing,
            ..on_device()
        };
        let mut sources = sources_on(&net.b, &options, workers)?;
        send_frames(
            &net.a,
            DEVICE,
            &datagrams(&net, 50, |_| own.local_addr().map_or(0, |at| at.port())),
        )?;
        for _ in 0..40 {
            own.send_to(&[1; 8], (net.a.ipv4(), 9))?;
        }
        let mut seen = [0; 3];
        let each = |_, frame: &base::Frame<'_>| {
            // Without the ICMP errors of a closed port.
            if frame.bytes.get(23) == Some(&17) {
                seen[frame.passage as usize] += 1;
            }
        };
        let expected = [0, 50, if ignore_outgoing { 0 } else { 40 }];
        let all = expected.iter().sum::<u32>();
        let tally = &mut Tally::default();
        read_until(&mut sources, tally, each, |tally| {
            Ok(tally.all() >= all.into())
        })?;
        ensure!(seen == expected, "{ignore_outgoing} {workers}: {seen:?}");
    }
    // A frame on the loopback device is one frame.
    let options = AfPacketOptions {
        device: None,
        ..on_device()
    };
    let mut sources = sources_on(&net.b, &options, 1)?;
    own.send_to(&[1; 8], ("127.0.0.1", own.local_addr()?.port()))?;
    let mut seen = Vec::new();
    let each = |_, frame: &base::Frame<'_>| seen.push((frame.passage, frame.link));
    let tally = &mut Tally::default();
    read_until(&mut sources, tally, each, |tally| Ok(tally.all() >= 1))?;
    ensure!(
        seen == [(Passage::Received, LinkType::Ethernet)],
        "{seen:?}"
    );
    Ok(())
}
