//! A host or router of the lab: a network namespace and the programs inside it.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use sys::netns::{Namespace, unique_name};
use sys::privilege::Capability;

use crate::cleanup::{checked, folder_of, kill_inside, prepare};
use crate::running::Running;

/// The device by which a host of a ready topology reaches the others.
pub const DEVICE: &str = "eth0";

/// Makes hosts; a process may have several labs.
#[derive(Debug)]
pub struct Lab(());

impl Lab {
    /// Readies the clean-up, removes leftovers of dead processes.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn new() -> Result<Self> {
        prepare()?;
        Ok(Self(()))
    }

    /// A new host without links: `lo` up, IPv6 without duplicate address detection and
    /// router advertisements, no bridge between hosts but what the test makes.
    ///
    /// # Errors
    /// When the namespace cannot be made (root needed).
    pub fn host(&self, label: &str) -> Result<Host> {
        let namespace = Namespace::create(&unique_name())
            .with_context(|| format!("namespace for host {label} (root needed)"))?;
        let host = Host(Arc::new(Inner {
            label: label.to_owned(),
            namespace,
            addresses: OnceLock::new(),
        }));
        for setting in ["all", "default"] {
            let ipv6 = format!("net/ipv6/conf/{setting}");
            host.sysctl(&format!("{ipv6}/accept_dad"), "0")?;
            host.sysctl(&format!("{ipv6}/accept_ra"), "0")?;
            host.sysctl(&format!("{ipv6}/router_solicitations"), "0")?;
        }
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// A host that forwards IPv4 and IPv6.
    ///
    /// # Errors
    /// As [`Lab::host`].
    pub fn router(&self, label: &str) -> Result<Host> {
        let host = self.host(label)?;
        for setting in [
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
            "net/ipv6/conf/default/forwarding",
            // The default spreads flows over equal paths by addresses only.
            "net/ipv4/fib_multipath_hash_policy",
            "net/ipv6/fib_multipath_hash_policy",
        ] {
            host.sysctl(setting, "1")?;
        }
        // One ICMP error per packet, as a test expects it; the default is one a second.
        host.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        host.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        Ok(host)
    }
}

struct Inner {
    label: String,
    namespace: Namespace,
    addresses: OnceLock<(Ipv4Addr, Ipv6Addr)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A namespace lives as long as a process in it.
        kill_inside(self.namespace.name());
        let _ = std::fs::remove_dir_all(folder_of(self.namespace.name()));
    }
}

/// A host or router. Clones are the same host; it goes with the last of them.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.label(), self.namespace().name())
    }
}

impl Host {
    /// The name that the test gave it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Its namespace, for `enter` and `run`.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// Its address on [`DEVICE`] in a ready topology; unspecified elsewhere.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.0
            .addresses
            .get()
            .map_or(Ipv4Addr::UNSPECIFIED, |both| both.0)
    }

    /// Its address on [`DEVICE`] in a ready topology; unspecified elsewhere.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        self.0
            .addresses
            .get()
            .map_or(Ipv6Addr::UNSPECIFIED, |both| both.1)
    }

    /// Either of them.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        if v6 {
            self.ipv6().into()
        } else {
            self.ipv4().into()
        }
    }

    pub(crate) fn set_addresses(&self, v4: Ipv4Addr, v6: Ipv6Addr) {
        // Set once, by the topology that made it.
        let _ = self.0.addresses.set((v4, v6));
    }

    /// A path for a file of this host (a configuration, a log), in a folder that goes with
    /// it. Anybody may read there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let folder = folder_of(self.namespace().name());
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder.join(name))
    }

    /// Writes a sysctl of this namespace (`net/ipv4/...`).
    ///
    /// # Errors
    /// When the kernel has no such setting or refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        let written = self.namespace().run(|| std::fs::write(&path, value))?;
        written.with_context(|| format!("sysctl {name}={value} on {self:?}"))
    }

    /// Turns IPv6 off on all devices of this host, also later ones: nothing is announced, so that
    /// each frame that it sends is of a test's making.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn silence(&self) -> Result<()> {
        self.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        self.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    }

    /// Runs lines of `ip` commands inside, one process for all: `link set lo up`.
    ///
    /// # Errors
    /// When a line fails; those after it were not run.
    pub fn ip(&self, lines: &str) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["-n", self.namespace().name(), "-batch", "-"]);
        checked(&mut command, Some(lines)).with_context(|| format!("on {self:?}"))
    }

    /// A program inside this host. `/sys` there shows the host's devices.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        // `ip netns exec` replaces itself by the program: same process, same id.
        command
            .args(["netns", "exec", self.namespace().name()])
            .arg(program);
        command
    }

    /// Runs a program inside to its end and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the error has what it said.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        checked(self.command(program).args(args), None).with_context(|| format!("on {self:?}"))
    }

    /// Runs `work` inside, on a thread of its own that has no capability but these.
    ///
    /// # Errors
    /// When the capabilities cannot be dropped, or `work` panics.
    pub fn run_with_only<T: Send>(
        &self,
        capabilities: &[Capability],
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        let limited = || -> Result<T> {
            sys::privilege::keep_only(capabilities)?;
            Ok(work())
        };
        self.namespace().run(|| {
            let done = std::thread::scope(|scope| scope.spawn(limited).join());
            done.map_err(|_| anyhow::anyhow!("it panicked on {self:?}"))
        })??
    }

    /// Starts a program inside that is ended when the result is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Result<Running> {
        Running::start(self.command(program).args(args))
    }

    /// Turns off what would hand unfinished packets to a relay: checksums left to a device,
    /// segments larger than the link, merged packets.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub fn offloads_off(&self, device: &str) -> Result<()> {
        let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        self.run("ethtool", &[["-K", device].as_slice(), &off].concat())?;
        Ok(())
    }

    /// A counter of a device, as the kernel keeps it: `rx_packets`, `tx_dropped`, ...
    ///
    /// # Errors
    /// When there is no such device or counter.
    pub fn device_counter(&self, device: &str, counter: &str) -> Result<u64> {
        let path = format!("/sys/class/net/{device}/statistics/{counter}");
        Ok(self.run("cat", &[&path])?.trim().parse()?)
    }

    /// Frames that a device's driver gave to XDP, on all of its queues, as it counts itself.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub fn xdp_packets(&self, device: &str) -> Result<u64> {
        let text = self.run("ethtool", &["-S", device])?;
        let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        lines
            .filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with("_xdp_packets"))
            .map(|(_, value)| Ok(value.parse::<u64>()?))
            .sum()
    }

    /// A counter of the host's IP stack by the name that `nstat` gives it (`UdpInDatagrams`,
    /// `Icmp6InPktTooBigs`, ...), since the host exists.
    ///
    /// # Errors
    /// When the kernel has no such counter.
    pub fn stack_counter(&self, counter: &str) -> Result<u64> {
        let read = |path: &str| self.namespace().run(|| std::fs::read_to_string(path));
        let v6 = read("/proc/thread-self/net/snmp6")??;
        if let Some(value) = v6.lines().find_map(|line| {
            let (name, value) = line.split_once(char::is_whitespace)?;
            (name == counter).then(|| value.trim().to_owned())
        }) {
            return Ok(value.parse()?);
        }
        // Pairs of lines: `Udp: InDatagrams NoPorts ...` and `Udp: 12 0 ...`.
        for path in [
            "/proc/thread-self/net/snmp",
            "/proc/thread-self/net/netstat",
        ] {
            let text = read(path)??;
            let lines: Vec<_> = text.lines().collect();
            for pair in lines.chunks_exact(2) {
                let (Some((group, names)), Some((_, values))) =
                    (pair[0].split_once(": "), pair[1].split_once(": "))
                else {
                    continue;
                };
                let found = names
                    .split(' ')
                    .zip(values.split(' '))
                    .find(|(name, _)| counter.strip_prefix(group) == Some(name));
                if let Some((_, value)) = found {
                    return Ok(value.parse()?);
                }
            }
        }
        anyhow::bail!("the kernel has no counter {counter}")
    }
}
