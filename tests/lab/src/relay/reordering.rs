//! RFC 4737 over a sequence of arrivals, written down once more and plainly, so that it can
//! judge the implementation in `measure`.

use std::collections::BTreeSet;

/// How many of these arrivals are reordered. A second arrival of a number is a duplicate and
/// neither counts nor advances anything.
///
/// RFC 4737 section 3.3: "If s >= NextExp ... in-order, NextExp = s + 1 ... else ...
/// Type-P-Reordered = TRUE".
pub fn reordered(arrivals: impl IntoIterator<Item = u64>) -> u64 {
    let mut seen = BTreeSet::new();
    let mut next_expected = 0;
    let mut count = 0;
    for number in arrivals {
        if !seen.insert(number) {
            continue;
        }
        if number >= next_expected {
            next_expected = number + 1;
        } else {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::reordered;

    #[test]
    fn known_orders() {
        assert_eq!(reordered([]), 0);
        assert_eq!(reordered([0, 1, 2, 5, 9]), 0, "loss is no reordering");
        // RFC 4737 section 4.2.3's example: packet 4 arrives after 9.
        assert_eq!(reordered([1, 2, 3, 5, 6, 7, 8, 9, 4, 10]), 1);
        assert_eq!(reordered([1, 2, 3, 7, 4, 5, 6, 8]), 3);
        assert_eq!(
            reordered([0, 1, 1, 0, 2]),
            0,
            "duplicates are no reordering"
        );
        assert_eq!(reordered([1, 0, 0]), 1, "once per number");
    }
}
