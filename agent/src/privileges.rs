//! Giving up what the agent does not need: another user, no capability in any set, no way
//! to gain one, read back from the kernel. Before the first thread; a failure is fatal.

// What the prober takes; after the drop it can be confirmed but not raised.
use probe::REALTIME_PRIORITY;
use sys::privilege::{self, Capability};

use crate::exit::Failure;

/// Whom the agent becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// It was not started as root, or no user is configured.
    Same,
    /// The configured user, with its ids.
    User(String, (u32, u32)),
    /// There is no such user.
    Missing(String),
}

impl Identity {
    /// By the configuration and who we are.
    pub fn of(configured: Option<&str>, root: bool) -> Self {
        match configured {
            Some(name) if root => privilege::lookup_user(name).map_or_else(
                || Self::Missing(name.to_owned()),
                |ids| Self::User(name.to_owned(), ids),
            ),
            _ => Self::Same,
        }
    }

    /// The ids to change to.
    pub const fn ids(&self) -> Option<(u32, u32)> {
        match self {
            Self::User(_, ids) => Some(*ids),
            Self::Same | Self::Missing(_) => None,
        }
    }

    /// What is worse than it should be.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Missing(name) => Some(format!(
                "agent.user: there is no user '{name}', the agent stays root (without capabilities); useradd --system {name}"
            )),
            Self::Same | Self::User(..) => None,
        }
    }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    uid() == Some(0)
}

/// Whom this process runs as.
pub fn uid() -> Option<u32> {
    // The owner of our own /proc entry; needs no call of our own.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self")
        .ok()
        .map(|entry| entry.uid())
}

/// While there are capabilities: this thread, and so the first that it starts, becomes
/// real-time. [`end_realtime`] takes it back.
///
/// # Errors
/// Without `CAP_SYS_NICE`, and without a limit that allows it.
pub fn begin_realtime() -> Result<(), Failure> {
    sys::sched::set_fifo_for_children(REALTIME_PRIORITY).map_err(|error| {
        Failure::privilege(format!(
            "agent.realtime: {error}; start as root, or with LimitRTPRIO={REALTIME_PRIORITY}, or write realtime = false"
        ))
    })
}

/// The probe thread is started: this one is as any other again.
///
/// # Errors
/// Never in practice.
pub fn end_realtime() -> Result<(), Failure> {
    sys::sched::set_normal().map_err(|error| Failure::privilege(error.to_string()))
}

/// Drops everything and reads back.
///
/// # Errors
/// When anything is left; the process must end.
pub fn drop_all(identity: &Identity) -> Result<(), Failure> {
    let fatal = |error: &dyn std::fmt::Display| {
        Failure::privilege(format!("cannot drop privileges: {error}; not starting"))
    };
    let bounding = match identity.ids() {
        Some((uid, gid)) => privilege::become_user_keeping(uid, gid, &[] as &[Capability]),
        None => privilege::drop_all(),
    }
    .map_err(|error| fatal(&error))?;
    privilege::verify_dropped(bounding).map_err(|error| fatal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_changes_user_and_only_to_one_that_exists() {
        assert_eq!(Identity::of(Some("root"), false), Identity::Same);
        assert_eq!(Identity::of(None, true), Identity::Same);
        let root = Identity::of(Some("root"), true);
        assert_eq!(root.ids(), Some((0, 0)));
        assert_eq!(root.complaint(), None);
        let missing = Identity::of(Some("no-such-user"), true);
        assert_eq!(missing.ids(), None);
        assert!(
            missing
                .complaint()
                .unwrap()
                .contains("useradd --system no-such-user")
        );
    }
}
