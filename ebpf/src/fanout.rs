//! Where `PACKET_FANOUT_EBPF` sends a frame: the worker of its innermost flow.
//!
//! Owns: the program of one fanout group and its counters. The rule is in
//! `packet_fanout.bpf.c`. The group holds the program too, so a [`Fanout`] may be dropped
//! after the sockets joined; its counters go with it.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::PerCpuArray;
use aya::programs::SocketFilter;
use aya::{Ebpf, EbpfLoader};

use crate::error::{LoadError, raise_memory_limit};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../objects/packet_fanout.bpf.o");
const PROGRAM: &str = "packet_fanout";

/// Which flow of a tunnelled frame decides.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Layer {
    /// The one inside all tunnels.
    #[default]
    Innermost,
    /// The tunnel's own.
    Outermost,
}

/// What the program counted since it was loaded.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct FanoutCounters {
    /// Frames sent to the worker of their flow.
    pub flow: u64,
    /// Frames without an IP packet: all to one worker.
    pub not_ip: u64,
    /// Later fragments of TCP whose first fragment was not seen before them: to the worker
    /// of their addresses, which need not be that of the flow.
    pub orphan_fragments: u64,
}

/// The loaded program.
#[derive(Debug)]
pub struct Fanout {
    ebpf: Ebpf,
}

impl Fanout {
    /// Loads the program; `seed` should be random and the same for all members of a group,
    /// which it is if all use this one.
    ///
    /// # Errors
    /// When privilege, memory or a kernel feature is missing.
    pub fn load(layer: Layer, seed: u64) -> Result<Self, LoadError> {
        raise_memory_limit();
        let outer = u32::from(layer == Layer::Outermost);
        let mut ebpf = EbpfLoader::new()
            .override_global("seed", &seed, true)
            .override_global("outer", &outer, true)
            .load(OBJECT)
            .map_err(|error| LoadError::of_object(PROGRAM, error))?;
        program_mut(&mut ebpf)?
            .load()
            .map_err(|error| LoadError::of_program(PROGRAM, error))?;
        Ok(Self { ebpf })
    }

    /// The descriptor for `PACKET_FANOUT_DATA`.
    ///
    /// # Errors
    /// Not after a successful [`Fanout::load`].
    pub fn program(&self) -> Result<BorrowedFd<'_>, LoadError> {
        let program = program(&self.ebpf)?;
        let fd = program
            .fd()
            .map_err(|error| LoadError::of_program(PROGRAM, error))?;
        Ok(fd.as_fd())
    }

    /// What it counted.
    ///
    /// # Errors
    /// When the kernel refuses, as before Linux 5.19 without `CAP_BPF`.
    pub fn counters(&self) -> Result<FanoutCounters, LoadError> {
        let map = self.ebpf.map("fanout_counters").ok_or_else(missing)?;
        let map: PerCpuArray<_, u64> =
            PerCpuArray::try_from(map).map_err(|error| LoadError::Object(error.to_string()))?;
        let sum = |index: u32| -> Result<u64, LoadError> {
            let values = map.get(&index, 0).map_err(|error| match error {
                aya::maps::MapError::SyscallError(error) => LoadError::System {
                    operation: "BPF_MAP_LOOKUP_ELEM",
                    error: error.io_error,
                },
                other => LoadError::Object(other.to_string()),
            })?;
            Ok(values.iter().sum())
        };
        Ok(FanoutCounters {
            flow: sum(0)?,
            not_ip: sum(1)?,
            orphan_fragments: sum(2)?,
        })
    }
}

fn missing() -> LoadError {
    LoadError::Object(format!("{PROGRAM} lacks a program or map"))
}

fn program(ebpf: &Ebpf) -> Result<&SocketFilter, LoadError> {
    let program = ebpf.program(PROGRAM).ok_or_else(missing)?;
    program.try_into().map_err(|_| missing())
}

fn program_mut(ebpf: &mut Ebpf) -> Result<&mut SocketFilter, LoadError> {
    let program = ebpf.program_mut(PROGRAM).ok_or_else(missing)?;
    program.try_into().map_err(|_| missing())
}

#[cfg(test)]
mod tests;
