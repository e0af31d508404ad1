//! The one test command: every tier of DESIGN section 8, cheap ones first.

use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Result, bail};

use crate::machine::{cargo, cargo_nightly, is_ci, is_root, release, root, target, works};
use crate::steps::{Counts, Steps};
use crate::{packages, tools};

/// What to leave out or add.
#[derive(Copy, Clone, Default)]
pub(crate) struct Options {
    long: bool,
    checked: bool,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        for word in words {
            match *word {
                "--long" => options.long = true,
                "--checked" => options.checked = true,
                other => bail!("unknown option {other} (--long, --checked)"),
            }
        }
        Ok(options)
    }
}

fn fmt(steps: &mut Steps) -> bool {
    steps.command(
        "fmt",
        Counts::AsOne,
        cargo().args(["fmt", "--all", "--check"]),
    )
}

fn clippy(steps: &mut Steps) -> bool {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    steps.command("clippy", Counts::AsOne, cargo().args(args))
}

fn docs(steps: &mut Steps) -> bool {
    let args = ["doc", "--workspace", "--no-deps", "--locked"];
    let mut cargo = cargo();
    cargo.env("RUSTDOCFLAGS", "-D warnings").args(args);
    steps.command("rustdoc", Counts::AsOne, &mut cargo)
}

/// Formatting, lints and documentation alone.
pub(crate) fn check() -> Result<ExitCode> {
    let mut steps = Steps::default();
    fmt(&mut steps);
    clippy(&mut steps);
    docs(&mut steps);
    Ok(steps.finish())
}

/// All of it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut steps = Steps::default();
    packages::install(packages::BUILD)?;
    // apt waits for the network while cargo uses the processor.
    let wanted = [packages::LAB, packages::TEST].concat();
    let installing = thread::spawn(move || {
        packages::install(&wanted)?;
        packages::install_if_any(packages::OPTIONAL);
        anyhow::Ok(())
    });

    if !options.checked {
        fmt(&mut steps);
    }
    let args = [
        "test",
        "--locked",
        "--package",
        "netsonde-e2e",
        "--lib",
        "--test",
        "arrows",
    ];
    steps.command("arrows", Counts::Itself, cargo().args(args));
    if !options.checked {
        clippy(&mut steps);
    }
    let args = [
        "test",
        "--locked",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "netsonde-e2e",
    ];
    steps.command("unit tests", Counts::Itself, cargo().args(args));

    let args = ["build", "--release", "--locked", "--bins"];
    let packages = ["--package", "netsonde", "--package", "netsonde-lab"];
    let built = steps.command(
        "release build",
        Counts::AsOne,
        cargo().args(args).args(packages),
    );
    if !options.checked {
        docs(&mut steps);
    }

    let installed = steps.run("Debian packages", Counts::AsOne, || {
        match installing.join() {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                println!("{error:#}");
                false
            }
            Err(_) => false,
        }
    });
    if installed {
        steps.command(
            "decoding beside tshark",
            Counts::Itself,
            &mut beside_tshark(),
        );
    }
    if built {
        let mut found = Vec::new();
        if installed {
            steps.run("peers to compare with", Counts::AsOne, || {
                found = tools::environment();
                // Without one its tests are ignored; where nothing may be, they fail.
                true
            });
        }
        let mut environment: Vec<(&str, String)> = found
            .into_iter()
            .map(|(name, path)| (name, path.to_string_lossy().into_owned()))
            .collect();
        for (name, program) in [
            ("NETSONDE_BIN", "netsonde"),
            ("NETSONDE_RELAY", "netsonde-relay"),
        ] {
            environment.push((name, release(program).to_string_lossy().into_owned()));
        }
        if is_ci() {
            environment.push(("CI", "true".into()));
        }
        if options.long {
            environment.push(("NETSONDE_LONG", "1".into()));
        }
        lab(&mut steps, &environment);
    }
    fuzz(&mut steps, if options.long { 300 } else { 10 });
    Ok(steps.finish())
}

/// The unit tests that need tshark, which is not there while they run.
fn beside_tshark() -> Command {
    let mut cargo = cargo();
    cargo.args(["test", "--locked", "--package", "netsonde-wire"]);
    cargo.args(["--test", "decode", "--", "--ignored"]);
    cargo
}

/// The lab tests: cargo builds them as whoever we are, root runs them.
fn lab(steps: &mut Steps, environment: &[(&str, String)]) {
    let mut cargo = cargo();
    cargo.args([
        "test",
        "--locked",
        "--no-fail-fast",
        "--package",
        "netsonde-e2e",
    ]);
    cargo.envs(environment.iter().map(|(name, value)| (name, value)));
    if !is_root() {
        let path = std::env::var("PATH").ok();
        let runner = runner_as_root(environment, path.as_deref());
        cargo.args([
            "--config",
            &format!("target.{}.runner={runner}", host_triple()),
        ]);
    }
    steps.command("lab tests", Counts::Itself, &mut cargo);
}

/// A runner for cargo's configuration: sudo keeps no environment, so what the tests look at
/// is handed on. A list, since cargo would split a string at the spaces of a path.
fn runner_as_root(environment: &[(&str, String)], path: Option<&str>) -> String {
    let mut words = vec!["sudo".to_owned(), "env".to_owned()];
    words.extend(
        environment
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    words.extend(path.map(|path| format!("PATH={path}:/usr/sbin:/sbin")));
    // Debug quotes as a basic string of TOML does.
    format!("{words:?}")
}

fn host_triple() -> String {
    let output = Command::new("rustc").arg("-vV").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.unwrap_or("x86_64-unknown-linux-gnu").to_owned()
}

/// Every fuzz target for so long, where cargo-fuzz and a nightly are; CI gets cargo-fuzz.
fn fuzz(steps: &mut Steps, seconds: u32) {
    let folder = root().join("tests/fuzz");
    if !folder.join("Cargo.toml").exists() {
        return;
    }
    // Not every machine may install one, CI's neither: said and counted, but no failure.
    if !works(cargo_nightly().arg("--version")) {
        steps.skip("fuzz targets", "no nightly toolchain");
        return;
    }
    if !works(tools::cargo_fuzz().arg("--version")) {
        if !is_ci() {
            steps.skip("fuzz targets", "no cargo-fuzz (cargo install cargo-fuzz)");
            return;
        }
        let install = &mut tools::install_cargo_fuzz();
        if !steps.command("cargo-fuzz", Counts::AsOne, install) {
            return;
        }
    }
    let list = tools::cargo_fuzz()
        .args(["list", "--fuzz-dir"])
        .arg(&folder)
        .output();
    let targets = match list {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => {
            steps.run("fuzz list", Counts::AsOne, || false);
            return;
        }
    };
    for name in targets.split_whitespace() {
        let found = target().join("fuzz-corpus").join(name);
        if let Err(error) = std::fs::create_dir_all(&found) {
            println!("{}: {error}", found.display());
        }
        let mut fuzz = tools::cargo_fuzz();
        fuzz.args(["run", "--fuzz-dir"])
            .arg(&folder)
            .arg("--target-dir")
            .arg(target().join("fuzz"))
            .arg(name)
            // What it finds goes below target; the seeds stay as they are committed.
            .arg(&found)
            .arg(folder.join("corpus").join(name))
            .arg("--")
            .arg("-verbosity=0")
            .arg(format!("-max_total_time={seconds}"));
        steps.command(&format!("fuzz {name}"), Counts::AsOne, &mut fuzz);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = Options::parse(&["--long", "--checked"]).expect("both are known");
        assert!(options.long && options.checked);
        let none = Options::parse(&[]).expect("nothing is fine");
        assert!(!none.long && !none.checked);
        assert!(Options::parse(&["--lnog"]).is_err());
    }

    #[test]
    fn a_runner_keeps_spaces() {
        let runner = runner_as_root(&[("A", "/a b/\"c\"".into())], Some("/bin"));
        let expected = r#"["sudo", "env", "A=/a b/\"c\"", "PATH=/bin:/usr/sbin:/sbin"]"#;
        assert_eq!(runner, expected);
    }

    #[test]
    fn the_root_is_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("[workspace]"));
        assert_eq!(host_triple().split('-').count(), 4);
    }
}
