//! The causes held against one GPU, and its history of recovering and failing again.

use std::collections::{BTreeMap, VecDeque};

use super::cause::{Cause, CauseKind};
use super::clear_rule::{ClearRule, PollResult, RecoveryState, accepts, is_of_the_gpu, lift};
use super::observation::{HealthChange, RepairEvidence};
use super::reason::{Moment, Reason};
use super::rules::Thresholds;
use super::scope::{GpuPart, Scope};
use super::xid::Xid;

/// What has happened about a cause.
///
/// ```text
///            raised                  evidence that its rule accepts
///   (none) ─────────▶ Standing ─────────────────────────────────────▶ Repaired
///     ▲                 │   ▲                                          │   │
///     │   N clean polls │   └──────────────── raised again ────────────┘   │ N clean polls
///     │   (Polls,       │                                                  │
///     └─── Driver) ─────┴──────────────────────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing speaks for its being over.
    Active,
    /// There is evidence; clean polls have to confirm it.
    Repaired,
}

/// A cause that is held against a GPU.
#[derive(Debug, Clone)]
pub(super) struct ActiveCause {
    pub cause: Cause,
    pub stage: Stage,
    restored: bool,
    since: Moment,
    /// When it was last raised: only what is newer can count against it.
    last: Moment,
    /// Clean polls in a row since.
    clean: u32,
}

impl ActiveCause {
    pub(super) fn new(cause: Cause, now: Moment) -> Self {
        Self { cause, stage: Stage::Active, restored: false, since: now, last: now, clean: 0 }
    }

    pub(super) fn remembered(cause: Cause, repaired: bool, now: Moment) -> Self {
        let stage = if repaired { Stage::Repaired } else { Stage::Active };
        Self { stage, restored: true, ..Self::new(cause, now) }
    }

    pub(super) fn lift(&self) -> ClearRule {
        lift(&self.cause)
    }

    /// The same cause once more. Says whether its details are new.
    pub(super) fn again(&mut self, cause: Cause, now: Moment) -> bool {
        self.stage = Stage::Active;
        self.clean = 0;
        self.last = self.last.max(now);
        let news = self.cause != cause;
        self.cause = cause;
        news
    }

    /// Polls are in a row only if nothing failed between them.
    pub(super) fn reset_streak(&mut self) {
        self.clean = 0;
    }

    pub(super) fn repaired(&mut self, evidence: RepairEvidence, now: Moment) {
        if now >= self.last && accepts(self.lift(), evidence) {
            self.stage = Stage::Repaired;
        }
    }

    /// The GPU is listed by a new enumeration.
    pub(super) fn returned(&mut self, now: Moment) {
        if now >= self.last && self.lift() == ClearRule::Enumeration {
            self.stage = Stage::Repaired;
        }
    }

    /// Counts a poll. Says whether the cause is over.
    pub(super) fn polled(&mut self, poll: &PollResult, thresholds: &Thresholds) -> bool {
        if poll.at <= self.last {
            return false;
        }
        let clean = poll.probe && self.is_answered_by(poll, thresholds);
        self.clean = if clean { self.clean.saturating_add(1) } else { 0 };
        let settled = !matches!(self.cause, Cause::Xid { .. })
            || poll.at.since(self.last) >= thresholds.suspicion;
        self.clean >= thresholds.recovery_polls.get() && settled
    }

    fn is_answered_by(&self, poll: &PollResult, thresholds: &Thresholds) -> bool {
        let repaired = self.stage == Stage::Repaired;
        match self.lift() {
            ClearRule::Source => false,
            ClearRule::CleanPolls => match self.cause {
                Cause::Fabric(_) => poll.fabric,
                Cause::RowRemapPending => poll.rows,
                _ => true,
            },
            ClearRule::RecoveryAction => match poll.driver {
                RecoveryState::Clear => true,
                RecoveryState::Unsupported => {
                    repaired
                        || thresholds
                            .quiet_period
                            .is_some_and(|quiet| poll.at.since(self.last) >= quiet)
                }
                RecoveryState::Unknown | RecoveryState::Required => false,
            },
            ClearRule::Repair if self.cause == Cause::RowRemapFailure => repaired && poll.rows,
            ClearRule::Enumeration
            | ClearRule::Repair
            | ClearRule::RepairNotReturn
            | ClearRule::Boot => repaired,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        Reason { cause: self.cause.clone(), since: self.since, restored: self.restored }
    }
}

/// Causes held one by one. Xids beyond that are held against the whole GPU.
const MOST: usize = 64;

/// What a cause is told apart by: two of one key are the same cause with other details.
type Key = (CauseKind, Option<(Xid, Scope)>);

/// The causes held against one GPU.
#[derive(Debug, Clone, Default)]
pub(super) struct Causes {
    held: BTreeMap<Key, ActiveCause>,
    /// Whether the GPU failed and recovered since there was last evidence of a repair…
    recovered: bool,
    /// …and when it failed again.
    relapses: VecDeque<Moment>,
}

impl Causes {
    pub(super) fn reasons(&self, device: GpuPart) -> impl Iterator<Item = Reason> {
        self.held
            .values()
            .filter(move |held| held.cause.scope().covers(device))
            .map(ActiveCause::reason)
    }

    pub(super) fn has(&self, kind: CauseKind) -> bool {
        self.held.keys().any(|key| key.0 == kind)
    }

    /// Whether one of them waits for NVML to list the GPU anew.
    pub(super) fn wait_for_return(&self) -> bool {
        self.held
            .values()
            .any(|held| held.lift() == ClearRule::Enumeration && held.stage == Stage::Active)
    }

    /// Holds a cause against the GPU, or holds it once more.
    pub(super) fn raise(
        &mut self,
        now: Moment,
        cause: Cause,
        thresholds: &Thresholds,
        change: &mut HealthChange,
    ) {
        let cause = self.bounded(cause);
        let had_failed = self.has_failed();
        if let Some(held) = self.held.get_mut(&key(&cause)) {
            if held.again(cause.clone(), now) {
                change.raised.push(cause);
            }
            return;
        }
        let failed = is_of_the_gpu(&cause);
        self.held.insert(key(&cause), ActiveCause::new(cause.clone(), now));
        change.raised.push(cause);
        if failed && !had_failed && self.recovered {
            self.relapsed(now, thresholds, change);
        }
    }

    /// Beyond so many causes, an Xid is held against the whole GPU under a number that is held
    /// already: the list stays short, and no device that is hit is spared.
    fn bounded(&self, cause: Cause) -> Cause {
        let Cause::Xid { xid, scope: _ } = cause else { return cause };
        if self.held.len() < MOST || self.held.contains_key(&key(&cause)) {
            return cause;
        }
        let on_all = self
            .held
            .values()
            .find(|held| matches!(held.cause, Cause::Xid { scope: Scope::Gpu, .. }));
        on_all.map_or(Cause::Xid { xid, scope: Scope::Gpu }, |held| held.cause.clone())
    }

    fn has_failed(&self) -> bool {
        self.held.values().any(|held| is_of_the_gpu(&held.cause))
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

    /// Its source takes a cause back.
    pub(super) fn take_back(&mut self, kind: CauseKind, change: &mut HealthChange) {
        change.cleared.extend(self.held.remove(&(kind, None)).map(|held| held.cause));
    }

    /// Drops what does not count any more. That is no recovery.
    pub(super) fn drop_unless(
        &mut self,
        stands: impl Fn(&Cause) -> bool,
        change: &mut HealthChange,
    ) {
        self.held.retain(|_, held| {
            let stays = stands(&held.cause);
            if !stays {
                change.cleared.push(held.cause.clone());
            }
            stays
        });
    }

    /// Something failed: the clean polls so far are not in a row with those to come.
    pub(super) fn reset_streaks(&mut self) {
        self.held.values_mut().for_each(ActiveCause::reset_streak);
    }

    /// A new enumeration lists the GPU.
    pub(super) fn returned(&mut self, now: Moment) {
        self.held.values_mut().for_each(|held| held.returned(now));
    }

    pub(super) fn repaired(&mut self, now: Moment, evidence: RepairEvidence) {
        self.held.values_mut().for_each(|held| held.repaired(evidence, now));
        if accepts(ClearRule::RepairNotReturn, evidence) {
            self.recovered = false;
            self.relapses.clear();
        }
    }

    /// Lifts what a poll shows to be over.
    pub(super) fn polled(
        &mut self,
        poll: &PollResult,
        thresholds: &Thresholds,
        change: &mut HealthChange,
    ) {
        let had_failed = self.has_failed();
        self.held.retain(|_, held| {
            let over = held.polled(poll, thresholds);
            if over {
                change.cleared.push(held.cause.clone());
            }
            !over
        });
        self.recovered |= had_failed && !self.has_failed();
    }

    /// Those that no source would state again after a restart, and whether there is evidence of the
    /// repair of each.
    pub(super) fn lasting(&self) -> impl Iterator<Item = (&Cause, bool)> {
        let lasting = self.held.values().filter(|held| is_of_the_gpu(&held.cause));
        lasting.map(|held| (&held.cause, held.stage == Stage::Repaired))
    }

    /// Holds a cause that is known from before this process started.
    pub(super) fn restore(&mut self, now: Moment, cause: Cause, repaired: bool) {
        let cause = self.bounded(cause);
        self.held
            .entry(key(&cause))
            .or_insert_with(|| ActiveCause::remembered(cause, repaired, now));
    }
}

fn key(cause: &Cause) -> Key {
    match cause {
        Cause::Xid { xid, scope } => (CauseKind::Xid, Some((*xid, *scope))),
        cause => (cause.kind(), None),
    }
}
