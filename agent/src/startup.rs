//! The start of the agent: parse, validate, fork the opener, bind, drop privileges, spawn.
//! In that order, so that nothing is half-started: until the first thread is spawned any
//! failure ends the process with one line and nothing to undo.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use sys::signal::Signal;

use crate::cli::AgentArgs;
use crate::config::{Config, ConfigError, Kept, report, saved};
use crate::exit::{Exit, Failure};
use crate::opener::Opener;
use crate::output::records;
use crate::privileges::{self, Identity};
use crate::supervise::{Agent, Parts};
use crate::worker::capture as capturing;
use crate::worker::export::Listeners;

/// What the supervisor reads instead of being interrupted.
pub const SIGNALS: [Signal; 3] = [Signal::Int, Signal::Term, Signal::Hup];

/// `netsonde agent`.
///
/// # Errors
/// One line and an exit code.
pub fn run(args: AgentArgs) -> anyhow::Result<Exit> {
    if args.check {
        return check(&args);
    }
    let loaded = load(&args)?;
    let parts = prepare(args, loaded)?;
    Agent::start(parts)?.run()
}

fn check(args: &AgentArgs) -> anyhow::Result<Exit> {
    let config = Config::load(&args.config, &args.set).map_err(|error| invalid(&error))?;
    let text = if args.print {
        config.effective
    } else {
        let series = crate::worker::export::series(&config);
        report::report(&args.config.display().to_string(), &config, series)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Measured)
}

fn invalid(error: &ConfigError) -> Failure {
    Failure::usage(error.to_string())
}

/// A configuration to run on, and why it is not the present one.
pub struct Loaded {
    /// What is run.
    pub config: Config,
    /// What is wrong with the present one, if the last valid one is taken instead.
    pub rejected: Option<ConfigError>,
}

/// The present configuration, or the last valid one of the same file.
fn load(args: &AgentArgs) -> Result<Loaded, Failure> {
    let error = match Config::load(&args.config, &args.set) {
        Ok(config) => {
            return Ok(Loaded {
                config,
                rejected: None,
            });
        }
        Err(error) => error,
    };
    let kept = Kept::of(&args.config, &args.set);
    let identity = Identity::of(kept.user.as_deref(), privileges::is_root())?;
    let service = identity.ids().map(|(uid, _)| uid);
    let owners: Vec<u32> = [Some(0), privileges::uid(), service]
        .into_iter()
        .flatten()
        .collect();
    let folder = state_directory(&kept.state_directory);
    match saved::load(&folder, &args.config, &kept, &owners) {
        Ok(Some(config)) => Ok(Loaded {
            config,
            rejected: Some(error),
        }),
        // What was saved is no use either, or was never valid: the present error matters.
        Ok(None) | Err(_) => Err(invalid(&error)),
    }
}

/// Where state is kept.
pub fn state_directory(configured: &Path) -> PathBuf {
    let environment = std::env::var("STATE_DIRECTORY").ok();
    saved::directory(configured, environment.as_deref())
}

/// All that needs privileges, or can fail, before there is a thread.
fn prepare(args: AgentArgs, loaded: Loaded) -> Result<Parts, Failure> {
    let config = &loaded.config;
    let internal = |what: &'static str| {
        move |error: std::io::Error| Failure::incomplete(format!("{what}: {error}"))
    };
    sys::signal::block(&SIGNALS).map_err(internal("cannot block signals"))?;
    let identity = Identity::of(config.agent.user.as_deref(), privileges::is_root())?;
    let held = sys::privilege::permitted().map_err(internal("cannot read capabilities"))?;
    let opener = Opener::fork(config, identity.ids())
        .map_err(internal("cannot start the opener process"))?;
    let file = match &args.records {
        Some(path) => Some(records::create(path, "--records")?),
        None => None,
    };
    let listeners = listeners(config)?;
    let reflect = reflect_sockets(config, crate::opener::open_reflect)?;
    let capture = config
        .capture
        .as_ref()
        .map(|capture| capturing::prepare(capture, capturing::open));
    let state = state_directory(&config.agent.state_directory);
    prepare_state(&state, &identity);
    // Best effort: the limit is what it is.
    let _ = sys::process::raise_open_files();
    if config.agent.realtime {
        privileges::begin_realtime()?;
    }
    privileges::drop_all(&identity)?;
    start_log(config.agent.log);
    let mut complaints: Vec<String> = identity.complaint().into_iter().collect();
    if let Err(error) = std::fs::File::open(&args.config)
        && loaded.rejected.is_none()
    {
        complaints.push(format!(
            "{}: {error} since the agent is no longer root, a reload will fail; let its user read it",
            args.config.display()
        ));
    }
    let missing = opener.missing(held);
    if !missing.is_empty() {
        complaints.push(format!(
            "without {} some of the configured sockets may not open; start as root or grant it",
            missing.join(", ")
        ));
    }
    Ok(Parts {
        path: args.config,
        overrides: args.set,
        loaded,
        opener,
        listeners,
        reflect,
        capture,
        records: file,
        state,
        complaints,
    })
}

/// A folder that the agent's user can write to; what fails here shows when it is written.
fn prepare_state(folder: &Path, identity: &Identity) {
    if folder.exists() || std::fs::create_dir_all(folder).is_err() {
        return;
    }
    if let Some((uid, gid)) = identity.ids() {
        let _ = std::os::unix::fs::chown(folder, Some(uid), Some(gid));
    }
}

fn listeners(config: &Config) -> Result<Listeners, Failure> {
    let bind = |key: &str, address: SocketAddr| {
        let listener = TcpListener::bind(address).map_err(|error| refused(key, address, &error))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| refused(key, address, &error))?;
        Ok::<_, Failure>(listener)
    };
    Ok(Listeners {
        main: bind("agent.listen", config.agent.listen)?,
        metrics: match config.agent.metrics_listen {
            Some(address) => Some(bind("agent.metrics_listen", address)?),
            None => None,
        },
    })
}

/// The reflector's sockets, bound, by whoever opens them.
///
/// # Errors
/// The first that cannot be opened; the others are closed.
pub fn reflect_sockets(
    config: &Config,
    mut open: impl FnMut(SocketAddr) -> std::io::Result<OwnedFd>,
) -> Result<Vec<(SocketAddr, OwnedFd)>, Failure> {
    let listen = config
        .reflector
        .iter()
        .flat_map(|reflector| &reflector.listen);
    listen
        .map(|address| {
            open(*address)
                .map(|socket| (*address, socket))
                .map_err(|error| refused("reflector.listen", *address, &error))
        })
        .collect()
}

/// Why an address cannot be listened on, and the way out.
fn refused(key: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    const EAFNOSUPPORT: i32 = 97;
    let (exit, why) = match (error.kind(), sys::call::errno_of(error)) {
        (ErrorKind::AddrInUse, _) => (
            Exit::Usage,
            "the port is in use; `ss -lntup` shows by whom, or choose another".to_owned(),
        ),
        (ErrorKind::PermissionDenied, _) => (
            Exit::Privilege,
            "not permitted; a port below 1024 needs CAP_NET_BIND_SERVICE: start as root, or choose a higher port".to_owned(),
        ),
        (ErrorKind::AddrNotAvailable, _) => (
            Exit::Usage,
            "no such address on this host (or IPv6 is disabled); `ip address` shows which there are".to_owned(),
        ),
        (_, Some(EAFNOSUPPORT)) => (
            Exit::Privilege,
            "this kernel has IPv6 disabled; listen on an IPv4 address".to_owned(),
        ),
        _ => (Exit::Incomplete, error.to_string()),
    };
    Failure::new(exit, format!("{key}: cannot listen on {address}: {why}"))
}

fn start_log(level: tracing::Level) {
    // A second subscriber in one process only happens in tests; the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_max_level(level)
        .with_target(false)
        // A log that nobody reads must not end the agent.
        .log_internal_errors(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_address_says_why_and_what_to_do() {
        let address: SocketAddr = "[::1]:862".parse().unwrap();
        for (errno, exit, words) in [
            (98, Exit::Usage, "the port is in use; `ss -lntup`"),
            (13, Exit::Privilege, "needs CAP_NET_BIND_SERVICE"),
            (99, Exit::Usage, "no such address on this host"),
            (97, Exit::Privilege, "IPv6 disabled"),
            (24, Exit::Incomplete, "Too many open files"),
        ] {
            let error = std::io::Error::from_raw_os_error(errno);
            let failure = refused("reflector.listen", address, &error);
            assert_eq!(failure.exit, exit, "{errno}");
            let text = failure.to_string();
            assert!(
                text.starts_with("reflector.listen: cannot listen on [::1]:862: "),
                "{text}"
            );
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn one_refused_socket_closes_the_others() {
        let text = "[reflector]\nlisten=['127.0.0.1:1','127.0.0.1:2']\n";
        let config = Config::parse("f", text).unwrap();
        let mut opened = Vec::new();
        let result = reflect_sockets(&config, |address| {
            if address.port() == 2 {
                return Err(std::io::ErrorKind::AddrInUse.into());
            }
            let (left, right) = sys::fdpass::pair()?;
            opened.push(left);
            Ok(right)
        });
        assert_eq!(result.unwrap_err().exit, Exit::Usage);
        // The peer of a closed socket reads the end.
        assert_eq!(sys::fdpass::recv(&opened[0], &mut [0; 1]).unwrap().0, 0);
    }
}
