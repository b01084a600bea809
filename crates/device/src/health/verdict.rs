//! The health of one physical GPU: observations in, changes out, the health of each device on it at
//! any time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::active_cause::Causes;
use super::cause::{Cause, CauseKind};
use super::clear_rule::Poll;
use super::counters::XidCounts;
use super::fields::{Answer, Fields};
use super::nvml_error::NvmlError;
use super::observation::{HealthChange, HealthNotice, Observation, RepairEvidence};
use super::policy::HealthPolicy;
use super::read_schedule::ReadSchedule;
use super::reading::{Reading, RecoveryAction};
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
/// A GPU is Healthy as long as its polls succeed and the driver requires no recovery action, once it
/// has answered. An
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
    first_answer: FirstAnswer,
    /// When it was first listed.
    known_since: Option<Moment>,
    degradations: BTreeMap<Degradation, Moment>,
    fields: Fields,
    /// When a memory error was last contained, until the reset that follows from it is done.
    contained: Option<Moment>,
    /// Whether the last enumeration did not list the GPU.
    is_absent: bool,
    /// The NVML session, and when it first listed the GPU or did not.
    session: Option<(u64, Moment)>,
    /// The session of the first complete enumeration that lacked the GPU, until one lists it.
    absent_from: Option<u64>,
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

/// How long after a contained memory error the driver is believed that nothing waits for a reset:
/// long enough for people and alerts to notice.
const CONTAINED_QUIET: Duration = Duration::from_secs(600);

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
        let not_answered = (self.first_answer != FirstAnswer::Given).then(|| Reason {
            cause: Cause::NotAnswered,
            since: self.known_since.unwrap_or_default(),
            restored: false,
        });
        self.causes.reasons(device).chain(not_answered)
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
        !matches!(self.fields.recovery_action.last, Answer::Read(_))
            && matches!(
                class,
                XidClass::Presumed | XidClass::Fatal | XidClass::Sticky | XidClass::Lost
            )
    }

    fn poll(&mut self, reading: &Reading, step: &mut Step) {
        self.read(reading, step);
        let thresholds = step.policy.thresholds();
        let passed = reading.passed_probe();
        let poll = Poll { at: step.now, passed, fields: &self.fields, thresholds };
        self.causes.polled(&poll, &mut step.change);
    }

    fn read(&mut self, reading: &Reading, step: &mut Step) {
        self.reads.read(step.now);
        self.hanging = None;
        self.fields.update(reading);
        self.answered(reading.passed_probe(), step);
        for cause in reading.errors().filter_map(|error| Cause::named_by(error.code)) {
            self.raise(cause, step);
        }
        let is_over = |at: &mut Moment| step.now.since(*at) >= CONTAINED_QUIET;
        if self.fields.want_nothing() {
            self.contained.take_if(is_over);
        }
        // However many calls of a reading failed, it counts as one failure.
        match reading.failures().find(|error| Cause::named_by(error.code).is_none()) {
            Some(error) => self.failed(error.clone(), step),
            None => {
                self.failing = None;
                self.update_states(step);
            }
        }
    }

    fn answered(&mut self, passed: bool, step: &mut Step) {
        match (self.first_answer, passed) {
            (FirstAnswer::Given, _) | (FirstAnswer::Overdue, false) => return,
            (FirstAnswer::Awaited, false) => step.change.raised.push(Cause::NotAnswered),
            (FirstAnswer::Awaited, true) => step.change.notices.push(HealthNotice::Answered),
            (FirstAnswer::Overdue, true) => step.change.cleared.push(Cause::NotAnswered),
        }
        self.first_answer = if passed { FirstAnswer::Given } else { FirstAnswer::Overdue };
    }

    fn call_failed(&mut self, error: NvmlError, step: &mut Step) {
        if error.code.is_unsupported() || error.code.is_refused() {
            return;
        }
        match Cause::named_by(error.code) {
            Some(cause) => self.raise(cause, step),
            None => self.failed(error, step),
        }
    }

    /// Counts a failure that names no state of the GPU.
    fn failed(&mut self, error: NvmlError, step: &mut Step) {
        let before = self.failing.as_ref().map_or(0, |(_, times)| *times);
        self.failing = Some((error, before.saturating_add(1)));
        self.causes.reset_streaks();
        self.update_states(step);
    }

    /// Counts a deadline that passed.
    fn timed_out(&mut self, call: &'static str, step: &mut Step) {
        let before = self.hanging.map_or(0, |(_, times)| times);
        self.hanging = Some((call, before.saturating_add(1)));
        self.answered(false, step);
        self.causes.reset_streaks();
        self.update_states(step);
    }

    /// Raises the states that are known, and makes the degradations those that are known.
    fn update_states(&mut self, step: &mut Step) {
        let thresholds = step.policy.thresholds();
        let states: Vec<_> =
            self.fields.causes(thresholds).chain(self.failing_calls(step)).collect();
        for cause in states {
            self.raise(cause, step);
        }
        let mut degradations = self.fields.degradations(thresholds);
        degradations.extend(self.contained.map(|_| Degradation::ContainedError));
        self.degradations.retain(|which, _| {
            let stays = degradations.contains(which);
            if !stays {
                step.change.notices.push(HealthNotice::Restored(*which));
            }
            stays
        });
        for which in degradations {
            self.degradations.entry(which).or_insert_with(|| {
                step.change.notices.push(HealthNotice::Degraded(which));
                step.now
            });
        }
    }

    /// The calls that failed or passed their deadline too often in a row. Once is too often while
    /// the GPU is suspect, a deadline also if it never answered.
    fn failing_calls(&self, step: &Step) -> impl Iterator<Item = Cause> {
        let missed_calls = step.policy.thresholds().missed_calls.get();
        let is_suspect = self.reads.is_suspect(step.now);
        let is_new = self.first_answer != FirstAnswer::Given;
        let failing =
            self.failing.as_ref().filter(|(_, times)| *times >= missed_calls || is_suspect);
        let hanging =
            self.hanging.filter(|(_, times)| *times >= missed_calls || is_suspect || is_new);
        let failing = failing.map(|(error, _)| Cause::NvmlError(error.clone()));
        failing.into_iter().chain(hanging.map(|(call, _)| Cause::NvmlUnresponsive { call }))
    }

    fn enumerated(&mut self, session: u64, step: &mut Step) {
        let began = self.enter_session(session, step.now);
        self.is_absent = false;
        self.known_since.get_or_insert(step.now);
        let was_missing = self.causes.has(CauseKind::NotEnumerated);
        self.causes.enumerated(step.now, began);
        // Within one session the look-up failed: that is no return.
        if self.absent_from.take().is_some_and(|absent| absent != session) {
            self.repaired(RepairEvidence::Reenumerated, None, step);
        }
        if was_missing {
            self.reads.schedule(step.now, step.policy.thresholds().suspicion);
        }
    }

    fn not_enumerated(&mut self, session: u64, complete: bool, step: &mut Step) {
        self.enter_session(session, step.now);
        self.is_absent = true;
        if complete {
            self.absent_from.get_or_insert(session);
        }
        self.raise(Cause::NotEnumerated, step);
    }

    /// Whether the last enumeration listed the GPU.
    pub(super) fn is_listed(&self) -> bool {
        self.session.is_some() && !self.is_absent
    }

    /// When this session began for the GPU.
    fn enter_session(&mut self, session: u64, now: Moment) -> Moment {
        match self.session {
            Some((same, began)) if same == session => began,
            _ => self.session.insert((session, now)).1,
        }
    }

    fn repaired(&mut self, evidence: RepairEvidence, kind: Option<CauseKind>, step: &mut Step) {
        self.causes.repaired(step.now, evidence, kind);
        self.contained.take_if(|_| kind.is_none());
        // The driver that is loaded now may be older or newer than the one that was read.
        if matches!(evidence, RepairEvidence::NewBoot | RepairEvidence::DriverReload) {
            self.fields = Fields::default();
        }
        self.update_states(step);
    }

    fn raise(&mut self, cause: Cause, step: &mut Step) {
        if step.policy.counts(&cause) {
            self.causes.raise(step.now, cause, step.policy.thresholds(), &mut step.change);
        }
    }

    /// The causes to persist, and whether there is evidence of the repair of each.
    pub(super) fn lasting_causes(&self) -> impl Iterator<Item = (&Cause, bool)> {
        self.causes.lasting()
    }

    /// Adds a cause from before a restart.
    pub(super) fn restore(&mut self, now: Moment, cause: Cause, repaired: bool) {
        self.known_since.get_or_insert(now);
        self.causes.restore(now, cause, repaired);
    }
}
