//! Giving up what the agent does not need: another user, no capability in any set, no way
//! to gain one, read back from the kernel. Before the first thread; a failure is fatal.

// What the prober takes; after the drop it can be confirmed but not raised.
use probe::REALTIME_PRIORITY;
use sys::privilege::{self, Capability};

use crate::config::text;
use crate::exit::Failure;

/// Whom the agent becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// It was not started as root, or no user is configured.
    Same,
    /// The configured user, with its ids.
    User(String, (u32, u32)),
    /// There is no user of the default name, so the ids of [`FALLBACK`].
    Nobody((u32, u32)),
}

/// Whom the agent becomes where the user of the default does not exist.
const FALLBACK: &str = "nobody";

impl Identity {
    /// By the configuration and who we are. Only `user = ""` stays root.
    ///
    /// # Errors
    /// There is no such user. The one of the default may be missing, written or not.
    pub fn of(configured: Option<&str>, root: bool) -> Result<Self, Failure> {
        Self::with(configured, root, privilege::lookup_user)
    }

    fn with(
        configured: Option<&str>,
        root: bool,
        lookup: impl Fn(&str) -> Option<(u32, u32)>,
    ) -> Result<Self, Failure> {
        let Some(name) = configured.filter(|_| root) else {
            return Ok(Self::Same);
        };
        if let Some(ids) = lookup(name) {
            return Ok(Self::User(name.to_owned(), ids));
        }
        let fallback = if name == text::Agent::default().user {
            lookup(FALLBACK)
        } else {
            None
        };
        fallback.map(Self::Nobody).ok_or_else(|| {
            Failure::usage(format!(
                "agent.user: there is no user '{name}'; create it with `useradd --system {name}`, or write user = \"\" to stay root"
            ))
        })
    }

    /// The ids to change to.
    pub const fn ids(&self) -> Option<(u32, u32)> {
        match self {
            Self::User(_, ids) | Self::Nobody(ids) => Some(*ids),
            Self::Same => None,
        }
    }

    /// What is worse than it should be.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Nobody(_) => {
                let name = text::Agent::default().user;
                Some(format!(
                    "agent.user: there is no user '{name}', the agent runs as '{FALLBACK}', which others may share; create it with `useradd --system {name}`"
                ))
            }
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
    privilege::verify_dropped(bounding).map_err(|error| fatal(&error))?;
    match identity.ids() {
        Some(ids) => verify_ids(ids).map_err(|error| fatal(&error)),
        None => Ok(()),
    }
}

/// Reads back that every user and group id of this process is the one it changed to.
///
/// # Errors
/// Naming the one that is not.
pub fn verify_ids(ids: (u32, u32)) -> std::io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    ids_in(&status, ids).map_err(std::io::Error::other)
}

fn ids_in(status: &str, (uid, gid): (u32, u32)) -> Result<(), String> {
    for (field, wanted) in [("Uid:", uid), ("Gid:", gid)] {
        // Real, effective, saved and that of the file system.
        let found: Vec<&str> = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .map(|rest| rest.split_whitespace().collect())
            .unwrap_or_default();
        let wanted = wanted.to_string();
        if found.len() != 4 || found.iter().any(|id| *id != wanted) {
            return Err(format!("{field} {} instead of {wanted}", found.join(" ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn only_root_changes_user_and_never_stays_root_unasked() {
        let host = |names: &'static [&str]| {
            move |name: &str| {
                let found = names.iter().position(|known| *known == name)?;
                Some((100 + found as u32, 200))
            }
        };
        let of = |name, root, names| Identity::with(name, root, host(names));
        let same = Ok(Identity::Same);
        assert_eq!(of(Some("a"), false, &["a"]), same);
        assert_eq!(of(Some("gone"), false, &[]), same);
        assert_eq!(of(None, true, &["netsonde", "nobody"]), same);
        let user = of(Some("a"), true, &["nobody", "a"]).unwrap();
        assert_eq!((user.ids(), user.complaint()), (Some((101, 200)), None));
        // The default may be missing, with a warning, as long as there is another.
        let nobody = of(Some("netsonde"), true, &["nobody"]).unwrap();
        assert_eq!(nobody.ids(), Some((100, 200)));
        let warning = nobody.complaint().unwrap();
        assert!(warning.contains("useradd --system netsonde"), "{warning}");
        for (name, names) in [("gone", &["nobody", "netsonde"][..]), ("netsonde", &[])] {
            let failure = of(Some(name), true, names).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            let words = format!(
                "there is no user '{name}'; create it with `useradd --system {name}`, or write user = \"\""
            );
            assert!(failure.message.contains(&words), "{}", failure.message);
        }
    }

    #[test]
    fn every_id_is_read_back() {
        let status = |uid: &str, gid: &str| format!("Name:\tx\nUid:\t{uid}\nGid:\t{gid}\n");
        let right = status("7\t7\t7\t7", "8\t8\t8\t8");
        assert_eq!(ids_in(&right, (7, 8)), Ok(()));
        for (wrong, field) in [
            (
                status("7\t7\t0\t7", "8\t8\t8\t8"),
                "Uid: 7 7 0 7 instead of 7",
            ),
            (
                status("7\t7\t7\t7", "8\t8\t8\t0"),
                "Gid: 8 8 8 0 instead of 8",
            ),
            (status("7\t7\t7", "8\t8\t8\t8"), "Uid: 7 7 7 instead"),
            (String::new(), "Uid:  instead of 7"),
        ] {
            let error = ids_in(&wrong, (7, 8)).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(ids_in(&status, (u32::MAX, u32::MAX)).is_err());
    }
}
