//! The backends behind one type, and how they are opened and chosen.
//!
//! Opening needs privileges and the calling thread in the right network namespace.

use std::time::Duration;

use base::{Frame, LinkType, Passage, WallNanos};
use capture::afpacket::{self, AfPacketSource};
use capture::afxdp::{self, AfXdpSource};
use capture::{AfPacketOptions, Drops, Filter, Polled, Source, SourceError};
use wire::decode::Layer;

use crate::cli::{BackendArg, XdpModeArg, XdpTakeArg};
use crate::exit::{Exit, Failure};
use crate::output::words;

/// One source of a worker. Dispatch is per poll, not per frame.
pub enum LiveSource {
    /// A member of an `AF_PACKET` group.
    AfPacket(AfPacketSource),
    /// All queues of a device.
    AfXdp(AfXdpSource),
    /// libpcap. The filter runs here: the kernel's side of libpcap's own counts nothing.
    #[cfg(feature = "pcap")]
    Pcap(capture::Filtered<capture::LibpcapSource>),
}

impl LiveSource {
    /// No more frames are taken from the host; what was taken can still be read.
    pub fn cease(&mut self) {
        if let Self::AfXdp(source) = self {
            // If the kernel refuses, the program goes with the source anyway.
            let _ = source.arm(false);
        }
    }
}

impl Source for LiveSource {
    fn poll(
        &mut self,
        wait: Duration,
        lend: impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError> {
        match self {
            Self::AfPacket(source) => source.poll(wait, lend),
            Self::AfXdp(source) => source.poll(wait, lend),
            #[cfg(feature = "pcap")]
            Self::Pcap(source) => source.poll(wait, lend),
        }
    }

    fn drops(&mut self) -> Result<Drops, SourceError> {
        match self {
            Self::AfPacket(source) => source.drops(),
            Self::AfXdp(source) => source.drops(),
            #[cfg(feature = "pcap")]
            Self::Pcap(source) => source.drops(),
        }
    }

    fn newest(&self) -> Option<WallNanos> {
        match self {
            Self::AfPacket(source) => source.newest(),
            Self::AfXdp(source) => source.newest(),
            #[cfg(feature = "pcap")]
            Self::Pcap(source) => source.newest(),
        }
    }
}

/// How sources are opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which backend was asked for.
    pub backend: BackendArg,
    /// The filter.
    pub filter: Option<Filter>,
    /// Octets that are kept of each frame.
    pub snaplen: u32,
    /// Octets of all rings together.
    pub ring_bytes: u32,
    /// Leave out what this host sends.
    pub ignore_outgoing: bool,
    /// Which flow decides about a frame's worker.
    pub layer: Layer,
    /// Where an XDP program is attached.
    pub xdp_mode: XdpModeArg,
    /// What AF_XDP takes.
    pub xdp_take: XdpTakeArg,
    /// Threads that analyse.
    pub workers: u32,
    /// Random.
    pub seed: u64,
}

/// What opening a device came to.
pub struct OpenedDevice {
    /// One for each worker; fewer where a backend has one only.
    pub sources: Vec<LiveSource>,
    /// Which backend.
    pub backend: &'static str,
    /// Why that one.
    pub reason: String,
    /// What is not as it should be.
    pub notes: Vec<String>,
}

impl Settings {
    /// Opens one device of `devices` that share the memory for rings.
    ///
    /// # Errors
    /// When it is not there or may not be captured.
    pub fn open(&self, device: &str, devices: usize) -> Result<OpenedDevice, SourceError> {
        match self.backend {
            BackendArg::Afpacket => self.afpacket(device, devices, "asked for"),
            BackendArg::Afxdp => self.afxdp(device),
            BackendArg::Pcap => self.pcap(device, "asked for"),
            BackendArg::Auto => {
                let why = "sees both directions and takes nothing from the host";
                match self.afpacket(device, devices, why) {
                    // Not a network device; libpcap knows others.
                    Err(error) if errno(&error) == Some(ENODEV) => {
                        let why = "AF_PACKET knows no such device";
                        self.pcap(device, why).map_err(|_| error)
                    }
                    other => other,
                }
            }
        }
    }

    /// The options of `AF_PACKET` for one of `devices`.
    #[must_use]
    pub fn packet_options(&self, device: &str, devices: usize) -> AfPacketOptions {
        AfPacketOptions {
            device: Some(device.to_owned()),
            ring_bytes: self.ring_bytes / u32::try_from(devices.max(1)).unwrap_or(1),
            snaplen: self.snaplen,
            filter: self.filter.clone(),
            ignore_outgoing: self.ignore_outgoing,
            layer: match self.layer {
                Layer::Innermost => afpacket::Layer::Innermost,
                Layer::Outermost => afpacket::Layer::Outermost,
            },
            seed: self.seed,
            ..AfPacketOptions::default()
        }
    }

    fn afpacket(
        &self,
        device: &str,
        devices: usize,
        why: &str,
    ) -> Result<OpenedDevice, SourceError> {
        let options = self.packet_options(device, devices);
        let group = AfPacketSource::open_group(&options, self.workers)?;
        Ok(OpenedDevice {
            sources: group
                .sources
                .into_iter()
                .map(LiveSource::AfPacket)
                .collect(),
            backend: "afpacket",
            reason: why.to_owned(),
            notes: group.notes,
        })
    }

    fn afxdp(&self, device: &str) -> Result<OpenedDevice, SourceError> {
        let options = afxdp::Options {
            attach: match self.xdp_mode {
                XdpModeArg::Auto => afxdp::Attach::Auto,
                XdpModeArg::Native => afxdp::Attach::Native,
                XdpModeArg::Generic => afxdp::Attach::Generic,
            },
            wanted: match self.xdp_take {
                XdpTakeArg::Mirror => afxdp::Wanted::mirror(),
                XdpTakeArg::Ip => afxdp::Wanted::Ip,
                XdpTakeArg::All => afxdp::Wanted::All,
            },
            spare_tcp_ports: vec![22],
            whole_frames: self.snaplen > 1024,
            ..afxdp::Options::new(device)
        };
        let mut source = AfXdpSource::open(&options)?;
        if let Some(filter) = self.filter.clone() {
            source.set_filter(Box::new(move |bytes, original_len| {
                filter.matches(&Frame {
                    bytes,
                    original_len,
                    at: WallNanos(0),
                    segment_bytes: 0,
                    link: LinkType::Ethernet,
                    passage: Passage::Unknown,
                })
            }));
        }
        let mut notes = source.notes().to_vec();
        if !matches!(self.xdp_take, XdpTakeArg::Mirror) && is_addressed(device) {
            notes.push(
                "the host has an address on this device and loses what arrives for it there, ssh \
                 excepted, as long as this runs; take mirror, or give the capture a device of its own"
                    .to_owned(),
            );
        }
        Ok(OpenedDevice {
            backend: "afxdp",
            reason: format!("asked for, {} mode", source.mode().as_str()),
            notes,
            sources: vec![LiveSource::AfXdp(source)],
        })
    }

    #[cfg(feature = "pcap")]
    fn pcap(&self, device: &str, why: &str) -> Result<OpenedDevice, SourceError> {
        let ring = usize::try_from(self.ring_bytes).unwrap_or(0);
        let source = capture::LibpcapSource::open(device, "", self.snaplen, ring)?;
        let source = capture::Filtered::new(source, self.filter.clone());
        Ok(OpenedDevice {
            sources: vec![LiveSource::Pcap(source)],
            backend: "pcap",
            reason: why.to_owned(),
            notes: vec![
                "libpcap does not say which frames the host merged or left to its card to split \
                 (GRO, TSO): each counts as one packet"
                    .to_owned(),
            ],
        })
    }

    #[cfg(not(feature = "pcap"))]
    fn pcap(&self, _: &str, _: &str) -> Result<OpenedDevice, SourceError> {
        Err(SourceError::Unsupported(
            "this build has no libpcap (feature pcap); use --backend afpacket".to_owned(),
        ))
    }
}

/// Whether this host has an IP address on a device, beside the link-local one of IPv6, in the
/// namespace of this thread: IPv4 by its routes, as proc_pid_net(5) has them.
fn is_addressed(device: &str) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    has_route(&read("route").unwrap_or_default(), device)
        || has_address(&read("if_inet6").unwrap_or_default(), device)
}

/// The device is the first word of a line of `route`.
fn has_route(text: &str, device: &str) -> bool {
    let mut lines = text.lines().skip(1);
    lines.any(|line| line.split_whitespace().next() == Some(device))
}

/// Of `if_inet6` the fourth word is the scope (20: of the link), the sixth the device.
fn has_address(text: &str, device: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace().skip(3);
        words.next().is_some_and(|scope| scope != "20") && words.nth(1) == Some(device)
    })
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;

/// The error number behind an error, if there is one.
#[must_use]
pub fn errno(error: &SourceError) -> Option<i32> {
    match error {
        SourceError::System { error, .. } => sys::call::errno_of(error),
        _ => None,
    }
}

/// Why a device cannot be captured, with its exit code and the way out.
#[must_use]
pub fn refused(error: &SourceError, device: &str) -> Failure {
    match errno(error) {
        Some(EPERM | EACCES) => Failure::privilege(format!(
            "cannot capture on {device}: {}; needs CAP_NET_RAW (and CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN for filters in the kernel and AF_XDP): run as root, or setcap cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon+ep on the binary",
            words::errno(errno(error).unwrap_or(0))
        )),
        Some(ENODEV) => Failure::usage(format!(
            "{device}: no such device; ip link shows which there are"
        )),
        _ => match error {
            SourceError::Unsupported(_) => Failure::new(Exit::Privilege, error.to_string()),
            _ => Failure::new(
                Exit::Privilege,
                format!("cannot capture on {device}: {error}"),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_with_an_address_is_known_by_route_or_scope() {
        // As Linux 6.8 shows them.
        let route = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            ens5\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        assert!(has_route(route, "ens5"));
        assert!(!has_route(route, "ens6") && !has_route(route, "Iface"));
        let inet6 = "fe800000000000000000000000000001 02 40 20 80     ens5\n\
            20010db8000000000000000000000001 03 40 00 80     ens6\n";
        assert!(has_address(inet6, "ens6"));
        assert!(!has_address(inet6, "ens5"), "every device has that one");
    }
}
