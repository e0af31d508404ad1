use super::*;

fn record(index: u64) -> Record {
    Record {
        direction: Direction::ALL[(index % 2) as usize],
        index,
        verdict: Verdict::ALL[(index % 4) as usize],
        copy: (index % 3) as u8,
        reordered: index.is_multiple_of(5),
        corrupted: index.is_multiple_of(7),
        in_ns: 1_700_000_000_000_000_000 + index,
        due_ns: 2 + index,
        out_ns: 3 + index,
        out_order: 1_000_000 - index,
        source: if index.is_multiple_of(2) {
            [10, 0, 0, 1].into()
        } else {
            "fd00::1".parse().expect("address")
        },
        destination: if index.is_multiple_of(2) {
            [10, 0, 0, 2].into()
        } else {
            // A v6 address that looks like a mapped one must come back as it is.
            "::ffff:1.2.3.4".parse().expect("address")
        },
        ports: (40_000, 862),
        protocol: 17,
        ttl: 255,
        ip_len: 9_001,
        sequence: index.is_multiple_of(3).then_some(0xdead_beef),
        sender_sequence: 0x0102_0304,
        ssid: 0xabcd,
        echo_sequence: index.is_multiple_of(11).then_some(0x1234),
        uncounted: [None, Some(false), Some(true)][(index % 3) as usize],
        tcp: index.is_multiple_of(13).then_some(Segment {
            sequence: 0xfedc_ba98,
            payload: 1_448,
            flags: 0x18,
        }),
    }
}

fn scratch() -> std::path::PathBuf {
    let name = format!(
        "netsonde-log-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    std::env::temp_dir().join(name)
}

#[test]
fn what_is_written_is_read() {
    let path = scratch();
    let records: Vec<_> = (0..10_000).map(record).collect();
    let totals = [
        DirectionTotals {
            received: u64::MAX,
            icmp_sent: 12,
            ..DirectionTotals::default()
        },
        DirectionTotals::from_values(&(1..=12).collect::<Vec<_>>()),
    ];
    let mut writer = LogWriter::create(&path).expect("create");
    for record in &records {
        writer.push(*record);
    }
    writer.finish(&totals).expect("finish");
    let log = RelayLog::read(&path).expect("read");
    assert_eq!(log.records, records);
    assert_eq!(log.totals, totals);
    assert_eq!(log.totals[1].values(), (1..=12).collect::<Vec<_>>());

    let bytes = std::fs::read(&path).expect("read");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("write");
    assert!(RelayLog::read(&path).is_err(), "a log cut short is no log");
    std::fs::remove_file(&path).expect("remove");
}

#[test]
fn output_follows_the_order_of_leaving() {
    let log = RelayLog {
        records: (0..100).map(record).collect(),
        ..RelayLog::default()
    };
    let output = log.output(Direction::Forward);
    assert!(
        output
            .windows(2)
            .all(|pair| pair[0].out_order < pair[1].out_order)
    );
    assert_eq!(output.len(), 25);
    assert!(
        log.counted()
            .records
            .iter()
            .all(|r| r.uncounted != Some(true))
    );
}

#[test]
fn totals_balance_only_when_nothing_is_missing() {
    let totals = DirectionTotals {
        received: 110,
        dropped_by_socket: 1,
        passed: 9,
        matched: 100,
        lost: 5,
        too_big: 2,
        copies: 3,
        sent: 104,
        refused: 1,
        ..DirectionTotals::default()
    };
    assert!(totals.balance());
    assert_eq!(totals.own_failures(), 2);
    assert!(
        !DirectionTotals {
            sent: 103,
            ..totals
        }
        .balance()
    );
    assert!(
        !DirectionTotals {
            received: 111,
            ..totals
        }
        .balance()
    );
}
