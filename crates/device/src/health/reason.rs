//! The health of a device: Healthy or Unhealthy, with the reasons; degradations; and points in
//! time.

use std::fmt;
use std::time::Duration;

use super::cause::Cause;

/// A point in time, as the time since an origin that the caller chooses once. Not an `Instant`: the
/// crate has no clock, and tests choose any value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// The point in time this much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// The time from an earlier moment to this one; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Since when something lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// Since when this process knows it.
    pub known: Moment,
    /// How much longer it lasted before, by what was kept over a restart.
    pub before: Duration,
}

impl Since {
    /// From now on.
    pub(super) fn now(now: Moment) -> Self {
        Self { known: now, before: Duration::ZERO }
    }
}

/// The health of one device, in the words of the kubelet's device plugin API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Health {
    /// No cause is active.
    #[default]
    Healthy,
    /// At least one cause is active.
    Unhealthy(Reasons),
}

/// Every active cause that affects a device, the worst first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons(Vec<Reason>);

/// One active cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The cause.
    pub cause: Cause,
    /// Since when this process knows it.
    pub since: Moment,
    /// How much longer it lasted before, by what was kept over a restart.
    pub before: Duration,
    /// Whether it was restored from before this process started.
    pub restored: bool,
}

impl Health {
    pub(super) fn of(mut reasons: Vec<Reason>) -> Self {
        // Stable: reasons of one kind keep the order of their causes.
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.cause.kind()));
        if reasons.is_empty() { Self::Healthy } else { Self::Unhealthy(Reasons(reasons)) }
    }

    /// Whether no cause is active.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }

    /// The reasons, the worst first; empty if Healthy.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Healthy => &[],
            Self::Unhealthy(reasons) => &reasons.0,
        }
    }
}

impl Reasons {
    /// The reasons, the worst first.
    pub fn iter(&self) -> std::slice::Iter<'_, Reason> {
        self.0.iter()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("Healthy"),
            Self::Unhealthy(reasons) => {
                f.write_str("Unhealthy: ")?;
                for (n, reason) in reasons.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { " | " })?;
                    reason.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        f.write_str(if self.restored { " (known from before a restart of the plugin)" } else { "" })
    }
}

/// What is wrong with a GPU that keeps working: shown in status, metrics and events, no reason to
/// be Unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Degradation {
    /// A memory row waits for a reset to be remapped.
    RowRemapPending,
    /// A memory error was contained (Xid 94): a reset is due when convenient.
    ContainedError,
    /// The recovery action is a recovery of the IMEX domain that the GPU is in.
    ImexDomain,
    /// The recovery action is to drain peer-to-peer work, and the policy tolerates that.
    DrainP2p,
    /// The links of the NVLink fabric run with less than full bandwidth.
    FabricBandwidth,
    /// The fabric has a fault, and the policy tolerates that.
    Fabric,
    /// Events of the GPU are not received, so that an Xid that no reading shows is missed.
    NoEvents,
}

impl Degradation {
    /// Every degradation.
    pub const ALL: [Self; 7] = [
        Self::RowRemapPending,
        Self::ContainedError,
        Self::ImexDomain,
        Self::DrainP2p,
        Self::FabricBandwidth,
        Self::Fabric,
        Self::NoEvents,
    ];

    /// The value in `/status`, logs and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RowRemapPending => "row_remap_pending",
            Self::ContainedError => "contained_error",
            Self::ImexDomain => "imex_domain",
            Self::DrainP2p => "drain_p2p",
            Self::FabricBandwidth => "fabric_bandwidth",
            Self::Fabric => "fabric",
            Self::NoEvents => "no_events",
        }
    }
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RowRemapPending => {
                "a memory row waits to be remapped; reset the GPU when convenient"
            }
            Self::ContainedError => {
                "a memory error was contained to one application; reset the GPU when convenient"
            }
            Self::ImexDomain => {
                "the driver asks for a recovery of the IMEX domain; work within this node continues"
            }
            Self::DrainP2p => "the driver asks for an end of peer-to-peer work",
            Self::FabricBandwidth => "the NVLink fabric runs with less than full bandwidth",
            Self::Fabric => "the NVLink fabric of the GPU has a fault",
            Self::NoEvents => {
                "NVML's events of the GPU are not received: an Xid that no reading shows is missed"
            }
        })
    }
}
