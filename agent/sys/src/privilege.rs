//! Capabilities: asking for them, keeping few, dropping all, and reading back.
//!
//! Capabilities belong to a *thread*. Drop them before the first thread is started; what is
//! started later inherits the empty sets. Dropping cannot be undone. A failure must be fatal
//! to the caller: there is no partial success.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use crate::call::{check, check_long, failed};

mod verify;
pub use verify::{VerifyError, verify_dropped, verify_only};

/// _LINUX_CAPABILITY_VERSION_3: two words of 32.
const VERSION_3: u32 = 0x2008_0522;

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// The capabilities that this program can need.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Capability { $($(#[doc = $doc])+ $variant,)+ }

        impl Capability {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The kernel's number (include/uapi/linux/capability.h).
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The kernel's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

capabilities! {
    /// Read any file.
    DacReadSearch = 2, "CAP_DAC_READ_SEARCH";
    /// Signal any process.
    Kill = 5, "CAP_KILL";
    /// Change the group.
    SetGid = 6, "CAP_SETGID";
    /// Change the user.
    SetUid = 7, "CAP_SETUID";
    /// Empty the bounding set.
    SetPcap = 8, "CAP_SETPCAP";
    /// Bind ports below 1024.
    NetBindService = 10, "CAP_NET_BIND_SERVICE";
    /// Large buffers, interfaces, XDP.
    NetAdmin = 12, "CAP_NET_ADMIN";
    /// Raw and packet sockets.
    NetRaw = 13, "CAP_NET_RAW";
    /// Lock memory.
    IpcLock = 14, "CAP_IPC_LOCK";
    /// Nearly everything.
    SysAdmin = 21, "CAP_SYS_ADMIN";
    /// Real-time scheduling.
    SysNice = 23, "CAP_SYS_NICE";
    /// Raise hard limits.
    SysResource = 24, "CAP_SYS_RESOURCE";
    /// Kernel performance counters.
    PerfMon = 38, "CAP_PERFMON";
    /// Load eBPF programs.
    Bpf = 39, "CAP_BPF";
}

/// A set of capabilities, one bit each.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CapSet(pub u64);

impl CapSet {
    /// The set of these.
    #[must_use]
    pub fn of(capabilities: &[Capability]) -> Self {
        Self(
            capabilities
                .iter()
                .fold(0, |bits, capability| bits | 1 << capability.number()),
        )
    }

    /// Whether it holds this one.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 >> capability.number() & 1 == 1
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Copy, Clone, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const SELF: Header = Header {
    version: VERSION_3,
    pid: 0,
};

fn get() -> io::Result<[Words; 2]> {
    let mut words = [Words::default(); 2];
    let header = SELF;
    // SAFETY: version 3 reads one header and writes two sets of words.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, words.as_mut_ptr()) };
    check_long(result).map_err(|error| failed("capget", "of this thread", error))?;
    Ok(words)
}

fn set(effective: CapSet, permitted: CapSet) -> io::Result<()> {
    let half = |set: CapSet, shift: u32| (set.0 >> shift & 0xffff_ffff) as u32;
    let words = [0, 32].map(|shift| Words {
        effective: half(effective, shift),
        permitted: half(permitted, shift),
        inheritable: 0,
    });
    let header = SELF;
    // SAFETY: version 3 reads one header and two sets of words.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    check_long(result)
        .map(drop)
        .map_err(|error| failed("capset", "of this thread", error))
}

/// What this thread may do now.
///
/// # Errors
/// Never in practice.
pub fn effective() -> io::Result<CapSet> {
    let words = get()?;
    Ok(CapSet(
        u64::from(words[0].effective) | u64::from(words[1].effective) << 32,
    ))
}

/// What this thread may make effective.
///
/// # Errors
/// Never in practice.
pub fn permitted() -> io::Result<CapSet> {
    let words = get()?;
    Ok(CapSet(
        u64::from(words[0].permitted) | u64::from(words[1].permitted) << 32,
    ))
}

/// Drops everything but `keep` (what of it is held) from every set of this thread, and
/// forbids to gain any by exec. Returns whether the bounding set was emptied of the others
/// as well, which takes `CAP_SETPCAP`.
///
/// # Errors
/// When a set could not be changed; treat the process as still privileged.
pub fn keep_only(keep: &[Capability]) -> io::Result<bool> {
    let held = permitted()?;
    let keep = CapSet(CapSet::of(keep).0 & held.0);
    // no_new_privs first: no later failure leaves a way back by exec.
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")?;
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
        "PR_CAP_AMBIENT_CLEAR_ALL",
    )?;
    let bounding = held.has(Capability::SetPcap);
    if bounding {
        // The bounding set goes while CAP_SETPCAP is still effective.
        set(held, held)?;
        for number in 0..=last_capability() {
            if keep.0 >> number & 1 == 0 {
                prctl(libc::PR_CAPBSET_DROP, number, "PR_CAPBSET_DROP")?;
            }
        }
    }
    set(keep, keep)?;
    Ok(bounding)
}

/// Drops every capability: [`keep_only`] of nothing. Follow it by [`verify_dropped`].
///
/// # Errors
/// As [`keep_only`].
pub fn drop_all() -> io::Result<bool> {
    keep_only(&[])
}

/// The highest capability that this kernel knows.
fn last_capability() -> libc::c_ulong {
    fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|last| *last < 64)
        .unwrap_or(40)
}

fn prctl(option: i32, value: libc::c_ulong, name: &'static str) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take integers only.
    let result = unsafe { libc::prctl(option, value, zero, zero, zero) };
    check(result)
        .map(drop)
        .map_err(|error| failed(name, format!("value {value}"), error))
}

/// User and primary group of a name; `None` if there is no such user.
#[must_use]
pub fn lookup_user(name: &str) -> Option<(u32, u32)> {
    let name = CString::new(name).ok()?;
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut text = vec![0; 16 * 1024];
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are valid for the lengths given through the call.
    let result = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            text.as_mut_ptr(),
            text.len(),
            &raw mut found,
        )
    };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded and found an entry, so it is initialised.
    let entry = unsafe { entry.assume_init() };
    Some((entry.pw_uid, entry.pw_gid))
}

/// Becomes another user for good: no supplementary groups, then group, then user, of all
/// threads. Capabilities end with the user 0 (not the bounding set: [`drop_all`]).
///
/// # Errors
/// Without `CAP_SETGID` and `CAP_SETUID`; nothing is kept of a half-way result, the caller
/// must end.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let object = || format!("user {uid} group {gid}");
    // SAFETY: an empty list needs no memory.
    let result = unsafe { libc::setgroups(0, ptr::null()) };
    check(result).map_err(|error| failed("setgroups", object(), error))?;
    // SAFETY: no pointers are passed.
    let result = unsafe { libc::setresgid(gid, gid, gid) };
    check(result).map_err(|error| failed("setresgid", object(), error))?;
    // SAFETY: no pointers are passed.
    let result = unsafe { libc::setresuid(uid, uid, uid) };
    check(result).map_err(|error| failed("setresuid", object(), error))?;
    Ok(())
}

/// Becomes another user and keeps a few capabilities; the rest goes as by [`keep_only`].
///
/// # Errors
/// As [`become_user`] and [`keep_only`].
pub fn become_user_keeping(uid: u32, gid: u32, keep: &[Capability]) -> io::Result<bool> {
    prctl(libc::PR_SET_KEEPCAPS, 1, "PR_SET_KEEPCAPS")?;
    become_user(uid, gid)?;
    let bounding = keep_only(keep)?;
    prctl(libc::PR_SET_KEEPCAPS, 0, "PR_SET_KEEPCAPS")?;
    Ok(bounding)
}

#[cfg(test)]
mod tests;
