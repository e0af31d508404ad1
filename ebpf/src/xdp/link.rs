//! `BPF_LINK_CREATE`, and no other way to attach: aya falls back to netlink where the kernel
//! answers EINVAL, and a program attached so outlives its process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::LoadError;
use crate::xdp::XdpMode;
use crate::xdp::owner::{Owner, owner};

/// Why the program is not on the device.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another program is; it was left alone.
    #[error("{device} has an XDP program already{}: it was left alone; detach it, or name another device or backend", named(owner.as_ref()))]
    Taken {
        /// The device.
        device: String,
        /// What is known of it.
        owner: Option<Owner>,
    },
    /// The driver or the kernel cannot.
    #[error("attach XDP to {device} in {} mode: {error}{}", mode.as_str(), hint(error))]
    System {
        /// The device.
        device: String,
        /// How it was tried.
        mode: XdpMode,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The program itself.
    #[error(transparent)]
    Load(LoadError),
}

fn named(owner: Option<&Owner>) -> String {
    match owner {
        Some(owner) => format!(" ({owner})"),
        None => String::new(),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => " (the driver has no native XDP; generic mode works with all)",
        Some(libc::ERANGE) => {
            " (this driver's native XDP does not carry the device's MTU; use generic mode)"
        }
        Some(libc::EINVAL) => {
            " (no bpf_link for XDP before Linux 5.9; or the driver refuses: too many queues, or the MTU)"
        }
        Some(libc::EPERM) => " (needs CAP_NET_ADMIN and CAP_BPF)",
        _ => "",
    }
}

/// The members of `union bpf_attr` (linux/bpf.h) for BPF_LINK_CREATE, up to those of XDP.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    /// A union of what other attach types need.
    rest: [u64; 6],
}

const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

pub(super) fn attach(
    program: BorrowedFd<'_>,
    device: &str,
    index: u32,
    mode: XdpMode,
) -> Result<OwnedFd, AttachError> {
    let attributes = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        target_ifindex: index,
        attach_type: BPF_XDP,
        flags: match mode {
            XdpMode::Native => XDP_FLAGS_DRV_MODE,
            XdpMode::Generic => XDP_FLAGS_SKB_MODE,
        },
        rest: [0; 6],
    };
    // SAFETY: `attributes` is readable for its size through the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_CREATE,
            &raw const attributes,
            size_of::<LinkCreate>(),
        )
    };
    if let Ok(fd) = i32::try_from(fd)
        && fd >= 0
    {
        // SAFETY: a new descriptor, close-on-exec as all of bpf(2), that nobody else owns.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // dev_xdp_attach: a program or link is there (EBUSY), or one in the other of native
        // and generic mode (EEXIST).
        Some(libc::EBUSY | libc::EEXIST) => Err(AttachError::Taken {
            device: device.to_owned(),
            owner: owner(index).ok().flatten(),
        }),
        _ => Err(AttachError::System {
            device: device.to_owned(),
            mode,
            error,
        }),
    }
}
