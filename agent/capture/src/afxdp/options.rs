//! How an AF_XDP source is opened.

use af_xdp::BusyPoll;
use ebpf::xdp::Wanted;

/// Which queues of the device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Queues {
    /// Every one in use.
    #[default]
    All,
    /// These; frames of the others stay with the host and count as `RedirectFailed`.
    List(Vec<u32>),
}

/// Where the program is attached.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Attach {
    /// Native where that is known not to interrupt the device and works, else generic.
    #[default]
    Auto,
    /// In the driver; many (ena among them) reset the device for it.
    Native,
    /// In the stack.
    Generic,
}

/// How frames get into our memory.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Transfer {
    /// Zero-copy where native mode and driver offer it, else copied.
    #[default]
    Auto,
    /// Zero-copy, or an error.
    ZeroCopy,
    /// Copied by the kernel.
    Copy,
}

/// How a source is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The device.
    pub device: String,
    /// Which of its queues.
    pub queues: Queues,
    /// Where the program is attached.
    pub attach: Attach,
    /// How frames get into our memory.
    pub transfer: Transfer,
    /// Which frames are taken from the host.
    pub wanted: Wanted,
    /// TCP to these ports stays with the host: 22, so that ssh survives [`Wanted::All`].
    pub spare_tcp_ports: Vec<u16>,
    /// Frames that may wait, a queue. Copied frames take 2048 octets each, others 4096.
    pub frames: u32,
    /// Slots of the receive ring; 0: one a frame.
    pub receive_slots: u32,
    /// Lend all octets of frames that came in several chunks (for writing them); otherwise
    /// their first chunk, which holds the headers: some 1800 octets, or 3800.
    pub whole_frames: bool,
    /// A clock read for every frame, at any rate.
    pub exact_times: bool,
    /// Memory in huge pages, where there are any.
    pub huge_pages: bool,
    /// Busy polling.
    pub busy_poll: Option<BusyPoll>,
}

impl Options {
    /// All queues of a device, and of its traffic what [`Wanted::mirror`] says.
    #[must_use]
    pub fn new(device: impl Into<String>) -> Self {
        Self {
            device: device.into(),
            queues: Queues::All,
            attach: Attach::Auto,
            transfer: Transfer::Auto,
            wanted: Wanted::mirror(),
            spare_tcp_ports: Vec::new(),
            frames: 8192,
            receive_slots: 0,
            whole_frames: false,
            exact_times: false,
            huge_pages: false,
            busy_poll: None,
        }
    }
}
