//! A TCP stream whose peer must take what is written within a time.
//!
//! The time runs from the first write that finds the socket full to the flush that finds
//! all written, not from byte to byte: a peer that takes one byte at a time is cut off
//! like one that takes none. hyper has a time-out for reading heads, but none for this.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::places::Turn;

pub(super) struct TimedStream {
    stream: TcpStream,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    asking: Arc<AtomicBool>,
    turn: Arc<Turn>,
}

impl TimedStream {
    pub(super) fn new(stream: TcpStream, limit: Duration, turn: Arc<Turn>) -> Self {
        Self {
            stream,
            limit,
            stalled: None,
            asking: Arc::new(AtomicBool::new(true)),
            turn,
        }
    }

    /// Whether the peer owes the rest of a request: it has sent nothing yet, or something
    /// since the last answer. False on an idle, kept connection. Relaxed: one thread.
    pub(super) fn asking(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asking)
    }

    fn checked(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() || self.stalled.is_some() {
            let limit = self.limit;
            let timer = self
                .stalled
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        if written.is_ready() {
            self.asking.store(false, Relaxed);
            self.turn.written();
        }
        written
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.asking.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.checked(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.checked(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes only what it has written out wholly.
        self.stalled = None;
        self.turn.flushed();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
