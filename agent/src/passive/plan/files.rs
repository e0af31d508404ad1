//! Which file is which: what is written must not be what is read, nor two things one file.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// What tells files apart, whatever they are called.
#[derive(PartialEq, Eq)]
enum Identity {
    /// One that exists: device and inode.
    There(u64, u64),
    /// One that would be made.
    Path(PathBuf),
}

impl Identity {
    /// `None` for what several may share: a stream, a terminal, `/dev/null`.
    fn of(path: &Path) -> Option<Self> {
        if path.as_os_str() == "-" {
            return None;
        }
        match std::fs::metadata(path) {
            Ok(there) if there.is_file() => Some(Self::There(there.dev(), there.ino())),
            Ok(_) => None,
            Err(_) => std::path::absolute(path).ok().map(Self::Path),
        }
    }
}

/// Lines go to a file: standard output has the report.
///
/// # Errors
/// With the usage code for `-`.
pub(super) fn named(option: &str, path: Option<&Path>) -> Result<(), Failure> {
    if path.is_some_and(|path| path.as_os_str() == "-") {
        return Err(Failure::usage(format!(
            "{option} -: standard output has the report; name a file (./- for one of that name)"
        )));
    }
    Ok(())
}

/// Holds the named files of a run apart: options and their paths.
///
/// # Errors
/// With the usage code for the first two that are one file.
pub(super) fn apart(named: &[(&str, Option<&Path>)]) -> Result<(), Failure> {
    let mut known: Vec<(&str, Identity)> = Vec::new();
    for (option, path) in named {
        let Some((path, identity)) = path.and_then(|path| Identity::of(path).map(|id| (path, id)))
        else {
            continue;
        };
        if let Some((other, _)) = known.iter().find(|(_, other)| *other == identity) {
            return Err(Failure::usage(format!(
                "{other} and {option} name one file, {}; name another for {option}",
                path.display()
            )));
        }
        known.push((option, identity));
    }
    Ok(())
}
