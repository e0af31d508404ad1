//! The reflector's sessions: a table of fixed size that refuses rather than evicts, since
//! an evicted session's number falls back and looks like loss to its sender.

use std::net::IpAddr;

use base::MonoNanos;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use super::window::Window;

/// A session by RFC 8972 section 3: addresses, ports and SSID.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Where the sender is.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
    /// The address that was probed.
    pub local: IpAddr,
    /// The port that was probed.
    pub local_port: u16,
    /// Session identifier, 0 if the sender uses none.
    pub ssid: u16,
}

/// What is kept of a session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    key: Key,
    last: MonoNanos,
    /// Number of the next reply.
    pub(super) next_reply: u32,
    pub(super) epoch: u32,
    pub(super) distinct: u32,
    pub(super) duplicates: u32,
    pub(super) out_of_order: u32,
    pub(super) rate_limited: u32,
    pub(super) uncounted: u32,
    pub(super) overflow_base: u32,
    pub(super) window: Window,
    /// T1 of the highest number: a lower number with a later T1 is a restart.
    pub(super) highest_t1: u64,
    pub(super) bucket: crate::rate::Bucket,
}

/// Sessions by key; memory is taken as sessions come, up to the limit, and then kept.
#[derive(Debug)]
pub(super) struct Table {
    index: HashTable<u32>,
    sessions: Vec<Session>,
    free: Vec<u32>,
    limit: usize,
    hasher: RandomState,
    swept: MonoNanos,
    sweep_at: usize,
}

impl Table {
    pub(super) fn new(limit: u32) -> Self {
        let limit = limit as usize;
        Self {
            index: HashTable::with_capacity(limit),
            sessions: Vec::with_capacity(limit),
            free: Vec::with_capacity(limit),
            limit,
            hasher: RandomState::default(),
            swept: MonoNanos(0),
            sweep_at: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The session, if there is one. `None` for `make` says: do not begin one.
    pub(super) fn session(
        &mut self,
        key: Key,
        now: MonoNanos,
        epoch: u32,
        overflow: u32,
    ) -> Option<(&mut Session, bool)> {
        let hash = self.hasher.hash_one(key);
        let sessions = &self.sessions;
        let found = self
            .index
            .find(hash, |slot| sessions[*slot as usize].key == key)
            .copied();
        let (slot, fresh) = match found {
            Some(slot) => (slot, false),
            None => (self.insert(key, hash, epoch, overflow)?, true),
        };
        let session = &mut self.sessions[slot as usize];
        session.last = now;
        Some((session, fresh))
    }

    fn insert(&mut self, key: Key, hash: u64, epoch: u32, overflow: u32) -> Option<u32> {
        let session = Session {
            key,
            last: MonoNanos(0),
            next_reply: 0,
            epoch,
            distinct: 0,
            duplicates: 0,
            out_of_order: 0,
            rate_limited: 0,
            uncounted: 0,
            overflow_base: overflow,
            window: Window::default(),
            highest_t1: 0,
            bucket: crate::rate::Bucket::default(),
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.sessions[slot as usize] = session;
            slot
        } else {
            if self.sessions.len() == self.limit {
                return None;
            }
            self.sessions.push(session);
            u32::try_from(self.sessions.len() - 1).ok()?
        };
        let (sessions, hasher) = (&self.sessions, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            hasher.hash_one(sessions[*slot as usize].key)
        });
        Some(slot)
    }

    /// Ends sessions idle for `idle_ns`: with each call the share of the table that the time
    /// since the last one is of a second.
    pub(super) fn sweep(&mut self, now: MonoNanos, idle_ns: u64) -> u64 {
        let elapsed = now.since(self.swept).min(1_000_000_000);
        if elapsed < 10_000_000 || self.index.is_empty() {
            return 0;
        }
        self.swept = now;
        let share = self.sessions.len() as u64 * elapsed;
        let slice = share.div_ceil(1_000_000_000);
        let mut ended = 0;
        for _ in 0..slice {
            self.sweep_at = (self.sweep_at + 1) % self.sessions.len();
            let session = &self.sessions[self.sweep_at];
            if now.since(session.last) < idle_ns {
                continue;
            }
            let hash = self.hasher.hash_one(session.key);
            let at = self.sweep_at;
            if let Ok(entry) = self.index.find_entry(hash, |slot| *slot as usize == at) {
                let (slot, _) = entry.remove();
                self.free.push(slot);
                ended += 1;
            }
        }
        ended
    }
}
