//! The effect of each Xid and each cause on health: by class, unless the configuration says
//! otherwise.

use std::collections::BTreeSet;

use super::cause::{Cause, CauseKind};
use super::observation::EventType;
use super::rules::{
    CriticalXids, HealthRules, Overrides, PolicyFinding, Severity, Thresholds, XidAction,
};
use super::xid::{Xid, XidClass};

/// The Xids that NVIDIA's plugin ignores when nothing is configured.
const IGNORED_BY_NVIDIA: [Xid; 6] = [Xid(13), Xid(31), Xid(43), Xid(45), Xid(68), Xid(109)];

/// What is checked, and the action of each Xid. In rising precedence: class, `criticalXIDs`,
/// `ignoredXIDs`, actions, `DP_DISABLE_HEALTHCHECKS`, `DP_ENABLE_HEALTHCHECKS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthPolicy {
    rules: HealthRules,
    overrides: Overrides,
}

impl HealthPolicy {
    /// The policy of the configuration file and the environment, and the findings about them.
    #[must_use]
    pub fn new(rules: HealthRules, overrides: Overrides) -> (Self, Vec<PolicyFinding>) {
        let mut findings = Vec::new();
        if let (Some(ignored), CriticalXids::Only(critical)) = (&rules.ignored, &rules.critical) {
            findings
                .extend(ignored.intersection(critical).copied().map(PolicyFinding::Contradiction));
        }
        if !rules.event_types.is_empty()
            && !rules.event_types.contains(&EventType::XidCriticalError)
        {
            findings.push(PolicyFinding::XidsNotRegistered);
        }
        let mut policy = Self { rules, overrides };
        if policy.is_off() {
            // A GPU that is missing in one enumeration and back in the next is then no relapse.
            policy.rules.thresholds.relapses = None;
        }
        (policy, findings)
    }

    /// The action of an Xid.
    #[must_use]
    pub fn action(&self, xid: Xid) -> XidAction {
        let Overrides { disable, enable } = &self.overrides;
        if enable.names(xid) {
            return XidAction::Unhealthy;
        }
        // Xid 154 reports any change of the recovery action, also to NONE: `all` does not make it a
        // failure, its own number does.
        if enable.all && xid.class() != XidClass::Trigger {
            return XidAction::Unhealthy;
        }
        if self.rules.disabled || disable.all || disable.names(xid) {
            return XidAction::Ignore;
        }
        if let Some(action) = self.rules.actions.get(&xid) {
            return *action;
        }
        if self.rules.ignored.as_ref().is_some_and(|ignored| ignored.contains(&xid)) {
            return XidAction::Ignore;
        }
        let by_class = XidAction::of_class(xid.class());
        match &self.rules.critical {
            CriticalXids::Only(critical) if critical.contains(&xid) => XidAction::Unhealthy,
            CriticalXids::Only(_) => by_class.min(XidAction::Event),
            CriticalXids::All
                if self.rules.ignored.is_none() && IGNORED_BY_NVIDIA.contains(&xid) =>
            {
                by_class
            }
            CriticalXids::All if xid.class() != XidClass::Trigger => XidAction::Unhealthy,
            CriticalXids::All | CriticalXids::ByClass => by_class,
        }
    }

    /// Whether an Xid is fatal by configuration, where its class alone is not.
    pub(super) fn makes_fatal(&self, xid: Xid) -> bool {
        self.action(xid) == XidAction::Unhealthy
            && XidAction::of_class(xid.class()) != XidAction::Unhealthy
    }

    /// Whether nothing is checked: GPUs need no reading and NVML no registration of events.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_xids_only() && self.overrides.enable.xids.is_empty()
    }

    /// The NVML events to register, as far as a GPU supports them.
    #[must_use]
    pub fn event_types(&self) -> BTreeSet<EventType> {
        if self.rules.event_types.is_empty() {
            EventType::ALL.into_iter().collect()
        } else {
            self.rules.event_types.clone()
        }
    }

    /// The thresholds.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.rules.thresholds
    }

    /// Whether a cause of this kind is raised. With health checking disabled these are left:
    /// quarantine, a GPU that never answered or that enumeration finds missing, faults of the node,
    /// and Xids enabled by number.
    pub(super) fn counts(&self, cause: &Cause) -> bool {
        match cause.kind() {
            CauseKind::Quarantined
            | CauseKind::NotAnswered
            | CauseKind::NotEnumerated
            | CauseKind::Node
            | CauseKind::Xid
            | CauseKind::Relapses => true,
            _ => !self.is_xids_only(),
        }
    }

    /// Whether an active cause would be raised under this policy.
    pub(super) fn stands(&self, cause: &Cause) -> bool {
        let thresholds = self.thresholds();
        let counts = self.counts(cause);
        match cause {
            Cause::Xid { xid, configured: true, .. } => self.makes_fatal(*xid),
            Cause::Xid { xid, .. } => self.action(*xid) >= XidAction::RecoveryAction,
            Cause::Relapses(times) => {
                thresholds.relapses.is_some_and(|limit| *times >= limit.count.get())
            }
            Cause::RecoveryAction(action) => {
                counts && thresholds.severity(*action) == Some(Severity::Unhealthy)
            }
            Cause::Fabric(_) => counts && thresholds.fabric == Severity::Unhealthy,
            Cause::RowRemapPending => counts && thresholds.row_remap_pending == Severity::Unhealthy,
            _ => counts,
        }
    }

    fn is_xids_only(&self) -> bool {
        (self.rules.disabled || self.overrides.disable.all) && !self.overrides.enable.all
    }
}
