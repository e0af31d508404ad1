use proptest::prelude::*;

use super::*;
use crate::series::{Bucket, ClassicBounds, Series};

fn time_series(samples_per_tick: f64, quantity: base::Quantity) -> Series {
    Series::new(quantity, samples_per_tick, &ClassicBounds::default())
}

/// Index by the definition, in floats: exact enough away from bounds.
fn float_index(magnitude: u64) -> i32 {
    ((magnitude as f64 * 1e-9).log2() * 32.0).ceil() as i32
}

proptest! {
    #[test]
    fn holds_what_was_recorded(
        ticks in prop::collection::vec(prop::collection::vec(-5_000_000_000_i64..5_000_000_000, 0..40), 1..8)
    ) {
        // A list of 8: most ticks overflow it several times.
        let mut series = time_series(1.0, base::Quantity::ForwardDelay);
        let mut brute = std::collections::BTreeMap::<(bool, i32), u64>::new();
        let mut classic = vec![0u64; 34];
        let bounds = crate::series::classic::EC2_DENSE;
        for tick in &ticks {
            for value in tick {
                series.record(*value);
                if value.unsigned_abs() > 3 {
                    *brute.entry((*value < 0, float_index(value.unsigned_abs()))).or_default() += 1;
                }
                let place = bounds.iter().position(|bound| *value <= *bound as i64).unwrap_or(33);
                classic[place] += 1;
            }
            series.tick();
        }
        let all: Vec<i64> = ticks.concat();
        let shared = series.snapshot();
        let list = |negative: bool| -> Vec<Bucket> {
            brute.iter().filter(|((sign, _), _)| *sign == negative)
                .map(|((_, index), count)| Bucket { index: *index, count: *count }).collect()
        };
        prop_assert_eq!(shared.positive.iter().collect::<Vec<_>>(), list(false));
        prop_assert_eq!(shared.negative.iter().collect::<Vec<_>>(), list(true));
        prop_assert_eq!(&*shared.classic, &classic[..]);
        prop_assert_eq!(shared.count, all.len() as u64);
        prop_assert_eq!(shared.sum, all.iter().map(|v| i128::from(*v)).sum::<i128>());
        prop_assert_eq!((shared.min, shared.max), (all.iter().min().copied(), all.iter().max().copied()));
    }

    #[test]
    fn an_overflowing_list_loses_only_precision(values in prop::collection::vec(1_000_i64..1_000_000_000, 30..500)) {
        let mut exact = Interval::new(1_000.0, false);
        prop_assert_eq!(crate::series::exact_length(1_000.0), 128);
        let mut spilled = Interval::new(1.0, false);
        for value in &values {
            exact.record(*value);
            spilled.record(*value);
        }
        prop_assert!(spilled.is_spilled());
        let mut count = 0;
        let mut approximate = 0.0;
        spilled.for_each(|value, times| {
            count += times;
            approximate += value as f64 * times as f64;
        });
        prop_assert_eq!(count, values.len() as u64);
        prop_assert_eq!(spilled.sum(), exact.sum());
        let sum = exact.sum() as f64;
        prop_assert!((approximate - sum).abs() <= 0.004 * sum, "{} {}", approximate, sum);
        let mut values = values;
        values.sort_unstable();
        let mut spread = Vec::new();
        spilled.for_each(|value, times| spread.extend(std::iter::repeat_n(value, times as usize)));
        spread.sort_unstable();
        for (got, want) in spread.iter().zip(&values) {
            prop_assert!((*got - *want).abs() as f64 <= 0.004 * *want as f64 + 1.0, "{} {}", got, want);
        }
    }
}

#[test]
fn an_untouched_series_keeps_its_arc() {
    let mut series = time_series(1.0, base::Quantity::Rtt);
    series.record(250_000);
    assert!(series.tick());
    let before = series.snapshot();
    assert!(!series.tick());
    assert!(Arc::ptr_eq(&before, &series.snapshot()));
    series.record(250_000);
    series.tick();
    assert!(!Arc::ptr_eq(&before, &series.snapshot()));
    assert_eq!(before.count, 1, "a snapshot never changes");
}

#[test]
fn quantiles_are_within_a_bucket() {
    let mut series = time_series(10_000.0, base::Quantity::Rtt);
    for value in 1..=10_000 {
        series.record(value * 1_000);
    }
    series.tick();
    for (q, want) in [(0.5, 5e6), (0.99, 9.9e6), (0.999, 9.99e6)] {
        let got = series.snapshot().quantile(q).unwrap();
        assert!((got / want - 1.0).abs() < 0.025, "{q}: {got}");
    }
    assert_eq!(series.snapshot().quantile(0.99999), None);
}

#[test]
fn quantiles_of_signed_values_go_from_the_far_negative() {
    let mut series = time_series(100.0, base::Quantity::ForwardIpdv);
    for value in -50..50 {
        series.record(value * 1_000_000);
    }
    series.tick();
    let shared = series.snapshot();
    let near = |q: f64, want: f64| {
        let got = shared.quantile(q).unwrap();
        assert!((got - want).abs() <= 0.03 * want.abs() + 1e6, "{q}: {got}");
    };
    near(0.1, -41e6);
    near(0.25, -26e6);
    near(0.9, 39e6);
    assert_eq!(shared.zero, 1);
}

#[test]
fn negative_times_of_unsigned_series_are_clamped_and_counted() {
    let mut series = time_series(1.0, base::Quantity::Rtt);
    series.record(-5);
    series.record(70_000_000_000);
    series.tick();
    let shared = series.snapshot();
    assert_eq!((shared.zero, shared.saturated, shared.count), (1, 2, 2));
    assert!(shared.negative.is_empty());
    assert_eq!(
        shared
            .positive
            .iter()
            .map(|bucket| bucket.index)
            .collect::<Vec<_>>(),
        [192]
    );
}

#[test]
fn spilled_memory_is_given_back() {
    let mut interval = Interval::new(1.0, true);
    for _ in 0..100 {
        interval.record(7);
    }
    assert!(interval.is_spilled());
    interval.clear();
    assert!(interval.holds_spill());
    for _ in 0..30 {
        interval.record(7);
        interval.clear();
    }
    assert!(!interval.holds_spill());
}

#[test]
fn a_sum_of_series_is_one_series_of_all_values() {
    let fill = |values: std::ops::Range<i64>| {
        let mut series = time_series(1_000.0, base::Quantity::ForwardIpdv);
        for value in values {
            series.record(value * 777);
        }
        series.tick();
        series.snapshot()
    };
    let parts = [fill(-100..0), fill(0..50), fill(50..300)];
    let sum = SeriesSnapshot::sum(parts.iter().map(|part| &**part));
    assert_eq!(sum.as_ref(), Some(&*fill(-100..300)));
    assert_eq!(SeriesSnapshot::sum(std::iter::empty()), None);
}

/// A capture worker records straight into an interval.
#[test]
fn an_absorbed_interval_has_all_its_values_in_buckets() {
    let mut series = time_series(1.0, base::Quantity::Rtt);
    let mut interval = Interval::new(crate::series::MOST_EXACT as f64, false);
    let mut want = vec![0u64; 34];
    let bounds = crate::series::classic::EC2_DENSE;
    for round in 1..=2 {
        for step in 0..1_000_i64 {
            // Never within HDR's rounding of a classic bound: 12, 62, 112 us and so on.
            let value = 12_500 + step % 20 * 50_000;
            interval.record(value);
            let place = bounds.iter().position(|bound| value <= *bound as i64);
            want[place.unwrap_or(33)] += 1;
        }
        series.absorb(&interval);
        assert_eq!(
            series.snapshot().count,
            (round - 1) * 1_000,
            "before the tick"
        );
        assert!(series.tick());
        interval.clear();
        let shared = series.snapshot();
        let native = shared.positive.iter().map(|bucket| bucket.count);
        assert_eq!(shared.zero + native.sum::<u64>(), shared.count);
        assert_eq!(&*shared.classic, &want[..]);
        assert_eq!(shared.count, round * 1_000);
        assert_eq!(shared.sum, i128::from(round) * 1_000 * (12_500 + 475_000));
    }
    assert!(!series.tick());
}
