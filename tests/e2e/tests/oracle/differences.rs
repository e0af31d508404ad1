//! Where we differ from tshark on purpose: data, each with its reason.

/// A frame of a public capture.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Difference {
    /// The capture.
    pub(crate) capture: &'static str,
    /// As tshark counts them, from 1.
    pub(crate) frame: u64,
    /// Our classes, as records name them, separated by commas.
    pub(crate) ours: &'static str,
    /// tshark's.
    pub(crate) theirs: &'static str,
    /// Why.
    pub(crate) why: &'static str,
}

/// A difference that any capture may have.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Rule {
    /// Our classes.
    pub(crate) ours: &'static str,
    /// tshark's.
    pub(crate) theirs: &'static str,
    /// Why.
    pub(crate) why: &'static str,
}

/// At most this share of all frames may differ.
pub(crate) const LIMIT: f64 = 0.001;

/// Of public captures.
pub(crate) const KNOWN: &[Difference] = &[];

/// Of fresh captures, whose frames are never the same twice.
pub(crate) const RULES: &[Rule] = &[];
