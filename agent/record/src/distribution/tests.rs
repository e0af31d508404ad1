use proptest::prelude::*;

use super::*;

/// Nearest rank over the sorted values: the definition.
fn sorted_quantile(values: &[i64], q: f64) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn close(got: i64, want: i64) -> bool {
    got.abs_diff(want) as f64 <= 0.001 * want.unsigned_abs() as f64 + 1.0
}

proptest! {
    #[test]
    fn equals_a_sorted_list(values in prop::collection::vec(-60_000_000_000_i64..60_000_000_000, 1..400)) {
        let mut distribution = Distribution::signed();
        for value in &values {
            distribution.record(*value);
        }
        let n = values.len();
        prop_assert_eq!(distribution.count(), n as u64);
        prop_assert_eq!(distribution.sum(), values.iter().map(|v| i128::from(*v)).sum::<i128>());
        prop_assert_eq!(distribution.min(), values.iter().copied().min());
        prop_assert_eq!(distribution.max(), values.iter().copied().max());
        for q in [0.0, 0.25, 0.5, 0.9, 0.99] {
            match distribution.quantile(q) {
                Some(got) => prop_assert!(close(got, sorted_quantile(&values, q)), "q {} got {} want {}", q, got, sorted_quantile(&values, q)),
                None => prop_assert!(n as f64 * (1.0 - q) < 1.0),
            }
        }
        let summary = distribution.summary();
        prop_assert_eq!(summary.p50, distribution.quantile(0.5));
        prop_assert_eq!(summary.p99, distribution.quantile(0.99));
        let mean = values.iter().map(|v| *v as f64).sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (*v as f64 - mean).powi(2)).sum::<f64>() / n as f64;
        prop_assert!((summary.stddev.unwrap() - variance.sqrt()).abs() <= 1e-6 * variance.sqrt() + 1.0);
    }

    #[test]
    fn merge_is_recording_both(
        left in prop::collection::vec(-1_000_000_i64..1_000_000, 0..100),
        right in prop::collection::vec(-1_000_000_i64..1_000_000, 0..100),
    ) {
        let fill = |values: &[i64]| {
            let mut distribution = Distribution::signed();
            values.iter().for_each(|value| distribution.record(*value));
            distribution
        };
        let mut merged = fill(&left);
        merged.merge(&fill(&right));
        let both = fill(&[left, right].concat());
        prop_assert_eq!(merged.summary(), both.summary());
        prop_assert_eq!(merged.sum(), both.sum());
    }
}

#[test]
fn small_deviation_of_a_large_mean_survives() {
    let mut distribution = Distribution::new();
    for step in 0..10_000 {
        distribution.record(30_000_000_000 + step % 2);
    }
    assert_eq!(distribution.summary().stddev, Some(0.5));
}

#[test]
fn nothing_measured_is_none() {
    let summary = Distribution::new().summary();
    assert_eq!(summary, Summary::default());
    assert_eq!(summary.min, None);
}

#[test]
fn a_quantile_needs_a_value_behind_it() {
    let mut distribution = Distribution::new();
    let counts = [
        (1, None, None),
        (2, Some(()), None),
        (99, Some(()), None),
        (100, Some(()), Some(())),
    ];
    for (count, p50, p99) in counts {
        while distribution.count() < count {
            distribution.record(5);
        }
        let summary = distribution.summary();
        assert_eq!(summary.p50.map(|_| ()), p50, "{count}");
        assert_eq!(summary.p99.map(|_| ()), p99, "{count}");
    }
    for (count, q) in [(10_000, 0.9999), (1_000, 0.999), (10, 0.9)] {
        // Fractions that binary only approaches.
        let rank = (q * count as f64).round() as u64;
        assert_eq!(quantile_rank(count, q), Some(rank), "{q}");
        assert_eq!(quantile_rank(count - 1, q), None, "{q}");
    }
}

#[test]
fn out_of_range_is_clamped_and_counted() {
    let mut distribution = Distribution::new();
    distribution.record(-7);
    distribution.record(0);
    distribution.record(61_000_000_000);
    distribution.record(60_000_000_000);
    assert_eq!(distribution.saturated(), 2);
    assert_eq!(
        (distribution.min(), distribution.max()),
        (Some(0), Some(61_000_000_000))
    );
    assert_eq!(distribution.sum(), 121_000_000_000);
    let mut signed = Distribution::signed();
    signed.record(i64::MIN);
    signed.record(i64::MAX);
    assert_eq!((signed.saturated(), signed.count()), (2, 2));
    assert_eq!(signed.sum(), -1);
}

#[test]
fn bars_count_every_value_once() {
    let mut distribution = Distribution::signed();
    for value in [-50, 10, 20, 20, 30, 1_000] {
        distribution.record(value);
    }
    let mut out = [9; 4];
    distribution.bars(&[10, 20, 30], &mut out);
    assert_eq!(out, [2, 2, 1, 1]);
    let mut small = [0; 8];
    assert_eq!(distribution.small_histogram(&mut small), Some((-50, 1_000)));
    assert_eq!(small.iter().sum::<u64>(), 6);
    let mut one = Distribution::new();
    one.record(77);
    assert_eq!(one.small_histogram(&mut small), Some((77, 77)));
    assert_eq!(small[0], 1);
    assert_eq!(Distribution::new().small_histogram(&mut small), None);
}
