//! Cut from what the tools really wrote (netsonde 0.1, iputils 20221126, irtt 0.9, sockperf 3.7).

use super::*;

#[test]
fn quantiles_are_nearest_ranks() {
    let values: Vec<i64> = (1..=200).rev().collect();
    assert_eq!(quantile(&values, 0.5), Some(100));
    assert_eq!(quantile(&values, 0.99), Some(198));
    assert_eq!(quantile(&[7], 0.99), Some(7));
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn records_of_netsonde() {
    let text = r#"{"target":"127.0.0.1","seq":1,"t1_ns":1795185600179108207,"t4_ns":1795185600179136800,"verdict":"received","rtt_ns":3986,"schedule_error_ns":33761}
{"target":"127.0.0.1","seq":2,"t1_ns":1795185600180107108,"t4_ns":null,"verdict":"lost","rtt_ns":null,"schedule_error_ns":50001}
{"target":"127.0.0.1","seq":2,"t1_ns":1795185600180107108,"t4_ns":1795185600480107108,"verdict":"late","rtt_ns":null,"schedule_error_ns":1}
"#;
    let samples = netsonde(text, 3).expect("records");
    let wanted = Samples {
        intended: 3,
        sent: 2,
        network_ns: vec![3_986],
        round_trip_ns: vec![28_593],
        on_time: Some(1),
    };
    assert_eq!(samples, wanted);
}

#[test]
fn lines_of_ping() {
    let text = "PING 127.0.0.1 (127.0.0.1) 100(128) bytes of data.\n\
        [1795185599.762882] 108 bytes from 127.0.0.1: icmp_seq=1 ttl=64 time=0.028 ms\n\
        [1795185599.763839] 108 bytes from 127.0.0.1: icmp_seq=2 ttl=64 time=12.4 ms\n\n\
        --- 127.0.0.1 ping statistics ---\n\
        5 packets transmitted, 2 received, 60% packet loss, time 4ms\n";
    let samples = ping(text, 5).expect("ping");
    assert_eq!((samples.intended, samples.sent), (5, 5));
    assert_eq!(samples.round_trip_ns, [28_000, 12_400_000]);
    assert_eq!(samples.on_time, None);
    assert!(ping("ping: connect: Network is unreachable\n", 5).is_err());
}

#[test]
fn the_document_of_irtt() {
    let trip = |sent: i64, received: i64, rtt: &str| {
        format!(
            r#"{{"seqno":1,"lost":"false","timestamps":{{"client":{{"receive":{{"wall":1,"monotonic":{received}}},"send":{{"wall":1,"monotonic":{sent}}}}},"server":{{"receive":{{}},"send":{{}}}}}},"delay":{{{rtt}}},"ipdv":{{}}}}"#
        )
    };
    let text = format!(
        r#"{{"version":{{}},"stats":{{"packets_sent":3,"timer_misses":1}},"round_trips":[{},{},{}]}}"#,
        trip(5_000_000, 5_097_000, r#""rtt":95000"#),
        trip(6_060_000, 6_130_000, r#""rtt":69000"#),
        trip(8_020_000, 0, ""),
    );
    let samples = irtt(&text, 4, 1_000_000).expect("irtt");
    let wanted = Samples {
        intended: 4,
        sent: 3,
        network_ns: vec![95_000, 69_000],
        round_trip_ns: vec![97_000, 70_000],
        on_time: Some(2),
    };
    assert_eq!(samples, wanted);
}

#[test]
fn the_log_of_sockperf() {
    let text = "------------------------------\n\
        test was performed using the following parameters: --mps=1000\n\
        ------------------------------\n\
        packet, txTime(sec), rxTime(sec), rtt(usec)\n\
        0, 2.402185856, 2.402198525, 12.669\n\
        1, 2.403185853, 2.405706829, 2520.976\n\
        2, 2.405706919, 2.405718587, 11.668\n\
        3, 2.405718617, 2.405728982, 10.365\n\
        ------------------------------\n";
    let samples = sockperf(text, 3, 1_000_000).expect("a log");
    assert_eq!(samples.round_trip_ns, [12_669, 2_520_976, 11_668]);
    assert_eq!((samples.sent, samples.on_time), (3, Some(1)));
    assert!(sockperf("", 3, 1_000_000).is_err());
}
