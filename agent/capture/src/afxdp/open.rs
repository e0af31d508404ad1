//! Opening: which mode, why, and in which order, so that no frame is lost unseen.

use std::os::fd::AsFd;

use af_xdp::{Device, Mode, Socket};
use ebpf::LoadError;
use ebpf::xdp::{AttachError, XdpCapture, XdpMode, XdpOptions};

use crate::afxdp::{Attach, MAX_QUEUES, Options, Queues, Transfer};
use crate::source::SourceError;

/// Drivers whose device goes on undisturbed when a native program is attached. ena, ixgbe,
/// i40e, ice, mlx5, bnxt, gve, igb and vmxnet3 set theirs up again.
const UNDISTURBED: &[&str] = &["veth", "tun", "netkit"];

/// Chunks where the kernel copies; the rest of a longer frame goes to further ones.
const COPIED_BYTES: u32 = 2048;
/// Chunks for zero-copy: what all drivers take (ena takes nothing else).
const ZERO_COPY_BYTES: u32 = 4096;

/// Program attached, sockets bound and in the map, not armed.
pub(super) struct Opened {
    pub(super) program: XdpCapture,
    pub(super) sockets: Vec<Socket>,
    pub(super) mode: XdpMode,
    pub(super) notes: Vec<String>,
}

pub(super) fn load_error(error: LoadError) -> SourceError {
    match error {
        LoadError::System { operation, error } => SourceError::System {
            operation,
            object: "the XDP program".into(),
            error,
        },
        other => SourceError::Unsupported(other.to_string()),
    }
}

fn attach_error(error: AttachError) -> SourceError {
    match error {
        AttachError::Load(error) => load_error(error),
        // Its text names the way out.
        other => SourceError::Unsupported(other.to_string()),
    }
}

fn socket_error(error: af_xdp::Error) -> SourceError {
    match error {
        af_xdp::Error::System {
            step: af_xdp::Step::Device(operation),
            object,
            error,
        } => SourceError::System {
            operation,
            object,
            error,
        },
        // Its text names the way out.
        other => SourceError::Unsupported(other.to_string()),
    }
}

impl Opened {
    pub(super) fn new(options: &Options) -> Result<Self, SourceError> {
        let device = Device::find(&options.device).map_err(socket_error)?;
        let queues = chosen(&device, &options.queues)?;
        let mut notes = Vec::new();
        let mut program = XdpCapture::load(&XdpOptions {
            wanted: options.wanted.clone(),
            spare_tcp_ports: options.spare_tcp_ports.clone(),
            stamps: true,
            queues: device.queues,
        })
        .map_err(load_error)?;
        // First, as some drivers bind sockets to a device with a program only. Until it is
        // armed it passes everything.
        let mode = attach(&mut program, &device, options, &mut notes)?;
        let mut sockets: Vec<Socket> = Vec::with_capacity(queues.len());
        for queue in queues {
            let first = sockets.is_empty();
            let said = if first { Some(&mut notes) } else { None };
            sockets.push(bind(&device, queue, mode, options, said)?);
        }
        for socket in &sockets {
            program
                .set_socket(socket.queue(), socket.as_fd())
                .map_err(load_error)?;
        }
        Ok(Self {
            program,
            sockets,
            mode,
            notes,
        })
    }
}

fn chosen(device: &Device, queues: &Queues) -> Result<Vec<u32>, SourceError> {
    let mut queues = match queues {
        Queues::All => (0..device.queues).collect(),
        Queues::List(list) => list.clone(),
    };
    queues.sort_unstable();
    queues.dedup();
    let unsupported = |what: String| Err(SourceError::Unsupported(what));
    let (name, has) = (&device.name, device.queues);
    match queues.last() {
        None => unsupported(format!("{name}: no queue is named")),
        Some(last) if *last >= has => unsupported(format!(
            "{name} has no queue {last}: it has {has}, counted from 0"
        )),
        Some(_) if queues.len() > MAX_QUEUES => unsupported(format!(
            "{name}: one source takes at most {MAX_QUEUES} queues; name fewer"
        )),
        Some(_) => Ok(queues),
    }
}

fn attach(
    program: &mut XdpCapture,
    device: &Device,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<XdpMode, SourceError> {
    let name = &device.name;
    let driver = match device.driver.as_str() {
        "" => "a driver without a name",
        driver => driver,
    };
    let undisturbed = UNDISTURBED.contains(&device.driver.as_str());
    let mut try_with = |mode| program.attach(name, device.index, mode);
    let mode = match options.attach {
        Attach::Generic => XdpMode::Generic,
        Attach::Native => {
            if !undisturbed {
                notes.push(format!(
                    "{name} ({driver}): attaching native XDP may have reset the device"
                ));
            }
            XdpMode::Native
        }
        Attach::Auto if !undisturbed => {
            notes.push(format!(
                "{name} ({driver}): generic mode, as attaching native XDP may reset the device; \
                 ask for native mode where that does not matter"
            ));
            XdpMode::Generic
        }
        Attach::Auto => match try_with(XdpMode::Native) {
            Ok(()) => {
                notes.push(format!("{name} ({driver}): native XDP"));
                return Ok(XdpMode::Native);
            }
            // The driver cannot; who may not, or comes second, cannot by other means either.
            Err(error @ AttachError::System { .. }) => {
                notes.push(format!("{name} ({driver}): generic mode, since: {error}"));
                XdpMode::Generic
            }
            Err(error) => return Err(attach_error(error)),
        },
    };
    try_with(mode).map_err(attach_error)?;
    if options.attach != Attach::Auto {
        notes.push(format!("{name} ({driver}): {} XDP", mode.as_str()));
    }
    Ok(mode)
}

fn bind(
    device: &Device,
    queue: u32,
    mode: XdpMode,
    options: &Options,
    mut notes: Option<&mut Vec<String>>,
) -> Result<Socket, SourceError> {
    let mut note = |text: String| {
        if let Some(notes) = &mut notes {
            notes.push(text);
        }
    };
    let socket = |mode, chunk_bytes| {
        let options = af_xdp::Options {
            receive_chunks: options.frames,
            send_chunks: 0,
            chunk_bytes,
            headroom: 0,
            receive_slots: options.receive_slots,
            mode,
            multi_buffer: true,
            huge_pages: options.huge_pages,
            busy_poll: options.busy_poll,
        };
        Socket::open_on(device, queue, &options)
    };
    let name = &device.name;
    match (mode, options.transfer) {
        (XdpMode::Generic, Transfer::ZeroCopy) => Err(SourceError::Unsupported(format!(
            "{name}: zero-copy needs native mode"
        ))),
        (XdpMode::Native, Transfer::ZeroCopy) => {
            note("frames are not copied".into());
            socket(Mode::ZeroCopy, ZERO_COPY_BYTES).map_err(socket_error)
        }
        (XdpMode::Native, Transfer::Auto) => match socket(Mode::ZeroCopy, ZERO_COPY_BYTES) {
            Ok(socket) => {
                note("frames are not copied".into());
                Ok(socket)
            }
            Err(error @ (af_xdp::Error::Busy { .. } | af_xdp::Error::MemoryLock { .. })) => {
                Err(socket_error(error))
            }
            Err(error) => {
                note(format!("frames are copied, since: {error}"));
                socket(Mode::Copy, COPIED_BYTES).map_err(socket_error)
            }
        },
        (XdpMode::Native, Transfer::Copy) | (XdpMode::Generic, _) => {
            note("frames are copied".into());
            socket(Mode::Copy, COPIED_BYTES).map_err(socket_error)
        }
    }
}
