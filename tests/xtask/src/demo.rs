//! `cargo xtask demo`: builds, becomes root where it must, and lets the lab show everything.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::machine::{cargo, is_root, release};
use crate::{packages, steps};

/// Builds the programs and runs the demonstration; `port` 0 takes any free one.
pub(crate) fn run(port: u16) -> Result<ExitCode> {
    // Set by ourselves on the second start, as root: all is built then.
    if std::env::var_os("NETSONDE_DEMO_BUILT").is_none() {
        packages::install(&[packages::BUILD, packages::LAB].concat())?;
        println!("building netsonde and the lab's relay (release)");
        let args = ["build", "--release", "--locked", "--bins"];
        let packages = ["--package", "netsonde", "--package", "netsonde-lab"];
        let built = cargo().args(args).args(packages).status()?;
        ensure!(built.success(), "the build failed");
        if !is_root() {
            println!("network namespaces need root: starting again with sudo");
            let again = Command::new("sudo")
                .args(["env", "NETSONDE_DEMO_BUILT=1"])
                .arg(std::env::current_exe()?)
                .args(["demo", "--port", &port.to_string()])
                .status()?;
            return Ok(steps::code(again.success()));
        }
    }
    lab::demo::run(&lab::demo::Options {
        netsonde: release("netsonde"),
        relay: release("netsonde-relay"),
        port,
        ..lab::demo::Options::default()
    })?;
    Ok(ExitCode::SUCCESS)
}
