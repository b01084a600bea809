//! What the configuration says about health: an action for each Xid, the two environment variables,
//! and the thresholds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::observation::EventType;
use super::reading::RecoveryAction;
use super::xid::{Xid, XidClass};

/// The effect of an Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XidAction {
    /// `ignore`: it is counted.
    Ignore,
    /// `event`: it is counted and reported.
    Event,
    /// `recovery-action`: the driver's recovery action decides; on a driver without one, the class
    /// of the Xid.
    RecoveryAction,
    /// `unhealthy`: the GPU is Unhealthy at once.
    Unhealthy,
}

impl XidAction {
    const ALL: [Self; 4] = [Self::Ignore, Self::Event, Self::RecoveryAction, Self::Unhealthy];

    /// The action of a class where nothing is configured.
    pub(super) fn of_class(class: XidClass) -> Self {
        match class {
            XidClass::Info | XidClass::Companion | XidClass::Detail => Self::Ignore,
            XidClass::App | XidClass::Config | XidClass::Pending | XidClass::Contained => {
                Self::Event
            }
            XidClass::Trigger | XidClass::Suspect | XidClass::Presumed | XidClass::Disputed => {
                Self::RecoveryAction
            }
            XidClass::Fatal | XidClass::Sticky | XidClass::Lost => Self::Unhealthy,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Event => "event",
            Self::RecoveryAction => "recovery-action",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for XidAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not an action for an Xid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an action for an Xid (ignore, event, recovery-action or unhealthy)")]
pub struct UnknownXidAction(String);

impl FromStr for XidAction {
    type Err = UnknownXidAction;

    fn from_str(text: &str) -> Result<Self, UnknownXidAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| UnknownXidAction(text.to_owned()))
    }
}

/// A problem of the configuration or of the persisted state that does not keep the plugin from
/// running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFinding {
    /// A token of one of the environment variables that is neither a number nor `all` nor `xids`.
    #[error("{variable}: {token:?} is not an Xid, \"all\" or \"xids\"; it is left out")]
    Malformed {
        /// The variable.
        variable: &'static str,
        /// The token.
        token: String,
    },
    /// An Xid that the configuration file lists as ignored and as critical.
    #[error("{0} is both in ignoredXIDs and in criticalXIDs; it is ignored")]
    Contradiction(Xid),
    /// `eventTypes` without XidCriticalError: no Xid is ever received.
    #[error("eventTypes leaves out XidCriticalError, so no Xid is ever received")]
    XidsNotRegistered,
    /// A persisted cause that this version does not know.
    #[error("persisted cause {word:?} of {uuid} is not known; it is left out")]
    UnknownCause {
        /// UUID of the GPU.
        uuid: String,
        /// The value that was read.
        word: String,
    },
}

/// Which Xids the configuration file makes critical (`criticalXIDs` of NVIDIA's draft).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CriticalXids {
    /// Not configured: each by its class.
    #[default]
    ByClass,
    /// `all`: every Xid, except the ignored ones.
    All,
    /// Those listed and no other.
    Only(BTreeSet<Xid>),
}

/// The section `health` of the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthRules {
    /// `disabled`: no health checking.
    pub disabled: bool,
    /// `eventTypes`: the NVML events to register; empty: all of `EventType`.
    pub event_types: BTreeSet<EventType>,
    /// `ignoredXIDs`: counted and nothing else. `None` with `CriticalXids::All`: the six that
    /// NVIDIA's plugin ignores keep the action of their class.
    pub ignored: Option<BTreeSet<Xid>>,
    /// `criticalXIDs`.
    pub critical: CriticalXids,
    /// Actions of single Xids; above both lists.
    pub actions: BTreeMap<Xid, XidAction>,
    /// Thresholds of the rules.
    pub thresholds: Thresholds,
}

/// The value of one of the two variables: comma-separated, blanks and case do not matter, `all` and
/// `xids` mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XidList {
    /// Whether it lists every Xid.
    pub all: bool,
    /// The numbers it lists.
    pub xids: BTreeSet<Xid>,
}

/// `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS`, read as NVIDIA documents them. They
/// override the configuration file.
///
/// | DISABLE | ENABLE | what is checked                                         |
/// |---------|--------|---------------------------------------------------------|
/// | empty   | empty  | everything, by the policy                               |
/// | `48,64` | empty  | everything, but those Xids are ignored                  |
/// | `48,64` | `48`   | everything, 64 is ignored, 48 makes Unhealthy           |
/// | empty   | `109`  | everything, 109 makes Unhealthy                         |
/// | empty   | `all`  | everything, every Xid makes Unhealthy                   |
/// | `all`   | empty  | nothing                                                 |
/// | `all`   | `48`   | Xid 48 alone (NVIDIA's plugin then checks nothing)      |
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `DP_DISABLE_HEALTHCHECKS`.
    pub disable: XidList,
    /// `DP_ENABLE_HEALTHCHECKS`; wins over the other.
    pub enable: XidList,
}

impl Overrides {
    /// Reads the values of the two variables, an unset one as empty. A token that cannot be read is
    /// left out and is a finding.
    #[must_use]
    pub fn parse(disable: &str, enable: &str) -> (Self, Vec<PolicyFinding>) {
        let mut findings = Vec::new();
        let mut parse = |variable, text| XidList::parse(variable, text, &mut findings);
        let overrides = Self {
            disable: parse("DP_DISABLE_HEALTHCHECKS", disable),
            enable: parse("DP_ENABLE_HEALTHCHECKS", enable),
        };
        (overrides, findings)
    }
}

impl XidList {
    fn parse(variable: &'static str, text: &str, findings: &mut Vec<PolicyFinding>) -> Self {
        let mut list = Self::default();
        for token in text.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            if token.eq_ignore_ascii_case("all") || token.eq_ignore_ascii_case("xids") {
                list.all = true;
            } else if let Some(xid) = number(token) {
                list.xids.insert(xid);
            } else {
                findings.push(PolicyFinding::Malformed { variable, token: token.to_owned() });
            }
        }
        list
    }

    /// Whether it lists this Xid by its number.
    pub(super) fn names(&self, xid: Xid) -> bool {
        self.xids.contains(&xid)
    }
}

/// Decimal digits and nothing else: the standard parser would take a sign.
fn number(token: &str) -> Option<Xid> {
    token.bytes().all(|b| b.is_ascii_digit()).then(|| token.parse().ok().map(Xid)).flatten()
}

/// The effect of a condition that may be tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It is a degradation; the GPU stays Healthy.
    Degraded,
    /// The GPU is Unhealthy.
    Unhealthy,
}

/// How many relapses within which time are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelapseLimit {
    /// This many.
    pub count: NonZeroU32,
    /// Within this time.
    pub window: Duration,
}

/// How often and how long, and the effect of what may be tolerated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// Clean polls in a row before a cause is cleared.
    pub recovery_polls: NonZeroU32,
    /// Relapses after which the GPU stays Unhealthy until there is evidence of repair; `None`:
    /// never.
    pub relapses: Option<RelapseLimit>,
    /// Calls in a row that fail or pass their deadline before the GPU is Unhealthy by them.
    pub missed_calls: NonZeroU32,
    /// How long a GPU is suspect after an alarm, since the driver may set the recovery action late:
    /// until then a failed read counts at once and no Xid is cleared.
    pub suspicion: Duration,
    /// On drivers without a recovery action: the time without an Xid after which it is cleared
    /// without evidence of repair; `None`: never.
    pub quiet_period: Option<Duration>,
    /// Effect of a row that waits to be remapped. NVIDIA's memory error management guide: running
    /// and new work are not affected.
    pub row_remap_pending: Severity,
    /// Effect of the recovery action to drain peer-to-peer work.
    pub drain_p2p: Severity,
    /// Effect of a fault of the NVLink fabric.
    pub fabric: Severity,
}

impl Thresholds {
    /// Effect of a recovery action; `None` if it requires nothing. An unknown value is Unhealthy.
    pub(super) fn severity(&self, action: RecoveryAction) -> Option<Severity> {
        match action {
            RecoveryAction::None => None,
            RecoveryAction::RecoverImexDomain => Some(Severity::Degraded),
            RecoveryAction::DrainP2p => Some(self.drain_p2p),
            _ => Some(Severity::Unhealthy),
        }
    }
}

const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
const THREE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

impl Default for RelapseLimit {
    fn default() -> Self {
        Self { count: THREE, window: Duration::from_secs(3600) }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            recovery_polls: TWO,
            relapses: Some(RelapseLimit::default()),
            missed_calls: THREE,
            suspicion: Duration::from_secs(5),
            quiet_period: None,
            row_remap_pending: Severity::Degraded,
            drain_p2p: Severity::Unhealthy,
            fabric: Severity::Unhealthy,
        }
    }
}
