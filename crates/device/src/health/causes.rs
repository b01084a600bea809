//! The causes of one GPU, and its history of relapses.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::active_cause::{ActiveCause, Stage};
use super::cause::{Cause, CauseKind};
use super::clear_rule::{ClearRule, Poll, is_gpu_failure, is_lasting};
use super::observation::{HealthChange, RepairEvidence};
use super::reason::{Moment, Reason, Since};
use super::rules::Thresholds;
use super::scope::{GpuPart, Scope};
use super::xid::Xid;

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

    /// The causes, of all kinds or of one, for which this evidence of a repair counts.
    pub(super) fn repairable(
        &self,
        evidence: RepairEvidence,
        kind: Option<CauseKind>,
    ) -> impl Iterator<Item = &Cause> {
        let is_meant = move |cause: &Cause| kind.is_none_or(|kind| kind == cause.kind());
        let accepting =
            self.active.values().filter(move |active| active.clear_rule().accepts(evidence));
        accepting.map(|active| &active.cause).filter(move |cause| is_meant(cause))
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
    pub(super) fn lasting(&self) -> impl Iterator<Item = (Reason, bool)> {
        let lasting = self.active.values().filter(|active| is_lasting(&active.cause));
        lasting.map(|active| (active.reason(), active.stage == Stage::Repaired))
    }

    /// The causes that are not kept, since their sources state them again, and since when they
    /// last.
    pub(super) fn restated(&self) -> impl Iterator<Item = (&'static str, Since)> {
        let restated = self.active.values().filter(|active| !is_lasting(&active.cause));
        restated.map(|active| (active.cause.as_str(), active.since()))
    }

    /// Such a cause lasted for so long before this process knew it.
    pub(super) fn set_age(&mut self, word: &str, before: Duration) {
        let is_it = |of: &&mut ActiveCause| of.cause.as_str() == word && !is_lasting(&of.cause);
        if let Some(active) = self.active.values_mut().find(is_it) {
            active.set_age(before);
        }
    }

    /// Adds a cause from before this process started. Returns it if it is new.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        cause: Cause,
        repaired: bool,
        before: Duration,
    ) -> Option<Cause> {
        let cause = self.bounded(cause);
        let Entry::Vacant(entry) = self.active.entry(key(&cause)) else { return None };
        entry.insert(ActiveCause::restored(cause.clone(), repaired, now, before));
        Some(cause)
    }
}

fn key(cause: &Cause) -> Key {
    match cause {
        Cause::Xid { xid, scope, .. } => (CauseKind::Xid, Some((*xid, *scope))),
        cause => (cause.kind(), None),
    }
}
