//! What the machine can do for big tables, for code that may not ask it itself.

use std::mem::MaybeUninit;

/// Advice about memory; none of it changes what a program computes.
///
/// The estimators know which record they will need soon; only unsafe code can tell the
/// processor. So they are handed this.
pub trait Memory {
    /// Begins to load all cache lines of a value, and does not wait for them.
    fn fetch<T>(&self, value: &T);

    /// Asks for huge pages under memory that is about to be filled.
    fn prefer_huge_pages<T>(&self, room: &mut [MaybeUninit<T>]);
}

/// Leaves it to the machine.
#[derive(Copy, Clone, Default, Debug)]
pub struct PlainMemory;

impl Memory for PlainMemory {
    #[inline]
    fn fetch<T>(&self, _value: &T) {}

    fn prefer_huge_pages<T>(&self, _room: &mut [MaybeUninit<T>]) {}
}

/// So many values, allocated at once, with huge pages if the memory has them.
pub fn filled<T: Clone, M: Memory>(memory: &M, count: usize, value: T) -> Box<[T]> {
    let mut values = Vec::with_capacity(count);
    memory.prefer_huge_pages(values.spare_capacity_mut());
    values.resize(count, value);
    values.into_boxed_slice()
}
