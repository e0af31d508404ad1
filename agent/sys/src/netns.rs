//! Network namespaces made from code, by the names that `ip netns` knows.
//!
//! Owns: the bind mount `/run/netns/NAME` of a namespace that it created; [`Namespace`]
//! removes it when dropped. An [`Entered`] thread goes back where it came from. Never: a
//! panic while unwinding, a change of the namespace of a thread that did not ask, removal
//! of a name that somebody else made. Needs `CAP_SYS_ADMIN`.
//!
//! Threads: a network namespace belongs to a thread, so [`Entered`] stays on its own.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Where named namespaces live.
pub const DIRECTORY: &str = "/run/netns";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name that no other process and no earlier call took: `ns-<pid>-<n>`.
#[must_use]
pub fn unique_name() -> String {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("ns-{}-{n}", std::process::id())
}

/// The process that made a namespace of this name, if it is one of [`unique_name`]'s.
#[must_use]
pub fn maker(name: &str) -> Option<u32> {
    let (pid, n) = name.strip_prefix("ns-")?.split_once('-')?;
    n.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Removes the names of processes that no longer live, and returns them. Processes that
/// still run inside keep their (now nameless) namespace until they end.
///
/// # Errors
/// When the directory cannot be read.
pub fn remove_leftovers() -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let dead = maker(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if dead && remove(&name).is_ok() {
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Removes a name; the namespace goes when nothing uses it any more.
///
/// # Errors
/// When the name does not exist or may not be removed.
pub fn remove(name: &str) -> io::Result<()> {
    let path = path_of(name);
    let target = c_path(&path)?;
    // SAFETY: `target` is a NUL-terminated string that outlives the call.
    let result = unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    // EINVAL: a name without a mount, left by a maker that died half-way.
    if result != 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    fs::remove_file(&path)
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL in a path"))
}

fn mount(source: &Path, target: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let source = c_path(source)?;
    let target = c_path(target)?;
    let kind = c"none";
    // SAFETY: all three strings are NUL-terminated and outlive the call; no data is passed.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            std::ptr::null(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the directory, shared as `ip netns` makes it: an unmount then reaches the mount
/// namespaces of processes started by `ip netns exec`, which would keep others alive.
fn prepare_directory() -> io::Result<()> {
    let directory = Path::new(DIRECTORY);
    fs::create_dir_all(directory)?;
    // As `ip netns` does: two that bind at once would stack mounts over each other.
    let turn = File::open(directory)?;
    turn.lock()?;
    match mount(Path::new(""), directory, libc::MS_SHARED | libc::MS_REC) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            mount(directory, directory, libc::MS_BIND | libc::MS_REC)?;
            mount(Path::new(""), directory, libc::MS_SHARED | libc::MS_REC)
        }
        other => other,
    }
}

fn set_namespace(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the borrow; setns touches no memory.
    let result = unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn unshare_network() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET concerns the calling thread's network namespace only, no memory.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A network namespace with a name.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: OwnedFd,
    /// Whether the name is ours to remove.
    ours: bool,
}

impl Namespace {
    /// Makes a namespace; `lo` is down in it.
    ///
    /// # Errors
    /// When the name exists, or the privilege or the kernel feature is missing.
    pub fn create(name: &str) -> io::Result<Self> {
        prepare_directory()?;
        let path = path_of(name);
        // The name is taken first and exclusively, so that only its maker removes it.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)?;
        // In a thread of its own: the caller's namespace never changes, not for a moment.
        let target = path.clone();
        let made = thread::spawn(move || {
            unshare_network()?;
            let own = Path::new("/proc/thread-self/ns/net");
            mount(own, &target, libc::MS_BIND)?;
            Ok(OwnedFd::from(File::open(own)?))
        })
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the helper thread panicked")));
        match made {
            Ok(file) => Ok(Self {
                name: name.to_owned(),
                file,
                ours: true,
            }),
            Err(error) => {
                let _ = remove(name);
                Err(error)
            }
        }
    }

    /// Opens a namespace that somebody else made and keeps.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            file: File::open(path_of(name))?.into(),
            ours: false,
        })
    }

    /// Opens the namespace that a process is in; its name is the process id.
    ///
    /// # Errors
    /// When there is no such process, or the privilege is missing.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Ok(Self {
            name: pid.to_string(),
            file: File::open(format!("/proc/{pid}/ns/net"))?.into(),
            ours: false,
        })
    }

    /// The name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into this namespace until the guard is dropped.
    ///
    /// # Errors
    /// When the privilege is missing.
    pub fn enter(&self) -> io::Result<Entered> {
        let before = OwnedFd::from(File::open("/proc/thread-self/ns/net")?);
        set_namespace(self.file.as_fd())?;
        Ok(Entered {
            before,
            on_this_thread: PhantomData,
        })
    }

    /// Runs `work` inside, on the calling thread. Sockets made in it stay in this
    /// namespace, threads started in it too.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let inside = self.enter()?;
        let value = work();
        drop(inside);
        Ok(value)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.ours {
            // Gone already is as good; a drop has nobody to tell anything else.
            let _ = remove(&self.name);
        }
    }
}

/// The calling thread is inside a namespace; dropping this takes it back.
#[derive(Debug)]
pub struct Entered {
    before: OwnedFd,
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Err(error) = set_namespace(self.before.as_fd()) {
            // A thread in the wrong namespace would measure the wrong network; but a second
            // panic while unwinding would abort the process before others clean up.
            if thread::panicking() {
                eprintln!("netns: cannot leave the namespace: {error}");
            } else {
                panic!("netns: cannot leave the namespace: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
