//! The end of a lane: what leaves goes out in its order, with the time at which it really left,
//! and into the log.
//!
//! Never: a frame that the send call refused and no counter has.

use std::io;

use sys::packet::{FrameBatch, PacketSocket, SEND_BATCH};
use sys::socket::ErrorItem;

use super::{Lane, Leaving, Slot, wall_ns};
use crate::relay::log::{LogWriter, Verdict};

impl Lane {
    /// Sends everything that leaves, in order, and logs it.
    pub(in crate::relay) fn send(
        &mut self,
        batch: &FrameBatch,
        to: &PacketSocket,
        log: &mut LogWriter,
    ) {
        let mut leaving = std::mem::take(&mut self.leaving);
        let mut todo = leaving.as_mut_slice();
        while !todo.is_empty() {
            let count = todo.len().min(SEND_BATCH);
            let (now, later) = todo.split_at_mut(count);
            self.send_some(now, batch, to, log);
            todo = later;
        }
        leaving.clear();
        self.leaving = leaving;
    }

    /// Replaces the clock read before the send by the kernel's stamps, if there is one for
    /// every frame that was accepted: a cold path takes tens of microseconds between the two.
    fn stamp(&mut self, done: &mut [(u64, bool); SEND_BATCH], to: &PacketSocket) {
        let accepted = done.iter().filter(|(_, accepted)| *accepted).count();
        if to.send_stamps(&mut self.stamps).unwrap_or(0) != accepted {
            return;
        }
        let sent = done.iter_mut().filter(|(_, accepted)| *accepted);
        for ((out_ns, _), stamp) in sent.zip(self.stamps.iter()) {
            if let ErrorItem::Stamp {
                kernel: Some(at), ..
            } = stamp
            {
                *out_ns = at.0;
            }
        }
    }

    fn send_some(
        &mut self,
        leaving: &[Leaving],
        batch: &FrameBatch,
        to: &PacketSocket,
        log: &mut LogWriter,
    ) {
        let goes = |entry: &&Leaving| entry.record.is_none_or(|record| record.left());
        let mut frames: [&[u8]; SEND_BATCH] = [&[]; SEND_BATCH];
        let mut count = 0;
        for entry in leaving.iter().filter(goes) {
            frames[count] = match &entry.slot {
                Slot::Batch(i) => batch.get(*i).bytes,
                Slot::Kept(bytes) => bytes,
            };
            count += 1;
        }
        // (when, accepted) by position in `frames`.
        let mut done = [(0, false); SEND_BATCH];
        let mut at = 0;
        let mut patience = 1_000;
        while at < count {
            let now_ns = wall_ns();
            match to.send(&frames[at..count]) {
                Ok(sent) => {
                    done[at..at + sent].fill((now_ns, true));
                    at += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                    patience -= 1;
                    std::thread::yield_now();
                }
                Err(_) => at += 1,
            }
        }
        self.stamp(&mut done, to);
        let mut done = done.iter();
        for entry in leaving {
            let mut record = entry.record;
            if goes(&entry) {
                let &(out_ns, accepted) = done.next().unwrap_or(&(0, false));
                self.totals.sent += u64::from(accepted);
                self.totals.refused += u64::from(!accepted);
                if let Some(record) = &mut record {
                    record.out_ns = out_ns;
                    if accepted {
                        record.out_order = self.next_order;
                        self.next_order += 1;
                    } else {
                        record.verdict = Verdict::Refused;
                    }
                }
            }
            if let Some(record) = record {
                log.push(record);
            }
        }
    }
}
