//! The health of one physical GPU: observations in, changes out, the health of each device on it at
//! any time.

mod answers;

use std::collections::btree_map::{BTreeMap, Entry};

use super::active_cause::Causes;
use super::cause::{Cause, CauseKind};
use super::counters::XidCounts;
use super::nvml_error::NvmlError;
use super::observation::{HealthChange, HealthNotice, Observation, RepairEvidence};
use super::policy::HealthPolicy;
use super::read_schedule::ReadSchedule;
use super::reading::{Fabric, RecoveryAction};
use super::reason::{Degradation, Health, Moment, Reason};
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
/// A GPU is Healthy as long as its polls succeed and the driver requires no recovery action. An
/// observation that names a failure raises a cause, and the GPU is Unhealthy until each of its
/// causes is cleared; clearing one leaves the others as they are.
///
/// Failures that are not certain are decided by the read that follows them at once: a fatal Xid
/// makes the GPU Unhealthy immediately and clean polls clear it; an Xid that may be harmless
/// changes nothing until the driver requires a recovery action or the read fails. Failed and timed
/// out calls count after several in a row, and at once while the GPU is suspect or if it never
/// answered.
#[derive(Debug, Clone, Default)]
pub struct GpuHealth {
    causes: Causes,
    degradations: BTreeMap<Degradation, Moment>,
    recovery_action: RecoveryField,
    /// The fabric as it was last read.
    fabric: Option<Fabric>,
    /// The enumeration that last listed it.
    session: Option<u64>,
    /// Deadlines in a row that passed without an answer.
    timeouts: u32,
    /// Calls or readings in a row that failed without naming a state of the GPU.
    failures: u32,
    reads: ReadSchedule,
    xids: XidCounts,
}

/// What is known of the driver's recovery action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum RecoveryField {
    /// Not read since the driver was loaded.
    #[default]
    Unread,
    /// The driver does not have it.
    Unsupported,
    /// As it was last read.
    Read(RecoveryAction),
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

    pub(super) fn reasons(&self, device: GpuPart) -> impl Iterator<Item = Reason> {
        self.causes.reasons(device)
    }

    /// What is wrong with the GPU without making it Unhealthy, and since when.
    #[must_use]
    pub fn degradations(&self) -> &BTreeMap<Degradation, Moment> {
        &self.degradations
    }

    /// The recovery action as it was last read; `None` if the driver has none or it was not read
    /// yet.
    #[must_use]
    pub fn recovery_action(&self) -> Option<RecoveryAction> {
        match self.recovery_action {
            RecoveryField::Read(action) => Some(action),
            RecoveryField::Unread | RecoveryField::Unsupported => None,
        }
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

    /// Whether a cause waits for a new initialisation of NVML that lists the GPU.
    #[must_use]
    pub fn needs_enumeration(&self) -> bool {
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
        if let RecoveryField::Read(action) = self.recovery_action {
            self.read_recovery_action(action, &mut step);
        }
        if let Some(fabric) = self.fabric {
            self.read_fabric(fabric, &mut step);
        }
        let pending = self.degradations.contains_key(&Degradation::RowRemapPending);
        self.row_remap_pending(pending, &mut step);
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
            Observation::Poll(reading) => self.poll(&reading, step),
            Observation::Reading(reading) => self.read(&reading, step),
            Observation::Failed(error) => self.call_failed(error, step),
            Observation::TimedOut { call } => self.timed_out(call, step),
            Observation::Enumerated { session } => self.enumerated(session, step),
            Observation::NotEnumerated => self.raise(Cause::NotEnumerated, step),
            Observation::Repaired(evidence) => self.repaired(evidence, step),
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
            XidClass::Contained => self.degrade(Degradation::ContainedError, true, step),
            XidClass::Pending => self.row_remap_pending(true, step),
            _ => {}
        }
        let presumed = action == XidAction::RecoveryAction && self.presumes_fatal(xid.class());
        if action == XidAction::Unhealthy || presumed {
            self.raise(Cause::Xid { xid, scope }, step);
        }
    }

    /// Whether an Xid that is left to the recovery action is fatal because there is none to read.
    fn presumes_fatal(&self, class: XidClass) -> bool {
        !matches!(self.recovery_action, RecoveryField::Read(_))
            && matches!(
                class,
                XidClass::Presumed | XidClass::Fatal | XidClass::Sticky | XidClass::Lost
            )
    }

    fn call_failed(&mut self, error: NvmlError, step: &mut Step) {
        if error.code.is_unsupported() {
            return;
        }
        match Cause::named_by(error.code) {
            Some(cause) => self.raise(cause, step),
            None => self.failed(error, step),
        }
    }

    /// Counts a failure that names no state of the GPU. While the GPU is suspect one is enough.
    fn failed(&mut self, error: NvmlError, step: &mut Step) {
        self.failures = self.failures.saturating_add(1);
        self.causes.reset_streaks();
        let tolerated = self.failures < step.policy.thresholds().missed_calls.get();
        if !tolerated || self.reads.is_suspect(step.now) {
            self.raise(Cause::NvmlError(error), step);
        }
    }

    /// Counts a deadline that passed. One is enough while the GPU is suspect or if it never
    /// answered.
    fn timed_out(&mut self, call: &'static str, step: &mut Step) {
        self.timeouts = self.timeouts.saturating_add(1);
        self.causes.reset_streaks();
        let tolerated = self.timeouts < step.policy.thresholds().missed_calls.get()
            && self.reads.has_answered();
        if !tolerated || self.reads.is_suspect(step.now) {
            self.raise(Cause::NvmlUnresponsive { call }, step);
        }
    }

    fn enumerated(&mut self, session: u64, step: &mut Step) {
        let was_missing = self.causes.has(CauseKind::NotEnumerated);
        if was_missing || self.session != Some(session) {
            self.causes.enumerated(step.now);
        }
        if was_missing {
            self.causes.repaired(step.now, RepairEvidence::Reenumerated);
            self.reads.schedule(step.now, step.policy.thresholds().suspicion);
        }
        self.session = Some(session);
    }

    fn repaired(&mut self, evidence: RepairEvidence, step: &mut Step) {
        self.causes.repaired(step.now, evidence);
        self.degrade(Degradation::ContainedError, false, step);
        // The driver that is loaded now may be older or newer than the one that was read.
        if matches!(evidence, RepairEvidence::NewBoot | RepairEvidence::DriverReload) {
            self.recovery_action = RecoveryField::Unread;
        }
    }

    fn raise(&mut self, cause: Cause, step: &mut Step) {
        if step.policy.counts(&cause) {
            self.causes.raise(step.now, cause, step.policy.thresholds(), &mut step.change);
        }
    }

    fn degrade(&mut self, which: Degradation, degraded: bool, step: &mut Step) {
        match (self.degradations.entry(which), degraded) {
            (Entry::Vacant(entry), true) => {
                entry.insert(step.now);
                step.change.notices.push(HealthNotice::Degraded(which));
            }
            (Entry::Occupied(entry), false) => {
                entry.remove();
                step.change.notices.push(HealthNotice::Restored(which));
            }
            _ => {}
        }
    }

    /// The causes to persist, and whether there is evidence of the repair of each.
    pub(super) fn lasting_causes(&self) -> impl Iterator<Item = (&Cause, bool)> {
        self.causes.lasting()
    }

    /// Adds a cause from before a restart, unless the policy would not raise it today.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        cause: Cause,
        repaired: bool,
        policy: &HealthPolicy,
    ) {
        if policy.stands(&cause) {
            self.causes.restore(now, cause, repaired);
        }
    }
}
