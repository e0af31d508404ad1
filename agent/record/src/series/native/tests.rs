use super::*;

/// Just enough exact arithmetic to decide v^32 <= 2^k * s^32: an oracle that shares
/// nothing with the tables.
#[derive(Clone, PartialEq, Eq)]
struct Big(Vec<u32>);

impl Big {
    fn times(&self, by: u64) -> Self {
        let mut out = vec![0u32; self.0.len() + 3];
        let mut carry = 0u128;
        for (place, cell) in out.iter_mut().enumerate() {
            let digit = u128::from(self.0.get(place).copied().unwrap_or(0));
            let sum = digit * u128::from(by) + carry;
            *cell = sum as u32;
            carry = sum >> 32;
        }
        while out.last() == Some(&0) {
            out.pop();
        }
        Self(out)
    }

    fn power(base: u64, times: u32) -> Self {
        (0..times).fold(Self(vec![1]), |big, _| big.times(base))
    }

    fn at_most(&self, other: &Self) -> bool {
        let key = |big: &Self| (big.0.len(), big.0.iter().rev().copied().collect::<Vec<_>>());
        key(self) <= key(other)
    }
}

/// Whether `value` recorded units are at most 2^(index/32) exported units.
fn at_most(unit: Unit, value: u64, index: i32) -> bool {
    let scale = if unit == Unit::Nanoseconds {
        1_000_000_000
    } else {
        1
    };
    let mut left = Big::power(value, 32);
    let mut right = Big::power(scale, 32);
    let doublings = Big::power(2, index.unsigned_abs());
    let product = |big: &Big, by: &Big| {
        // by is a power of two: multiply in steps that fit.
        let bits = (by.0.len() as u32 - 1) * 32 + by.0.last().unwrap().trailing_zeros();
        let mut out = big.clone();
        for _ in 0..bits / 32 {
            out = out.times(1 << 32);
        }
        out.times(1 << (bits % 32))
    };
    if index >= 0 {
        right = product(&right, &doublings);
    } else {
        left = product(&left, &doublings);
    }
    left.at_most(&right)
}

#[test]
fn every_bound_is_exact() {
    for unit in [Unit::Nanoseconds, Unit::Packets] {
        for (place, largest) in unit.table().iter().enumerate() {
            let index = unit.first_index() - 1 + place as i32;
            if *largest > 0 {
                assert!(at_most(unit, *largest, index), "{unit:?} {index}");
            }
            assert!(!at_most(unit, largest + 1, index), "{unit:?} {index}");
        }
    }
}

#[test]
fn a_value_on_a_bound_belongs_below_it() {
    // 2^-9 s is 1 953 125 ns exactly; its bucket has index -9 * 32.
    let index = |unit: Unit, value: u64| {
        unit.slot(value)
            .map(|slot| unit.first_index() + slot as i32)
    };
    assert_eq!(index(Unit::Nanoseconds, 1_953_125), Some(-288));
    assert_eq!(index(Unit::Nanoseconds, 1_953_126), Some(-287));
    assert_eq!(index(Unit::Nanoseconds, 1_000_000_000), Some(0));
    assert_eq!(index(Unit::Nanoseconds, 1_000_000_001), Some(1));
    assert_eq!(index(Unit::Packets, 1), Some(0));
    assert_eq!(index(Unit::Packets, 2), Some(32));
    assert_eq!(index(Unit::Packets, 1024), Some(320));
}

#[test]
fn the_ends_are_kept() {
    for unit in [Unit::Nanoseconds, Unit::Packets] {
        assert_eq!(unit.slot(0), None);
        assert_eq!(unit.slot(u64::MAX), Some(SLOTS - 1));
        assert_eq!(unit.slot(unit.highest()), Some(SLOTS - 1));
    }
    assert_eq!(
        Unit::Nanoseconds.slot(3),
        None,
        "3.7 ns is the zero threshold"
    );
    assert_eq!(Unit::Nanoseconds.highest(), 64_000_000_000);
    assert_eq!(Unit::Nanoseconds.zero_threshold(), 2f64.powi(-28));
}

#[test]
fn lookup_equals_a_search_over_all_bounds() {
    let unit = Unit::Nanoseconds;
    let mut value = 1u64;
    while value < 70_000_000_000 {
        let brute = unit
            .table()
            .iter()
            .position(|largest| value <= *largest)
            .map_or(Some(SLOTS - 1), |place| place.checked_sub(1));
        assert_eq!(unit.slot(value), brute, "{value}");
        value = value + value / 97 + 1;
    }
}
