//! What can be known before the first probe: the device, the route, the privileges. A run
//! that cannot work ends here with one line, and not half-way.

use std::io;
use std::net::{IpAddr, SocketAddr};

use sys::socket::{ProbeSocket, SocketKind, SocketSpec};

use super::plan::{Choice, Plan, Target};
use crate::exit::Failure;
use crate::output::json::Source;
use crate::output::words;

/// Checks everything; gives where the probes to the first target come from.
///
/// # Errors
/// One line with the exit code that fits.
pub fn check(plan: &Plan) -> Result<Source, Failure> {
    if let Some(device) = &plan.device {
        check_device(device)?;
    }
    let mut sources = Vec::new();
    for target in &plan.targets {
        sources.push(route(target, plan.device.as_deref())?);
        if plan.protocol == Choice::Icmp {
            icmp(target.address.is_ipv6(), plan.device.as_deref())?;
        }
    }
    if plan.realtime {
        realtime()?;
    }
    let address = sources.first().copied();
    let device = plan
        .device
        .clone()
        .or_else(|| address.and_then(sys::device::device_of));
    Ok(Source {
        address: address.map(|address| address.to_string()),
        device,
    })
}

fn check_device(name: &str) -> Result<(), Failure> {
    sys::device::index(name)
        .map_err(|_| Failure::usage(format!("-I {name}: no such device; `ip link` lists them")))?;
    match sys::device::is_up(name) {
        Ok(false) => Err(Failure::usage(format!(
            "-I {name}: the device is down; ip link set {name} up"
        ))),
        // That it cannot be asked does not mean that it cannot send.
        _ => Ok(()),
    }
}

/// The local address towards a target; nothing is sent.
fn route(target: &Target, device: Option<&str>) -> Result<IpAddr, Failure> {
    let mut to = target.address;
    if to.port() == 0 {
        to.set_port(1);
    }
    let ask = || -> io::Result<SocketAddr> {
        let socket = ProbeSocket::open(&spec(to.is_ipv6(), SocketKind::Udp, device))?;
        socket.connect(to)?;
        socket.local_addr()
    };
    ask()
        .map(|local| local.ip())
        .map_err(|error| unroutable(target, &error))
}

/// What [`ipv6_is_off`] found, for people.
pub const IPV6_IS_OFF: &str =
    "IPv6 is disabled on this host (sysctl net.ipv6.conf.all.disable_ipv6)";

/// Whether IPv6 was switched off and no device has an address of it. The sysctl alone leaves
/// `[::]` bindable, though nothing can arrive there.
#[must_use]
pub fn ipv6_is_off() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|text| text.trim() == "1")
        && std::fs::read_to_string("/proc/thread-self/net/if_inet6")
            .is_ok_and(|text| text.trim().is_empty())
}

fn spec(ipv6: bool, kind: SocketKind, device: Option<&str>) -> SocketSpec {
    SocketSpec {
        ipv6,
        kind,
        device: device.map(str::to_owned),
    }
}

fn unroutable(target: &Target, error: &io::Error) -> Failure {
    let ip = target.address.ip();
    let errno = sys::call::errno_of(error).unwrap_or(0);
    let what = format!("cannot send to {}", target.name);
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match words::errno_name(errno).as_str() {
        "EINVAL" if link_local => Failure::usage(format!(
            "{what}: a link-local address needs its device: {ip}%eth0"
        )),
        "EAFNOSUPPORT" | "EADDRNOTAVAIL" if ip.is_ipv6() && ipv6_is_off() => {
            Failure::privilege(format!("{what}: {IPV6_IS_OFF}; use an IPv4 address"))
        }
        "EAFNOSUPPORT" => Failure::privilege(format!(
            "{what}: {} is disabled on this host; use an address of the other family",
            if ip.is_ipv6() { "IPv6" } else { "IPv4" }
        )),
        "EADDRNOTAVAIL" => Failure::usage(format!(
            "{what}: this host has no {} address to send from; `ip address` lists them",
            if ip.is_ipv6() { "IPv6" } else { "IPv4" }
        )),
        "EPERM" => Failure::privilege(format!(
            "{what}: {}; run as root, or leave -I away",
            words::errno(errno)
        )),
        _ => Failure::usage(format!(
            "{what}: {}; ip route get {ip} shows the route",
            words::errno(errno)
        )),
    }
}

/// A raw socket, or the kernel's ping socket.
fn icmp(ipv6: bool, device: Option<&str>) -> Result<(), Failure> {
    let open = |kind| ProbeSocket::open(&spec(ipv6, kind, device));
    if open(SocketKind::IcmpRaw).is_ok() {
        return Ok(());
    }
    open(SocketKind::IcmpPing)
        .map(|_| ())
        .map_err(|error| no_icmp(&error))
}

/// Why no ICMP socket can be had, and the way out.
#[must_use]
pub fn no_icmp(error: &io::Error) -> Failure {
    Failure::privilege(format!(
        "cannot open an ICMP socket: {}; run as root, or setcap cap_net_raw+ep on the binary, or sysctl -w net.ipv4.ping_group_range='0 2147483647'",
        sys::call::errno_of(error).map_or_else(|| error.to_string(), words::errno)
    ))
}

/// Tries it on a thread that ends at once, so that this one keeps its policy.
fn realtime() -> Result<(), Failure> {
    let tried = std::thread::Builder::new()
        .name("try-fifo".to_owned())
        .spawn(|| sys::sched::set_fifo(1))
        .map(std::thread::JoinHandle::join);
    match tried {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(Failure::privilege(format!(
            "--realtime: SCHED_FIFO is refused: {}; it needs CAP_SYS_NICE or RLIMIT_RTPRIO: run as root, or setcap cap_sys_nice+ep on the binary, or leave --realtime away",
            sys::call::errno_of(&error).map_or_else(|| error.to_string(), words::errno)
        ))),
        _ => Err(Failure::incomplete("--realtime: cannot start a thread")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn target(address: &str) -> Target {
        Target {
            name: "db".to_owned(),
            address: address.parse().expect("an address"),
        }
    }

    #[test]
    fn loopback_has_a_route_and_a_source() {
        let source = route(&target("127.0.0.1:862"), None).expect("a route");
        assert_eq!(source.to_string(), "127.0.0.1");
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let failure = check_device("nosuchdev0").expect_err("not there");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("nosuchdev0: no such device"));
        check_device("lo").expect("there");
    }

    #[test]
    fn errors_have_their_code_and_way_out() {
        let of =
            |address, errno| unroutable(&target(address), &io::Error::from_raw_os_error(errno));
        for (address, errno, exit, wanted) in [
            (
                "10.0.0.2:862",
                101,
                Exit::Usage,
                "Network is unreachable (ENETUNREACH); ip route get 10.0.0.2",
            ),
            (
                "[fe80::1]:862",
                22,
                Exit::Usage,
                "a link-local address needs its device: fe80::1%eth0",
            ),
            (
                "[::2]:862",
                97,
                Exit::Privilege,
                "IPv6 is disabled on this host",
            ),
            (
                "[::2]:862",
                99,
                Exit::Usage,
                "has no IPv6 address to send from",
            ),
            (
                "10.0.0.2:862",
                1,
                Exit::Privilege,
                "Operation not permitted (EPERM)",
            ),
        ] {
            let failure = of(address, errno);
            assert_eq!(failure.exit, exit);
            assert!(failure.message.contains(wanted), "{failure}");
            assert!(failure.message.starts_with("cannot send to db: "));
        }
        let failure = no_icmp(&io::Error::from_raw_os_error(1));
        assert_eq!(failure.exit, Exit::Privilege);
        assert!(failure.message.contains("cap_net_raw"));
    }
}
