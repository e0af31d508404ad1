//! One connected socket to one target: sends probes, reads TX stamps, errors and replies.
//!
//! A socket per session, so that an error of one target cannot cost another its probes
//! (kernel-and-lab E2), and so that the kernel lets in only what comes from the target.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use measure::session::Codec;
use sys::call::errno_of;
use sys::socket::{Batch, ErrorBatch, Pmtu, ProbeSocket, SocketKind, SocketSpec};

use wire::frame::Frame;

use crate::OpenSocket;
use crate::target::{DontFragment, TargetSpec};

/// Kernel memory of one queued stamp or small reply, a little high (kernel-and-lab E1: 128
/// pairs fill 212 992 bytes).
const QUEUED_BYTES: u64 = 1_664;
/// `SO_RCVBUF` is not asked to be larger.
const MAX_RECEIVE_BUFFER: u64 = 8 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    socket: ProbeSocket,
    pub(crate) local: SocketAddr,
    pub(crate) peer: IpAddr,
    pub(crate) stamped: bool,
    /// The device says that it stamps whatever it sends.
    pub(crate) stamps_certain: bool,
    own_ids: bool,
    overflow: u32,
    receive_buffer: usize,
}

/// What could not be done, on what.
#[derive(Debug, thiserror::Error)]
#[error("{step} for {address}: {source}")]
pub struct AddError {
    /// The step that failed.
    pub step: &'static str,
    /// The target.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl Link {
    /// Opens and prepares a socket to the target of `spec`, from another port than the
    /// target's: reflectors do not answer those, for it could be one of them.
    pub(crate) fn open(
        spec: &TargetSpec,
        kind: SocketKind,
        open: &mut OpenSocket,
    ) -> Result<Self, AddError> {
        let link = Self::open_any(spec, kind, open)?;
        if kind == SocketKind::Udp && link.local.port() == spec.address.port() {
            // Kept open meanwhile, so that the kernel picks another.
            return Self::open_any(spec, kind, open);
        }
        Ok(link)
    }

    fn open_any(
        spec: &TargetSpec,
        kind: SocketKind,
        open: &mut OpenSocket,
    ) -> Result<Self, AddError> {
        let ipv6 = spec.address.is_ipv6();
        let wanted = SocketSpec {
            ipv6,
            kind,
            device: spec.device.clone(),
        };
        let what = if kind == SocketKind::Udp {
            "open a UDP socket"
        } else {
            "open an ICMP socket"
        };
        let failed = |step| {
            move |source| AddError {
                step,
                address: spec.address,
                source,
            }
        };
        let fd = open(&wanted).map_err(failed(what))?;
        let socket = ProbeSocket::from_fd(fd, &wanted).map_err(failed("take the socket"))?;

        socket.set_ttl(spec.ttl).map_err(failed("set the TTL"))?;
        if spec.tos != 0 {
            socket.set_tos(spec.tos).map_err(failed("set the DSCP"))?;
        }
        let pmtu = match spec.fragment {
            DontFragment::Probe => Pmtu::Probe,
            DontFragment::Do => Pmtu::Do,
            DontFragment::Dont => Pmtu::Dont,
        };
        socket.set_pmtu(pmtu).map_err(failed("set DF"))?;
        socket
            .receive_ttl_tos_pktinfo()
            .map_err(failed("ask for received TTLs"))?;
        socket
            .receive_errors_on()
            .map_err(failed("ask for ICMP errors"))?;
        // Stamps and replies of one second share the buffer: a stall must not look like loss.
        let per_second = 1_000_000_000 / spec.interval_ns.max(1) + 64;
        let wanted_buffer = (2 * per_second * QUEUED_BYTES).clamp(212_992, MAX_RECEIVE_BUFFER);
        let receive_buffer = socket
            .grow_receive_buffer(usize::try_from(wanted_buffer).unwrap_or(212_992))
            .map_err(failed("set the receive buffer"))?;
        let device = spec
            .device
            .clone()
            .or_else(|| sys::device::outgoing_device(spec.address.ip()));
        let hardware = device
            .as_deref()
            .and_then(|device| sys::device::hardware_stamping(device).ok())
            .is_some_and(|stamping| stamping.rx && stamping.tx);
        let stamps_sent = device
            .as_deref()
            .is_some_and(|device| sys::device::stamps_sent(device).unwrap_or(false));
        let mode = socket
            .enable_stamps(hardware)
            .or_else(|_| socket.enable_stamps(false))
            .ok();

        let any: IpAddr = if ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let mut peer = spec.address;
        if kind != SocketKind::Udp {
            peer.set_port(0);
        }
        socket
            .bind(SocketAddr::new(any, 0))
            .map_err(failed("bind a port"))?;
        socket.connect(peer).map_err(failed("find a route"))?;
        let local = socket
            .local_addr()
            .map_err(failed("read the local address"))?;
        Ok(Self {
            socket,
            local,
            peer: spec.address.ip(),
            stamped: mode.is_some(),
            stamps_certain: mode.is_some() && stamps_sent,
            own_ids: mode.is_some_and(|mode| mode.own_ids),
            overflow: 0,
            receive_buffer,
        })
    }

    /// Octets of the headers that the kernel puts before what is sent.
    pub(crate) const fn headers(&self) -> usize {
        let ip = if self.local.is_ipv6() { 40 } else { 20 };
        // An ICMP socket's payload begins at the ICMP header.
        let transport = if matches!(self.socket.kind(), SocketKind::Udp) {
            8
        } else {
            0
        };
        ip + transport
    }

    /// Sends one packet; the probe's number comes back with its stamp.
    pub(crate) fn send(&mut self, payload: &[u8], sequence: u32) -> Result<(), i32> {
        let id = self.own_ids.then_some(sequence);
        match self.socket.send(payload, id) {
            Ok(_) => Ok(()),
            Err(error) => Err(errno_of(&error).unwrap_or(0)),
        }
    }

    /// The probe that a stamp is of: by the id that we gave it, else by the packet itself.
    pub(crate) fn sequence_of(&self, id: u32, packet: &[u8], codec: &Codec) -> Option<u32> {
        if self.own_ids {
            return Some(id);
        }
        let frame = Frame::parse(packet)
            .or_else(|_| Frame::parse_ip(packet, 0))
            .ok()?;
        let sent = match self.socket.kind() {
            SocketKind::Udp => packet.get(frame.payload.clone())?,
            SocketKind::IcmpRaw | SocketKind::IcmpPing => packet.get(frame.l4..)?,
        };
        codec.sequence_of(sent)
    }

    pub(crate) fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        self.socket.receive(batch)
    }

    pub(crate) fn receive_errors(&self, batch: &mut ErrorBatch) -> io::Result<usize> {
        self.socket.receive_errors(batch)
    }

    /// Datagrams dropped at this socket since the last call, from `SO_RXQ_OVFL`'s total.
    pub(crate) fn dropped(&mut self, total: u32) -> u64 {
        let new = total.wrapping_sub(self.overflow);
        // Totals of a batch may be read out of order; they never go back by much.
        if new == 0 || new > u32::MAX / 2 {
            return 0;
        }
        self.overflow = total;
        u64::from(new)
    }

    /// Whether so many messages at once came near to filling the buffer, so that stamps may
    /// have been lost: those are in no counter.
    pub(crate) fn nearly_full(&self, messages: usize) -> bool {
        messages as u64 * QUEUED_BYTES / 2 > self.receive_buffer as u64 / 2
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use base::{ClockState, TargetKey, WallNanos};
    use measure::session::{Codec, IcmpCodec, MAX_PAYLOAD, Marking, StampCodec};
    use sys::socket::ErrorItem;
    use wire::stamp::TimestampFormat;

    use super::*;

    /// Sends probes of every size and reads their stamps as a kernel before 6.13 gives them.
    fn stamps_by_their_packets(address: SocketAddr, kind: SocketKind, codec: &Codec) {
        let mut open = crate::direct();
        let spec = TargetSpec::new(TargetKey(0), address);
        let mut link = match Link::open(&spec, kind, &mut open) {
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => return,
            other => other.expect("a socket"),
        };
        link.socket.enable_quoting_stamps(false).expect("stamps");
        link.own_ids = false;
        let mut errors = ErrorBatch::new(64, MAX_PAYLOAD + 128);
        let mut packet = [0; MAX_PAYLOAD];
        let mut found = Vec::new();
        // Numbers that are no count of packets, among packets that are no probes.
        let numbers: Vec<u32> = (0..50).map(|n| 7 + 13 * n).collect();
        for number in &numbers {
            let now = WallNanos(1);
            let (len, _) = codec.emit(
                &mut packet,
                *number,
                Marking::Plain,
                now,
                ClockState::UNKNOWN,
            );
            link.send(&packet[..len], *number).expect("sent");
            link.send(&[0; 10], 0).expect("sent");
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !found.contains(number) && std::time::Instant::now() < patience {
                link.receive_errors(&mut errors).expect("readable");
                for item in errors.iter() {
                    if let ErrorItem::Stamp {
                        id, packet, kernel, ..
                    } = item
                    {
                        assert!(kernel.is_some());
                        found.extend(link.sequence_of(id, packet, codec));
                    }
                }
            }
        }
        assert_eq!(found, numbers, "{address} {kind:?}");
    }

    #[test]
    fn stamps_find_their_probes_without_own_ids() {
        for ip in ["127.0.0.1", "::1"] {
            let silent = std::net::UdpSocket::bind((ip, 0)).expect("a port");
            let address = silent.local_addr().expect("bound");
            for payload in [None, Some(1_400)] {
                let codec = Codec::Stamp(StampCodec {
                    ssid: 5,
                    format: TimestampFormat::Ntp,
                    payload,
                    private_tlv: false,
                    equal_sizes: false,
                });
                stamps_by_their_packets(address, SocketKind::Udp, &codec);
            }
            let v6 = address.is_ipv6();
            let icmp = Codec::Icmp(IcmpCodec {
                v6,
                ident: 9,
                nonce: 77,
                payload: None,
            });
            stamps_by_their_packets(address, SocketKind::IcmpRaw, &icmp);
        }
    }
}
