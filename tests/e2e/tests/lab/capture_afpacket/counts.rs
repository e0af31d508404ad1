//! Every frame that passes the device is lent or in a counter: by one worker and by several, with
//! rings that overflow, and with a filter in the kernel.

use anyhow::{Result, ensure};
use base::LinkType;
use capture::{AfPacketOptions, AfPacketSource, Filter};
use lab::traffic::send_frames;
use lab::{Direct, Lab};

use super::{DEVICE, Tally, datagrams, on_device, passed, read_until, sources_on};

pub(super) fn accounts() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    for workers in [1, 3] {
        let mut sources = sources_on(&net.b, &on_device(), workers)?;
        let before = passed(&net.b)?;
        let mut tally = Tally::default();
        for _ in 0..10 {
            send_frames(&net.a, DEVICE, &datagrams(&net, 2_000, |_| 9))?;
            // The host answers some: ports that nobody has open.
            let all = |tally: &Tally| Ok(tally.all() >= passed(&net.b)? - before);
            read_until(&mut sources, &mut tally, |_, _| (), all)?;
        }
        let offered = passed(&net.b)? - before;
        ensure!(offered > 10_000, "{offered}");
        ensure!(
            (tally.lent, tally.drops) == (offered, [0; 3]),
            "{workers} workers: {tally:?} of {offered}"
        );
        ensure!(sources.iter().map(AfPacketSource::seen).sum::<u64>() == offered);
    }
    Ok(())
}

pub(super) fn overload() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let words = ["not", "udp", "port", "1009"].map(str::to_owned);
    for (workers, filter) in [(1, false), (1, true), (4, true)] {
        let options = AfPacketOptions {
            ring_bytes: 256 << 10,
            block_bytes: 128 << 10,
            filter: filter
                .then(|| Filter::compile(&words, &[LinkType::Ethernet]))
                .transpose()?,
            ..on_device()
        };
        let mut sources = sources_on(&net.b, &options, workers)?;
        let before = passed(&net.b)?;
        let mut tally = Tally::default();
        let frames = datagrams(&net, 10_000, |i| 1_000 + i % 10);
        for _ in 0..5 {
            // More than the rings hold, before anybody reads.
            send_frames(&net.a, DEVICE, &frames)?;
            let all = |tally: &Tally| Ok(tally.all() >= passed(&net.b)? - before);
            read_until(&mut sources, &mut tally, |_, _| (), all)?;
        }
        let offered = passed(&net.b)? - before;
        let [filtered, full, malformed] = tally.drops;
        ensure!(
            tally.all() == offered && malformed == 0,
            "{workers} workers: {tally:?} of {offered}"
        );
        ensure!(full > 1_000, "no overload: {full}");
        // One in ten is rejected; the veth may have dropped some of those that were sent.
        ensure!(
            filtered <= 5_000 && (filtered > 2_500) == filter,
            "{filtered}"
        );
    }
    Ok(())
}

pub(super) fn filters() -> Result<()> {
    let lab = Lab::new()?;
    let net = Direct::silent(&lab)?;
    let words = ["udp".to_owned(), "port".to_owned(), "1001".to_owned()];
    let filter = Filter::compile(&words, &[LinkType::Ethernet])?;
    for (device, workers) in [
        (Some(DEVICE.to_owned()), 1),
        (Some(DEVICE.to_owned()), 4),
        (None, 1),
    ] {
        let options = AfPacketOptions {
            device: device.clone(),
            filter: Some(filter.clone()),
            snaplen: 50,
            ignore_outgoing: true,
            ..on_device()
        };
        let mut sources = sources_on(&net.b, &options, workers)?;
        ensure!(sources.iter().all(AfPacketSource::filters_in_kernel));
        send_frames(&net.a, DEVICE, &datagrams(&net, 300, |i| 1_000 + i % 3))?;
        let mut wrong = 0;
        let check = |_, frame: &base::Frame<'_>| {
            let port = frame.bytes.get(36..38) == Some(&1_001_u16.to_be_bytes());
            let sizes = (frame.bytes.len(), frame.original_len) == (50, 74);
            wrong += u32::from(!port || !sizes || frame.link != LinkType::Ethernet);
        };
        let mut tally = Tally::default();
        read_until(&mut sources, &mut tally, check, |tally| {
            Ok(tally.all() >= 300)
        })?;
        ensure!(wrong == 0, "{wrong} frames are not what was asked for");
        ensure!(
            (tally.lent, tally.drops) == (100, [200, 0, 0]),
            "{device:?}: {tally:?}"
        );
    }
    Ok(())
}
