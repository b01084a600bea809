//! What each Xid does to the health of a GPU: by its class, unless the configuration says
//! otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::cause::{Cause, Kind};
use super::observation::EventType;
use super::overrides::Overrides;
use super::thresholds::Thresholds;
use super::xid::{Class, Xid};

/// What an Xid does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `ignore`: it is counted.
    Ignore,
    /// `event`: it is counted and told to people.
    Event,
    /// `recovery-action`: the driver's recovery action decides; on a driver without one, the class
    /// of the Xid.
    RecoveryAction,
    /// `unhealthy`: the GPU is Unhealthy at once.
    Unhealthy,
}

impl Action {
    const ALL: [Self; 4] = [Self::Ignore, Self::Event, Self::RecoveryAction, Self::Unhealthy];

    /// What an Xid of this class does where nothing is configured.
    #[must_use]
    pub fn of_class(class: Class) -> Self {
        match class {
            Class::Info | Class::Companion | Class::Detail => Self::Ignore,
            Class::App | Class::Config | Class::Pending | Class::Contained => Self::Event,
            Class::Trigger | Class::Suspect | Class::Presumed | Class::Disputed => {
                Self::RecoveryAction
            }
            Class::Fatal | Class::Sticky | Class::Lost => Self::Unhealthy,
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

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not an action for an Xid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an action for an Xid (ignore, event, recovery-action or unhealthy)")]
pub struct UnknownAction(String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| UnknownAction(text.to_owned()))
    }
}

/// Something in the configuration that a person should hear of; it does not keep the plugin from
/// running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A token of one of the environment variables that is neither a number nor `all` nor `xids`.
    #[error("{variable}: {token:?} is not an Xid, \"all\" or \"xids\"; it is left out")]
    Malformed {
        /// The variable.
        variable: &'static str,
        /// The token.
        token: String,
    },
    /// An Xid that the file lists both ways.
    #[error("{0} is both in ignoredXIDs and in criticalXIDs; it is ignored")]
    Contradiction(Xid),
    /// Without XidCriticalError among the event types no Xid is ever seen.
    #[error("eventTypes leaves out XidCriticalError, so no Xid is ever seen")]
    XidsNotRegistered,
    /// A remembered cause that this program does not know.
    #[error("remembered cause {word:?} of {uuid} is not known; it is left out")]
    UnknownCause {
        /// UUID of the GPU.
        uuid: String,
        /// The word.
        word: String,
    },
}

/// Which Xids the configuration file makes critical (`criticalXIDs` of NVIDIA's draft).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Critical {
    /// Not said: each by its class.
    #[default]
    ByClass,
    /// `all`: every Xid, except the ignored ones.
    All,
    /// Those listed and no other.
    Only(BTreeSet<Xid>),
}

/// What the configuration file says under `health:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// `disabled`: no health checking.
    pub disabled: bool,
    /// `eventTypes`: the NVML events to register; empty: all that bear on health.
    pub event_types: BTreeSet<EventType>,
    /// `ignoredXIDs`: counted and nothing else. `None` and with `Critical::All`: the six of
    /// NVIDIA's plugin keep what their class says.
    pub ignored: Option<BTreeSet<Xid>>,
    /// `criticalXIDs`.
    pub critical: Critical,
    /// An action for single Xids; wins over both lists.
    pub actions: BTreeMap<Xid, Action>,
    /// The numbers.
    pub thresholds: Thresholds,
}

/// The Xids that NVIDIA's plugin ignores when nothing is configured.
const IGNORED_BY_NVIDIA: [Xid; 6] = [Xid(13), Xid(31), Xid(43), Xid(45), Xid(68), Xid(109)];

/// What is watched, and what each Xid does. Later words win: class, `criticalXIDs`, `ignoredXIDs`,
/// actions, `DP_DISABLE_HEALTHCHECKS`, `DP_ENABLE_HEALTHCHECKS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Rules,
    overrides: Overrides,
}

impl Policy {
    /// The policy of a file and the environment, and what a person should hear about it.
    #[must_use]
    pub fn new(rules: Rules, overrides: Overrides) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        if let (Some(ignored), Critical::Only(critical)) = (&rules.ignored, &rules.critical) {
            findings.extend(ignored.intersection(critical).copied().map(Finding::Contradiction));
        }
        if !rules.event_types.is_empty()
            && !rules.event_types.contains(&EventType::XidCriticalError)
        {
            findings.push(Finding::XidsNotRegistered);
        }
        let mut policy = Self { rules, overrides };
        if policy.is_off() {
            // A GPU that discovery finds missing and back does not latch where nothing is watched.
            policy.rules.thresholds.relapses = None;
        }
        (policy, findings)
    }

    /// What this Xid does.
    #[must_use]
    pub fn action(&self, xid: Xid) -> Action {
        let Overrides { disable, enable } = &self.overrides;
        if enable.names(xid) {
            return Action::Unhealthy;
        }
        // 154 says that the recovery action changed, to NONE as well: only by its own number is it
        // made a fault.
        if enable.all && xid.class() != Class::Trigger {
            return Action::Unhealthy;
        }
        if self.rules.disabled || disable.all || disable.names(xid) {
            return Action::Ignore;
        }
        if let Some(action) = self.rules.actions.get(&xid) {
            return *action;
        }
        if self.rules.ignored.as_ref().is_some_and(|ignored| ignored.contains(&xid)) {
            return Action::Ignore;
        }
        let by_class = Action::of_class(xid.class());
        match &self.rules.critical {
            Critical::Only(critical) if critical.contains(&xid) => Action::Unhealthy,
            Critical::Only(_) => by_class.min(Action::Event),
            Critical::All if self.rules.ignored.is_none() && IGNORED_BY_NVIDIA.contains(&xid) => {
                by_class
            }
            Critical::All if xid.class() != Class::Trigger => Action::Unhealthy,
            Critical::All | Critical::ByClass => by_class,
        }
    }

    /// Whether nothing at all is watched, so that readings and events need not be asked for.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_xids_only() && self.overrides.enable.xids.is_empty()
    }

    /// The NVML events to register, before the mask of what a GPU supports.
    #[must_use]
    pub fn event_types(&self) -> BTreeSet<EventType> {
        if self.rules.event_types.is_empty() {
            EventType::ALL.into_iter().collect()
        } else {
            self.rules.event_types.clone()
        }
    }

    /// The numbers.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.rules.thresholds
    }

    /// Whether a cause counts under this policy. With health checking disabled these are left: what
    /// somebody outside said, what discovery itself finds missing, and the Xids that were enabled
    /// by number.
    pub(super) fn counts(&self, cause: &Cause) -> bool {
        match cause.kind() {
            Kind::Quarantined | Kind::NotEnumerated | Kind::Node | Kind::Xid | Kind::Relapses => {
                true
            }
            _ => !self.is_xids_only(),
        }
    }

    fn is_xids_only(&self) -> bool {
        (self.rules.disabled || self.overrides.disable.all) && !self.overrides.enable.all
    }
}
