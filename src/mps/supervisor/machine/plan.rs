//! What comes next in the life of a control daemon where nothing is under way.

use std::time::Duration;

use device::names::Uuid;

use super::step::{DaemonAction, DaemonStep, Moment};
use super::{Goal, GoalGpu, Machine, Running};

/// How long a start waits for GPUs that are not Healthy yet: to join later means another start.
const SETTLE: Duration = Duration::from_secs(2);

impl Machine {
    /// Decides what comes next where nothing is under way: fills the queue, or says what to wait
    /// for.
    pub(super) fn plan(&mut self, now: Moment) -> Option<DaemonAction> {
        if self.running.is_some() {
            return self.plan_running(now);
        }
        let goal = self.goal.clone().filter(|_| !self.stopping);
        let is_wanted = |gpu: &&Uuid| goal.as_ref().is_some_and(|goal| goal.has(gpu));
        let unwanted = self.exclusive.iter().find(|gpu| !is_wanted(gpu)).cloned();
        if let Some(gpu) = unwanted {
            self.queue.push_back(DaemonStep::Restore(gpu));
            return None;
        }
        let Some(goal) = goal else { return Some(DaemonAction::Finished) };
        if !self.prepared {
            // So that whatever is missing can be told.
            if now < self.retry_at {
                return Some(DaemonAction::Wait(Some(self.retry_at)));
            }
            self.queue.push_back(DaemonStep::Prepare);
            return None;
        }
        if goal.usable().next().is_none() {
            self.withdraw("none of its GPUs is Healthy".to_owned());
            return self.queue.is_empty().then_some(DaemonAction::Wait(None));
        }
        let start_at = self.retry_at.max(self.settled_at(&goal, now));
        if now < start_at {
            return Some(DaemonAction::Wait(Some(start_at)));
        }
        self.queue_start(&goal);
        None
    }

    /// When a start waits no longer for GPUs that are not Healthy.
    fn settled_at(&mut self, goal: &Goal, now: Moment) -> Moment {
        if goal.gpus.iter().all(|gpu| gpu.usable) {
            self.incomplete_since = None;
            return now;
        }
        *self.incomplete_since.get_or_insert(now) + SETTLE
    }

    fn queue_start(&mut self, goal: &Goal) {
        let gpus: Vec<GoalGpu> = goal.usable().cloned().collect();
        let uuids = || gpus.iter().map(|gpu| gpu.uuid.clone());
        self.queue.push_back(DaemonStep::EndLeftover);
        self.queue.extend(uuids().map(DaemonStep::Exclusive));
        let multi_user = goal.multi_user;
        self.queue.push_back(DaemonStep::Start { gpus: uuids().collect(), multi_user });
        self.queue.push_back(DaemonStep::AwaitAnswer);
    }

    fn plan_running(&mut self, now: Moment) -> Option<DaemonAction> {
        let running = self.running.clone()?;
        // Before it works for clients it has none.
        if self.stopping || self.goal.is_none() && running.up_since.is_none() {
            self.end("it is stopped");
            return None;
        }
        let limits = self.limits(&running);
        if let Some(limits) = limits.filter(|limits| running.limits.as_ref() != Some(limits)) {
            let is_retry = running.up_since.is_some() && running.limits.is_none();
            if !is_retry || now >= running.check_at {
                // So that a daemon that is gone is not taken for one that refuses limits.
                self.queue.extend(is_retry.then_some(DaemonStep::Check));
                self.queue_limits(&running, limits);
                return None;
            }
        }
        if running.up_since.is_none() {
            self.queue.push_back(DaemonStep::Announce(running.gpus));
            return None;
        }
        // A GPU that is not shared any more is for others at once.
        let goal = self.goal.as_ref();
        let unwanted = |gpu: &&Uuid| !goal.is_some_and(|goal| goal.has(gpu));
        if let Some(gpu) = self.exclusive.iter().find(unwanted).cloned() {
            self.queue.push_back(DaemonStep::Restore(gpu));
            return None;
        }
        if now < running.check_at {
            return Some(DaemonAction::Wait(Some(running.check_at)));
        }
        self.queue.push_back(DaemonStep::Check);
        // One that was not shared for a time.
        let shared = running.gpus.iter().filter(|gpu| goal.is_some_and(|goal| goal.has(gpu)));
        let shared = shared.filter(|gpu| !self.exclusive.contains(*gpu)).cloned();
        self.queue.extend(shared.map(DaemonStep::Exclusive));
        if self.is_to_differ(&running) {
            self.queue.push_back(DaemonStep::CountClients);
        }
        None
    }

    /// The limits that a daemon is to have, by its own ordinals. Those of a GPU that is no longer
    /// shared stay.
    fn limits(&self, running: &Running) -> Option<(Vec<Option<u64>>, u32)> {
        let goal = self.goal.as_ref()?;
        let had = |ordinal: usize| running.limits.as_ref()?.0.get(ordinal).copied().flatten();
        let limit = |(ordinal, uuid): (usize, &Uuid)| {
            let gpu = goal.gpus.iter().find(|gpu| gpu.uuid == *uuid);
            gpu.map_or_else(|| had(ordinal), |gpu| gpu.memory)
        };
        let memory = running.gpus.iter().enumerate().map(limit).collect();
        Some((memory, goal.threads.unwrap_or(100)))
    }

    fn queue_limits(&mut self, running: &Running, limits: (Vec<Option<u64>>, u32)) {
        let (memory, threads) = &limits;
        let by_ordinal = memory.iter().enumerate();
        let memory: Vec<(usize, u64)> =
            by_ordinal.filter_map(|(ordinal, limit)| Some((ordinal, (*limit)?))).collect();
        self.queue
            .extend(memory.iter().map(|(ordinal, mib)| DaemonStep::LimitMemory(*ordinal, *mib)));
        self.queue.push_back(DaemonStep::LimitThreads(*threads));
        if running.up_since.is_some() {
            self.queue.push_back(DaemonStep::LimitServers { memory, threads: *threads });
        }
        // A failure takes it back.
        if let Some(running) = &mut self.running {
            running.limits = Some(limits);
        }
    }

    /// Whether a daemon is to be another one than runs, when no client uses it.
    pub(super) fn is_to_differ(&self, running: &Running) -> bool {
        let Some(goal) = &self.goal else { return true };
        let joins = goal.usable().any(|gpu| !running.gpus.contains(&gpu.uuid));
        let leaves = running.gpus.iter().any(|gpu| !goal.has(gpu));
        joins || leaves || goal.multi_user != running.multi_user
    }
}
