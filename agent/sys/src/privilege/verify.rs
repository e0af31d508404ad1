//! Reading back what was dropped, from the kernel's own account.

use std::fs;
use std::io;

use super::{CapSet, Capability};

/// Why the thread is not as unprivileged as it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The account cannot be read.
    #[error("read /proc/thread-self/status: {0}")]
    Unreadable(#[from] io::Error),
    /// A line is missing or is no number.
    #[error("/proc/thread-self/status has no {0}")]
    Missing(&'static str),
    /// A set holds what it should not.
    #[error("{set} still holds {bits:#018x}")]
    NotEmpty {
        /// The set, in the words of /proc.
        set: &'static str,
        /// What it holds beyond what was to be kept.
        bits: u64,
    },
    /// Privileges could be gained by exec.
    #[error("NoNewPrivs is not set")]
    NewPrivileges,
}

/// Checks that this thread has no capability in any set and cannot gain one. The bounding
/// set is looked at if `bounding`, the result of [`super::drop_all`], says that it was emptied.
///
/// # Errors
/// Names the first set that is not empty.
pub fn verify_dropped(bounding: bool) -> Result<(), VerifyError> {
    verify_only(&[], bounding)
}

/// As [`verify_dropped`], but `keep` may be held.
///
/// # Errors
/// Names the first set that holds more.
pub fn verify_only(keep: &[Capability], bounding: bool) -> Result<(), VerifyError> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    check(&status, CapSet::of(keep), bounding)
}

pub(super) fn check(status: &str, keep: CapSet, bounding: bool) -> Result<(), VerifyError> {
    let field = |name: &'static str| {
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or(VerifyError::Missing(name))
    };
    // Inherited and ambient sets are empty even where some are kept.
    let sets = [
        ("CapPrm", keep.0),
        ("CapEff", keep.0),
        ("CapInh", 0),
        ("CapAmb", 0),
        ("CapBnd", if bounding { keep.0 } else { u64::MAX }),
    ];
    for (set, allowed) in sets {
        let bits =
            u64::from_str_radix(field(set)?, 16).map_err(|_| VerifyError::Missing(set))? & !allowed;
        if bits != 0 {
            return Err(VerifyError::NotEmpty { set, bits });
        }
    }
    if field("NoNewPrivs")? == "1" {
        Ok(())
    } else {
        Err(VerifyError::NewPrivileges)
    }
}
