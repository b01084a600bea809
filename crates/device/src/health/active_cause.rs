//! The causes of one GPU from when they are raised until they are cleared, and its history of
//! relapses.

use std::collections::{BTreeMap, VecDeque};

use super::cause::{Cause, CauseKind};
use super::clear_rule::{ClearRule, Poll, is_gpu_failure, is_lasting};
use super::fields::RecoveryState;
use super::observation::{HealthChange, RepairEvidence};
use super::reason::{Moment, Reason};
use super::rules::Thresholds;
use super::scope::{GpuPart, Scope};
use super::xid::Xid;

/// How far a cause is on its way to being cleared.
///
/// ```text
///             raised               evidence that its rule accepts
///   cleared ─────────▶ Active ─────────────────────────────────────▶ Repaired
///      ▲               │    ▲                                        │     │
///      │ N clean polls │    └─────────────── raised again ───────────┘     │ N clean polls
///      └───────────────┴───────────────────────────────────────────────────┘
/// ```
///
/// A cause is raised, evidence of repair arrives, and N clean polls in a row (`recoveryPolls`)
/// confirm it: the cause is cleared. Clean polls alone clear an active cause under the rules
/// `State` and `RecoveryAction`; under `Source` its source clears it without polls.
///
/// A failure, a timeout or a poll that is not clean starts the count again. A cause that is raised
/// again is active again, and evidence and polls from before that do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is no evidence of repair.
    Active,
    /// There is evidence of repair, and clean polls have to confirm it.
    Repaired,
}

/// A cause of a GPU that is not cleared yet.
#[derive(Debug, Clone)]
pub(super) struct ActiveCause {
    pub cause: Cause,
    pub stage: Stage,
    restored: bool,
    since: Moment,
    /// When it was last raised. Only newer polls and evidence count.
    last_raised: Moment,
    /// Clean polls in a row since then.
    clean_polls: u32,
}

impl ActiveCause {
    pub(super) fn new(cause: Cause, now: Moment) -> Self {
        Self {
            cause,
            stage: Stage::Active,
            restored: false,
            since: now,
            last_raised: now,
            clean_polls: 0,
        }
    }

    pub(super) fn restored(cause: Cause, repaired: bool, now: Moment) -> Self {
        let stage = if repaired { Stage::Repaired } else { Stage::Active };
        Self { stage, restored: true, ..Self::new(cause, now) }
    }

    pub(super) fn clear_rule(&self) -> ClearRule {
        ClearRule::of(&self.cause)
    }

    /// Returns whether the details are new.
    pub(super) fn raise_again(&mut self, cause: Cause, now: Moment) -> bool {
        self.stage = Stage::Active;
        self.clean_polls = 0;
        self.last_raised = self.last_raised.max(now);
        let is_new = self.cause != cause;
        self.cause = cause;
        is_new
    }

    /// A failure between two polls: the clean polls before it do not count.
    pub(super) fn reset_streak(&mut self) {
        self.clean_polls = 0;
    }

    pub(super) fn repaired(&mut self, evidence: RepairEvidence, now: Moment) {
        if now >= self.last_raised && self.clear_rule().accepts(evidence) {
            self.stage = Stage::Repaired;
        }
    }

    /// The GPU is listed in a session that began then. What was lost in a session is back only in a
    /// later one: the handles of the session are those of the lost GPU.
    pub(super) fn enumerated(&mut self, now: Moment, began: Moment) {
        let is_listed = match self.cause {
            Cause::NotEnumerated => now >= self.last_raised,
            _ => began > self.last_raised,
        };
        if is_listed && self.clear_rule() == ClearRule::Enumeration {
            self.stage = Stage::Repaired;
        }
    }

    /// Counts a poll. Returns whether the cause is cleared.
    pub(super) fn polled(&mut self, poll: &Poll<'_>) -> bool {
        if poll.at <= self.last_raised {
            return false;
        }
        let clean = poll.passed && self.is_clean(poll);
        self.clean_polls = if clean { self.clean_polls.saturating_add(1) } else { 0 };
        let settled = !matches!(self.cause, Cause::Xid { .. })
            || poll.at.since(self.last_raised) >= poll.thresholds.suspicion;
        self.clean_polls >= poll.thresholds.recovery_polls.get() && settled
    }

    /// Whether a poll that passed has nothing against clearing the cause. A state that it states
    /// was raised by it.
    fn is_clean(&self, poll: &Poll<'_>) -> bool {
        let repaired = self.stage == Stage::Repaired;
        let decided = poll.fields.decide(self.cause.kind());
        match self.clear_rule() {
            ClearRule::Source => false,
            ClearRule::State => repaired || decided,
            ClearRule::RecoveryAction => match poll.fields.recovery(poll.thresholds) {
                RecoveryState::Clear => true,
                RecoveryState::Unsupported => repaired || self.was_quiet(poll),
                RecoveryState::Unknown | RecoveryState::Required => false,
            },
            ClearRule::Repair => repaired && decided,
            ClearRule::Enumeration | ClearRule::RepairNotReturn | ClearRule::Boot => repaired,
        }
    }

    fn was_quiet(&self, poll: &Poll<'_>) -> bool {
        let quiet = poll.at.since(self.last_raised);
        poll.thresholds.quiet_period.is_some_and(|period| quiet >= period)
    }

    pub(super) fn reason(&self) -> Reason {
        Reason { cause: self.cause.clone(), since: self.since, restored: self.restored }
    }
}

/// Causes of one GPU kept apart; further Xids share one cause of the whole GPU.
const MAX_CAUSES: usize = 64;

/// Two causes with one key are the same cause with other details.
type Key = (CauseKind, Option<(Xid, Scope)>);

/// The causes of one GPU.
#[derive(Debug, Clone, Default)]
pub(super) struct Causes {
    active: BTreeMap<Key, ActiveCause>,
    /// Whether the GPU failed and recovered since the last evidence of repair.
    recovered: bool,
    /// When it failed again after that, within the configured window.
    relapses: VecDeque<Moment>,
}

impl Causes {
    pub(super) fn reasons(&self, device: GpuPart) -> impl Iterator<Item = Reason> {
        self.active
            .values()
            .filter(move |active| active.cause.scope().covers(device))
            .map(ActiveCause::reason)
    }

    pub(super) fn has(&self, kind: CauseKind) -> bool {
        self.active.keys().any(|key| key.0 == kind)
    }

    /// Whether one of them waits for a new enumeration that lists the GPU.
    pub(super) fn await_enumeration(&self) -> bool {
        self.active.values().any(|active| {
            active.clear_rule() == ClearRule::Enumeration && active.stage == Stage::Active
        })
    }

    /// Adds a cause, or raises it again.
    pub(super) fn raise(
        &mut self,
        now: Moment,
        cause: Cause,
        thresholds: &Thresholds,
        change: &mut HealthChange,
    ) {
        let cause = self.bounded(cause);
        let had_failed = self.has_failed();
        if let Some(active) = self.active.get_mut(&key(&cause)) {
            if active.raise_again(cause.clone(), now) {
                change.raised.push(cause);
            }
            return;
        }
        let failed = is_gpu_failure(&cause);
        self.active.insert(key(&cause), ActiveCause::new(cause.clone(), now));
        change.raised.push(cause);
        if failed && !had_failed && self.recovered {
            self.relapsed(now, thresholds, change);
        }
    }

    /// Beyond `MAX_CAUSES`, the cause of an Xid is replaced by an active one of the whole GPU: the
    /// list stays bounded, and no affected device stays Healthy.
    fn bounded(&self, cause: Cause) -> Cause {
        let Cause::Xid { xid, configured, .. } = cause else { return cause };
        if self.active.len() < MAX_CAUSES || self.active.contains_key(&key(&cause)) {
            return cause;
        }
        let whole_gpu = self
            .active
            .values()
            .find(|active| matches!(active.cause, Cause::Xid { scope: Scope::Gpu, .. }));
        let new = Cause::Xid { xid, scope: Scope::Gpu, configured };
        whole_gpu.map_or(new, |active| active.cause.clone())
    }

    fn has_failed(&self) -> bool {
        self.active.values().any(|active| is_gpu_failure(&active.cause))
    }

    fn relapsed(&mut self, now: Moment, thresholds: &Thresholds, change: &mut HealthChange) {
        let Some(limit) = thresholds.relapses else { return };
        self.relapses.push_back(now);
        self.relapses.retain(|relapse| now.since(*relapse) <= limit.window);
        let times = u32::try_from(self.relapses.len()).unwrap_or(u32::MAX);
        if times >= limit.count.get() {
            self.raise(now, Cause::Relapses(times), thresholds, change);
        }
    }

    /// Clears a cause that its source withdrew.
    pub(super) fn clear(&mut self, kind: CauseKind, change: &mut HealthChange) {
        change.cleared.extend(self.active.remove(&(kind, None)).map(|active| active.cause));
    }

    /// Clears causes that no longer count. That is no recovery of the GPU.
    pub(super) fn retain(&mut self, stands: impl Fn(&Cause) -> bool, change: &mut HealthChange) {
        self.active.retain(|_, active| {
            let stays = stands(&active.cause);
            if !stays {
                change.cleared.push(active.cause.clone());
            }
            stays
        });
    }

    pub(super) fn reset_streaks(&mut self) {
        self.active.values_mut().for_each(ActiveCause::reset_streak);
    }

    pub(super) fn enumerated(&mut self, now: Moment, began: Moment) {
        self.active.values_mut().for_each(|active| active.enumerated(now, began));
    }

    /// There is evidence of the repair of all causes, or of those of one kind.
    pub(super) fn repaired(
        &mut self,
        now: Moment,
        evidence: RepairEvidence,
        kind: Option<CauseKind>,
    ) {
        let is_meant = |of: CauseKind| kind.is_none_or(|kind| kind == of);
        for active in self.active.values_mut().filter(|active| is_meant(active.cause.kind())) {
            active.repaired(evidence, now);
        }
        if is_meant(CauseKind::Relapses) && ClearRule::RepairNotReturn.accepts(evidence) {
            self.recovered = false;
            self.relapses.clear();
        }
    }

    /// Counts a poll and clears the causes that it is the last clean one for.
    pub(super) fn polled(&mut self, poll: &Poll<'_>, change: &mut HealthChange) {
        let had_failed = self.has_failed();
        self.active.retain(|_, active| {
            let over = active.polled(poll);
            if over {
                change.cleared.push(active.cause.clone());
            }
            !over
        });
        self.recovered |= had_failed && !self.has_failed();
    }

    /// The causes to keep over a restart, and whether there is evidence of the repair of each.
    pub(super) fn lasting(&self) -> impl Iterator<Item = (&Cause, bool)> {
        let lasting = self.active.values().filter(|active| is_lasting(&active.cause));
        lasting.map(|active| (&active.cause, active.stage == Stage::Repaired))
    }

    /// Adds a cause from before this process started.
    pub(super) fn restore(&mut self, now: Moment, cause: Cause, repaired: bool) {
        let cause = self.bounded(cause);
        self.active
            .entry(key(&cause))
            .or_insert_with(|| ActiveCause::restored(cause, repaired, now));
    }
}

fn key(cause: &Cause) -> Key {
    match cause {
        Cause::Xid { xid, scope, .. } => (CauseKind::Xid, Some((*xid, *scope))),
        cause => (cause.kind(), None),
    }
}
