//! Where a timestamp was taken.

use crate::WallNanos;

/// Who took a stamp. Stamps of different clocks never meet in one difference:
/// `Hardware` is of the device's clock, the others of `CLOCK_REALTIME`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StampSource {
    /// The network device, in its own clock's domain.
    Hardware,
    /// The kernel: `SO_TIMESTAMPING` software stamps.
    Kernel,
    /// An XDP program.
    Xdp,
    /// A clock read by this process, the fallback.
    User,
}

impl StampSource {
    /// All, in the order of [`StampSource::index`].
    pub const ALL: [Self; 4] = [Self::Hardware, Self::Kernel, Self::Xdp, Self::User];

    /// Position in [`StampSource::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word in JSON and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Kernel => "kernel",
            Self::Xdp => "xdp",
            Self::User => "user",
        }
    }

    /// Whether two stamps may be subtracted.
    #[must_use]
    pub const fn same_clock(self, other: Self) -> bool {
        matches!(self, Self::Hardware) == matches!(other, Self::Hardware)
    }
}

/// One timestamp with its source.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// When, in the clock that the source implies.
    pub at: WallNanos,
    /// Who took it.
    pub source: StampSource,
}

/// The four points of a probe's way that are stamped (RFC 8762 section 4).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum StampPoint {
    /// The sender sends.
    T1,
    /// The reflector receives.
    T2,
    /// The reflector sends.
    T3,
    /// The sender receives.
    T4,
}

impl StampPoint {
    /// All, in the order of [`StampPoint::index`].
    pub const ALL: [Self; 4] = [Self::T1, Self::T2, Self::T3, Self::T4];

    /// Position in [`StampPoint::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word in JSON and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::T1 => "t1",
            Self::T2 => "t2",
            Self::T3 => "t3",
            Self::T4 => "t4",
        }
    }
}
