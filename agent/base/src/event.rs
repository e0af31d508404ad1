//! The one type for everything that happens.

use crate::WallNanos;

/// How much an event matters.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Measurement is impaired or lost.
    Error,
}

impl Severity {
    /// The word in JSON and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $severity:ident;)+) => {
        /// The closed list of what can happen.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum EventKind { $($(#[doc = $doc])+ $variant,)+ }

        impl EventKind {
            /// Every kind, in the order of [`EventKind::index`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in JSON, labels and the log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// How much an event of this kind matters.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }
    };
}

kinds! {
    /// The agent began to measure.
    AgentStarted = "agent_started", Info;
    /// The agent stops in order.
    AgentStopping = "agent_stopping", Info;
    /// The first answer of a target, or the first after it was down.
    TargetUp = "target_up", Info;
    /// A target stopped answering (an outage by RFC 3357 became long enough).
    TargetDown = "target_down", Warning;
    /// The hop count towards the target changed.
    HopsForwardChanged = "hops_forward_changed", Info;
    /// The hop count of the way back changed.
    HopsReverseChanged = "hops_reverse_changed", Info;
    /// The wall clock of this host was set.
    ClockStepped = "clock_stepped", Warning;
    /// The reflector's sequence fell back: it restarted or forgot the session.
    ReflectorReset = "reflector_reset", Warning;
    /// `auto` chose a protocol, or fell back to another one.
    ProtocolChosen = "protocol_chosen", Info;
    /// The address behind a target's name changed.
    AddressChanged = "address_changed", Info;
    /// A target's name did not resolve.
    ResolveFailed = "resolve_failed", Warning;
    /// A new configuration is in force.
    ConfigReloaded = "config_reloaded", Info;
    /// A configuration was refused; the running one, or the last valid one, is in force.
    ConfigRejected = "config_rejected", Error;
    /// A limit began to bite (packets per second, sessions, series, events).
    LimitReached = "limit_reached", Warning;
    /// A component works with less than it should have.
    ComponentDegraded = "component_degraded", Warning;
    /// A degraded component works fully again.
    ComponentRecovered = "component_recovered", Info;
}

impl EventKind {
    /// Position in [`EventKind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Something that happened, with all that the log, the API and the history need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When it was noticed.
    pub time: WallNanos,
    /// What it was.
    pub kind: EventKind,
    /// The configured name of the probe, empty if it concerns none.
    pub probe: String,
    /// The target as configured, empty if it concerns none.
    pub target: String,
    /// The value before, empty if there was none.
    pub old: String,
    /// The value after.
    pub new: String,
}
