//! A paced sender of numbered UDP packets and a capture that counts what arrives: the
//! independent witnesses of what a relay or a probe claims.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use sys::clock::{mono_now, sleep_until};
use sys::packet::{FrameBatch, PacketSocket, SEND_BATCH, wait};
use wire::checksum::{internet, protocol, transport, verify_transport};
use wire::frame::Frame;

use crate::host::{DEVICE, Host};

/// What to send.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Blast {
    /// Over IPv6 instead of IPv4.
    pub v6: bool,
    /// How many packets.
    pub count: u32,
    /// Packets per second.
    pub rate: u64,
    /// Bytes of UDP payload, at least 4; the first word is the packet's number from 0.
    pub payload: usize,
    /// Destination port.
    pub port: u16,
}

impl Default for Blast {
    fn default() -> Self {
        Self {
            v6: false,
            count: 1_000,
            rate: 20_000,
            payload: 44,
            port: 862,
        }
    }
}

/// A whole frame with a UDP datagram, DF set, TTL 255, checksums right.
#[must_use]
pub fn udp_frame(
    hardware: ([u8; 6], [u8; 6]),
    addresses: (IpAddr, IpAddr),
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(62 + payload.len());
    frame.extend(hardware.1);
    frame.extend(hardware.0);
    let ip = match addresses {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00]);
            let mut header = [0; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            header[6..10].copy_from_slice(&[0x40, 0, 255, protocol::UDP]);
            header[12..16].copy_from_slice(&from.octets());
            header[16..].copy_from_slice(&to.octets());
            let sum = internet(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header.to_vec()
        }
        (from, to) => {
            let octets = |address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            frame.extend([0x86, 0xdd]);
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([protocol::UDP, 255]);
            header.extend(octets(from));
            header.extend(octets(to));
            header
        }
    };
    frame.extend(ip);
    let at = frame.len();
    frame.extend(ports.0.to_be_bytes());
    frame.extend(ports.1.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    let sum = transport(addresses.0, addresses.1, protocol::UDP, &frame[at..]);
    frame[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Sends a [`Blast`] from one host of a pair to the other, paced in steps of a millisecond;
/// returns when the last packet left.
///
/// # Errors
/// When a packet is refused.
pub fn blast(from: &Host, to: &Host, what: Blast) -> Result<()> {
    let socket = from.namespace().run(|| PacketSocket::open(DEVICE))??;
    socket.set_buffers(16 << 20)?;
    let hardware = (hardware_of(from)?, hardware_of(to)?);
    let addresses = (from.address(what.v6), to.address(what.v6));
    let mut payload = vec![0xa5; what.payload.max(4)];
    let start = mono_now();
    let mut sent = 0u32;
    while sent < what.count {
        let elapsed_ns = mono_now().since(start);
        let due = u128::from(elapsed_ns) * u128::from(what.rate) / 1_000_000_000 + 1;
        let due = u32::try_from(due).unwrap_or(u32::MAX).min(what.count);
        let mut frames: Vec<Vec<u8>> = Vec::with_capacity((due - sent) as usize);
        for number in sent..due {
            payload[..4].copy_from_slice(&number.to_be_bytes());
            frames.push(udp_frame(
                hardware,
                addresses,
                (40_000, what.port),
                &payload,
            ));
        }
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        for chunk in slices.chunks(SEND_BATCH) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let left = socket.send(rest).context("blast")?;
                rest = &rest[left..];
            }
        }
        sent = due;
        sleep_until(start.plus(mono_now().since(start) + 1_000_000));
    }
    Ok(())
}

/// Sends whole frames from a host's device, in order and as fast as it goes; returns when the
/// last one left. They pass by the host's own queue, so a capture on this host sees none.
///
/// # Errors
/// When a frame is refused.
pub fn send_frames(from: &Host, device: &str, frames: &[Vec<u8>]) -> Result<()> {
    let socket = from.namespace().run(|| PacketSocket::open(device))??;
    socket.set_buffers(16 << 20)?;
    let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let mut rest = slices.as_slice();
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(SEND_BATCH)];
        match socket.send(batch) {
            Ok(left) => rest = &rest[left..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::yield_now();
            }
            Err(error) => return Err(error).context("send_frames"),
        }
    }
    Ok(())
}

/// Sends frames, each at its time (ns) since the first; returns when the last one left. As with
/// [`send_frames`] no capture on this host sees them. Who is late sends at once and keeps the
/// times of the others.
///
/// # Errors
/// When a frame is refused.
pub fn replay(from: &Host, device: &str, frames: &[(u64, Vec<u8>)]) -> Result<()> {
    let socket = from.namespace().run(|| PacketSocket::open(device))??;
    socket.set_buffers(16 << 20)?;
    let first_ns = frames.first().map_or(0, |(at_ns, _)| *at_ns);
    let start = mono_now();
    for (at_ns, frame) in frames {
        sleep_until(start.plus(at_ns.saturating_sub(first_ns)));
        while socket.send(&[frame]).context("replay")? == 0 {}
    }
    Ok(())
}

fn hardware_of(host: &Host) -> Result<[u8; 6]> {
    let text = host.run("cat", &[&format!("/sys/class/net/{DEVICE}/address")])?;
    let mut hardware = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut hardware {
        *byte = u8::from_str_radix(parts.next().context("hardware address")?, 16)?;
    }
    Ok(hardware)
}

/// One captured UDP datagram.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// First word of the payload.
    pub number: u32,
    /// The kernel's receive stamp, ns of `CLOCK_REALTIME`.
    pub at_ns: u64,
    /// Whether the UDP checksum fits.
    pub intact: bool,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of the IP packet.
    pub ip_len: usize,
}

/// Counts the UDP datagrams to one port that arrive on a host, until it is stopped. Keeps
/// the port open (unless somebody else has it), so that the host does not answer with ICMP.
pub struct Capture {
    _open: Option<UdpSocket>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Arrival>>>,
}

impl Capture {
    /// Starts; every packet that arrives from now on is seen.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let socket = host.namespace().run(|| PacketSocket::open(DEVICE))??;
        socket.set_buffers(256 << 20)?;
        let open = host
            .namespace()
            .run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || capture(&socket, port, &stopped));
        Ok(Self {
            _open: open.ok(),
            stop,
            thread,
        })
    }

    /// Everything that arrived, in order. Whoever forwards must have finished.
    ///
    /// # Errors
    /// When the capture itself lost packets: it is no witness then.
    pub fn stop(self) -> Result<Vec<Arrival>> {
        self.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the capture panicked"),
        }
    }
}

fn capture(socket: &PacketSocket, port: u16, stop: &AtomicBool) -> Result<Vec<Arrival>> {
    let mut batch = FrameBatch::new(64, 9_216);
    let mut arrivals = Vec::new();
    loop {
        // Read before the receive: what came before the stop is still read.
        let last = stop.load(Ordering::Acquire);
        let count = socket.receive(&mut batch)?;
        for i in 0..count {
            let received = batch.get(i);
            let Ok(frame) = Frame::parse(received.bytes) else {
                continue;
            };
            if frame.protocol != protocol::UDP || frame.ports.is_none_or(|ports| ports.1 != port) {
                continue;
            }
            let segment = &received.bytes[frame.segment()];
            let Some(word) = received.bytes[frame.payload.clone()].first_chunk::<4>() else {
                continue;
            };
            arrivals.push(Arrival {
                number: u32::from_be_bytes(*word),
                at_ns: received.at.map_or(0, |at| at.0),
                intact: verify_transport(frame.source, frame.destination, protocol::UDP, segment),
                ttl: frame.ttl,
                ip_len: frame.ip_len,
            });
        }
        if count == 0 {
            if last {
                break;
            }
            wait(&[socket.as_fd()], 10_000_000)?;
        }
    }
    let dropped = socket.statistics()?.dropped;
    if dropped > 0 {
        bail!("the capture dropped {dropped} packets");
    }
    Ok(arrivals)
}
