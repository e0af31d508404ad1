//! What a host's own firewall drops is counted as such, by nft's own count.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Direct, Lab, LinkOptions};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, netsonde, trial};
use serde_json::Value;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "firewall::what_the_senders_drops_is_a_send_error",
            missing,
            sender,
        ),
        trial(
            "firewall::what_the_reflectors_drops_is_lost_on_the_way_back",
            missing,
            reflector,
        ),
    ]
}

/// A table whose one rule drops what `matching` says, in a hook of a host.
fn drops(hook: &str, matching: &str) -> String {
    format!(
        "table inet own {{\ncounter dropped {{\n}}\nchain here {{\n\
         type filter hook {hook} priority 0;\n{matching} counter name dropped drop\n}}\n}}\n"
    )
}

/// 2 000 probes; what `ping` says of them.
fn ping(net: &Direct, binary: &std::path::Path) -> Result<Value> {
    let target = net.b.ipv4().to_string();
    let args = ["ping", &target, "-c", "2000", "-i", "1ms", "--json"];
    let pinged = net
        .a
        .spawn(binary, &args)?
        .finish(Duration::from_secs(30))?;
    ensure!(pinged.code() == 0, "{}", pinged.stderr);
    let document: Value = serde_json::from_str(&pinged.stdout)?;
    document["targets"].get(0).cloned().context("no target")
}

fn sender() -> Result<()> {
    let binary = netsonde()?;
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    let mut reflecting = net.b.spawn(&binary, &["reflect"])?;
    reflecting.wait_line("reflecting", Duration::from_secs(10))?;
    // The opening probes pass: the rule begins with the counted ones of 44 + 36 octets.
    lab::nft::run(
        &net.a,
        &drops("output", "udp dport 862 numgen inc mod 20 == 19"),
    )?;
    let report = ping(&net, &binary)?;
    let dropped = lab::nft::counter(&net.a, "dropped")?;
    let errors = report["send_errors"].as_u64().context("send_errors")?;
    let sent = report["sent"].as_u64().context("sent")?;
    ensure!(sent + errors == 2_000, "{sent} and {errors}");
    // A dropped opening or closing probe is no counted one.
    ensure!(
        errors <= dropped && dropped <= errors + 2 && errors >= 95,
        "{errors} of {dropped}"
    );
    ensure!(report["lost"] == 0, "{report}");
    Ok(())
}

fn reflector() -> Result<()> {
    let binary = netsonde()?;
    let lab = Lab::new()?;
    let net = Direct::new(&lab, LinkOptions::default())?;
    let reflecting = net.b.spawn(&binary, &["reflect", "--json"])?;
    reflecting.wait_error_line("reflecting", Duration::from_secs(10))?;
    lab::nft::run(
        &net.b,
        &drops("output", "udp sport 862 numgen inc mod 50 == 49"),
    )?;
    let report = ping(&net, &binary)?;
    let dropped = lab::nft::counter(&net.b, "dropped")?;
    let lost = report["lost_reverse"].as_u64().context("lost_reverse")?;
    ensure!(
        report["lost_forward"] == 0 && report["lost_unattributed"] == 0,
        "{report}"
    );
    ensure!(
        lost <= dropped && dropped <= lost + 2 && lost >= 38,
        "{lost} of {dropped}"
    );
    let ended = reflecting.stop("TERM", Duration::from_secs(10))?;
    let document: Value = serde_json::from_str(&ended.stdout)?;
    let text = document.to_string();
    ensure!(
        text.contains(&format!("\"send_failed\":{dropped}")),
        "{dropped}: {text}"
    );
    Ok(())
}
