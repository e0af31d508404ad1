//! What AF_XDP lends of the frames that reach the device: all lengths, each once and in order,
//! every other one in a counter, filters, and times that fit the kernel's.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use capture::afxdp::{Attach, Options};
use capture::{DropReason, Source};
use lab::traffic::{Blast, blast};
use lab::{Direct, Lab};

use super::{DEVICE, LIMIT, PORT, drain, number, open, options, seen};

/// E6: frames from the smallest to the largest of the link, all of them, once, in order,
/// with their length; whole where that was asked for.
pub(super) fn jumbo(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    for whole_frames in [false, true] {
        let options = Options {
            whole_frames,
            ..options(attach)
        };
        let mut source = open(&net.b, &options)?;
        let before = seen(&net.b, source.mode())?;
        let mut sent = 0;
        for frame_bytes in [60, 1514, 1792, 1793, 4014, 8514, 9015] {
            let what = Blast {
                count: 100,
                payload: frame_bytes - 42,
                port: PORT,
                ..Blast::default()
            };
            let mut numbers = Vec::new();
            let began = SystemTime::now();
            blast(&net.a, &net.b, what)?;
            let mut bad = Vec::new();
            drain(&mut source, 100, |frame| {
                numbers.push(number(frame));
                let single = frame_bytes <= 1792;
                let expected = if whole_frames || single {
                    frame_bytes
                } else {
                    1792
                };
                let filler = frame.bytes.get(46..).unwrap_or_default();
                if frame.original_len as usize != frame_bytes
                    || frame.bytes.len() != expected
                    || filler.iter().any(|byte| *byte != 0xa5)
                {
                    bad.push((frame.original_len, frame.bytes.len()));
                }
                let since = |at: SystemTime| {
                    let since = at.duration_since(SystemTime::UNIX_EPOCH);
                    since.map_or(0, |since| since.as_nanos())
                };
                let at = u128::from(frame.at.0);
                // The offset between the clocks may be off by what reading it took.
                if at + 100_000 < since(began) || at > since(SystemTime::now()) + 100_000 {
                    bad.push((0, 0));
                }
            })?;
            ensure!(bad.is_empty(), "{frame_bytes} bytes: {bad:?}");
            ensure!(
                numbers == (0..100).collect::<Vec<_>>(),
                "{frame_bytes}: {numbers:?}"
            );
            sent += 100;
        }
        let drops = source.drops()?;
        ensure!(drops.lost() == 0, "{drops:?}");
        let all = seen(&net.b, source.mode())? - before;
        ensure!(
            all == sent + drops.get(DropReason::Filtered),
            "{all}: {drops:?}"
        );
    }
    Ok(())
}

/// Rings that overflow at once: every frame is lent or in a counter.
pub(super) fn overload(attach: Attach) -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    for (frames, receive_slots, reason) in [
        (64, 0, DropReason::FillRingEmpty),
        (256, 16, DropReason::ReceiveRingFull),
    ] {
        let options = Options {
            frames,
            receive_slots,
            ..options(attach)
        };
        let mut source = open(&net.b, &options)?;
        let start = seen(&net.b, source.mode())?;
        let mut lent = 0;
        for payload in [44, 5_000] {
            let what = Blast {
                count: 5_000,
                rate: 1_000_000,
                payload,
                port: PORT,
                ..Blast::default()
            };
            // Nobody reads meanwhile, but for a look between.
            blast(&net.a, &net.b, what)?;
            lent += drain(&mut source, 1, |_| {})?;
        }
        blast(&net.a, &net.b, Blast::default())?;
        source.arm(false)?;
        lent += drain(&mut source, 0, |_| {})?;
        let drops = source.drops()?;
        let all = seen(&net.b, source.mode())? - start;
        let lost = drops.lost();
        ensure!(lost > 5_000, "no overload: {drops:?}");
        ensure!(drops.get(reason) > 0, "{reason:?} of {drops:?}");
        ensure!(drops.get(DropReason::InvalidDescriptor) == 0, "{drops:?}");
        let counted = lent as u64 + drops.get(DropReason::Filtered) + lost;
        ensure!(counted == all, "{all} seen, {lent} lent, {drops:?}");
        ensure!(drops.get(DropReason::Filtered) >= 1_000, "{drops:?}");
        // And it goes on as if nothing had been.
        source.arm(true)?;
        let what = Blast {
            count: 16,
            port: PORT,
            ..Blast::default()
        };
        blast(&net.a, &net.b, what)?;
        ensure!(drain(&mut source, 16, |_| {})? == 16, "after an overload");
    }
    Ok(())
}

/// The source's own filter: what it refuses is counted and not lent, with frames in several
/// chunks and assembly too.
pub(super) fn filters() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let options = Options {
        whole_frames: true,
        ..options(Attach::Native)
    };
    let mut source = open(&net.b, &options)?;
    let before = source.drops()?.get(DropReason::Filtered);
    // Every third, by the last octet of the number; the length is that on the wire.
    source.set_filter(Box::new(|bytes, len| {
        assert_eq!(len, 9_015);
        bytes.get(45).is_some_and(|octet| octet % 3 == 0)
    }));
    let what = Blast {
        count: 200,
        payload: 8_973,
        port: PORT,
        ..Blast::default()
    };
    blast(&net.a, &net.b, what)?;
    let mut numbers = Vec::new();
    let mut whole = true;
    let lent = drain(&mut source, 67, |frame| {
        numbers.push(number(frame));
        whole &= frame.bytes.len() == 9_015;
    })?;
    let expected: Vec<u32> = (0..200).filter(|number| number % 3 == 0).collect();
    ensure!(whole && lent == 67 && numbers == expected, "{numbers:?}");
    let filtered = source.drops()?.get(DropReason::Filtered) - before;
    ensure!((133..150).contains(&filtered), "{filtered}");
    Ok(())
}

/// A packet socket on the sender stamps each datagram as it leaves, by the wall clock; XDP
/// on the other end sees it a moment later.
pub(super) fn times() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let mut source = open(&net.b, &options(Attach::Native))?;
    let args = [
        "-i",
        DEVICE,
        "-Q",
        "out",
        "-n",
        "-tt",
        "--immediate-mode",
        "-l",
        "-c",
        "300",
        "--time-stamp-precision=nano",
        "udp and dst port 4789",
    ];
    let witness = net.a.spawn("tcpdump", &args)?;
    witness.wait_error_line("listening", LIMIT)?;
    let socket = net.a.namespace().run(|| UdpSocket::bind("0.0.0.0:0"))??;
    let to = SocketAddr::from((net.b.ipv4(), PORT));
    let mut taken = Vec::new();
    for number in 0..300u32 {
        socket.send_to(&number.to_be_bytes(), to)?;
        // Half a second in all: many readings of the offset between the clocks.
        std::thread::sleep(Duration::from_micros(1_500));
        source.poll(Duration::ZERO, |frames| {
            taken.extend(frames.iter().map(|frame| frame.at.0));
        })?;
    }
    drain(&mut source, 1, |frame| taken.push(frame.at.0))?;
    let said = witness.finish(LIMIT)?;
    let left: Vec<u64> = said
        .stdout
        .lines()
        .filter_map(|line| {
            let (secs, nanos) = line.split(' ').next()?.split_once('.')?;
            Some(secs.parse::<u64>().ok()? * 1_000_000_000 + nanos.parse::<u64>().ok()?)
        })
        .collect();
    ensure!(
        left.len() == 300 && taken.len() == 300,
        "{} {}",
        left.len(),
        taken.len()
    );
    let mut delays: Vec<i64> = (taken.iter().zip(&left))
        .map(|(taken, left)| taken.wrapping_sub(*left).cast_signed())
        .collect();
    delays.sort_unstable();
    // Never before it left, but for the error of the offset; and at once, mostly.
    ensure!(delays[0] > -2_000, "{delays:?}");
    ensure!(delays[150] < 200_000, "{delays:?}");
    Ok(())
}
