//! A device that goes down, goes away and comes back under a probe that is bound to it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Direct, Lab, LinkOptions};
use libtest_mimic::Trial;
use netsonde_e2e as e2e;

use crate::Named;
use crate::rig::until;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [Named; 1] = [("a_device_goes_and_comes_back", a_device_goes_and_comes_back)];
    tests
        .into_iter()
        .map(|(name, test)| e2e::trial(name, e2e::missing, test))
        .collect()
}

fn a_device_goes_and_comes_back() -> Result<()> {
    let lab = Lab::new()?;
    let link = Direct::new(&lab, LinkOptions::default())?;
    let binary = e2e::netsonde()?;
    let state = link.a.file("state")?;
    let config = link.a.file("netsonde.toml")?;
    // Raw sockets, which only the opener can open again.
    std::fs::write(
        &config,
        format!(
            "[agent]\nlisten = \"127.0.0.1:9862\"\nuser = \"\"\nstate_directory = {state:?}\n\
             [[probe]]\nname = \"bound\"\ntargets = [\"10.0.0.2\"]\nprotocol = \"icmp\"\n\
             interval = \"50ms\"\nwait = \"200ms\"\ndevice = \"eth0\"\n"
        ),
    )?;
    let config = config.to_str().context("path")?;
    link.a.ip("link set lo up\n")?;
    let agent = link.a.spawn(&binary, &["agent", "--config", config])?;
    agent.wait_error_line("started", PATIENCE)?;
    let target = || -> Result<serde_json::Value> {
        let output = link
            .a
            .command(&binary)
            .args(["status", "--json"])
            .output()?;
        let document: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(document["targets"][0].clone())
    };
    let up = |wanted: bool| {
        let found = until("the target's state", || {
            let target = target()?;
            Ok((target["up"] == wanted).then_some(target))
        });
        found.with_context(|| format!("up: {wanted}: {}", agent.stderr()))
    };
    up(true)?;
    link.a.ip("link set eth0 down\n")?;
    up(false)?;
    link.a.ip("link set eth0 up\n")?;
    let before = up(true)?;
    link.a.ip("link delete eth0\n")?;
    agent.wait_error_line("device eth0 is not there", PATIENCE)?;
    up(false)?;
    lab::topology::join((&link.a, "eth0", 1), (&link.b, "eth0", 2), 9_001)?;
    for (host, own, other) in [(&link.a, 1, 2), (&link.b, 2, 1)] {
        host.ip(&format!(
            "address add 10.0.0.{own}/24 dev eth0\n\
             neighbour add 10.0.0.{other} lladdr 02:00:00:00:00:0{other} dev eth0 nud permanent\n"
        ))?;
    }
    agent.wait_error_line("device eth0 is back", PATIENCE)?;
    let after = up(true)?;
    // The series went on.
    ensure!(after["since"] == before["since"], "{after}");
    ensure!(after["sent"].as_u64() > before["sent"].as_u64(), "{after}");
    let end = agent.stop("TERM", PATIENCE)?;
    ensure!(end.code() == 0, "{end:?}");
    Ok(())
}
