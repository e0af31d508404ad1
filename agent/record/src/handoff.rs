//! Full buffers for empty ones: how a worker hands what it recorded to the publisher.
//!
//! A fixed number of boxes circulates over two rtrb rings. The worker owns one box at all
//! times and exchanges it only when an empty one waits, so it never waits and never
//! allocates or frees; if the publisher is late, the worker goes on in the same box and
//! nothing is lost. Each box is in exactly one place, so nothing is counted twice.
//! [`Writer::finish`] gives the last box away. Both rings hold all boxes: no push fails.

/// The worker's end; derefs to the buffer that is being filled.
#[derive(Debug)]
pub struct Writer<T> {
    current: Box<T>,
    full: rtrb::Producer<Box<T>>,
    empty: rtrb::Consumer<Box<T>>,
}

/// The publisher's end.
#[derive(Debug)]
pub struct Reader<T> {
    full: rtrb::Consumer<Box<T>>,
    empty: rtrb::Producer<Box<T>>,
}

/// One buffer for the writer and `spares` (at least 1) to exchange; `make` makes them all
/// now.
pub fn pair<T>(spares: usize, mut make: impl FnMut() -> T) -> (Writer<T>, Reader<T>) {
    let boxes = spares.max(1) + 1;
    let (full_in, full_out) = rtrb::RingBuffer::new(boxes);
    let (mut empty_in, empty_out) = rtrb::RingBuffer::new(boxes);
    for _ in 1..boxes {
        // Cannot fail: the ring holds all boxes.
        let _ = empty_in.push(Box::new(make()));
    }
    let writer = Writer {
        current: Box::new(make()),
        full: full_in,
        empty: empty_out,
    };
    let reader = Reader {
        full: full_out,
        empty: empty_in,
    };
    (writer, reader)
}

impl<T> Writer<T> {
    /// Hands the buffer over if an empty one waits; says whether it did. Never waits,
    /// never allocates.
    pub fn exchange(&mut self) -> bool {
        let Ok(empty) = self.empty.pop() else {
            return false;
        };
        let filled = std::mem::replace(&mut self.current, empty);
        match self.full.push(filled) {
            Ok(()) => true,
            // Cannot happen (the ring holds all boxes); if it did, nothing must be lost.
            Err(rtrb::PushError::Full(filled)) => {
                self.current = filled;
                false
            }
        }
    }

    /// Hands the last buffer over.
    pub fn finish(self) {
        let Self {
            current, mut full, ..
        } = self;
        // Cannot fail: the ring holds all boxes.
        let _ = full.push(current);
    }

    /// Whether the reader is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }
}

impl<T> std::ops::Deref for Writer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.current
    }
}

impl<T> std::ops::DerefMut for Writer<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.current
    }
}

impl<T> Reader<T> {
    /// Takes every full buffer that waits; `fold` must leave it empty, for it goes back.
    /// Gives how many there were.
    pub fn take(&mut self, mut fold: impl FnMut(&mut T)) -> usize {
        let mut taken = 0;
        while let Ok(mut buffer) = self.full.pop() {
            fold(&mut buffer);
            taken += 1;
            // Cannot fail: the ring holds all boxes.
            let _ = self.empty.push(buffer);
        }
        taken
    }

    /// Whether the writer has finished (or died). Full buffers may still wait.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_nothing_comes_twice() {
        for spares in [1, 2, 5] {
            let (mut writer, mut reader) = pair(spares, Vec::<u64>::new);
            const LAST: u64 = 200_000;
            let worker = std::thread::spawn(move || {
                let mut exchanges = 0u64;
                for number in 0..LAST {
                    writer.push(number);
                    // Batches of changing length.
                    if number % (1 + number % 37) == 0 {
                        exchanges += u64::from(writer.exchange());
                    }
                }
                writer.finish();
                exchanges
            });
            let mut seen = Vec::new();
            let mut buffers = 0;
            loop {
                let over = reader.is_abandoned();
                buffers += reader.take(|buffer| seen.append(buffer)) as u64;
                if over {
                    break;
                }
                std::thread::yield_now();
            }
            let exchanges = worker.join().expect("the worker ends");
            assert!(seen.iter().copied().eq(0..LAST), "{} values", seen.len());
            assert_eq!(buffers, exchanges + 1);
        }
    }

    #[test]
    fn a_late_reader_costs_no_value() {
        let (mut writer, mut reader) = pair(1, || 0u64);
        for _ in 0..10 {
            *writer += 1;
            writer.exchange();
        }
        // One buffer is out with 1; the other holds the remaining 9.
        let mut taken = Vec::new();
        reader.take(|buffer| taken.push(std::mem::take(buffer)));
        assert_eq!(taken, [1]);
        assert!(writer.exchange());
        reader.take(|buffer| taken.push(std::mem::take(buffer)));
        assert_eq!(taken, [1, 9]);
        *writer += 5;
        writer.finish();
        reader.take(|buffer| taken.push(std::mem::take(buffer)));
        assert_eq!(taken, [1, 9, 5]);
        assert!(reader.is_abandoned());
    }
}
