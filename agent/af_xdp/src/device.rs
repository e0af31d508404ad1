//! What a socket's user must know of a device, asked by ioctl in the calling thread's
//! network namespace (a mounted `/sys` may show another one).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::call::check;
use crate::error::{Error, Step};

/// A network device as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The kernel's number.
    pub index: u32,
    /// Receive queues in use; 1 where the driver does not tell.
    pub queues: u32,
    /// The driver; empty where it does not tell.
    pub driver: String,
}

/// `struct ethtool_channels` (linux/ethtool.h).
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// `struct ethtool_drvinfo` (linux/ethtool.h).
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

impl Device {
    /// Looks a device up.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn find(name: &str) -> Result<Self, Error> {
        let system = |what, error| Error::System {
            step: Step::Device(what),
            object: name.to_owned(),
            error,
        };
        let no_device = || io::Error::from_raw_os_error(libc::ENODEV);
        let text = CString::new(name).map_err(|_| system("look up device", no_device()))?;
        // SAFETY: `text` ends in NUL and lives through the call.
        let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
        if index == 0 {
            return Err(system("look up device", io::Error::last_os_error()));
        }
        // SAFETY: plain integers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        let fd = check(fd).map_err(|error| system("open a socket to ask about", error))?;
        // SAFETY: just opened; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };

        let mut info = DriverInfo {
            cmd: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            version: [0; 32],
            firmware: [0; 32],
            bus: [0; 32],
            rom: [0; 32],
            reserved: [0; 12],
            counts: [0; 5],
        };
        let mut channels = Channels {
            cmd: ETHTOOL_GCHANNELS,
            ..Channels::default()
        };
        // A driver need not answer either.
        let driver = match ethtool(&fd, &text, ptr::from_mut(&mut info).cast()) {
            Ok(()) => until_nul(&info.driver),
            Err(_) => String::new(),
        };
        let queues = match ethtool(&fd, &text, ptr::from_mut(&mut channels).cast()) {
            Ok(()) => channels.rx_count.saturating_add(channels.combined_count),
            Err(_) => 1,
        };
        Ok(Self {
            name: name.to_owned(),
            index,
            queues: queues.max(1),
            driver,
        })
    }
}

fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// SIOCETHTOOL; `data` points to the struct that belongs to the command in its first word.
fn ethtool(fd: &OwnedFd, name: &CString, data: *mut libc::c_char) -> io::Result<()> {
    // SAFETY: all zero is a valid ifreq: an empty name and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // if_nametoindex has accepted the name: it fits, with its NUL.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = data;
    // libc's constant is of another type on some targets.
    let number = libc::SIOCETHTOOL as libc::c_ulong;
    // SAFETY: the ioctl reads and writes one ifreq, and the struct at `data`, both alive.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), number as _, &raw mut request) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_name() {
        let device = Device::find("lo").expect("lo");
        assert_eq!((device.index, device.queues), (1, 1));
        for name in ["nosuch0", "", "much-too-long-for-a-device", "a\0b"] {
            let error = Device::find(name).expect_err(name);
            assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
        }
    }
}
