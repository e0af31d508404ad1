use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::*;
use crate::sample;

/// More than any scrape here needs, less than the time-outs that are not under test.
const SOON: Duration = Duration::from_secs(5);

struct Running {
    server: Server,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

fn run(change: impl FnOnce(&mut ServerOptions)) -> Running {
    run_with(sample::two_targets(), change)
}

fn run_with(snapshot: Snapshot, change: impl FnOnce(&mut ServerOptions)) -> Running {
    let listeners = [Role::Full, Role::Metrics]
        .map(|role| (TcpListener::bind("127.0.0.1:0").expect("binds"), role));
    let mut options = ServerOptions::new(listeners.into(), Encoding::default());
    change(&mut options);
    let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
    let server = spawn(options, receiver).expect("starts");
    Running { server, snapshots }
}

impl Running {
    fn connect(&self, listener: usize) -> TcpStream {
        let stream = TcpStream::connect(self.server.addresses()[listener]).expect("connects");
        stream
            .set_read_timeout(Some(SOON))
            .expect("takes a time-out");
        stream
    }

    /// The whole response to one request.
    fn get(&self, listener: usize, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect(listener);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n"
        )
        .expect("sends");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("answers in time");
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("has a head")
            + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let code = head[9..12].parse().expect("has a code");
        (code, head, bytes[end..].to_vec())
    }

    fn text(&self, path: &str) -> (u16, String) {
        let (code, _, body) = self.get(0, path, "");
        (code, String::from_utf8(body).expect("is UTF-8"))
    }

    /// Until the endpoint has counted so many failures.
    fn wait_for(&self, failure: Failure, count: u64) {
        let begin = Instant::now();
        while self.server.stats().failures(failure) < count {
            assert!(begin.elapsed() < SOON, "{failure:?}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn each_path_answers() {
    let running = run(|_| {});
    let (code, head, body) = running.get(0, "/metrics", "");
    assert_eq!(code, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(String::from_utf8_lossy(&body).contains("netsonde_probe_sent_packets_total{"));
    let accept = "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n";
    let (code, head, body) = running.get(0, "/metrics", accept);
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily; encoding=delimited"), "{head}");
    let family: prometheus::proto::MetricFamily = protobuf::CodedInputStream::from_bytes(&body)
        .read_message()
        .expect("is protobuf");
    assert_eq!(family.name(), "netsonde_build_info");
    assert_eq!(
        (
            running.server.stats().text(),
            running.server.stats().protobuf()
        ),
        (1, 1)
    );

    assert_eq!(running.text("/healthz"), (200, "healthy\n".to_owned()));
    assert_eq!(running.text("/readyz"), (200, "ready\n".to_owned()));
    let (code, page) = running.text("/");
    assert_eq!(code, 200);
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/v1/status",
        "/api/v1/events",
    ] {
        assert!(page.contains(&format!("href=\"{path}\"")), "{path}");
        assert_eq!(running.text(path).0, 200, "{path}");
    }
    assert_eq!(running.text("/nothing").0, 404);
    assert_eq!(running.text("/api/v1/events?after=x").0, 400);
}

#[test]
fn the_listener_for_metrics_serves_nothing_else() {
    let running = run(|_| {});
    for (path, code) in [
        ("/metrics", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/", 404),
        ("/api/v1/status", 404),
    ] {
        assert_eq!(running.get(1, path, "").0, code, "{path}");
    }
}

#[test]
fn readiness_follows_the_snapshot() {
    let mut snapshot = sample::two_targets();
    snapshot.not_ready = vec![
        "no probe has been sent".to_owned(),
        "reflector is starting".to_owned(),
    ];
    let running = run_with(snapshot, |_| {});
    assert_eq!(
        running.text("/readyz"),
        (
            503,
            "no probe has been sent\nreflector is starting\n".to_owned()
        )
    );
    assert_eq!(running.text("/healthz").0, 200);
    running
        .snapshots
        .send_replace(Arc::new(sample::two_targets()));
    assert_eq!(running.text("/readyz").0, 200);
    // A part that failed does not measure as configured.
    let mut snapshot = sample::two_targets();
    snapshot.components.push(record::snapshot::Component {
        name: "capture",
        health: record::snapshot::Health::Failed,
        detail: "eth1 is gone".to_owned(),
        since: base::WallNanos(1),
    });
    running.snapshots.send_replace(Arc::new(snapshot));
    let reason = "capture is failed: eth1 is gone\n".to_owned();
    assert_eq!(running.text("/readyz"), (503, reason));
}

#[test]
fn a_stuck_publisher_is_unhealthy_and_not_ready() {
    let running = run(|options| options.stale_after = Duration::ZERO);
    let (code, why) = running.text("/healthz");
    assert_eq!(code, 503);
    assert!(why.contains("publisher"), "{why}");
    assert_eq!(running.text("/readyz").0, 503);
    let status: serde_json::Value =
        serde_json::from_str(&running.text("/api/v1/status").1).expect("is JSON");
    assert_eq!(status["healthy"], false);
    // What was measured can still be read.
    assert_eq!(running.text("/metrics").0, 200);
}

#[test]
fn stuck_clients_delay_nobody_and_are_cut_off() {
    let running = run(|options| {
        options.header_timeout = Duration::from_millis(300);
        options.write_timeout = Duration::from_millis(300);
    });
    // Half a request.
    let mut half = running.connect(0);
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost:")
        .expect("sends");
    // Connected and silent.
    let silent = running.connect(0);
    // Asks again and again and never reads: the answers fill all buffers.
    let greedy = running.connect(0);
    let mut asking = greedy.try_clone().expect("clones");
    let asker = std::thread::spawn(move || {
        // Ends by an error when the server cuts the connection.
        while asking
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
            .is_ok()
        {}
    });
    for _ in 0..20 {
        let begin = Instant::now();
        assert_eq!(running.text("/metrics").0, 200);
        assert!(begin.elapsed() < SOON);
    }
    running.wait_for(Failure::WriteTimeout, 1);
    running.wait_for(Failure::HeaderTimeout, 2);
    asker.join().expect("the asker ends");
    // The server's end is closed: end of file, or a reset.
    let mut rest = Vec::new();
    for mut stuck in [half, silent] {
        assert!(
            !matches!(stuck.read_to_end(&mut rest), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        );
    }
    assert_eq!(running.text("/metrics").0, 200);
}

#[test]
fn an_idle_connection_is_no_failure() {
    let running = run(|options| options.header_timeout = Duration::from_millis(100));
    let mut kept = running.connect(0);
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sends");
    let mut bytes = Vec::new();
    // The answer, and then the end that the time-out makes.
    kept.read_to_end(&mut bytes).expect("is closed in time");
    assert!(bytes.ends_with(b"healthy\n"));
    assert_eq!(running.server.stats().failures(Failure::HeaderTimeout), 0);
}

#[test]
fn who_never_asks_keeps_nobody_out() {
    // No time-out can help within the test: only eviction.
    let running = run(|options| options.header_timeout = 100 * SOON);
    let half_request = |listener| {
        let mut half = running.connect(listener);
        half.write_all(b"GET /metrics HTTP/1.1\r\nHost:")
            .expect("sends");
        half
    };
    let mut stuck: Vec<_> = (0..300).map(|at| half_request(at % 2)).collect();
    for listener in [0, 1] {
        let begin = Instant::now();
        assert_eq!(running.get(listener, "/metrics", "").0, 200);
        assert!(begin.elapsed() < SOON);
    }
    // 300 and two scrapes, the first of which has given its place back or was not evicted.
    let evicted = running.server.stats().failures(Failure::Evicted);
    assert!(
        (300 - 64 + 1..=300 - 64 + 2).contains(&evicted),
        "{evicted}"
    );
    assert_eq!(
        running.server.stats().failures(Failure::TooManyConnections),
        0
    );
    // The oldest are gone, a newer one keeps its place.
    let mut rest = Vec::new();
    for old in &mut stuck[..2] {
        let end = old.read_to_end(&mut rest);
        assert!(!matches!(end, Err(error) if error.kind() == io::ErrorKind::WouldBlock));
    }
    let mut newest = half_request(0);
    assert_eq!(running.text("/healthz").0, 200);
    newest
        .write_all(b" test\r\nConnection: close\r\n\r\n")
        .expect("sends");
    newest.read_to_end(&mut rest).expect("is answered");
    assert!(rest.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn who_is_being_served_is_not_ended_for_another() {
    let running = run(|options| {
        options.max_connections = 2;
        options.write_timeout = 100 * SOON;
    });
    // Ask again and again and never read: blocked in an answer once all buffers are full.
    let greedy: Vec<_> = (0..2)
        .map(|_| {
            let stream = running.connect(0);
            let mut asking = stream.try_clone().expect("clones");
            asking
                .set_write_timeout(Some(Duration::from_millis(500)))
                .expect("takes a time-out");
            while asking
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
                .is_ok()
            {}
            stream
        })
        .collect();
    let mut third = running.connect(0);
    running.wait_for(Failure::TooManyConnections, 1);
    let mut rest = Vec::new();
    assert!(
        !matches!(third.read_to_end(&mut rest), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    );
    assert!(rest.is_empty());
    assert_eq!(running.server.stats().failures(Failure::Evicted), 0);
    drop(greedy);
}

#[test]
fn rubbish_is_refused_and_counted() {
    let running = run(|_| {});
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    let longer = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1_000_000));
    for rubbish in ["\x16\x03\x01 hello\r\n\r\n", &longer] {
        let failures = || -> u64 {
            let stats = running.server.stats();
            // What cannot be told apart: the refusal, and a peer that sends on after it.
            stats.failures(Failure::BadRequest) + stats.failures(Failure::Connection)
        };
        let before = failures();
        let mut stream = running.connect(0);
        // May fail half-way, when the server has seen enough.
        let _ = stream.write_all(rubbish.as_bytes());
        let begin = Instant::now();
        while failures() == before {
            assert!(begin.elapsed() < SOON, "{} bytes", rubbish.len());
            std::thread::yield_now();
        }
    }
    let mut stream = running.connect(0);
    stream.write_all(long.as_bytes()).expect("sends");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("answers");
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(running.text("/healthz").0, 200);
}

#[test]
fn stop_is_prompt_and_bounded() {
    let running = run(|_| {});
    assert_eq!(running.text("/healthz").0, 200);
    let address = running.server.addresses()[0];
    let begin = Instant::now();
    assert!(running.server.stop(SOON), "nothing in progress");
    assert!(begin.elapsed() < SOON);
    assert!(TcpStream::connect(address).is_err(), "closed");

    // One that owes the rest of a request cannot hold the stop up.
    let running = run(|_| {});
    let mut half = running.connect(0);
    half.write_all(b"GET /metrics HTTP/1.1\r\n").expect("sends");
    assert_eq!(running.text("/healthz").0, 200);
    let begin = Instant::now();
    let _ = running.server.stop(Duration::from_millis(100));
    assert!(begin.elapsed() < SOON);
}

#[test]
fn one_encoding_serves_all_scrapes_of_a_snapshot() {
    let running = run(|_| {});
    let first = running.text("/metrics").1;
    assert_eq!(
        running.text("/metrics").1,
        first,
        "the scrape counter is of the first encoding"
    );
    assert!(
        first.contains("netsonde_export_scrapes_total{format=\"text\",fleet=\"payments\"} 1"),
        "{first}"
    );
    running
        .snapshots
        .send_replace(Arc::new(sample::two_targets()));
    assert!(
        running
            .text("/metrics")
            .1
            .contains("netsonde_export_scrapes_total{format=\"text\",fleet=\"payments\"} 3")
    );
}
