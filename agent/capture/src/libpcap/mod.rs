//! A live device by way of libpcap: for devices that AF_PACKET's own ring does not do.
//!
//! Owns: one libpcap handle, non-blocking. libpcap keeps frames valid only within its
//! callback, so they are lent one by one: this backend is for odd devices, not for speed.
//! Its counts: frames that the kernel's side of the filter refused are not counted by
//! libpcap, frames that its ring or the device dropped are (on `lo` twice, as they leave and
//! as they arrive, though libpcap shows them once). Times are nanoseconds where the
//! device has them.

use std::io;
use std::time::Duration;

use base::{Frame, LinkType, Passage, WallNanos};
use pcap::{Active, Capture, Precision};
use sys::poll::{Events, Interest, Poller};

use crate::{DropReason, Drops, Polled, Source, SourceError};

/// Frames after which a poll returns.
const POLL_FRAMES: usize = 256;

/// How long the kernel may collect frames before it shows them.
const RETIRE_MS: i32 = 10;
/// By then the last block is shown.
const LAST_BLOCK: Duration = Duration::from_millis(3 * RETIRE_MS as u64);

const EPERM: i32 = 1;
const ENODEV: i32 = 19;
const ENETDOWN: i32 = 100;

/// A device, opened by libpcap.
pub struct LibpcapSource {
    device: String,
    capture: Capture<Active>,
    poller: Poller,
    events: Events,
    link: LinkType,
    newest: Option<WallNanos>,
    drops: Drops,
    /// libpcap's counts of 32 bits, as they were read last.
    last: (u32, u32),
    /// The device is gone, and the ring was emptied after that.
    emptied: bool,
}

impl LibpcapSource {
    /// Opens a device with a filter in libpcap's words (empty: everything), the octets to
    /// keep of each frame (0: all) and the size of the ring (0: libpcap's own).
    ///
    /// # Errors
    /// When libpcap cannot open the device or does not understand the filter.
    pub fn open(
        device: &str,
        filter: &str,
        snaplen: u32,
        buffer_bytes: usize,
    ) -> Result<Self, SourceError> {
        let failed = |operation| {
            move |error: pcap::Error| SourceError::System {
                operation,
                object: device.to_owned(),
                error: said(error),
            }
        };
        let snaplen = match snaplen {
            0 => crate::file::CAPTURED_MAX as i32,
            snaplen => i32::try_from(snaplen).unwrap_or(i32::MAX),
        };
        let mut inactive = Capture::from_device(device)
            .map_err(failed("pcap_create"))?
            .promisc(false)
            // Immediate mode would make libpcap take TPACKET_V2 instead of V3.
            .immediate_mode(false)
            .timeout(RETIRE_MS)
            .snaplen(snaplen)
            .precision(Precision::Nano);
        if buffer_bytes > 0 {
            inactive = inactive.buffer_size(i32::try_from(buffer_bytes).unwrap_or(i32::MAX));
        }
        let capture = inactive.open().map_err(failed("pcap_activate"))?;
        let mut capture = capture.setnonblock().map_err(failed("pcap_setnonblock"))?;
        if !filter.is_empty() {
            capture
                .filter(filter, true)
                .map_err(failed("pcap_compile"))?;
        }
        let number = capture.get_datalink().0;
        let system = |error| SourceError::System {
            operation: "epoll",
            object: device.to_owned(),
            error,
        };
        let poller = Poller::new().map_err(system)?;
        poller.add(&capture, 0, Interest::Read).map_err(system)?;
        Ok(Self {
            device: device.to_owned(),
            capture,
            poller,
            events: Events::new(1),
            link: u16::try_from(number).map_or(LinkType::Other, LinkType::from_pcap),
            newest: None,
            drops: Drops::default(),
            last: (0, 0),
            emptied: false,
        })
    }

    /// What frames of the device begin with.
    #[must_use]
    pub const fn link(&self) -> LinkType {
        self.link
    }

    fn failed(&self, operation: &'static str, error: io::Error) -> SourceError {
        SourceError::System {
            operation,
            object: self.device.clone(),
            error,
        }
    }

    /// Lends what is there.
    fn dispatch(&mut self, lend: &mut impl FnMut(&[Frame<'_>])) -> Result<usize, SourceError> {
        let link = self.link;
        let newest = &mut self.newest;
        let result = self.capture.dispatch(Some(POLL_FRAMES), |packet| {
            let header = packet.header;
            let seconds = u64::try_from(header.ts.tv_sec).unwrap_or(0);
            // With Precision::Nano these are nanoseconds.
            let fraction = u64::try_from(header.ts.tv_usec).unwrap_or(0);
            let mut frame = Frame {
                bytes: packet.data,
                original_len: header.len.max(header.caplen),
                at: WallNanos(seconds * 1_000_000_000 + fraction),
                segment_bytes: 0,
                link,
                passage: Passage::Unknown,
            };
            crate::file::cooked_passage(&mut frame);
            *newest = (*newest).max(Some(frame.at));
            lend(&[frame]);
        });
        result.map_err(|error| self.failed("pcap_dispatch", said(error)))
    }

    /// libpcap reports a device that is gone before the frames that came before. The kernel
    /// shows the block that it was filling when its time is over, device or no device.
    fn rest(
        &mut self,
        error: SourceError,
        lend: &mut impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError> {
        let mut lent = 0;
        if !self.emptied {
            self.emptied = true;
            std::thread::sleep(LAST_BLOCK);
            while let Ok(more @ 1..) = self.dispatch(lend) {
                lent += more;
            }
        }
        match lent {
            0 => Err(error),
            lent => Ok(Polled::Frames(lent)),
        }
    }
}

/// libpcap says why in words (pcap-linux.c), not in numbers; those that somebody acts on are
/// numbers again.
fn said(error: pcap::Error) -> io::Error {
    let message = match error {
        pcap::Error::PcapError(message) => message,
        other => other.to_string(),
    };
    let known = [
        ("not permitted", EPERM),
        ("ermission", EPERM),
        ("disappeared", ENODEV),
        ("No such device", ENODEV),
        ("interface went down", ENETDOWN),
        ("is not up", ENETDOWN),
    ];
    match known.iter().find(|(words, _)| message.contains(words)) {
        Some((_, number)) => io::Error::from_raw_os_error(*number),
        None => io::Error::other(message),
    }
}

impl Source for LibpcapSource {
    fn poll(
        &mut self,
        wait: Duration,
        mut lend: impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError> {
        let mut dispatched = self.dispatch(&mut lend);
        if let Ok(0) = dispatched {
            let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            self.poller
                .wait(&mut self.events, Some(wait_ns))
                .map_err(|error| self.failed("epoll_pwait2", error))?;
            dispatched = self.dispatch(&mut lend);
        }
        match dispatched {
            Ok(0) => Ok(Polled::Quiet),
            Ok(lent) => Ok(Polled::Frames(lent)),
            Err(error) => self.rest(error, &mut lend),
        }
    }

    fn drops(&mut self) -> Result<Drops, SourceError> {
        let stats = self
            .capture
            .stats()
            .map_err(|error| self.failed("pcap_stats", said(error)))?;
        let now = (stats.dropped, stats.if_dropped);
        let grown = |now: u32, last: u32| u64::from(now.wrapping_sub(last));
        self.drops
            .add(DropReason::RingFull, grown(now.0, self.last.0));
        self.drops
            .add(DropReason::KernelDropped, grown(now.1, self.last.1));
        self.last = now;
        Ok(self.drops)
    }

    fn newest(&self) -> Option<WallNanos> {
        self.newest
    }
}

#[cfg(test)]
mod tests;
