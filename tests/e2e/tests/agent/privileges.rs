//! What the agent and its opener may do, as `/proc` tells, and what they are refused.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use netsonde_e2e as e2e;

use crate::Named;
use crate::rig::{Agent, Place, failure, proc_field, signal, until};

/// The bit of CAP_NET_RAW (include/uapi/linux/capability.h: 13).
const NET_RAW: &str = "0000000000002000";
const NONE: &str = "0000000000000000";
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

pub(crate) fn trials() -> Vec<Trial> {
    let needs = || {
        let binary = e2e::netsonde().err().map(|error| error.to_string());
        let root = proc_field("/proc/self/status", "CapEff").ok();
        binary.or_else(|| {
            let all =
                root.is_some_and(|set| u64::from_str_radix(&set, 16).unwrap_or(0) >> 21 & 1 == 1);
            (!all).then(|| "needs root".to_owned())
        })
    };
    let tests: [Named; 7] = [
        (
            "the_agent_has_no_privilege_and_the_opener_one",
            the_agent_has_no_privilege_and_the_opener_one,
        ),
        ("it_stays_root_only_if_told", it_stays_root_only_if_told),
        ("a_reload_gains_nothing", a_reload_gains_nothing),
        (
            "the_opener_dies_with_the_agent",
            the_opener_dies_with_the_agent,
        ),
        ("the_opener_is_missed", the_opener_is_missed),
        ("real_time_outlives_the_drop", real_time_outlives_the_drop),
        ("without_ipv6_it_says_so", without_ipv6_it_says_so),
    ];
    tests
        .into_iter()
        .map(|(name, test)| e2e::trial(name, needs, test))
        .collect()
}

fn icmp(place: &Place, user: &str) -> String {
    format!(
        "user = \"{user}\"\n[[probe]]\nname = \"self\"\ntargets = [\"{}\"]\nprotocol = \"icmp\"\ninterval = \"50ms\"\n",
        place.address
    )
}

fn the_agent_has_no_privilege_and_the_opener_one() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure(&icmp(&place, "nobody"))?;
    let agent = Agent::start(&config, &[], &[])?;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid()))?;
    let mut threads = 0;
    for task in tasks {
        let status = task?.path().join("status");
        let status = status.to_str().context("path")?;
        for set in SETS {
            ensure!(proc_field(status, set)? == NONE, "{status}: {set}");
        }
        ensure!(proc_field(status, "NoNewPrivs")? == "1", "{status}");
        let uid = proc_field(status, "Uid")?;
        ensure!(uid == "65534\t65534\t65534\t65534", "{status}: {uid}");
        ensure!(proc_field(status, "Groups")?.is_empty(), "{status}: groups");
        threads += 1;
    }
    ensure!(threads >= 4, "{threads} threads");
    let opener = format!("/proc/{}/status", agent.opener()?);
    ensure!(proc_field(&opener, "Name")? == "netsonde-opener");
    for (set, held) in SETS
        .into_iter()
        .zip([NONE, NET_RAW, NET_RAW, NET_RAW, NONE])
    {
        ensure!(proc_field(&opener, set)? == held, "opener: {set}");
    }
    ensure!(proc_field(&opener, "NoNewPrivs")? == "1");
    ensure!(proc_field(&opener, "Uid")?.starts_with("65534"));
    // And with that it measures.
    agent.until_metric("netsonde_probe_up{probe=\"self\"", |up| up == 1.0)?;
    // The state was kept by that user.
    ensure!(place.path("state/last-valid.toml").exists());
    ensure!(agent.stop()?.success());
    Ok(())
}

fn it_stays_root_only_if_told() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure("user = \"netsonde-no-such\"\n")?;
    let path = config.to_str().context("path")?;
    let (code, line) = failure(&["agent", "--config", path])?;
    ensure!(code == 2, "{code}: {line}");
    ensure!(
        line.contains("there is no user 'netsonde-no-such'; create it"),
        "{line}"
    );
    let uid = |rest: &str| {
        let agent = Agent::start(&place.configure(rest)?, &[], &[])?;
        let uid = proc_field(&format!("/proc/{}/status", agent.pid()), "Uid")?;
        ensure!(agent.stop()?.success());
        anyhow::Ok(uid)
    };
    ensure!(uid("user = \"\"\n")? == "0\t0\t0\t0");
    // The default: netsonde if there is one here, else nobody.
    let default = uid("")?;
    ensure!(!default.split('\t').any(|id| id == "0"), "{default}");
    Ok(())
}

fn a_reload_gains_nothing() -> Result<()> {
    let place = Place::new()?;
    let text = icmp(&place, "nobody");
    let config = place.configure(&text)?;
    let mut agent = Agent::start(&config, &[], &[])?;
    agent.until_metric("netsonde_probe_up{probe=\"self\"", |up| up == 1.0)?;
    // A privileged port that the configuration at start did not name.
    place.configure(&format!(
        "{text}[reflector]\nlisten = [\"{}:862\"]\n",
        place.address
    ))?;
    agent.signal("HUP")?;
    let line = agent.logged("config_rejected")?;
    ensure!(
        line.contains("reflector.listen") && line.contains("not permitted"),
        "{line}"
    );
    // One that it did name can be probed again from another session, by the opener.
    place.configure(&text.replace("50ms", "60ms"))?;
    agent.signal("HUP")?;
    agent.logged("config_reloaded")?;
    agent.until_metric("netsonde_probe_sent_packets_total{probe=\"self\"", |sent| {
        sent > 3.0
    })?;
    agent.until_metric("netsonde_probe_up{probe=\"self\"", |up| up == 1.0)?;
    ensure!(agent.ask(&[])?.0 == 0);
    Ok(())
}

fn the_opener_dies_with_the_agent() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure(&icmp(&place, ""))?;
    let mut agent = Agent::start(&config, &[], &[])?;
    let opener = format!("/proc/{}/status", agent.opener()?);
    agent.signal("KILL")?;
    agent.end()?;
    until("the opener's end", || {
        // A zombie waits for a parent that may not look.
        let state = proc_field(&opener, "State").unwrap_or_else(|_| "Z".to_owned());
        Ok(state.starts_with('Z').then_some(()))
    })
}

fn the_opener_is_missed() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure(&icmp(&place, ""))?;
    let mut agent = Agent::start(&config, &[], &[])?;
    signal(agent.opener()?, "KILL")?;
    let line = agent.logged("component_degraded")?;
    ensure!(line.contains("opener degraded"), "{line}");
    until("the status", || {
        let (code, text) = agent.ask(&[])?;
        Ok((code == 4 && text.contains("opener is degraded")).then_some(()))
    })?;
    // What is open goes on.
    agent.until_metric("netsonde_probe_up{probe=\"self\"", |up| up == 1.0)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn real_time_outlives_the_drop() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure(&format!("realtime = true\n{}", icmp(&place, "nobody")))?;
    let agent = Agent::start(&config, &[], &[])?;
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.pid()))? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        let name = stat.split(['(', ')']).nth(1).context("no name")?.to_owned();
        // proc(5): (41) policy, the 39th field after the name.
        let rest = stat.rsplit_once(')').context("no fields")?.1;
        let policy = rest
            .split_whitespace()
            .nth(38)
            .context("no policy")?
            .to_owned();
        found.push((name, policy));
    }
    for (name, policy) in &found {
        // SCHED_FIFO is 1, SCHED_OTHER 0.
        let expected = if name == "probe" { "1" } else { "0" };
        ensure!(policy == expected, "{found:?}");
    }
    ensure!(found.iter().any(|(name, _)| name == "probe"), "{found:?}");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// In a namespace of its own, where not even loopback has an IPv6 address.
fn without_ipv6_it_says_so() -> Result<()> {
    let place = Place::new()?;
    let config = place.configure("user = \"\"\n[reflector]\nlisten = [\"[::1]:8620\"]\n")?;
    let binary = e2e::netsonde()?;
    let script = format!(
        "ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1; exec {} agent --config {}",
        binary.display(),
        config.display()
    );
    let output = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", &script])
        .output()?;
    let text = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2), "{text}");
    ensure!(
        text.contains("reflector.listen: cannot listen on [::1]:8620"),
        "{text}"
    );
    ensure!(text.contains("IPv6 is disabled"), "{text}");
    Ok(())
}
