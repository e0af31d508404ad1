//! The smallest HTTP/1.1 client that does: one GET, one answer, two seconds, 64 MiB.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure};

const PATIENCE: Duration = Duration::from_secs(2);
const MOST: usize = 64 << 20;

/// The body of `path`.
///
/// # Errors
/// When nobody answers, or not with 200: one line, with the way out.
pub fn get(address: SocketAddr, path: &str) -> Result<Vec<u8>, Failure> {
    let end = Instant::now() + PATIENCE;
    let unreachable = |error: &std::io::Error| failure(address, error);
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| unreachable(&error))?;
    stream
        .set_write_timeout(Some(PATIENCE))
        .map_err(|error| unreachable(&error))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: application/json\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .map_err(|error| unreachable(&error))?;
    let mut all = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        // A time-out per read would let a dripping server hold us for ever.
        let left = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        stream
            .set_read_timeout(Some(left))
            .map_err(|error| unreachable(&error))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(len) => all.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreachable(&error)),
        }
        if all.len() > MOST || Instant::now() >= end {
            return Err(unreachable(&ErrorKind::TimedOut.into()));
        }
    }
    if all.is_empty() {
        return Err(silent(address));
    }
    body(&all).map_err(|why| {
        Failure::new(
            Exit::NoAnswer,
            format!("{address} answers, but not as netsonde does ({why}); is --address right?"),
        )
    })
}

fn failure(address: SocketAddr, error: &std::io::Error) -> Failure {
    let (exit, text) = match error.kind() {
        ErrorKind::ConnectionRefused => (
            Exit::NoAnswer,
            "nobody listens there; is the agent running? (systemctl status netsonde, or --address)"
                .to_owned(),
        ),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => (
            Exit::NoAnswer,
            "no answer within 2 s; the agent is stuck, or a firewall is between".to_owned(),
        ),
        // Closed while we asked, or before the answer's first byte.
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return silent(address),
        ErrorKind::PermissionDenied => (Exit::Privilege, "not permitted".to_owned()),
        _ => (Exit::NoAnswer, format!("{error}; is the agent running?")),
    };
    Failure::new(exit, format!("cannot ask the agent at {address}: {text}"))
}

/// Somebody accepted and closed without a word: our agent does so to a connection too many.
fn silent(address: SocketAddr) -> Failure {
    Failure::new(
        Exit::NoAnswer,
        format!(
            "cannot ask the agent at {address}: it closed the connection without an answer; \
             it has no connection to spare, or is stopping: try again"
        ),
    )
}

/// The body of a whole answer that was closed by the server.
fn body(answer: &[u8]) -> Result<Vec<u8>, String> {
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .ok_or("no HTTP answer")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let rest = &answer[end + 4..];
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or("");
    if !head.starts_with("http/1.") || status != "200" {
        return Err(format!("status '{status}'"));
    }
    let field = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| (key == name).then(|| value.trim().to_owned()))
    };
    if field("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return chunks(rest);
    }
    match field("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if rest.len() < length => Err("it broke off".to_owned()),
        Some(length) => Ok(rest[..length].to_vec()),
        None => Ok(rest.to_vec()),
    }
}

/// RFC 9112 section 7.1: chunks of a hexadecimal size, the last of size 0.
fn chunks(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let broken = || "it broke off".to_owned();
    let mut body = Vec::new();
    loop {
        let line = rest
            .windows(2)
            .position(|bytes| bytes == b"\r\n")
            .ok_or_else(broken)?;
        let size = std::str::from_utf8(&rest[..line]).map_err(|_| broken())?;
        let size = size.split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken())?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(..size).ok_or_else(broken)?;
        body.extend_from_slice(chunk);
        rest = rest[size..].strip_prefix(b"\r\n").ok_or_else(broken)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn bodies_by_length_by_chunks_and_by_the_end() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "{}"),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "{}"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
                "abcd",
            ),
        ] {
            assert_eq!(body(answer.as_bytes()), Ok(expected.as_bytes().to_vec()));
        }
        for (answer, words) in [
            ("", "no HTTP answer"),
            ("SSH-2.0-x\r\n\r\n", "status"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "status '404'"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
                "broke off",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
                "broke off",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab",
                "broke off",
            ),
        ] {
            let error = body(answer.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{answer:?}: {error}");
        }
    }

    #[test]
    fn nobody_there_and_nobody_answering() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The kernel accepts for the listener, which never answers.
        let error = get(address, "/").unwrap_err();
        assert_eq!(error.exit, Exit::NoAnswer);
        assert!(error.message.contains("no answer within 2 s"), "{error}");
        drop(listener);
        let error = get(address, "/").unwrap_err();
        assert!(error.message.contains("is the agent running?"), "{error}");
        assert!(error.message.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_closed_connection_is_no_wrong_address() {
        for (answer, words) in [
            (&b""[..], "closed the connection without an answer"),
            (b"SSH-2.0-x\r\n", "is --address right?"),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "is --address right?"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // Read first: a close with unread bytes is a reset, see below.
                let mut request = [0; 1024];
                assert_ne!(stream.read(&mut request).unwrap(), 0);
                stream.write_all(answer).unwrap();
            });
            let error = get(address, "/").unwrap_err();
            server.join().unwrap();
            assert_eq!(error.exit, Exit::NoAnswer);
            assert!(error.message.contains(words), "{error}");
            assert_eq!(
                error.message.contains("--address"),
                !answer.is_empty(),
                "{error}"
            );
        }
        let address = "127.0.0.1:1".parse().unwrap();
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe] {
            let error = failure(address, &kind.into());
            assert!(error.message.contains("without an answer"), "{error}");
        }
    }

    #[test]
    fn a_whole_exchange() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let len = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        assert_eq!(get(address, "/api/v1/status").unwrap(), b"ok");
        let request = server.join().unwrap();
        assert!(
            request.starts_with("GET /api/v1/status HTTP/1.1\r\n"),
            "{request}"
        );
    }
}
