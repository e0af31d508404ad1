//! What the endpoint counts of itself. Relaxed atomics: statistics that order nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a client did not get what it asked for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// `accept()` failed.
    Accept,
    /// All places were taken by connections that were being served.
    TooManyConnections,
    /// It had sent no request when all places were taken and another connection came.
    Evicted,
    /// The head of a request did not arrive in time.
    HeaderTimeout,
    /// The response was not taken in time.
    WriteTimeout,
    /// Not HTTP, or a head that is too long.
    BadRequest,
    /// The connection broke.
    Connection,
    /// A snapshot could not be encoded.
    Encode,
}

impl Failure {
    /// All, in the order of the counters.
    pub const ALL: &'static [Self] = &[
        Self::Accept,
        Self::TooManyConnections,
        Self::Evicted,
        Self::HeaderTimeout,
        Self::WriteTimeout,
        Self::BadRequest,
        Self::Connection,
        Self::Encode,
    ];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::TooManyConnections => "too_many_connections",
            Self::Evicted => "evicted",
            Self::HeaderTimeout => "header_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::BadRequest => "bad_request",
            Self::Connection => "connection",
            Self::Encode => "encode",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct ExportStats {
    text: AtomicU64,
    protobuf: AtomicU64,
    failures: [AtomicU64; Failure::ALL.len()],
    last_encode_ns: AtomicU64,
}

impl ExportStats {
    /// Scrapes answered as text.
    #[must_use]
    pub fn text(&self) -> u64 {
        self.text.load(Relaxed)
    }

    /// Scrapes answered as protobuf.
    #[must_use]
    pub fn protobuf(&self) -> u64 {
        self.protobuf.load(Relaxed)
    }

    /// Failures of a kind.
    #[must_use]
    pub fn failures(&self, failure: Failure) -> u64 {
        self.failures[failure as usize].load(Relaxed)
    }

    /// How long the last encoding took.
    #[must_use]
    pub fn last_encode_ns(&self) -> u64 {
        self.last_encode_ns.load(Relaxed)
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn scraped(&self, format: crate::encode::Format) {
        match format {
            crate::encode::Format::Text => &self.text,
            crate::encode::Format::Protobuf => &self.protobuf,
        }
        .fetch_add(1, Relaxed);
    }

    pub(super) fn encoded(&self, took: std::time::Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.last_encode_ns.store(ns, Relaxed);
    }
}
