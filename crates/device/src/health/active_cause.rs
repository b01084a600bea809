//! A cause of one GPU from when it is raised until it is cleared.

use std::time::Duration;

use super::cause::Cause;
use super::clear_rule::{ClearRule, Poll};
use super::fields::RecoveryState;
use super::observation::RepairEvidence;
use super::reason::{Moment, Reason, Since};

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
    /// How long it was active before this process knew it.
    before: Duration,
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
            before: Duration::ZERO,
            last_raised: now,
            clean_polls: 0,
        }
    }

    /// One from before this process started, that was active for so long before `now`.
    pub(super) fn restored(cause: Cause, repaired: bool, now: Moment, before: Duration) -> Self {
        let stage = if repaired { Stage::Repaired } else { Stage::Active };
        Self { stage, restored: true, before, ..Self::new(cause, now) }
    }

    pub(super) fn clear_rule(&self) -> ClearRule {
        ClearRule::of(&self.cause)
    }

    pub(super) fn since(&self) -> Since {
        Since { known: self.since, before: self.before }
    }

    /// It was active for so long before this process knew it.
    pub(super) fn set_age(&mut self, before: Duration) {
        self.before = before;
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
        let Self { since, before, restored, .. } = *self;
        Reason { cause: self.cause.clone(), since, before, restored }
    }
}
