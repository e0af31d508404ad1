//! The binary's commands as a shell sees them: output, exit codes, signals. Loopback only,
//! no privilege, ports chosen by the kernel.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use sys::process::Pid;
use sys::signal::Signal;

fn netsonde(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsonde"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    netsonde(args).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a pid");
    sys::process::kill(Pid(pid), signal).expect("signalled");
}

/// A reflector on a port of its own; ends with the test.
struct Reflector {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: String,
}

impl Reflector {
    fn start(options: &[&str]) -> Self {
        let mut args = vec!["reflect", "--listen", "127.0.0.1:0"];
        args.extend(options);
        let mut child = netsonde(&args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut ready = String::new();
        lines.read_line(&mut ready).expect("a line");
        let port = ready
            .trim()
            .strip_prefix("reflecting STAMP on 127.0.0.1:")
            .expect("the ready line")
            .to_owned();
        Self { child, lines, port }
    }

    fn stop(mut self) -> String {
        signal(&self.child, Signal::Term);
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("text");
        assert_eq!(self.child.wait().expect("ends").code(), Some(0));
        rest
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_run_adds_up_and_its_records_agree() {
    let reflector = Reflector::start(&[]);
    let path = std::env::temp_dir().join(format!("netsonde-commands-{}", std::process::id()));
    let file = path.to_str().expect("text");
    let output = run(&[
        "ping",
        "127.0.0.1",
        "--protocol",
        "stamp",
        "-p",
        &reflector.port,
        "-c",
        "50",
        "-i",
        "1ms",
        "--json",
        "--records",
        file,
        "--assert",
        "lost==0",
        "--assert",
        "rtt.count==50",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["schema"], 1);
    let target = &document["targets"][0];
    for (key, wanted) in [
        ("sent", 50),
        ("received", 50),
        ("lost", 0),
        ("lost_forward", 0),
    ] {
        assert_eq!(target[key], wanted, "{key}");
    }
    assert_eq!(target["timestamps"]["t1"]["kernel"], 50);
    assert_eq!(target["assertions"][1]["ok"], true);
    let records = std::fs::read_to_string(&path).expect("readable");
    std::fs::remove_file(&path).expect("removed");
    let mut rtts: Vec<i64> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|record| {
            assert_eq!(record["verdict"], "received");
            let at = |key: &str| record[key].as_i64().expect("a time");
            let rtt = at("t4_ns") - at("t1_ns") - (at("t3_ns") - at("t2_ns"));
            assert_eq!(record["rtt_ns"].as_i64(), Some(rtt));
            rtt
        })
        .collect();
    rtts.sort_unstable();
    assert_eq!(rtts.len(), 50);
    assert_eq!(target["rtt_ns"]["min"], rtts[0]);
    assert_eq!(target["rtt_ns"]["max"], rtts[49]);
    let p50 = target["rtt_ns"]["p50"].as_f64().expect("a median");
    let true_p50 = rtts[24] as f64;
    assert!((p50 / true_p50 - 1.0).abs() < 0.001, "{p50} {true_p50}");
    let status = reflector.stop();
    assert!(
        status.contains("dropped 0, sessions 1 (1 begun, 0 expired)"),
        "{status}"
    );
}

#[test]
fn a_false_assertion_is_4_and_said() {
    let reflector = Reflector::start(&[]);
    let port = reflector.port.as_str();
    let common = [
        "ping",
        "127.0.0.1",
        "--protocol",
        "stamp",
        "-i",
        "1ms",
        "-c",
        "5",
        "-p",
        port,
    ];
    let output = run(&[&common[..], &["--assert", "sent<5", "--json"]].concat());
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(
        text(&output.stderr),
        "netsonde: 127.0.0.1: assertion sent<5 is false: it was 5\n"
    );
    let output = run(&[&common[..], &["--assert", "sent<5"]].concat());
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stdout).ends_with("127.0.0.1: assertion sent<5 is false: it was 5\n"));
}

#[test]
fn silence_is_1_with_causes() {
    // Bound and never read: takes every probe, answers none.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port().to_string();
    let output = run(&[
        "ping",
        "127.0.0.1",
        "--protocol",
        "stamp",
        "-p",
        &port,
        "-c",
        "3",
        "-i",
        "1ms",
        "-W",
        "50ms",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(out.starts_with(&format!(
        "127.0.0.1: STAMP on UDP port {port}, as asked for\n"
    )));
    assert!(out.contains("sent 3, received 0, lost 3 (100%)"), "{out}");
    assert!(
        out.contains("netsonde ping --protocol icmp 127.0.0.1"),
        "{out}"
    );
}

#[test]
fn mistakes_are_2_and_one_line() {
    for args in [
        &["ping", "127.0.0.1", "-c", "0"][..],
        &["ping", "127.0.0.1", "-c", "-1"],
        &["ping", "127.0.0.1", "-i", "-5ms"],
        &["ping", "127.0.0.1:80"],
        &["ping", "127.0.0.1", "--assert", "nonsense<1"],
        &["ping", "127.0.0.1", "--protocol", "tcp"],
        &["ping", "no such host"],
        &["ping", "127.0.0.1", "--records", "/nonexistent/file"],
        &["reflect", "--listen", "somewhere"],
        &["fly"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = text(&output.stderr);
        assert!(error.starts_with("netsonde: "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_signal_ends_a_run_with_its_summary() {
    let reflector = Reflector::start(&[]);
    for what in [Signal::Int, Signal::Term] {
        let mut child = netsonde(&[
            "ping",
            "127.0.0.1",
            "--protocol",
            "stamp",
            "-p",
            &reflector.port,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        // The line of the first second: by then there are answers.
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        lines.read_line(&mut line).expect("a line");
        signal(&child, what);
        let mut rest = String::new();
        lines.read_to_string(&mut rest).expect("text");
        assert_eq!(child.wait().expect("ends").code(), Some(0), "{rest}");
        assert!(rest.contains("as ping would show"), "{rest}");
        assert!(rest.contains("lost 0 (0%)"), "{rest}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_complaint() {
    let reflector = Reflector::start(&[]);
    let mut child = netsonde(&[
        "ping",
        "127.0.0.1",
        "--protocol",
        "stamp",
        "-p",
        &reflector.port,
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(5));
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn nobody_on_standard_error_changes_no_exit_code() {
    let reflector = Reflector::start(&[]);
    let port = reflector.port.as_str();
    let ping = ["ping", "127.0.0.1", "--protocol", "stamp", "-p", port];
    let short = ["-q", "-c", "3", "-i", "1ms"];
    for (args, code) in [
        (&["fly"][..], 2),
        (&["ping", "127.0.0.1", "-c", "0"], 2),
        (&["status", "--address", "127.0.0.1:1"], 1),
        (
            &[&ping[..], &short, &["--json", "--assert", "sent<3"]].concat(),
            4,
        ),
        (
            &[&ping[..], &short, &["--records", "/dev/full"]].concat(),
            5,
        ),
    ] {
        let mut command = netsonde(args);
        let status = command.stdout(Stdio::null()).stderr(closed_pipe()).status();
        assert_eq!(status.expect("runs").code(), Some(code), "{args:?}");
    }
    // Both closed, as by `2>&1 | head -1`: no panic either.
    for args in [
        &["--help"][..],
        &["status", "--address", "127.0.0.1:1"],
        &[&ping[..], &short, &["--records", "/dev/full"]].concat(),
        &[&ping[..], &short, &["--json"]].concat(),
    ] {
        let mut command = netsonde(args);
        let status = command.stdout(closed_pipe()).stderr(closed_pipe()).status();
        let code = status.expect("runs").code().expect("no signal");
        assert!(code <= 5, "{args:?}: {code}");
    }
}

#[test]
fn the_reflector_counts_by_reason_and_answers_no_one_it_should_not() {
    let reflector = Reflector::start(&["--allow", "192.0.2.0/24"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let to = format!("127.0.0.1:{}", reflector.port);
    socket.send_to(&[0; 44], &to).expect("sent");
    socket.send_to(&[0; 13], &to).expect("sent");
    let mut reflector = reflector;
    // Each signal prints one line; wait for the one that has both.
    let mut line = String::new();
    for _ in 0..1000 {
        signal(&reflector.child, Signal::Usr1);
        line.clear();
        reflector.lines.read_line(&mut line).expect("a line");
        if line.starts_with("requests 2,") {
            break;
        }
    }
    assert!(
        line.starts_with("requests 2, replies 0, dropped 2 ("),
        "{line}"
    );
    assert!(line.contains("not_allowed"), "{line}");
}
