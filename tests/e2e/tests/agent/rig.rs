//! A running agent of a test: its folder, its process, its log and its HTTP.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A folder that goes with its test, and a loopback address that no other test has.
pub(crate) struct Place {
    folder: PathBuf,
    /// An address of this test alone.
    pub(crate) address: String,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let folder = std::env::temp_dir().join(format!("netsonde-agent-{process}-{number}"));
        std::fs::create_dir_all(folder.join("conf.d"))?;
        // Other users must get in: the agent may become one.
        open_to_all(&folder)?;
        let [_, _, high, low] = process.to_be_bytes();
        Ok(Self {
            folder,
            address: format!("127.{}.{low}.{number}", high.max(1)),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A configuration that listens on a free port, keeps its state here and stays root.
    pub(crate) fn configure(&self, rest: &str) -> Result<PathBuf> {
        let state = self.path("state");
        std::fs::create_dir_all(&state)?;
        open_to_all(&state)?;
        let head = "[agent]\nlisten = \"127.0.0.1:0\"\n";
        let text = format!("{head}state_directory = {state:?}\n{rest}");
        let path = self.path("netsonde.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// A reflector of this test's own, and a probe at it.
    pub(crate) fn reflector_and_probe(&self) -> String {
        let address = &self.address;
        format!(
            "user = \"\"\n[reflector]\nlisten = [\"{address}:18620\"]\n[[probe]]\nname = \"self\"\n\
             targets = [\"{address}\"]\nprotocol = \"stamp\"\nport = 18620\ninterval = \"20ms\"\n"
        )
    }
}

fn open_to_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777))?;
    Ok(())
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Result<Output> {
    let mut child = Command::new(netsonde_e2e::netsonde()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Read while it runs: it would wait for ever before a full pipe.
    let stdout = drain(child.stdout.take().context("no standard output")?);
    let stderr = drain(child.stderr.take().context("no standard error")?);
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("{arguments:?} did not end");
        }
        std::thread::sleep(LOOK);
    };
    let read = |pipe: Drain| pipe.join().ok().context("a reader panicked");
    Ok(Output {
        status,
        stdout: read(stdout)??,
        stderr: read(stderr)??,
    })
}

type Drain = JoinHandle<std::io::Result<Vec<u8>>>;

/// Reads a pipe to its end in a thread of its own.
fn drain(mut pipe: impl Read + Send + 'static) -> Drain {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text)?;
        Ok(text)
    })
}

/// A run that must fail: its exit code and its one line.
pub(crate) fn failure(arguments: &[&str]) -> Result<(i32, String)> {
    let output = run(arguments)?;
    let text = String::from_utf8(output.stderr)?;
    // Warnings of the log may stand before the one line of the failure.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("netsonde: "))
        .collect();
    ensure!(lines.len() == 1, "one line of failure: {text:?}");
    let code = output.status.code().context("it was killed")?;
    Ok((code, lines[0].to_owned()))
}

/// See the module. Killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
    /// Lines of `seen` that were waited for already.
    passed: usize,
    /// Where its API is.
    pub(crate) api: SocketAddr,
}

impl Agent {
    /// Starts with a configuration file and waits until it says that it runs.
    pub(crate) fn start(
        config: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut child = Command::new(netsonde_e2e::netsonde()?)
            .args(["agent", "--config"])
            .arg(config)
            .args(arguments)
            .env_remove("STATE_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut agent = Self {
            child,
            log,
            seen: Vec::new(),
            passed: 0,
            api: SocketAddr::from(([0; 4], 0)),
        };
        let started = agent.logged("INFO started listen=")?;
        let listen = started.split('"').nth(1).context("no address in the log")?;
        agent.api = listen.parse()?;
        // What was said before that can still be waited for.
        agent.passed = 0;
        Ok(agent)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log that holds `words`.
    pub(crate) fn logged(&mut self, words: &str) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(line) = self.seen.get(self.passed) {
                self.passed += 1;
                if line.contains(words) {
                    return Ok(line.clone());
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                bail!("no '{words}' in the log: {:#?}", self.seen);
            };
            self.seen.push(line);
        }
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        signal(self.pid(), name)
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.end()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        until("the end of the agent", || Ok(self.child.try_wait()?))
    }

    pub(crate) fn get(&self, path: &str) -> Result<(u16, String)> {
        get(self.api, path)
    }

    pub(crate) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/api/v1/status")?.1)?)
    }

    /// The value of a metric whose line begins like this.
    pub(crate) fn metric(&self, start: &str) -> Result<Option<f64>> {
        let (_, text) = self.get("/metrics")?;
        let value = text
            .lines()
            .find(|line| line.starts_with(start))
            .and_then(|line| line.rsplit(' ').next()?.parse().ok());
        Ok(value)
    }

    /// Waits until a metric is as wanted.
    pub(crate) fn until_metric(&self, start: &str, wanted: impl Fn(f64) -> bool) -> Result<f64> {
        until(start, || {
            Ok(self.metric(start)?.filter(|value| wanted(*value)))
        })
    }

    /// `netsonde status` about it: exit code and standard output.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let address = self.api.to_string();
        let output = run(&[&["status", "--address", &address], arguments].concat())?;
        let code = output.status.code().context("status was killed")?;
        Ok((code, String::from_utf8(output.stdout)?))
    }

    /// The opener's process.
    pub(crate) fn opener(&self) -> Result<u32> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        children.trim().parse().context("there is no opener")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Signals one process.
pub(crate) fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()?;
    ensure!(status.success(), "kill -{name} {pid}");
    Ok(())
}

/// Looks until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let code = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((code, body.to_owned()))
}

/// A field of `/proc/PID/status`.
pub(crate) fn proc_field(path: &str, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
        .with_context(|| format!("no {name} in {path}"))
}
