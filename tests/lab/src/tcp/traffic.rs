//! Clients and servers on real sockets: bulk, short connections, and readers that are slow.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::Stack;
use crate::host::Host;

/// No call lasts longer; a run that does is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// Connections at the same time, each of which sends so many bytes.
    Bulk {
        /// How many.
        flows: u32,
        /// From the client, each.
        bytes: u64,
        /// From the server, each, at the same time.
        reverse_bytes: u64,
    },
    /// Connections of one request and one response.
    Short {
        /// How many in all.
        connections: u32,
        /// How many at a time.
        at_once: u32,
        /// Bytes of a request; connection `n` sends `n % 7` times as many more.
        request: usize,
        /// Bytes of a response; likewise by `n % 11`.
        response: usize,
    },
    /// One connection whose reader takes so much and pauses, again and again.
    SlowReader {
        /// Sent by the client.
        bytes: u64,
        /// Read at a time.
        chunk: usize,
        /// Between two reads.
        pause: Duration,
    },
    /// One connection: the client sends until the window is closed and stays closed for
    /// `closed`; the server reads all, answers, and both are idle for `idle` while keep-alives
    /// go each second; then it ends.
    StopAndIdle {
        /// Sent by the client.
        bytes: u64,
        /// How long nothing is read.
        closed: Duration,
        /// How long nothing is sent.
        idle: Duration,
    },
}

impl Traffic {
    fn connections(&self) -> u32 {
        match self {
            Self::Bulk { flows, .. } => *flows,
            Self::Short { connections, .. } => *connections,
            Self::SlowReader { .. } | Self::StopAndIdle { .. } => 1,
        }
    }

    fn at_once(&self) -> u32 {
        match self {
            Self::Short { at_once, .. } => *at_once,
            _ => self.connections(),
        }
    }

    /// Sends it all; returns when every connection has ended.
    ///
    /// # Errors
    /// When a connection fails or hangs.
    pub fn run(&self, client: &Host, server: &Host, to: SocketAddr, stack: Stack) -> Result<()> {
        let listener = server.namespace().run(|| listen(to, stack))??;
        let (served, opened) = (AtomicU32::new(0), AtomicU32::new(0));
        let total = self.connections();
        let next = |counter: &AtomicU32| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            (number < total).then_some(number)
        };
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for _ in 0..self.at_once() {
                workers.push(scope.spawn(|| -> Result<()> {
                    while next(&served).is_some() {
                        let stream = accept(&listener)?;
                        self.serve(&stream).context("server")?;
                    }
                    Ok(())
                }));
                workers.push(scope.spawn(|| -> Result<()> {
                    // A thread's namespace is its own, and ends with the thread.
                    client.namespace().run(|| -> Result<()> {
                        while let Some(number) = next(&opened) {
                            let stream = connect(to, stack, self.keeps_alive())?;
                            self.ask(&stream, number).context("client")?;
                        }
                        Ok(())
                    })?
                }));
            }
            for worker in workers {
                match worker.join() {
                    Ok(result) => result?,
                    Err(_) => bail!("a worker panicked"),
                }
            }
            Ok(())
        })
    }

    const fn keeps_alive(&self) -> bool {
        matches!(self, Self::StopAndIdle { .. })
    }

    fn ask(&self, stream: &TcpStream, number: u32) -> Result<()> {
        match *self {
            Self::Bulk { bytes, .. } => thread::scope(|scope| {
                let sending = scope.spawn(|| send(stream, bytes));
                drain(stream)?;
                sending
                    .join()
                    .unwrap_or_else(|_| bail!("a sender panicked"))
            }),
            Self::Short { request, .. } => {
                send(stream, (request * (1 + number as usize % 7)) as u64)?;
                drain(stream)
            }
            Self::SlowReader { bytes, .. } => {
                send(stream, bytes)?;
                drain(stream)
            }
            Self::StopAndIdle { bytes, idle, .. } => {
                stream.set_nodelay(true)?;
                write_all(stream, bytes)?;
                take(stream, 1)?;
                thread::sleep(idle);
                stream.shutdown(Shutdown::Write)?;
                drain(stream)
            }
        }
    }

    fn serve(&self, stream: &TcpStream) -> Result<()> {
        match *self {
            Self::Bulk { reverse_bytes, .. } => thread::scope(|scope| {
                let sending = scope.spawn(|| send(stream, reverse_bytes));
                drain(stream)?;
                sending
                    .join()
                    .unwrap_or_else(|_| bail!("a sender panicked"))
            }),
            Self::Short { response, .. } => {
                let asked = count(stream)?;
                send(stream, (response as u64) * (1 + asked % 11))
            }
            Self::SlowReader { chunk, pause, .. } => {
                let mut buffer = vec![0; chunk];
                while read(stream, &mut buffer)? > 0 {
                    thread::sleep(pause);
                }
                Ok(())
            }
            Self::StopAndIdle { bytes, closed, .. } => {
                thread::sleep(closed);
                take(stream, bytes)?;
                write_all(stream, 1)?;
                drain(stream)
            }
        }
    }
}

fn socket(stack: Stack) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket
        .set_tcp_congestion(stack.congestion.as_bytes())
        .with_context(|| format!("congestion control {}", stack.congestion))?;
    Ok(socket)
}

fn listen(at: SocketAddr, stack: Stack) -> Result<Socket> {
    let socket = socket(stack)?;
    socket.set_reuse_address(true)?;
    if let Some(bytes) = stack.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    // Accept ends by it too.
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&SockAddr::from(at))?;
    socket.listen(4_096)?;
    Ok(socket)
}

fn accept(listener: &Socket) -> Result<TcpStream> {
    // Through the std type, so that the stream is one.
    let listener = TcpListener::from(listener.try_clone()?);
    let (stream, _) = again(|| listener.accept()).context("accept")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect(to: SocketAddr, stack: Stack, keep_alive: bool) -> Result<TcpStream> {
    let socket = socket(stack)?;
    if keep_alive {
        let second = Duration::from_secs(1);
        let every = TcpKeepalive::new().with_time(second).with_interval(second);
        socket.set_tcp_keepalive(&every)?;
    }
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::from(to)).context("connect")?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn write_all(mut stream: &TcpStream, bytes: u64) -> Result<()> {
    let buffer = [0x5a; 16_384];
    let mut left = bytes;
    while left > 0 {
        let size = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        stream.write_all(&buffer[..size])?;
        left -= size as u64;
    }
    Ok(())
}

fn send(stream: &TcpStream, bytes: u64) -> Result<()> {
    write_all(stream, bytes)?;
    match stream.shutdown(Shutdown::Write) {
        // The other end may be quite through already.
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        other => Ok(other?),
    }
}

/// With a time-out of the socket a signal ends a call, whoever it is for (signal(7)).
fn again<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    again(|| stream.read(buffer))
}

fn count(stream: &TcpStream) -> Result<u64> {
    let mut buffer = vec![0; 65_536];
    let mut all = 0;
    loop {
        match read(stream, &mut buffer)? {
            0 => return Ok(all),
            more => all += more as u64,
        }
    }
}

fn drain(stream: &TcpStream) -> Result<()> {
    count(stream).map(drop)
}

fn take(stream: &TcpStream, bytes: u64) -> Result<()> {
    let mut buffer = vec![0; 65_536];
    let mut left = bytes;
    while left > 0 {
        let size = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        match read(stream, &mut buffer[..size])? {
            0 => bail!("the other end closed with {left} bytes to come"),
            more => left -= more as u64,
        }
    }
    Ok(())
}
