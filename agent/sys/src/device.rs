//! Network devices of the calling thread's network namespace.
//!
//! Everything is asked by socket, never through /sys: a mounted /sys shows the namespace it
//! was mounted in, not the thread's.

use std::ffi::{CStr, CString};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use crate::call::{check, failed};
use crate::socket::{ProbeSocket, SocketSpec};

/// Which hardware stamps a device takes now.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct HwStamping {
    /// Received packets.
    pub rx: bool,
    /// Sent packets.
    pub tx: bool,
}

/// An ifreq with a name and nothing else; an error if the name cannot be one.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zero is a valid ifreq: an empty name and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let valid = !name.is_empty()
        && name.len() < libc::IFNAMSIZ
        && !name.bytes().any(|byte| byte == 0 || byte == b'/');
    if !valid {
        let error = io::Error::from_raw_os_error(libc::ENODEV);
        return Err(failed("look up device", name, error));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// An ioctl on a device through any socket.
fn ask(
    name: &str,
    operation: &'static str,
    number: libc::c_ulong,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    let socket = ProbeSocket::open(&SocketSpec::udp(false))
        .or_else(|_| ProbeSocket::open(&SocketSpec::udp(true)))?;
    // SAFETY: the device ioctls used here read and write one ifreq, and what its data
    // pointer was set to by the caller, which lives through the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            number as _,
            ptr::from_mut(request),
        )
    };
    check(result)
        .map(drop)
        .map_err(|error| failed(operation, name, error))
}

/// The device's hardware stamping as it is configured (`SIOCGHWTSTAMP`); changes nothing.
///
/// # Errors
/// When there is no such device. A device without the feature has both off.
pub fn hardware_stamping(name: &str) -> io::Result<HwStamping> {
    let mut config = libc::hwtstamp_config {
        flags: 0,
        tx_type: 0,
        rx_filter: 0,
    };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut config).cast();
    // libc's constant is of another type on some targets.
    let number = libc::SIOCGHWTSTAMP as libc::c_ulong;
    match ask(name, "SIOCGHWTSTAMP", number, &mut request) {
        // HWTSTAMP_TX_OFF and HWTSTAMP_FILTER_NONE are 0.
        Ok(()) => Ok(HwStamping {
            rx: config.rx_filter != 0,
            tx: config.tx_type != 0,
        }),
        Err(error) => match crate::call::errno_of(&error) {
            Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY | libc::EPERM) => {
                Ok(HwStamping::default())
            }
            _ => Err(error),
        },
    }
}

/// The kernel's `struct ethtool_ts_info` (linux/ethtool.h).
#[repr(C)]
#[derive(Default)]
struct TsInfo {
    cmd: u32,
    so_timestamping: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

const ETHTOOL_GET_TS_INFO: u32 = 0x41;

/// Whether the device's driver says that it stamps what it sends (`ETHTOOL_GET_TS_INFO`):
/// then a packet without a stamp never reached it.
///
/// # Errors
/// When there is no such device, or it cannot be asked.
pub fn stamps_sent(name: &str) -> io::Result<bool> {
    let mut info = TsInfo {
        cmd: ETHTOOL_GET_TS_INFO,
        ..TsInfo::default()
    };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // libc's constant is of another type on some targets.
    let number = libc::SIOCETHTOOL as libc::c_ulong;
    ask(name, "ETHTOOL_GET_TS_INFO", number, &mut request)?;
    Ok(info.so_timestamping & libc::SOF_TIMESTAMPING_TX_SOFTWARE != 0)
}

/// The kernel's number of a device.
///
/// # Errors
/// When there is no such device.
pub fn index(name: &str) -> io::Result<u32> {
    let text = CString::new(name)?;
    // SAFETY: `text` ends in NUL and lives through the call.
    let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
    if index == 0 {
        return Err(failed("look up device", name, io::Error::last_os_error()));
    }
    Ok(index)
}

/// The device's MTU, in bytes of IP packet.
///
/// # Errors
/// When there is no such device.
pub fn mtu(name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    ask(name, "SIOCGIFMTU", libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU has filled this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(u32::try_from(mtu).unwrap_or(0))
}

/// Whether the device is up and has a carrier.
///
/// # Errors
/// When there is no such device.
pub fn is_up(name: &str) -> io::Result<bool> {
    let mut request = request(name)?;
    ask(name, "SIOCGIFFLAGS", libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled this member.
    let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
    let wanted = libc::IFF_UP | libc::IFF_RUNNING;
    Ok(flags & wanted == wanted)
}

/// The names of all devices.
///
/// # Errors
/// When the kernel does not tell.
pub fn list() -> io::Result<Vec<String>> {
    // SAFETY: no arguments; the result is checked, and freed below.
    let all = unsafe { libc::if_nameindex() };
    if all.is_null() {
        return Err(failed("if_nameindex", "", io::Error::last_os_error()));
    }
    let mut names = Vec::new();
    let mut at = all;
    loop {
        // SAFETY: the array ends with an entry of index 0, before which we stop.
        let entry = unsafe { &*at };
        if entry.if_index == 0 || entry.if_name.is_null() {
            break;
        }
        // SAFETY: a name ends in NUL and lives until if_freenameindex.
        let name = unsafe { CStr::from_ptr(entry.if_name) };
        names.push(name.to_string_lossy().into_owned());
        // SAFETY: this was not the last entry.
        at = unsafe { at.add(1) };
    }
    // SAFETY: `all` is from if_nameindex and not used any more.
    unsafe { libc::if_freenameindex(all) };
    Ok(names)
}

/// The device that packets to `destination` leave by, as far as its local address tells;
/// `None` when there is no route.
#[must_use]
pub fn outgoing_device(destination: IpAddr) -> Option<String> {
    let socket = ProbeSocket::open(&SocketSpec::udp(destination.is_ipv6())).ok()?;
    // Port 9, discard: connecting a datagram socket sends nothing.
    socket.connect(SocketAddr::new(destination, 9)).ok()?;
    let local = socket.local_addr().ok()?.ip();
    device_of(local)
}

/// The device that has this address.
#[must_use]
pub fn device_of(address: IpAddr) -> Option<String> {
    let mut first = ptr::null_mut();
    // SAFETY: `first` is writable; the list is freed below.
    let result = unsafe { libc::getifaddrs(&raw mut first) };
    check(result).ok()?;
    let mut at = first;
    let mut found = None;
    // SAFETY: entries are valid, or null at the end, until freeifaddrs.
    while let Some(entry) = unsafe { at.as_ref() } {
        if !entry.ifa_addr.is_null() && address_at(entry.ifa_addr) == Some(address) {
            // SAFETY: a name ends in NUL and lives until freeifaddrs.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            found = Some(name.to_string_lossy().into_owned());
            break;
        }
        at = entry.ifa_next;
    }
    // SAFETY: `first` is from getifaddrs and not used any more.
    unsafe { libc::freeifaddrs(first) };
    found
}

/// The IP address in a non-null address of getifaddrs.
fn address_at(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: every address has at least a family.
    let family = unsafe { (*address).sa_family };
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: of this family it is a sockaddr_in.
            let v4 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: of this family it is a sockaddr_in6.
            let v6 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            Some(IpAddr::from(v6.sin6_addr.s6_addr))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_loopback_device_is_known() {
        assert!(list().expect("list").iter().any(|name| name == "lo"));
        // The kernel gives every namespace's loopback the number 1.
        assert_eq!(index("lo").expect("index"), 1);
        assert_eq!(mtu("lo").expect("mtu"), 65_536);
        assert!(is_up("lo").expect("flags"));
        assert_eq!(
            hardware_stamping("lo").expect("stamping"),
            HwStamping::default()
        );
        assert!(stamps_sent("lo").expect("stamping"));
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(outgoing_device(local).as_deref(), Some("lo"));
        assert_eq!(device_of(local).as_deref(), Some("lo"));
        assert_eq!(device_of(Ipv4Addr::new(192, 0, 2, 77).into()), None);
    }

    #[test]
    fn a_device_that_is_not_there_is_named_in_the_error() {
        for name in ["nosuch0", "", "much-too-long-for-a-device", "a/b"] {
            for error in [
                mtu(name).map(drop).expect_err(name),
                is_up(name).map(drop).expect_err(name),
                hardware_stamping(name).map(drop).expect_err(name),
                stamps_sent(name).map(drop).expect_err(name),
                index(name).map(drop).expect_err(name),
            ] {
                assert_eq!(crate::call::errno_of(&error), Some(libc::ENODEV), "{error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }
}
