//! What cannot work: one line on standard error, the exit code that says of what kind it is,
//! and nothing begun.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use lab::{Direct, Finished, Host, Lab, LinkOptions};
use libtest_mimic::Trial;
use netsonde_e2e::{missing, missing_program, netsonde, trial};

use super::super::commands::{PATIENCE, Reflecting};
use super::{has, number, run, start, target};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("cli::a_mistake_is_one_line", missing, mistakes),
        trial("cli::a_port_in_use_is_told", missing, port_in_use),
        trial("cli::without_privileges", needs_setpriv, unprivileged),
        trial("cli::without_ipv6", missing, without_ipv6),
        trial(
            "cli::a_sink_that_fails_costs_no_measurement",
            missing,
            sinks,
        ),
        trial("cli::assertions_choose_the_exit_code", missing, assertions),
    ]
}

fn needs_setpriv() -> Option<String> {
    missing().or_else(|| missing_program("setpriv", "util-linux"))
}

/// Nothing on standard output, one line on standard error that holds `text`.
fn refused(finished: &Finished, code: i32, text: &str) -> Result<()> {
    ensure!(finished.code() == code, "{code} was expected: {finished:?}");
    ensure!(finished.stdout.is_empty(), "{finished:?}");
    ensure!(
        finished.stderr.lines().count() == 1
            && finished.stderr.starts_with("netsonde: ")
            && finished.stderr.contains(text),
        "{text:?}: {finished:?}"
    );
    Ok(())
}

fn refuses(host: &Host, words: &str, code: i32, text: &str) -> Result<()> {
    refused(&start(host, words)?.finish(PATIENCE)?, code, text)
}

fn mistakes() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    for (words, code, text) in [
        ("ping", 2, "required arguments were not provided"),
        ("ping nosuch.invalid", 2, "cannot resolve 'nosuch.invalid'"),
        (
            "ping -4 fd00::2",
            2,
            "'fd00::2' has no IPv4 address; leave -4 away",
        ),
        (
            "ping -6 10.0.0.2",
            2,
            "'10.0.0.2' has no IPv6 address; leave -6 away",
        ),
        ("ping 10.0.0.2:7", 2, "use --protocol stamp -p 7 10.0.0.2"),
        ("ping 10.0.0.2 -I nosuch0", 2, "-I nosuch0: no such device"),
        ("ping 192.0.2.1", 2, "Network is unreachable (ENETUNREACH)"),
        ("ping fe80::1", 2, "a link-local address needs its device"),
        ("ping 224.0.0.1", 2, "which is no single host"),
        ("ping 10.0.0.2 -i 1us", 2, "give a time from 100us to 1h"),
        (
            "ping 10.0.0.2 --records /nowhere/x",
            2,
            "cannot write --records /nowhere/x",
        ),
        (
            "ping 10.0.0.2 --hlog /nowhere/x",
            2,
            "cannot write --hlog /nowhere/x",
        ),
        (
            "ping 10.0.0.2 --assert rtt.p98<1ms",
            2,
            "unknown key 'rtt.p98'; the nearest is 'rtt.p9",
        ),
        (
            "reflect --listen 10.0.0.77",
            2,
            "this host has no such address",
        ),
        ("reflect --min-request 20", 2, "add --twamp-light"),
    ] {
        refuses(&a, words, code, text)?;
    }
    a.ip("link set eth0 down\n")?;
    refuses(
        &a,
        "ping 10.0.0.2 -I eth0",
        2,
        "-I eth0: the device is down; ip link set eth0 up",
    )?;
    // Nothing of all that reached the other host.
    ensure!(
        b.device_counter("eth0", "rx_bytes")? < 1_000,
        "something was sent"
    );
    Ok(())
}

fn port_in_use() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let reflector = Reflecting::start(&b, "")?;
    refuses(
        &b,
        "reflect",
        2,
        "cannot listen on UDP 0.0.0.0:862: the port is in use; ss -ulnp",
    )?;
    // The first address was free, and is free again.
    refuses(
        &b,
        "reflect --listen 127.0.0.1:8620 --listen 10.0.0.2:862",
        2,
        "10.0.0.2:862: the port is in use",
    )?;
    let second = Reflecting::start(&b, "--listen 127.0.0.1:8620")?;
    second.stop()?;
    let report = target(&run(&a, "ping 10.0.0.2 -c 20 --json", 0)?)?;
    ensure!(number(&report, "received")? == 20, "{report}");
    reflector.stop()?;
    Ok(())
}

/// A copy that anybody can execute.
fn copy(host: &Host) -> Result<PathBuf> {
    let copy = host.file("netsonde")?;
    std::fs::copy(netsonde()?, &copy)?;
    Ok(copy)
}

fn unprivileged() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let binary = copy(&a)?;
    let binary = binary.to_string_lossy();
    let nobody = |words: &str| -> Result<Finished> {
        let mut args = vec!["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        args.extend(["--inh-caps=-all", "--bounding-set=-all", &*binary]);
        args.extend(words.split_whitespace());
        a.spawn("setpriv", &args)?.finish(PATIENCE)
    };
    let _reflector = Reflecting::start(&b, "")?;
    refused(
        &nobody("reflect")?,
        3,
        "need CAP_NET_BIND_SERVICE; run as root, or setcap",
    )?;
    refused(
        &nobody("ping 10.0.0.2 --realtime")?,
        3,
        "--realtime: SCHED_FIFO is refused",
    )?;
    a.sysctl("net/ipv4/ping_group_range", "1 0")?;
    refused(
        &nobody("ping 10.0.0.2 --protocol icmp")?,
        3,
        "cannot open an ICMP socket: Permission denied (EACCES)",
    )?;
    // STAMP needs nothing.
    let finished = nobody("ping 10.0.0.2 -c 20 --json")?;
    ensure!(finished.code() == 0, "{finished:?}");
    ensure!(
        number(&target(&finished)?, "received")? == 20,
        "{finished:?}"
    );
    // Where nothing answers it goes on with STAMP, and says why.
    let finished = nobody("ping 10.0.0.2 -p 8620 -c 2")?;
    ensure!(finished.code() == 1, "{finished:?}");
    has(
        &finished,
        "since no ICMP socket can be opened: run as root, or setcap cap_net_raw+ep",
    )?;
    // A ping socket needs its group alone.
    a.sysctl("net/ipv4/ping_group_range", "0 2147483647")?;
    for to in ["10.0.0.2", "fd00::2"] {
        let finished = nobody(&format!("ping {to} --protocol icmp -c 5 -i 10ms --json"))?;
        ensure!(finished.code() == 0, "{finished:?}");
        let report = target(&finished)?;
        ensure!(number(&report, "received")? == 5, "{report}");
        ensure!(
            number(&report["timestamps"]["t1"], "kernel")? == 5,
            "{report}"
        );
    }
    Ok(())
}

fn without_ipv6() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    for host in [&a, &b] {
        host.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
    }
    let off = "IPv6 is disabled on this host (sysctl net.ipv6.conf.all.disable_ipv6)";
    refuses(&a, "ping fd00::2", 3, off)?;
    refuses(&a, "reflect --listen [::]:862", 3, off)?;
    // By default it goes without, and says so.
    let reflector = start(&b, "reflect --json")?;
    let note = reflector.wait_error_line("IPv6 is disabled", PATIENCE)?;
    ensure!(note.ends_with("reflecting on IPv4 only"), "{note}");
    let ready = reflector.wait_error_line("reflecting STAMP on", PATIENCE)?;
    ensure!(ready == "reflecting STAMP on 0.0.0.0:862", "{ready}");
    let report = target(&run(&a, "ping 10.0.0.2 -c 20 --json", 0)?)?;
    ensure!(number(&report, "received")? == 20, "{report}");
    ensure!(reflector.stop("TERM", PATIENCE)?.code() == 0, "reflect");
    Ok(())
}

fn sinks() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let reflector = Reflecting::start(&b, "")?;
    for option in ["--records", "--hlog"] {
        let finished = run(&a, &format!("ping 10.0.0.2 -c 50 -q {option} /dev/full"), 5)?;
        has(&finished, "sent 50, received 50, lost 0 (0%)\n")?;
        ensure!(
            finished.stderr.lines().count() == 1
                && finished.stderr.starts_with(&format!(
                    "netsonde: cannot write {option} /dev/full: No space left"
                )),
            "{finished:?}"
        );
    }
    let binary = netsonde()?;
    let line = format!("exec {} ping 10.0.0.2 -c 5 > /dev/full", binary.display());
    let finished = a.spawn("sh", &["-c", &line])?.finish(PATIENCE)?;
    refused(
        &finished,
        5,
        "cannot write to standard output: No space left on device",
    )?;
    // A reader that went away is no news.
    let line = format!("{} ping 10.0.0.2 -c 300 | head -n 1", binary.display());
    let finished = a.spawn("sh", &["-c", &line])?.finish(PATIENCE)?;
    ensure!(
        finished.stdout.lines().count() == 1 && finished.stderr.is_empty(),
        "{finished:?}"
    );
    reflector.stop()?;
    Ok(())
}

fn assertions() -> Result<()> {
    let lab = Lab::new()?;
    let Direct { a, b } = Direct::new(&lab, LinkOptions::default())?;
    let reflector = Reflecting::start(&b, "")?;
    for (conditions, code, complaints) in [
        (
            "--assert lost==0 --assert rtt.p50<1s --assert loss_ratio<0.1%",
            0,
            &[][..],
        ),
        (
            "--assert received>=51 --assert lost==0",
            4,
            &["10.0.0.2: assertion received>=51 is false: it was 50"],
        ),
        // 50 x 0.001 is less than one sample.
        (
            "--assert rtt.p99_9<1s",
            4,
            &[
                "10.0.0.2: assertion rtt.p99_9<1s is false: it was not measured, or by too few samples",
            ],
        ),
    ] {
        let finished = run(&a, &format!("ping 10.0.0.2 -c 50 -q {conditions}"), code)?;
        let said: Vec<&str> = finished
            .stdout
            .lines()
            .filter(|line| line.contains("assertion"))
            .collect();
        ensure!(said == complaints, "{said:?}");
        let finished = run(
            &a,
            &format!("ping 10.0.0.2 -c 50 --json {conditions}"),
            code,
        )?;
        let report = target(&finished)?;
        let listed = report["assertions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        ensure!(
            listed.len() == conditions.matches("--assert").count(),
            "{report}"
        );
        let wrong = listed.iter().filter(|one| one["ok"] == false).count();
        ensure!(wrong == complaints.len(), "{report}");
        ensure!(finished.stderr.lines().count() == wrong, "{finished:?}");
    }
    // A demand that was not met matters more than silence.
    run(
        &a,
        "ping 10.0.0.2 -p 8620 --protocol stamp -c 3 -q --assert received>0",
        4,
    )?;
    reflector.stop()?;
    Ok(())
}
