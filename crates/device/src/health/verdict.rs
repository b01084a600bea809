//! The verdict about one physical GPU: observations in, changes out, the health of each device on
//! it at any time.

use std::collections::btree_map::{BTreeMap, Entry};

use super::active_cause::Causes;
use super::cause::{Cause, CauseKind};
use super::clear_rule::PollResult;
use super::counters::XidCounts;
use super::nvml_error::{NvmlError, ReturnCode};
use super::observation::{HealthChange, HealthNotice, Observation, RepairEvidence};
use super::policy::HealthPolicy;
use super::read_schedule::ReadSchedule;
use super::reading::{Fabric, Reading, RecoveryAction, RemappedRows};
use super::reason::{Degradation, Health, Moment, Reason};
use super::rules::{Severity, XidAction};
use super::scope::{GpuPart, Scope};
use super::xid::{Xid, XidClass};

/// The verdict about one physical GPU.
///
/// ```text
///             a cause is raised                        the last cause is cleared
///   Healthy ────────────────────▶ Unhealthy(causes) ─────────────────────────────▶ Healthy
///                                   │        ▲
///                                   └────────┘ causes come and go, each by its own rule (`ClearRule` in held.rs);
///                                              none lifts or lowers another
/// ```
///
/// Between an alarm and the driver's word: a fatal Xid makes the GPU Unhealthy at once, and clean
/// polls take that back if the driver asks for nothing; a suspect Xid leaves it as it is, and the
/// read that follows at once decides.
#[derive(Debug, Clone, Default)]
pub struct GpuHealth {
    causes: Causes,
    degradations: BTreeMap<Degradation, Moment>,
    field: Field,
    /// The fabric as it was last read.
    fabric: Option<Fabric>,
    /// The enumeration that last listed it.
    session: Option<u64>,
    /// Calls in a row that did not return.
    missed: u32,
    /// Calls or readings in a row that failed without naming a state of the GPU.
    refused: u32,
    reads: ReadSchedule,
    tally: XidCounts,
}

/// Whether the driver has a recovery action, and which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Field {
    /// Not read since the driver was loaded.
    #[default]
    Unread,
    /// The driver does not have it.
    Absent,
    /// What it said last.
    Says(RecoveryAction),
}

impl GpuHealth {
    /// The health of a device that sits on the GPU.
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

    /// What the driver last asked for; `None` if it has no recovery action or was not asked yet.
    #[must_use]
    pub fn recovery_action(&self) -> Option<RecoveryAction> {
        match self.field {
            Field::Says(action) => Some(action),
            Field::Unread | Field::Absent => None,
        }
    }

    /// Whether it works again only after a reset: the driver asks for one, or answers that one is
    /// required.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.recovery_action().is_some_and(RecoveryAction::requires_reset)
            || self.causes.has(CauseKind::ResetRequired)
    }

    /// How many Xids of each number the GPU has had since the plugin started.
    #[must_use]
    pub fn xids(&self) -> &BTreeMap<Xid, u64> {
        self.tally.each()
    }

    /// How many Xids it has had beyond the different numbers that are counted one by one.
    #[must_use]
    pub fn other_xids(&self) -> u64 {
        self.tally.others()
    }

    /// When to read the GPU next, beside the polls: its recovery action and remapped rows.
    #[must_use]
    pub fn next_reading(&self) -> Option<Moment> {
        self.reads.next()
    }

    /// Whether it waits for a new initialisation of NVML that lists its UUID.
    #[must_use]
    pub fn needs_enumeration(&self) -> bool {
        self.causes.wait_for_return()
    }

    /// Takes in what was observed.
    pub fn apply(
        &mut self,
        now: Moment,
        observation: Observation,
        policy: &HealthPolicy,
    ) -> HealthChange {
        let mut change = HealthChange::default();
        self.observe(now, observation, policy, &mut change);
        change
    }

    /// Judges what is known by another policy; what that looks at anew is read at once.
    pub(super) fn set_health_policy(&mut self, now: Moment, policy: &HealthPolicy) -> HealthChange {
        let mut change = HealthChange::default();
        self.causes.drop_unless(|cause| policy.stands(cause), &mut change);
        if let Field::Says(action) = self.field {
            self.recovery_action_is(now, action, policy, &mut change);
        }
        if let Some(fabric) = self.fabric {
            self.fabric_is(now, fabric, policy, &mut change);
        }
        let pending = self.degradations.contains_key(&Degradation::RowRemapPending);
        self.row_remap_pending(now, pending, policy, &mut change);
        if !policy.is_off() {
            self.reads.schedule(now, policy.thresholds().suspicion);
        }
        change
    }

    fn observe(
        &mut self,
        now: Moment,
        observation: Observation,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        match observation {
            Observation::Xid { xid, scope } => self.xid(now, xid, scope, policy, change),
            Observation::Event(event) => {
                if event.is_alarm() && !policy.is_off() {
                    self.reads.suspect(now, policy.thresholds().suspicion);
                }
            }
            Observation::Poll(reading) => {
                self.read(now, &reading, policy, change);
                self.causes.polled(
                    &PollResult::of(now, &reading, policy.thresholds()),
                    policy.thresholds(),
                    change,
                );
            }
            Observation::Reading(reading) => self.read(now, &reading, policy, change),
            Observation::Failed(error) if error.code.is_unsupported() => {}
            Observation::Failed(error) => match Cause::named_by(error.code) {
                Some(cause) => self.raise(now, cause, policy, change),
                None => self.refused(now, error, policy, change),
            },
            Observation::TimedOut { call } => self.missed(now, call, policy, change),
            Observation::Enumerated { session } => self.enumerated(now, session, policy),
            Observation::NotEnumerated => self.raise(now, Cause::NotEnumerated, policy, change),
            Observation::Repaired(evidence) => self.repaired(now, evidence, change),
            Observation::Quarantine(Some(text)) => {
                self.raise(now, Cause::Quarantined(text), policy, change)
            }
            Observation::Quarantine(None) => self.causes.take_back(CauseKind::Quarantined, change),
        }
    }

    fn xid(
        &mut self,
        now: Moment,
        xid: Xid,
        scope: Scope,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        let times = self.tally.count(xid);
        let class = xid.class();
        let suspicion = policy.thresholds().suspicion;
        let unhealthy = match policy.action(xid) {
            XidAction::Ignore => return,
            XidAction::Event => {
                self.reads.schedule(now, suspicion);
                false
            }
            XidAction::RecoveryAction => {
                self.reads.suspect(now, suspicion);
                let has_field = matches!(self.field, Field::Says(_));
                !has_field
                    && matches!(
                        class,
                        XidClass::Presumed | XidClass::Fatal | XidClass::Sticky | XidClass::Lost
                    )
            }
            XidAction::Unhealthy => {
                self.reads.suspect(now, suspicion);
                true
            }
        };
        change.notices.push(HealthNotice::Xid { xid, scope, times });
        match class {
            XidClass::Contained => self.degrade(now, Degradation::ContainedError, true, change),
            XidClass::Pending => self.row_remap_pending(now, true, policy, change),
            _ => {}
        }
        if unhealthy {
            self.raise(now, Cause::Xid { xid, scope }, policy, change);
        }
    }

    /// Takes in the answers of the GPU.
    fn read(
        &mut self,
        now: Moment,
        reading: &Reading,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        self.reads.read(now);
        self.missed = 0;
        let mut errors = Vec::new();
        match &reading.recovery_action {
            Some(Ok(action)) => self.recovery_action_is(now, *action, policy, change),
            Some(Err(error)) if error.code.is_unsupported() => self.field = Field::Absent,
            Some(Err(error)) => errors.push(error),
            None => {}
        }
        if let Some(RemappedRows { pending, failure }) = reading.remapped_rows {
            self.row_remap_pending(now, pending, policy, change);
            if failure {
                self.raise(now, Cause::RowRemapFailure, policy, change);
            }
        }
        if let Some(fabric) = reading.fabric {
            self.fabric_is(now, fabric, policy, change);
        }
        if let Some(Err(error)) = &reading.probe
            && error.code != ReturnCode::NOT_SUPPORTED
        {
            errors.push(error);
        }
        self.answered_with(now, &errors, policy, change);
    }

    /// Takes in the errors of one reading: however many its calls, it counts as one refusal.
    fn answered_with(
        &mut self,
        now: Moment,
        errors: &[&NvmlError],
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        for error in errors {
            if let Some(cause) = Cause::named_by(error.code) {
                self.raise(now, cause, policy, change);
            }
        }
        match errors.iter().find(|error| Cause::named_by(error.code).is_none()) {
            Some(error) => self.refused(now, (*error).clone(), policy, change),
            None => self.refused = 0,
        }
    }

    fn recovery_action_is(
        &mut self,
        now: Moment,
        action: RecoveryAction,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        self.field = Field::Says(action);
        let weight = policy.thresholds().weight(action);
        let degraded = |which| weight == Some(Severity::Degraded) && action == which;
        self.degrade(
            now,
            Degradation::ImexDomain,
            degraded(RecoveryAction::RecoverImexDomain),
            change,
        );
        self.degrade(now, Degradation::DrainP2p, degraded(RecoveryAction::DrainP2p), change);
        if weight == Some(Severity::Unhealthy) {
            self.raise(now, Cause::RecoveryAction(action), policy, change);
        }
    }

    fn fabric_is(
        &mut self,
        now: Moment,
        fabric: Fabric,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        self.fabric = Some(fabric);
        self.degrade(now, Degradation::FabricBandwidth, fabric.has_degraded_bandwidth(), change);
        let fault = fabric.fault();
        let bearable = policy.thresholds().fabric == Severity::Degraded;
        self.degrade(now, Degradation::Fabric, fault.is_some() && bearable, change);
        if let Some(fault) = fault.filter(|_| !bearable) {
            self.raise(now, Cause::Fabric(fault), policy, change);
        }
    }

    fn row_remap_pending(
        &mut self,
        now: Moment,
        pending: bool,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        self.degrade(now, Degradation::RowRemapPending, pending, change);
        if pending && policy.thresholds().row_remap_pending == Severity::Unhealthy {
            self.raise(now, Cause::RowRemapPending, policy, change);
        }
    }

    /// NVML failed in a way that names no state of the GPU: borne a few times, but not under
    /// suspicion.
    fn refused(
        &mut self,
        now: Moment,
        error: NvmlError,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        self.refused = self.refused.saturating_add(1);
        self.causes.reset_streaks();
        if self.refused >= policy.thresholds().missed_calls.get() || self.reads.is_suspect(now) {
            self.raise(now, Cause::NvmlError(error), policy, change);
        }
    }

    /// As `refused`; and a GPU that never answered has no credit to use up.
    fn missed(
        &mut self,
        now: Moment,
        call: &'static str,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        self.missed = self.missed.saturating_add(1);
        self.causes.reset_streaks();
        let borne =
            self.missed < policy.thresholds().missed_calls.get() && self.reads.has_answered();
        if !borne || self.reads.is_suspect(now) {
            self.raise(now, Cause::NvmlUnresponsive { call }, policy, change);
        }
    }

    fn enumerated(&mut self, now: Moment, session: u64, policy: &HealthPolicy) {
        let was_gone = self.causes.has(CauseKind::NotEnumerated);
        if was_gone || self.session != Some(session) {
            self.causes.returned(now);
        }
        if was_gone {
            self.causes.repaired(now, RepairEvidence::Reenumerated);
            self.reads.schedule(now, policy.thresholds().suspicion);
        }
        self.session = Some(session);
    }

    fn repaired(&mut self, now: Moment, evidence: RepairEvidence, change: &mut HealthChange) {
        self.causes.repaired(now, evidence);
        self.degrade(now, Degradation::ContainedError, false, change);
        // The driver that is loaded now may be older or newer than the one that was asked.
        if matches!(evidence, RepairEvidence::NewBoot | RepairEvidence::DriverReload) {
            self.field = Field::Unread;
        }
    }

    fn raise(
        &mut self,
        now: Moment,
        cause: Cause,
        policy: &HealthPolicy,
        change: &mut HealthChange,
    ) {
        if policy.counts(&cause) {
            self.causes.raise(now, cause, policy.thresholds(), change);
        }
    }

    fn degrade(&mut self, now: Moment, which: Degradation, holds: bool, change: &mut HealthChange) {
        match (self.degradations.entry(which), holds) {
            (Entry::Vacant(entry), true) => {
                entry.insert(now);
                change.notices.push(HealthNotice::Degraded(which));
            }
            (Entry::Occupied(entry), false) => {
                entry.remove();
                change.notices.push(HealthNotice::Restored(which));
            }
            _ => {}
        }
    }

    /// The causes to persist over a restart, and whether there is evidence of the repair of each.
    pub(super) fn memory(&self) -> impl Iterator<Item = (&Cause, bool)> {
        self.causes.lasting()
    }

    /// Holds a remembered cause against the GPU, unless the policy would not raise it today.
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
