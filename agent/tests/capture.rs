//! `netsonde capture -r` as a shell sees it, on the public captures, against what tshark 4
//! and capinfos say of the same files. Captures are looked for in `../shared/pcaps` (or
//! `NETSONDE_PCAPS`); without them a test says so and passes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn captures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/pcaps");
    let folder = std::env::var_os("NETSONDE_PCAPS").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no captures in {}", folder.display());
    None
}

fn netsonde(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netsonde"))
        .arg("capture")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn json(args: &[&str]) -> Value {
    let output = netsonde(args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A file of this test's own; removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("netsonde-capture-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).expect("readable");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn total(counters: &Value) -> u64 {
    let counters = counters.as_object().expect("counters");
    counters.values().map(number).sum()
}

/// Frames, octets and seconds from capinfos; then tshark's retransmission, of these fast and
/// spurious, out-of-order, duplicate ACK, lost segment.
const KNOWN: &[(&str, u64, u64, f64, [u64; 6])] = &[
    (
        "sv_syn_retransmit_with_ts.pcap",
        254,
        229_244,
        1.999_616,
        [18, 2, 0, 1, 53, 0],
    ),
    (
        "zeek_erspan.pcap",
        287,
        113_363,
        122.860_249,
        [0, 0, 0, 0, 0, 5],
    ),
    (
        "zeek_pppoe-over-qinq.pcap",
        86,
        40_864,
        278.166_482,
        [23, 0, 12, 2, 13, 0],
    ),
    (
        "zeek_tcp_retransmit-fast009.pcap",
        39,
        30_757,
        60.991_770,
        [3, 1, 0, 0, 5, 0],
    ),
    (
        "zeek_tcp_ssh-dups.pcap",
        377,
        56_814,
        4.937_387,
        [166, 92, 0, 0, 114, 0],
    ),
    (
        "zeek_tcp_retransmit-timeout.pcapng",
        3,
        198,
        300.000_010,
        [1, 0, 1, 0, 0, 0],
    ),
    ("zeek_tcp_timestamp.pcap", 878, 1_057_964, 0.549_132, [0; 6]),
];

#[test]
fn counts_are_those_of_tshark_and_capinfos() {
    let Some(folder) = captures() else { return };
    for (name, frames, bytes, seconds, wanted) in KNOWN {
        let path = folder.join(name);
        let file = path.to_str().expect("text");
        let document = json(&["-r", file, "--json", "--duplicates", "classify"]);
        assert_eq!(document["frames"], *frames, "{name}");
        assert_eq!(document["backend"], "file");
        assert_eq!(
            number(&document["decoded"]) + total(&document["decode"]),
            *frames,
            "{name}"
        );
        assert_eq!(
            number(&document["measured"]) + total(&document["unmeasured"]),
            number(&document["decoded"]),
            "{name}"
        );
        assert_eq!(document["bytes"], *bytes, "{name}");
        let ns = number(&document["duration_ns"]) as f64;
        assert!((ns / 1e9 - seconds).abs() < 1e-6, "{name}: {ns}");
        let tcp = &document["tcp"];
        let of = |key: &str| number(&tcp[key]);
        // tshark marks fast and spurious ones as retransmissions too; ours exclude each other.
        let all =
            of("retransmissions") + of("fast_retransmissions") + of("spurious_retransmissions");
        let ours = [
            all,
            of("fast_retransmissions"),
            of("spurious_retransmissions"),
            of("out_of_order"),
            of("duplicate_acks"),
            of("lost_segments"),
        ];
        assert_eq!(ours, *wanted, "{name}");
        for sender in ["near", "remote"] {
            assert!(number(&tcp[sender]["duplicate_acks"]) <= of("duplicate_acks"));
        }
    }
}

#[test]
fn the_document_has_every_key_and_counters_begin_at_0() {
    let Some(folder) = captures() else { return };
    let path = folder.join("tcpdump_geneve.pcap");
    let document = json(&["-r", path.to_str().expect("text"), "--json"]);
    for key in
        "schema netsonde command started_at ended_at source source_name backend frames bytes \
        duration_ns capture_drops decode flows tcp rtt mtu top_flows loss reordering no_sample \
        degraded throughput groups assertions capture_duplicates intervals"
            .split_whitespace()
    {
        assert!(!document[key].is_null(), "{key}");
    }
    for key in
        "segments retransmissions fast_retransmissions spurious_retransmissions out_of_order \
        duplicate_acks lost_segments acked_unseen zero_windows zero_window_probes keep_alives \
        window_full capture_duplicates"
            .split_whitespace()
    {
        assert!(document["tcp"][key].is_u64(), "{key}");
    }
    for method in "handshake timestamp sequence quic_handshake quic_spin icmp dns stamp".split(' ')
    {
        for leg in ["near_ns", "remote_ns"] {
            assert!(
                document["rtt"][method][leg]["count"].is_u64(),
                "{method} {leg}"
            );
        }
    }
    for side in ["near", "remote"] {
        assert_eq!(total(&document["loss"][side]), 0);
    }
    // Three echoes and their replies inside Geneve; ping's own output in the capture's source
    // is not at hand, so the times are tshark's icmp.resptime: 0.185, 0.197 and 0.251 ms.
    let echoes = &document["rtt"]["icmp"]["remote_ns"];
    assert_eq!(echoes["count"], 3);
    assert_eq!(echoes["min"].as_u64().map(|ns| ns / 1000), Some(185));
    assert_eq!(echoes["max"].as_u64().map(|ns| ns / 1000), Some(251));
    assert_eq!(echoes["p99"], Value::Null);
    assert_eq!(document["flows"]["seen"], 2);
    assert_eq!(document["top_flows"][0]["near"]["port"], 51_225);
    // The tunnel itself, if that is asked for.
    let outer = json(&[
        "-r",
        path.to_str().expect("text"),
        "--json",
        "--layer",
        "outer",
    ]);
    assert_eq!(outer["tcp"]["segments"], 0);
    assert_eq!(outer["top_flows"][0]["protocol"], "udp");
}

fn is_empty(list: &Value) -> bool {
    list.as_array().expect("a list").is_empty()
}

/// Microseconds since 1970 of every frame, from the records of a pcap file of a host of the
/// same byte order (2 words of a global header's 6 and 4 of each record matter).
fn times(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).expect("readable");
    let word = |at: usize| {
        let word = bytes[at..at + 4].try_into().expect("4 octets");
        u64::from(u32::from_le_bytes(word))
    };
    assert_eq!(word(0), 0xa1b2_c3d4, "pcap in microseconds");
    let mut times = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        times.push(word(at) * 1_000_000 + word(at + 4));
        at += 16 + word(at + 8) as usize;
    }
    times
}

/// Microseconds since the day began of an RFC 3339 time.
fn of_day(at: &Value) -> u64 {
    let digits = |from: usize, to: usize| -> u64 {
        let text = at.as_str().expect("a time");
        text[from..to].parse().expect("digits")
    };
    let seconds = digits(11, 13) * 3600 + digits(14, 16) * 60 + digits(17, 19);
    seconds * 1_000_000 + digits(20, 26)
}

/// `tshark -Y tcp.analysis.flags` and `-Y tcp.analysis.ack_rtt`, frame by frame.
#[test]
fn records_are_tsharks_frame_by_frame() {
    let Some(folder) = captures() else { return };
    let path = folder.join("zeek_tcp_retransmit-fast009.pcap");
    let records = Scratch::new("records");
    let flows = Scratch::new("flows");
    let document = json(&[
        "-r",
        path.to_str().expect("text"),
        "--json",
        "--records",
        records.path(),
        "--flows",
        flows.path(),
    ]);
    let mut classes = Vec::new();
    let mut times = Vec::new();
    let captured = self::times(&path);
    for line in records.lines() {
        let frame = number(&line["frame"]);
        let at = captured[frame as usize - 1] % 86_400_000_000;
        assert_eq!(of_day(&line["at"]), at, "{line}");
        // A loss does not say of which flow it is; what comes with it does.
        if !(is_empty(&line["classes"]) && is_empty(&line["rtt"])) {
            assert_eq!(line["flow"], flows.lines()[0]["flow"], "{line}");
        }
        for class in line["classes"].as_array().expect("a list") {
            classes.push((frame, class.as_str().expect("a word").to_owned()));
        }
        for rtt in line["rtt"].as_array().expect("a list") {
            if rtt["method"] == "sequence" {
                times.push((frame, number(&rtt["ns"])));
            }
        }
    }
    let wanted = [
        (29, "duplicate_acks"),
        (30, "duplicate_acks"),
        (31, "duplicate_acks"),
        (32, "fast_retransmissions"),
        (33, "duplicate_acks"),
        (34, "retransmissions"),
        (35, "duplicate_acks"),
        (36, "retransmissions"),
    ]
    .map(|(frame, class)| (frame, class.to_owned()));
    assert_eq!(classes, wanted);
    // tshark has one more, of frame 38, which acknowledges what was sent twice (Karn).
    assert_eq!(times, [(2, 73_000), (3, 185_385_000), (5, 47_000)]);

    let flows = flows.lines();
    assert_eq!(flows.len(), 1);
    let flow = &flows[0];
    // `tshark -z conv,tcp`: 17 and 22 frames; without their Ethernet headers 1250 and 28 961.
    assert_eq!(flow["protocol"], "tcp");
    assert_eq!(flow["near"]["address"], "10.0.88.85");
    assert_eq!(
        (
            number(&flow["near"]["packets"]),
            number(&flow["remote"]["packets"])
        ),
        (17, 22)
    );
    let octets = number(&flow["near"]["bytes"]) + number(&flow["remote"]["bytes"]);
    assert_eq!(octets, 30_757 - 39 * 14);
    assert_eq!(flow["remote"]["retransmitted_frames"], 3);
    assert_eq!(
        (number(&flow["near"]["mss"]), number(&flow["remote"]["mss"])),
        (1452, 1430)
    );
    assert_eq!(flow["end"], "stopped");
    assert_eq!(document["tcp"]["segments"], 39);
}

#[test]
fn groups_add_up_to_the_whole() {
    let Some(folder) = captures() else { return };
    let path = folder.join("zeek_erspan.pcap");
    let document = json(&[
        "-r",
        path.to_str().expect("text"),
        "--json",
        "--group-by",
        "10.0.0.0/8=ten,0.0.0.0/0=rest",
        "--group-by-port",
        "80=web,22=ssh",
    ]);
    let groups = document["groups"].as_array().expect("a list");
    assert!(groups.len() > 1);
    let sum = |key: &str| -> u64 {
        groups
            .iter()
            .map(|group| number(&group[key]["near"]) + number(&group[key]["remote"]))
            .sum()
    };
    assert_eq!(sum("packets"), number(&document["packets"]));
    let ended: u64 = groups
        .iter()
        .map(|group| number(&group["flows_ended"]))
        .sum();
    assert_eq!(ended, number(&document["flows"]["seen"]));
    // People see the same.
    let args = ["-r", path.to_str().expect("text"), "--group-by"];
    let groups_too = ["10.0.0.0/8=ten,0.0.0.0/0=rest", "--group-by-port"];
    let args = [&args[..], &groups_too, &["80=web,22=ssh"]].concat();
    let shown = text(&netsonde(&args).stdout);
    let table = shown
        .lines()
        .skip_while(|line| !line.starts_with("groups "));
    let rows: Vec<u64> = table
        .skip(1)
        .take(groups.len())
        .map(|line| {
            // A name may have a space; the numbers are the first words that are ones.
            let packets = line.split_whitespace().find_map(|word| word.parse().ok());
            packets.expect("packets")
        })
        .collect();
    let packets =
        |group: &Value| number(&group["packets"]["near"]) + number(&group["packets"]["remote"]);
    assert_eq!(
        rows,
        groups.iter().map(packets).collect::<Vec<_>>(),
        "{shown}"
    );
    let samples = |of: &Value| number(&of["rtt"]["sequence"]["near_ns"]["count"]);
    assert_eq!(groups.iter().map(samples).sum::<u64>(), samples(&document));
}

#[test]
fn filtered_frames_are_counted_and_written() {
    let Some(folder) = captures() else { return };
    let path = folder.join("zeek_tcp_retransmit-fast009.pcap");
    let file = path.to_str().expect("text");
    let written = Scratch::new("written.pcapng");
    let document = json(&[
        "-r",
        file,
        "--json",
        "-w",
        written.path(),
        "-s",
        "0",
        "src",
        "host",
        "10.0.88.85",
    ]);
    // `tshark -Y ip.src==10.0.88.85`: 17 of 39.
    assert_eq!(document["frames"], 17);
    assert_eq!(document["capture_drops"]["filtered"], 22);
    assert_eq!(document["written"]["frames"], 17);
    let again = json(&["-r", written.path(), "--json"]);
    for key in ["frames", "bytes", "duration_ns", "decode", "tcp", "rtt"] {
        assert_eq!(again[key], document[key], "{key}");
    }
    // Headers alone show the same.
    let document = json(&["-r", file, "--json", "-w", written.path()]);
    let size = std::fs::metadata(written.path()).expect("there").len();
    assert!(size < 39 * (128 + 40) + 1000, "{size}");
    let again = json(&["-r", written.path(), "--json"]);
    for key in ["frames", "bytes", "decode", "tcp", "rtt", "loss"] {
        assert_eq!(again[key], document[key], "{key}");
    }
}

#[test]
fn limits_end_a_run_in_the_files_own_time() {
    let Some(folder) = captures() else { return };
    let path = folder.join("zeek_tcp_retransmit-fast009.pcap");
    let file = path.to_str().expect("text");
    assert_eq!(json(&["-r", file, "--json", "-c", "7"])["frames"], 7);
    // `tshark -Y frame.time_relative<=0.5`
    let few = json(&["-r", file, "--json", "--duration", "500ms"]);
    assert!(number(&few["duration_ns"]) <= 500_000_000);
    assert_eq!(few["frames"], 28);
    // Intervals add up.
    let output = netsonde(&["-r", file, "--json-stream"]);
    let documents: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (last, intervals) = documents.split_last().expect("documents");
    assert_eq!(last["frames"], 39);
    for pointer in [
        "/frames",
        "/bytes",
        "/tcp/segments",
        "/tcp/duplicate_acks",
        "/tcp/lost_segments",
        "/flows/seen",
        "/flows/ended/stopped",
        "/loss/remote/after",
        "/measured",
        "/packets",
        "/capture_duplicates",
    ] {
        let of = |document: &Value| number(document.pointer(pointer).expect(pointer));
        assert_eq!(intervals.iter().map(of).sum::<u64>(), of(last), "{pointer}");
    }
    assert!(number(&last["loss"]["remote"]["after"]) > 0);
    assert_eq!(last["flows"]["ended"]["stopped"], 1);
    // The flow that the end of the file ended was active in its last second.
    let at_end = intervals.last().expect("an interval");
    assert_eq!(at_end["flows"]["active"], last["flows"]["active"]);
    assert_eq!(at_end["top_flows"].as_array().map(Vec::len), Some(1));
}

/// What becomes of these segments is known when the file ends, in no second before.
#[test]
fn losses_that_the_end_settles_are_in_the_last_interval() {
    let Some(folder) = captures() else { return };
    let path = folder.join("zeek_tcp_option-sack.pcap");
    let output = netsonde(&["-r", path.to_str().expect("text"), "--json-stream"]);
    let losses: Vec<u64> = text(&output.stdout)
        .lines()
        .map(|line| {
            let document: Value = serde_json::from_str(line).expect("JSON");
            total(&document["loss"]["near"]) + total(&document["loss"]["remote"])
        })
        .collect();
    let (last, intervals) = losses.split_last().expect("documents");
    assert!(*last > 0, "{losses:?}");
    assert_eq!(intervals.iter().sum::<u64>(), *last, "{losses:?}");
}

/// Runs a script of bash, for which `$NETSONDE` is the binary, where nothing but a loopback
/// device is, with pings of its own; `None` where that takes privileges that we do not have.
fn alone(script: &str) -> Option<Output> {
    let pings = "ip link set lo up || exit 99; \
         \"$NETSONDE\" ping 127.0.0.1 --protocol icmp -i 10ms -c 400 -q >/dev/null 2>&1 & pings=$!; \
         ended() { kill $pings 2>/dev/null; wait $pings 2>/dev/null; }; trap ended EXIT;";
    let output = Command::new("unshare")
        .args(["--net", "timeout", "60", "bash", "-c"])
        .arg(format!("{pings}\n{script}"))
        .env("NETSONDE", env!("CARGO_BIN_EXE_netsonde"))
        .stdin(Stdio::null())
        .output();
    let there = output
        .ok()
        .filter(|output| !text(&output.stderr).starts_with("unshare: "));
    if there.is_none() {
        eprintln!("skipped: no network namespace can be made");
    }
    there
}

#[test]
fn seconds_of_a_live_run_add_up() {
    let Some(output) = alone("\"$NETSONDE\" capture -i lo --duration 2 --json-stream --top 3 icmp")
    else {
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let documents: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (last, intervals) = documents.split_last().expect("documents");
    assert!(number(&last["frames"]) > 100, "{last}");
    for pointer in [
        "/frames",
        "/bytes",
        "/packets",
        "/measured",
        "/rtt/icmp/remote_ns/count",
        "/flows/seen",
        "/flows/ended/stopped",
        "/intervals/all",
        "/intervals/interrupted",
    ] {
        let of = |document: &Value| number(document.pointer(pointer).expect(pointer));
        assert_eq!(intervals.iter().map(of).sum::<u64>(), of(last), "{pointer}");
    }
    assert_eq!(last["intervals"]["all"], intervals.len());
    assert_eq!(last["intervals"]["interrupted"], 0);
    // Two seconds: none is added by the end. A machine that stalls has fewer.
    assert!((1..=2).contains(&intervals.len()), "{}", intervals.len());
}

#[test]
fn a_reader_that_goes_away_ends_a_live_run() {
    let Some(output) = alone(
        "\"$NETSONDE\" capture -i lo -q -w - | head -c 5 >/dev/null; echo \"${PIPESTATUS[0]}\"",
    ) else {
        return;
    };
    assert_eq!(text(&output.stdout), "5\n", "{}", text(&output.stderr));
    let said = text(&output.stderr);
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("netsonde: "))
        .collect();
    assert_eq!(complaints.len(), 1, "{said}");
    assert!(
        complaints[0].contains("-w: write on standard output: Broken pipe"),
        "{said}"
    );
}

#[test]
fn a_full_standard_output_is_named() {
    let Some(folder) = captures() else { return };
    let path = folder.join("tcpdump_geneve.pcap");
    for more in [&[][..], &["--json"], &["--json-stream"]] {
        let full = std::fs::File::create("/dev/full").expect("opens");
        let output = Command::new(env!("CARGO_BIN_EXE_netsonde"))
            .args(["capture", "-r", path.to_str().expect("text")])
            .args(more)
            .stdin(Stdio::null())
            .stdout(full)
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(5), "{more:?}");
        let said = text(&output.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with("netsonde: cannot write to standard output: No space left"),
            "{said}"
        );
    }
}

#[test]
fn a_file_that_breaks_is_reported_up_to_there() {
    let Some(folder) = captures() else { return };
    let whole = std::fs::read(folder.join("tcpdump_geneve.pcap")).expect("readable");
    let cut = Scratch::new("cut.pcap");
    std::fs::write(&cut.0, &whole[..2000]).expect("written");
    for from in [cut.path(), "-"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netsonde"))
            .args(["capture", "-r", from, "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        // A process that reads a file does not read its standard input.
        let _ = child.stdin.take().expect("piped").write_all(&whole[..2000]);
        let output = child.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(5));
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(document["frames"], 9);
        let complaint = text(&output.stderr);
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(
            complaint.contains("ends within a record at byte 1384"),
            "{complaint}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_refused_in_one_line() {
    let Some(folder) = captures() else { return };
    let path = folder.join("tcpdump_geneve.pcap");
    let file = path.to_str().expect("text");
    for (args, wanted) in [
        (
            &["-r", "/nonexistent/x.pcap"][..],
            "cannot open /nonexistent/x.pcap: No such file",
        ),
        (&["-r", "/dev/null"], "empty"),
        (
            &["-r", env!("CARGO_BIN_EXE_netsonde")],
            "neither pcap nor pcapng",
        ),
        (&["-r", file, "host"], "filter \"host\""),
        (&["-r", file, "-i", "lo"], "cannot be used with"),
        (&["-r", file, "-w", "/nonexistent/y"], "-w: "),
        (
            &["-r", file, "--flows", "/nonexistent/y"],
            "cannot write --flows /nonexistent/y",
        ),
        (
            &["-r", file, "--assert", "tcp.retransmission<1"],
            "the nearest is 'tcp.retransmission",
        ),
        (&["-i", "nosuchdevice0"], "nosuchdevice0"),
        // Nobody waits for what was mistyped.
        (&["-i", "lo,nosuchdevice0"], "nosuchdevice0: no such device"),
    ] {
        let output = netsonde(args);
        let complaint = text(&output.stderr);
        let code = output.status.code();
        // Without the privilege for packet sockets that is what is said of a device.
        assert!(
            code == Some(2) || (args[0] == "-i" && code == Some(3)),
            "{args:?}: {code:?}"
        );
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains(wanted), "{args:?}: {complaint}");
    }
}

#[test]
fn assertions_decide_about_the_exit_code() {
    let Some(folder) = captures() else { return };
    let path = folder.join("zeek_tcp_retransmit-fast009.pcap");
    let file = path.to_str().expect("text");
    for (expr, code) in [
        ("tcp.duplicate_acks==5", 0),
        ("tcp.retransmission_ratio>7%", 0),
        ("rtt.handshake.near.max<200ms", 0),
        ("rtt.handshake.near.max<0.1", 4),
        ("capture_drops.ring_full==0", 0),
        ("rtt.quic_spin.near.p50<1s", 4),
    ] {
        let output = netsonde(&["-r", file, "-q", "--assert", expr]);
        assert_eq!(output.status.code(), Some(code), "{expr}");
        assert_eq!(text(&output.stdout).contains("is false"), code == 4);
    }
    let output = netsonde(&["-r", file]);
    let shown = text(&output.stdout);
    let first = shown.lines().next().expect("a line");
    assert!(
        first.contains("shows flows, not packets (-w FILE writes those)"),
        "{first}"
    );
    assert!(first.contains("backend file"), "{first}");
    assert!(shown.contains("tcp 10.0.88.85:50368 > 192.168.0.27:80"));
}
