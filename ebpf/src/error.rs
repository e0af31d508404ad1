//! Why a program did not get into the kernel, with the way out where it is known.

use std::io;

use aya::EbpfError;
use aya::programs::ProgramError;

/// Loading failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused a call.
    #[error("{operation}: {error}{}", hint(error))]
    System {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The kernel's verifier refused a program: it lacks something that the program uses.
    #[error("this kernel refuses the program {program}: {reason}")]
    Refused {
        /// Which one.
        program: &'static str,
        /// What the verifier said last.
        reason: String,
    },
    /// The object is not what it should be: the probe was built wrong.
    #[error("the embedded object {0}")]
    Object(String),
}

/// The two limits that look alike: no capability, and (before Linux 5.11, which charges maps
/// to the control group instead) too little lockable memory.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            " (needs CAP_BPF, before Linux 5.8 CAP_SYS_ADMIN; before 5.11 also `ulimit -l unlimited`)"
        }
        _ => "",
    }
}

impl LoadError {
    /// From aya's error on loading an object.
    #[must_use]
    pub fn of_object(object: &'static str, error: EbpfError) -> Self {
        match error {
            EbpfError::MapError(aya::maps::MapError::CreateError { io_error, .. }) => {
                Self::System {
                    operation: "BPF_MAP_CREATE",
                    error: io_error,
                }
            }
            EbpfError::MapError(aya::maps::MapError::SyscallError(error)) => Self::System {
                operation: error.call,
                error: error.io_error,
            },
            other => Self::Object(format!("{object}: {other}")),
        }
    }

    /// From aya's error on loading a program.
    #[must_use]
    pub fn of_program(program: &'static str, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } if io_error.raw_os_error() != Some(libc::EPERM) => {
                let log = verifier_log.to_string();
                let tail = log.lines().rev().find(|line| {
                    !line.is_empty()
                        && !line.starts_with("processed ")
                        && !line.starts_with("verification time")
                });
                // The verifier's answer to what only a privileged program may do.
                let hint = match io_error.raw_os_error() {
                    Some(libc::EACCES) => "; it needs CAP_PERFMON beside CAP_BPF",
                    _ => "",
                };
                let tail = tail.unwrap_or("no reason given");
                Self::Refused {
                    program,
                    reason: format!("{io_error}: {tail}{hint}"),
                }
            }
            ProgramError::LoadError { io_error, .. } => Self::System {
                operation: "BPF_PROG_LOAD",
                error: io_error,
            },
            ProgramError::SyscallError(error) => Self::System {
                operation: error.call,
                error: error.io_error,
            },
            other => Self::Object(format!("{program}: {other}")),
        }
    }
}

/// Raises the limit of lockable memory as far as the privilege goes; where it does not, the
/// kernel says so when a map is made.
pub fn raise_memory_limit() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is a rlimit that outlives the call.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}
