//! What the end-to-end tests share: trials that say why they cannot run, and where the
//! built programs are.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};

/// Whether a test that cannot run here is a failure: in CI everything must run.
#[must_use]
pub fn strict() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// A test in a lab. `needs` says what is missing here, if anything: then the test counts as
/// ignored, with the reason in its name, and as failed where `CI=true`.
pub fn trial(
    name: &str,
    needs: impl FnOnce() -> Option<String>,
    test: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    match needs() {
        None => Trial::test(name, move || {
            test().map_err(|error| Failed::from(format!("{error:#}")))
        }),
        Some(reason) => {
            let why = format!("{name} (cannot run: {reason})");
            Trial::test(why, move || Err(Failed::from(reason))).with_ignored_flag(!strict())
        }
    }
}

/// The `netsonde` binary: `NETSONDE_BIN`, or where cargo put it beside this test.
///
/// # Errors
/// When it is in neither place.
pub fn netsonde() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NETSONDE_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(std::path::Path::parent);
    folder
        .map(|folder| folder.join("netsonde"))
        .filter(|path| path.exists())
        .context("no netsonde: build it (cargo build -p netsonde), or set NETSONDE_BIN")
}

/// What a test with the real binary needs and is not there.
#[must_use]
pub fn missing() -> Option<String> {
    lab::cleanup::missing().or_else(|| netsonde().err().map(|error| error.to_string()))
}

/// Whether a program is on the path, as a reason why not.
#[must_use]
pub fn missing_program(program: &str, package: &str) -> Option<String> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()));
    (!found).then(|| format!("`{program}` is not installed (Debian package {package})"))
}
