use proptest::prelude::*;

use super::*;

const VALUE: [u8; 32] = [
    b'N', b'S', 1, 1, // magic, version, not counted
    0xde, 0xad, 0xbe, 0xef, // epoch
    0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6,
];

const REPORT: Report = Report {
    epoch: 0xdead_beef,
    distinct: 1,
    duplicates: 2,
    out_of_order: 3,
    rate_limited: 4,
    overflow: 5,
    uncounted_received: 6,
};

#[test]
fn deconstruct() {
    assert_eq!(Report::parse(&VALUE), Ok(REPORT));
    let request = ReportRequest::parse(&VALUE);
    assert_eq!(request, Ok(ReportRequest { uncounted: true }));
}

#[test]
fn construct() {
    let mut value = [0xa5; 32];
    ReportRequest { uncounted: true }.emit(&mut value);
    let mut expected = [0; 32];
    expected[..4].copy_from_slice(&VALUE[..4]);
    assert_eq!(value, expected);
    REPORT.emit(&mut value);
    assert_eq!(value, VALUE, "the flags stay the sender's");
    let mut value = [0xa5; 32];
    ReportRequest { uncounted: false }.emit(&mut value);
    assert_eq!(value[3], 0);
}

#[test]
fn three_ways() {
    // Another's use of the same experimental type is not an error of its sender.
    for foreign in [&b""[..], b"NS\x01", b"XS\x01\x00", &[0; 32]] {
        assert_eq!(Report::parse(foreign), Err(Reason::NotOurs));
    }
    let mut newer = VALUE;
    newer[2] = 2;
    assert_eq!(Report::parse(&newer), Err(Reason::BadVersion));
    assert_eq!(Report::parse(&VALUE[..31]), Err(Reason::BadLength));
    let mut longer = VALUE.to_vec();
    longer.push(0);
    assert_eq!(ReportRequest::parse(&longer), Err(Reason::BadLength));
}

proptest! {
    #[test]
    fn round_trip(fields: [u32; 7]) {
        let [epoch, distinct, duplicates, out_of_order, rate_limited, overflow, uncounted_received] = fields;
        let report = Report { epoch, distinct, duplicates, out_of_order, rate_limited, overflow, uncounted_received };
        let mut value = [0xa5; 32];
        report.emit(&mut value);
        prop_assert_eq!(Report::parse(&value), Ok(report));
    }

    #[test]
    fn never_panics(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut ours = VALUE.to_vec();
        ours.truncate(4);
        ours.extend(&octets);
        for value in [&octets, &ours] {
            let _ = Report::parse(value);
            let _ = ReportRequest::parse(value);
        }
    }
}
