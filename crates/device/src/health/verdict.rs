//! The health of one physical GPU: observations in, changes out, the health of each device on it at
//! any time.

mod restated;
mod states;

use std::collections::BTreeMap;
use std::time::Duration;

use super::cause::{Cause, CauseKind};
use super::causes::Causes;
use super::counters::XidCounts;
use super::fields::{Answer, Fields};
use super::nvml_error::NvmlError;
use super::observation::{HealthChange, HealthNotice, Observation, RepairEvidence};
use super::policy::HealthPolicy;
use super::presence::Presence;
use super::read_schedule::ReadSchedule;
use super::reading::RecoveryAction;
use super::reason::{Degradation, Health, Moment, Reason, Since};
use super::rules::XidAction;
use super::scope::{GpuPart, Scope};
use super::xid::{Xid, XidClass};

/// The health of one physical GPU.
///
/// ```text
///             a cause is raised                the last cause is cleared
///   Healthy ────────────────────▶ Unhealthy ─────────────────────────────▶ Healthy
///                                 │       ▲
///                                 └───────┘ further causes are raised and cleared,
///                                           each by its own rule (`ClearRule`)
/// ```
///
/// A GPU that has answered is Healthy as long as its polls succeed and the driver requires no
/// recovery action. An observation that names a failure raises a cause, and the GPU is Unhealthy
/// until each of its causes is cleared; clearing one leaves the others as they are.
///
/// Failures that are not certain are decided by the read that follows them at once: a fatal Xid
/// makes the GPU Unhealthy immediately and clean polls clear it; an Xid that may be harmless
/// changes nothing until the driver requires a recovery action or the read fails. Failed and timed
/// out calls count after several in a row, and at once while the GPU is suspect or if it never
/// answered.
#[derive(Debug, Clone, Default)]
pub struct GpuHealth {
    causes: Causes,
    first_answer: FirstAnswer,
    presence: Presence,
    degradations: BTreeMap<Degradation, Since>,
    fields: Fields,
    /// Whether events of the GPU are not received although they could be.
    is_deaf: bool,
    /// When a memory error was last contained, until the reset that follows from it is done.
    contained: Option<Moment>,
    /// The call whose deadline passed without an answer, and how often in a row.
    hanging: Option<(&'static str, u32)>,
    /// What failed without naming a state of the GPU, and how many calls or readings in a row.
    failing: Option<(NvmlError, u32)>,
    reads: ReadSchedule,
    xids: XidCounts,
}

/// Whether the GPU has answered since this process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum FirstAnswer {
    /// It was not read yet, which is no reason for a report.
    #[default]
    Awaited,
    /// It was read in vain, and that was reported.
    Overdue,
    Given,
}

/// One observation being applied: when, by which policy, and what it changed so far.
struct Step<'a> {
    now: Moment,
    policy: &'a HealthPolicy,
    change: HealthChange,
}

impl<'a> Step<'a> {
    fn new(now: Moment, policy: &'a HealthPolicy) -> Self {
        Self { now, policy, change: HealthChange::default() }
    }
}

impl GpuHealth {
    /// The health of a device on the GPU.
    #[must_use]
    pub fn health_of(&self, device: GpuPart) -> Health {
        Health::of(self.reasons(device).collect())
    }

    /// The GPU has to answer again before it is Healthy.
    pub(super) fn forget_answer(&mut self) {
        self.first_answer = FirstAnswer::Awaited;
    }

    pub(super) fn reasons(&self, device: GpuPart) -> impl Iterator<Item = Reason> {
        let not_answered = (self.first_answer != FirstAnswer::Given).then(|| Reason {
            cause: Cause::NotAnswered,
            since: self.presence.known_since(),
            before: Duration::ZERO,
            restored: false,
        });
        self.causes.reasons(device).chain(not_answered)
    }

    /// What is wrong with the GPU without making it Unhealthy, and since when.
    #[must_use]
    pub fn degradations(&self) -> &BTreeMap<Degradation, Since> {
        &self.degradations
    }

    /// The recovery action as it was last read; `None` if the driver has none or it was not read
    /// yet.
    #[must_use]
    pub fn recovery_action(&self) -> Option<RecoveryAction> {
        self.fields.action()
    }

    /// Whether only a reset makes the GPU work again: by the recovery action, or by a call that
    /// returned `NVML_ERROR_RESET_REQUIRED`.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.recovery_action().is_some_and(RecoveryAction::requires_reset)
            || self.causes.has(CauseKind::ResetRequired)
    }

    /// Xids since the plugin started, by number.
    #[must_use]
    pub fn xids(&self) -> &BTreeMap<Xid, u64> {
        self.xids.by_number()
    }

    /// Xids since the plugin started whose numbers are beyond those counted one by one.
    #[must_use]
    pub fn other_xids(&self) -> u64 {
        self.xids.others()
    }

    /// When to read the GPU next between polls; `None`: not before the next poll.
    #[must_use]
    pub fn next_reading(&self) -> Option<Moment> {
        self.reads.next()
    }

    /// Whether the GPU waits for a new initialisation of NVML that lists it.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.causes.await_enumeration()
    }

    /// Applies one observation; returns what it changed.
    pub fn apply(
        &mut self,
        now: Moment,
        observation: Observation,
        policy: &HealthPolicy,
    ) -> HealthChange {
        let mut step = Step::new(now, policy);
        self.observe(observation, &mut step);
        step.change
    }

    /// Applies another policy to what is known. What it may decide differently is read at once.
    pub(super) fn set_health_policy(&mut self, now: Moment, policy: &HealthPolicy) -> HealthChange {
        let mut step = Step::new(now, policy);
        self.causes.retain(|cause| policy.stands(cause), &mut step.change);
        self.update_states(&mut step);
        if !policy.is_off() {
            self.reads.schedule(now, policy.thresholds().suspicion);
        }
        step.change
    }

    fn observe(&mut self, observation: Observation, step: &mut Step) {
        match observation {
            Observation::Xid { xid, scope } => self.xid(xid, scope, step),
            Observation::Event(event) => {
                if event.is_alarm() && !step.policy.is_off() {
                    self.reads.suspect(step.now, step.policy.thresholds().suspicion);
                }
            }
            Observation::EventsReceived(received) => {
                self.is_deaf = !received;
                self.update_states(step);
            }
            Observation::Poll(reading) => self.poll(&reading, step),
            Observation::Reading(reading) => self.read(&reading, step),
            Observation::Failed(error) => self.call_failed(error, step),
            Observation::TimedOut { call } => self.timed_out(call, step),
            Observation::Enumerated { session } => self.enumerated(session, step),
            Observation::NotEnumerated { session, complete } => {
                self.not_enumerated(session, complete, step);
            }
            Observation::Repaired(evidence) => self.repaired(evidence, None, step),
            Observation::Cleared(kind) => self.repaired(RepairEvidence::Manual, kind, step),
            Observation::Quarantine(Some(text)) => self.raise(Cause::Quarantined(text), step),
            Observation::Quarantine(None) => {
                self.causes.clear(CauseKind::Quarantined, &mut step.change);
            }
        }
    }

    fn xid(&mut self, xid: Xid, scope: Scope, step: &mut Step) {
        let times = self.xids.count(xid);
        let action = step.policy.action(xid);
        let suspicion = step.policy.thresholds().suspicion;
        match action {
            XidAction::Ignore => return,
            XidAction::Event => self.reads.schedule(step.now, suspicion),
            XidAction::RecoveryAction | XidAction::Unhealthy => {
                self.reads.suspect(step.now, suspicion);
            }
        }
        step.change.notices.push(HealthNotice::Xid { xid, scope, times });
        match xid.class() {
            XidClass::Contained => self.contained = Some(step.now),
            XidClass::Pending => self.fields.expect_row_remap(),
            _ => {}
        }
        self.update_states(step);
        let presumed = action == XidAction::RecoveryAction && self.presumes_fatal(xid.class());
        if action == XidAction::Unhealthy || presumed {
            self.raise(Cause::xid(xid, scope, step.policy.makes_fatal(xid)), step);
        }
    }

    /// Whether an Xid that is left to the recovery action is fatal because there is none to read.
    fn presumes_fatal(&self, class: XidClass) -> bool {
        !matches!(self.fields.recovery_action.last, Answer::Read(_)) && class.is_presumed_fatal()
    }

    fn enumerated(&mut self, session: u64, step: &mut Step) {
        let was_missing = self.causes.has(CauseKind::NotEnumerated);
        let (began, is_back) = self.presence.listed(session, step.now);
        self.causes.enumerated(step.now, began);
        if is_back {
            self.repaired(RepairEvidence::Reenumerated, None, step);
        }
        if was_missing {
            self.reads.schedule(step.now, step.policy.thresholds().suspicion);
        }
    }

    fn not_enumerated(&mut self, session: u64, complete: bool, step: &mut Step) {
        self.presence.not_listed(session, complete, step.now);
        self.raise(Cause::NotEnumerated, step);
    }

    /// Whether the last enumeration listed the GPU.
    pub(super) fn is_listed(&self) -> bool {
        self.presence.is_listed()
    }

    /// The causes, of all kinds or of one, for which this evidence of a repair counts.
    pub(super) fn repairable(
        &self,
        evidence: RepairEvidence,
        kind: Option<CauseKind>,
    ) -> impl Iterator<Item = &Cause> {
        self.causes.repairable(evidence, kind)
    }

    /// The degradation that evidence of the repair of everything ends.
    pub(super) fn contained_degradation(&self, kind: Option<CauseKind>) -> Option<Degradation> {
        self.contained.filter(|_| kind.is_none()).map(|_| Degradation::ContainedError)
    }

    fn repaired(&mut self, evidence: RepairEvidence, kind: Option<CauseKind>, step: &mut Step) {
        self.causes.repaired(step.now, evidence, kind);
        self.contained.take_if(|_| kind.is_none());
        // The driver that is loaded now may be older or newer than the one that was read.
        if matches!(evidence, RepairEvidence::NewBoot | RepairEvidence::DriverReload) {
            (self.fields, self.failing, self.hanging) = (Fields::default(), None, None);
        }
        self.update_states(step);
    }

    fn raise(&mut self, cause: Cause, step: &mut Step) {
        if step.policy.counts(&cause) {
            self.causes.raise(step.now, cause, step.policy.thresholds(), &mut step.change);
        }
    }

    /// The causes to persist, and whether there is evidence of the repair of each.
    pub(super) fn lasting_causes(&self) -> impl Iterator<Item = (Reason, bool)> {
        self.causes.lasting()
    }

    /// Adds a cause from before a restart. Returns it if it is new.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        cause: Cause,
        repaired: bool,
        before: Duration,
    ) -> Option<Cause> {
        self.presence.known(now);
        self.causes.restore(now, cause, repaired, before)
    }
}
