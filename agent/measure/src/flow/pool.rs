//! Segments that were seen and not yet acknowledged, of all flows: one bounded pool of list
//! cells, 24 octets each.
//!
//! A list is in sequence order, without overlap; what lies between two cells was not seen and
//! is a cell of its own, a hole. Lists are circular and named by their tail, so that both
//! ends are one step away.

use base::memory::filled;
use base::{Memory, WallNanos};

use super::time::Short;

/// A range of sequence numbers of one direction.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Cell {
    /// The first octet.
    pub(crate) first: u32,
    /// Behind the last octet.
    pub(crate) end: u32,
    /// TSval of the latest transmission.
    pub(crate) tsval: u32,
    next: u32,
    /// The latest transmission; for a hole, when it was noticed.
    pub(crate) at: Short,
    /// How often it was sent again; saturates.
    pub(crate) repeats: u8,
    /// `Cell::HOLE` and the like.
    pub(crate) flags: u8,
}

impl Cell {
    /// Not seen (yet).
    pub(crate) const HOLE: u8 = 1;
    /// The first segment that carried its TSval.
    pub(crate) const FIRST_OF_TICK: u8 = 1 << 1;
    /// Something before it was sent again after it was: its ACK would be late by a recovery.
    pub(crate) const AFTER_LOSS: u8 = 1 << 2;
    /// Filled a hole: it came late.
    pub(crate) const FILLED: u8 = 1 << 3;
    /// A SYN whose answer will be a round-trip time of the handshake.
    pub(crate) const SYN: u8 = 1 << 4;
    /// Cut off behind another one: not the beginning of a segment.
    pub(crate) const REST: u8 = 1 << 5;

    #[inline]
    pub(crate) const fn new(first: u32, end: u32, at: WallNanos, tsval: u32, flags: u8) -> Self {
        Self {
            first,
            end,
            tsval,
            next: NONE,
            at: Short::of(at),
            repeats: 0,
            flags,
        }
    }

    /// The same transmission, another range.
    pub(crate) const fn part(self, first: u32, end: u32, flags: u8) -> Self {
        Self {
            first,
            end,
            flags,
            next: NONE,
            ..self
        }
    }

    #[inline]
    pub(crate) const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sent once, with nothing amiss before it.
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        self.repeats == 0 && self.flags & !Self::FIRST_OF_TICK == 0
    }
}

const _: () = assert!(size_of::<Cell>() == 24);

/// A list of cells: the number of its tail.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct List(u32);

const NONE: u32 = u32::MAX;

impl List {
    pub(crate) const EMPTY: Self = Self(NONE);

    #[inline]
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == NONE
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    cells: Box<[Cell]>,
    free: u32,
    used: u32,
    /// From here on a list that grows gives its own head away.
    tight: u32,
    /// Cells that were wanted and not to be had, or given away for want of room.
    pub(crate) exhausted: u64,
}

impl Pool {
    /// So many cells, allocated now.
    pub(crate) fn new(capacity: u32, memory: &impl Memory) -> Self {
        let capacity = capacity.clamp(16, NONE - 1);
        let mut cells = filled(memory, capacity as usize, Cell::default());
        let mut free = NONE;
        for at in (0..capacity).rev() {
            cells[at as usize].next = free;
            free = at;
        }
        Self {
            cells,
            free,
            used: 0,
            tight: capacity - capacity / 8,
            exhausted: 0,
        }
    }

    #[cfg(test)]
    pub(crate) const fn used(&self) -> u32 {
        self.used
    }

    #[inline]
    fn cell(&self, at: u32) -> &Cell {
        &self.cells[at as usize]
    }

    /// The oldest of a list.
    #[cfg(test)]
    pub(crate) fn head(&self, list: List) -> Option<&Cell> {
        let tail = self.cells.get(list.0 as usize)?;
        self.cells.get(tail.next as usize)
    }

    /// Begins to load what the next segment and the next ACK of a list will need.
    #[inline]
    pub(crate) fn fetch(&self, list: List, memory: &impl Memory) {
        if let Some(tail) = self.cells.get(list.0 as usize) {
            memory.fetch(tail);
        }
    }

    fn take(&mut self, cell: Cell) -> Option<u32> {
        let at = self.free;
        let Some(place) = self.cells.get_mut(at as usize) else {
            self.exhausted += 1;
            return None;
        };
        self.free = place.next;
        *place = cell;
        self.used += 1;
        Some(at)
    }

    #[inline]
    fn give(&mut self, at: u32) {
        self.cells[at as usize].next = self.free;
        self.free = at;
        self.used -= 1;
    }

    /// Appends; when room gets short the list's oldest goes first (counted), when there is
    /// none the new one is not kept (counted).
    ///
    /// Part of the loop over frames: a cell that went through memory would be written in
    /// halves and read back whole, for which a processor waits until all halves are written.
    #[inline(always)]
    pub(crate) fn push(&mut self, list: &mut List, cell: Cell) {
        if self.used >= self.tight && !list.is_empty() {
            self.give_oldest(list);
        }
        let at = self.free;
        let Some(place) = self.cells.get_mut(at as usize) else {
            self.exhausted += 1;
            return;
        };
        self.free = place.next;
        self.used += 1;
        // A list of one is its own head.
        *place = Cell { next: at, ..cell };
        if let Some(tail) = self.cells.get_mut(list.0 as usize) {
            let head = std::mem::replace(&mut tail.next, at);
            self.cells[at as usize].next = head;
        }
        list.0 = at;
    }

    #[cold]
    fn give_oldest(&mut self, list: &mut List) {
        self.exhausted += 1;
        self.pop(list);
    }

    /// Takes the oldest out.
    #[inline]
    pub(crate) fn pop(&mut self, list: &mut List) -> Option<Cell> {
        if list.is_empty() {
            return None;
        }
        let head = self.cell(list.0).next;
        let cell = *self.cell(head);
        if head == list.0 {
            *list = List::EMPTY;
        } else {
            self.cells[list.0 as usize].next = cell.next;
        }
        self.give(head);
        Some(cell)
    }

    /// Takes out what ends at or before `ack`, in order, and shows each; a cell that `ack` divides
    /// keeps its rest.
    #[inline]
    pub(crate) fn acknowledge(&mut self, list: &mut List, ack: u32, mut each: impl FnMut(&Cell)) {
        if list.is_empty() {
            return;
        }
        let head = self.cell(list.0).next;
        let (mut at, mut last, mut taken) = (head, NONE, 0);
        loop {
            let cell = &mut self.cells[at as usize];
            if !before(cell.first, ack) {
                break;
            }
            if before(ack, cell.end) {
                cell.first = ack;
                break;
            }
            each(cell);
            last = at;
            taken += 1;
            if at == list.0 {
                break;
            }
            at = cell.next;
        }
        if taken == 0 {
            return;
        }
        // Give them back as the chain that they are.
        let next = std::mem::replace(&mut self.cells[last as usize].next, self.free);
        self.free = head;
        self.used -= taken;
        if last == list.0 {
            *list = List::EMPTY;
        } else {
            self.cells[list.0 as usize].next = next;
        }
    }

    /// Visits the cells in order; they may be changed but for their order.
    pub(crate) fn walk(&mut self, list: List, mut each: impl FnMut(&mut Cell)) {
        if list.is_empty() {
            return;
        }
        let mut at = self.cell(list.0).next;
        loop {
            let last = at == list.0;
            let cell = &mut self.cells[at as usize];
            let next = cell.next;
            each(cell);
            if last {
                return;
            }
            at = next;
        }
    }

    /// Splits the cell that holds `seq` in its middle there, so that a cell begins at `seq`.
    /// Says whether one does now.
    pub(crate) fn split(&mut self, list: &mut List, seq: u32) -> bool {
        if list.is_empty() {
            return false;
        }
        let mut at = self.cell(list.0).next;
        loop {
            let cell = *self.cell(at);
            if cell.first == seq {
                return true;
            }
            if before(cell.first, seq) && before(seq, cell.end) {
                let rest = Cell {
                    first: seq,
                    flags: cell.flags & !Cell::SYN | Cell::REST,
                    ..cell
                };
                let Some(new) = self.take(rest) else {
                    return false;
                };
                // `rest` has the old cell's successor already; a circle of one needs its own.
                self.cells[at as usize].end = seq;
                self.cells[at as usize].next = new;
                if at == list.0 {
                    list.0 = new;
                }
                return true;
            }
            if at == list.0 || before(seq, cell.first) {
                return false;
            }
            at = cell.next;
        }
    }
}

/// Sequence comparison modulo 2^32 (RFC 9293 section 3.4).
#[inline]
pub(crate) const fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(first: u32, end: u32) -> Cell {
        Cell::new(first, end, WallNanos(0), 0, 0)
    }

    fn ranges(pool: &mut Pool, list: List) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        pool.walk(list, |cell| {
            found.push((cell.first, cell.end));
        });
        found
    }

    #[test]
    fn a_list_is_a_queue_and_gives_its_cells_back() {
        let mut pool = Pool::new(64, &base::PlainMemory);
        let (mut a, mut b) = (List::EMPTY, List::EMPTY);
        for round in 0..10 {
            for n in 0..12 {
                pool.push(&mut a, cell(n, n + 1));
                pool.push(&mut b, cell(100 + n, 101 + n));
            }
            assert_eq!(pool.used(), 24, "round {round}");
            let firsts = std::iter::from_fn(|| pool.pop(&mut a)).map(|cell| cell.first);
            assert!(firsts.eq(0..12));
            while pool.pop(&mut b).is_some() {}
            assert_eq!((pool.used(), pool.exhausted), (0, 0));
        }
    }

    #[test]
    fn a_full_pool_counts_and_takes_from_the_list_that_grows() {
        let mut pool = Pool::new(16, &base::PlainMemory);
        let (mut greedy, mut other) = (List::EMPTY, List::EMPTY);
        for n in 0..100 {
            pool.push(&mut greedy, cell(n, n + 1));
        }
        assert_eq!(pool.used(), 14);
        assert_eq!(pool.exhausted, 86);
        assert_eq!(pool.head(greedy).map(|cell| cell.first), Some(86));
        // Another list still gets its first cell.
        pool.push(&mut other, cell(1, 2));
        assert!(!other.is_empty());
    }

    #[test]
    fn splitting_keeps_order_and_circle() {
        let mut pool = Pool::new(16, &base::PlainMemory);
        let mut list = List::EMPTY;
        pool.push(&mut list, cell(10, 20));
        assert!(pool.split(&mut list, 15));
        assert!(pool.split(&mut list, 12));
        assert!(pool.split(&mut list, 15));
        assert!(!pool.split(&mut list, 20));
        assert!(!pool.split(&mut list, 5));
        pool.push(&mut list, cell(20, 30));
        assert_eq!(
            ranges(&mut pool, list),
            [(10, 12), (12, 15), (15, 20), (20, 30)]
        );
        let firsts: Vec<_> = std::iter::from_fn(|| pool.pop(&mut list))
            .map(|c| c.first)
            .collect();
        assert_eq!(firsts, [10, 12, 15, 20]);
    }
}
