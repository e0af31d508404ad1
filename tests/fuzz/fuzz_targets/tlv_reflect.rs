//! Reflecting changes flags and nothing else, and its result is what its return says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::Reason;
use wire::tlv::{self, Handled, Tlvs};

fuzz_target!(|data: &[u8]| {
    let mut area = data.to_vec();
    let mut calls = 0;
    let result = tlv::reflect(&mut area, |kind, _| {
        calls += 1;
        assert_ne!(kind, tlv::EXTRA_PADDING);
        match kind % 4 {
            0 => Handled::Malformed,
            1 | 2 => Handled::Unknown,
            _ => Handled::Understood,
        }
    });
    assert!(calls <= data.len() / 4);
    assert_eq!(area.len(), data.len());

    // Walk the original beside it: independent of how `reflect` walks.
    let mut at = 0;
    let mut walked = 0;
    let mut malformed = false;
    while at < data.len() && !malformed {
        let header = data.get(at..at + 4);
        let total = header.map(|h| 4 + usize::from(u16::from_be_bytes([h[2], h[3]])));
        let end = total
            .map(|total| at + total)
            .filter(|end| *end <= data.len());
        let (flags, end) = match (end, data.get(at + 1)) {
            (None, _) | (_, None) => {
                malformed = true;
                (0xc0, data.len())
            }
            (Some(end), Some(&tlv::EXTRA_PADDING)) => (0, end),
            (Some(end), Some(kind)) => match kind % 4 {
                0 => {
                    malformed = true;
                    (0xc0, end)
                }
                1 | 2 => (0x80, end),
                _ => (0, end),
            },
        };
        assert_eq!(area[at], flags);
        assert_eq!(area[at + 1..end], data[at + 1..end]);
        at = end;
        walked += 1;
    }
    assert_eq!(
        area[at..],
        data[at..],
        "after a malformed one all is as it came"
    );
    if malformed {
        assert_eq!(result, Err(Reason::MalformedTlv));
    } else {
        assert_eq!(result, Ok(walked));
        assert_eq!(Tlvs::new(&area).count(), walked);
    }
    let _ = tlv::reflected(data, 241);
});
