//! The eBPF programs: embedded objects, loading, attaching, their maps.
//!
//! The programs are C in `src/*.bpf.c`; `build.sh` compiles them, and what it made is
//! committed under `objects/` with a manifest, so that a build needs no clang. A test holds
//! manifest, objects and sources together.
//!
//! What never happens here: a program in the place of someone else's; a kernel structure
//! read by its layout (programs use the stable interface alone, so no BTF of the kernel is
//! needed).

mod bpf;
mod error;
pub mod fanout;
pub mod filter;
pub mod generator;
pub mod xdp;

pub use error::{LoadError, raise_memory_limit};
