//! The life of one control daemon as a pure function of what is wanted, what came of the steps, and
//! the time.
//!
//! ```text
//!   wanted ──▶ prepare, end a leftover, exclusive mode of each GPU ──▶ start ──▶ it answers
//!     ▲                                                                            │
//!     │ back-off                                             its limits, announced ▼
//!   down ◀── mode restored where not wanted ◀── ended ◀── quit ◀── withdrawn ◀──── up
//!                                    (died: withdrawn, down)          ▲            │
//!                                                                     └────────────┘
//!            does not answer, or something else is wanted and no client runs, or stopped
//! ```
//!
//! The happy path: a resource is shared, the steps of the start are done in order, the daemon is
//! announced, and from then on looked at. Whatever fails before withdraws what was announced, ends
//! the daemon, and begins again after a pause. Other limits are set at once, for clients to come.
//! Anything else that is to be different waits until no client runs, since a client ends with its
//! daemon: another set of GPUs, one server for all users, or no sharing at all.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use device::names::Uuid;

use super::goal::{Goal, GoalGpu};
use crate::util::backoff::Backoff;

/// Time since a moment that is the same for all.
pub(super) type Moment = Duration;

/// How often a daemon that works is looked at.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The pause before a daemon is started again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// For how long a daemon has to work until its next failure counts as a first one.
const STABLE: Duration = Duration::from_secs(60);
/// How many looks in a row a daemon may not answer before it is ended.
const MOST_MISSED: u32 = 3;

/// One thing to do, which takes a bounded time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the directories, take the lock, label the pipes.
    Prepare,
    /// End a daemon that an earlier process has left on the pipes.
    EndLeftover,
    /// Give only MPS the use of a GPU.
    Exclusive(Uuid),
    /// Start the daemon on these GPUs, numbered in this order.
    Start {
        /// The GPUs.
        gpus: Vec<Uuid>,
        /// Whether one server is for all users.
        multi_user: bool,
    },
    /// Wait until it answers.
    AwaitAnswer,
    /// Set the default limit of memory, in MiB, on the GPU with this ordinal.
    LimitMemory(usize, u64),
    /// Set the default share of threads, in percent.
    LimitThreads(u32),
    /// Set the same for clients to come of the servers that run.
    LimitServers {
        /// In MiB, by ordinal.
        memory: Vec<(usize, u64)>,
        /// In percent.
        threads: u32,
    },
    /// Tell that it works for clients on these GPUs.
    Announce(Vec<Uuid>),
    /// Ask whether it still answers.
    Check,
    /// Count its clients.
    CountClients,
    /// Tell that it does not work for clients, and why.
    Withdraw(String),
    /// Tell it to quit, and wait for its end for a time.
    Quit,
    /// Kill it.
    Kill,
    /// Give others the use of a GPU again.
    Restore(Uuid),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// This, and tell what came of it.
    Do(Step),
    /// Nothing before this moment, or before something happens; `None`: nothing by itself.
    Wait(Option<Moment>),
    /// Nothing any more: all is undone.
    Finished,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done; of [`Step::CountClients`], with how many there are.
    Done(usize),
    /// It failed.
    Failed(String),
}

/// A daemon that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    gpus: Vec<Uuid>,
    multi_user: bool,
    /// The limits that it has, of memory by ordinal and of threads.
    limits: Option<(Vec<Option<u64>>, u32)>,
    /// Since when it works for clients.
    up_since: Option<Moment>,
    missed: u32,
    check_at: Moment,
}

/// The life of one control daemon.
#[derive(Debug)]
pub(super) struct Machine {
    goal: Option<Goal>,
    stopping: bool,
    queue: VecDeque<Step>,
    running: Option<Running>,
    /// GPUs that only MPS has the use of.
    exclusive: BTreeSet<Uuid>,
    backoff: Backoff,
    retry_at: Moment,
    /// What was told last: why it does not work for clients; `None`: that it does.
    told: Option<String>,
    /// Whether the directory is prepared, so that something can be told.
    prepared: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            goal: None,
            stopping: false,
            queue: VecDeque::new(),
            running: None,
            exclusive: BTreeSet::new(),
            backoff: Backoff::new(FIRST_PAUSE, LAST_PAUSE),
            retry_at: Moment::ZERO,
            told: Some(String::new()),
            prepared: false,
        }
    }
}

impl Machine {
    /// Sets what the daemon is to be; `None`: not there.
    pub(super) fn want(&mut self, goal: Option<Goal>) {
        self.goal = goal;
    }

    /// All is to end now, also under clients that run.
    pub(super) fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            // What is under way for a start is not gone on with.
            self.queue.clear();
        }
    }

    /// The daemon has ended by itself.
    pub(super) fn exited(&mut self, how: &str, now: Moment) {
        if self.running.is_some() {
            self.fail(format!("it has ended ({how})"), now, false);
        }
    }

    /// The limits are no longer known: somebody else may have changed them.
    pub(super) fn limits_lost(&mut self) {
        if let Some(running) = &mut self.running {
            running.limits = running.limits.take().filter(|_| running.up_since.is_none());
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Moment) -> Action {
        if self.queue.is_empty()
            && let Some(action) = self.plan(now)
        {
            return action;
        }
        match self.queue.front() {
            Some(step) => Action::Do(step.clone()),
            None => Action::Wait(Some(now + CHECK_INTERVAL)),
        }
    }

    /// Tells what came of the step that was to be done.
    pub(super) fn done(&mut self, outcome: Outcome, now: Moment) {
        let Some(step) = self.queue.pop_front() else { return };
        match outcome {
            Outcome::Done(count) => self.succeeded(step, count, now),
            Outcome::Failed(why) => self.failed(step, why, now),
        }
    }

    fn succeeded(&mut self, step: Step, count: usize, now: Moment) {
        match step {
            Step::Prepare => self.prepared = true,
            Step::Exclusive(gpu) => drop(self.exclusive.insert(gpu)),
            Step::Restore(gpu) => drop(self.exclusive.remove(&gpu)),
            Step::Start { gpus, multi_user } => {
                self.running = Some(Running {
                    gpus,
                    multi_user,
                    limits: None,
                    up_since: None,
                    missed: 0,
                    check_at: now,
                });
            }
            Step::Announce(_) => {
                self.told = None;
                if let Some(running) = &mut self.running {
                    running.up_since.get_or_insert(now);
                    running.missed = 0;
                    running.check_at = now + CHECK_INTERVAL;
                }
            }
            Step::Check => self.answered(now),
            Step::CountClients if count == 0 => self.end("it is started anew, as configured"),
            Step::Withdraw(why) => self.told = Some(why),
            Step::Quit | Step::Kill => self.running = None,
            _ => {}
        }
    }

    fn failed(&mut self, step: Step, why: String, now: Moment) {
        match step {
            Step::Check => self.missed(why, now),
            // It is counted again later, and meanwhile clients are taken to run.
            Step::CountClients => {}
            // Clients run: what they have stays, and it is tried again.
            Step::LimitMemory(..) | Step::LimitThreads(_) | Step::LimitServers { .. }
                if self.is_up() =>
            {
                self.queue.push_front(step);
                self.drop_queue();
                if let Some(running) = &mut self.running {
                    running.check_at = now + CHECK_INTERVAL;
                }
            }
            // Both come again with a later look.
            Step::Exclusive(_) | Step::Announce(_) if self.is_up() => {}
            Step::Quit => self.queue.push_front(Step::Kill),
            // A process that cannot be killed is in the driver. The next start finds its lock.
            Step::Kill => self.running = None,
            // What is told by a line of the log is not tried for good.
            Step::Restore(gpu) => drop(self.exclusive.remove(&gpu)),
            Step::Withdraw(told) => self.told = Some(told),
            _ => self.fail(why, now, true),
        }
    }

    /// Begins again after a pause; a daemon that runs is ended before.
    fn fail(&mut self, why: String, now: Moment, runs: bool) {
        self.queue.clear();
        let since = self.running.as_ref().and_then(|running| running.up_since);
        if since.is_some_and(|since| now.saturating_sub(since) >= STABLE) {
            self.backoff.reset();
        }
        self.retry_at = now + self.backoff.next_delay();
        self.withdraw(why);
        if runs && self.running.is_some() {
            self.queue.push_back(Step::Quit);
        } else {
            self.running = None;
        }
    }

    /// Ends a daemon that runs, without a failure.
    fn end(&mut self, why: &str) {
        self.queue.clear();
        self.withdraw(why.to_owned());
        if self.running.is_some() {
            self.queue.push_back(Step::Quit);
        }
    }

    /// Goes on with nothing that is under way. Limits that are not set are not had.
    fn drop_queue(&mut self) {
        let is_limit = |step: &Step| {
            matches!(
                step,
                Step::LimitMemory(..) | Step::LimitThreads(_) | Step::LimitServers { .. }
            )
        };
        let lost = self.queue.iter().any(is_limit);
        self.queue.clear();
        if let Some(running) = self.running.as_mut().filter(|_| lost) {
            running.limits = None;
        }
    }

    fn withdraw(&mut self, why: String) {
        if self.prepared && self.told.as_ref() != Some(&why) {
            self.queue.push_back(Step::Withdraw(why));
        }
    }

    fn answered(&mut self, now: Moment) {
        let Some(running) = &mut self.running else { return };
        running.missed = 0;
        running.check_at = now + CHECK_INTERVAL;
        if self.told.is_some() {
            self.queue.push_back(Step::Announce(running.gpus.clone()));
        }
    }

    /// It did not answer: that is told at once, and it is ended if that stays so.
    fn missed(&mut self, why: String, now: Moment) {
        self.drop_queue();
        let Some(running) = &mut self.running else { return };
        running.missed += 1;
        running.check_at = now + FIRST_PAUSE;
        if running.missed >= MOST_MISSED {
            return self.fail(why, now, true);
        }
        self.withdraw(why);
    }

    fn is_up(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.up_since.is_some())
    }

    /// Decides what comes next where nothing is under way: fills the queue, or says what to wait
    /// for.
    fn plan(&mut self, now: Moment) -> Option<Action> {
        if self.running.is_some() {
            return self.plan_running(now);
        }
        let goal = self.goal.clone().filter(|_| !self.stopping);
        let is_wanted = |gpu: &&Uuid| goal.as_ref().is_some_and(|goal| goal.has(gpu));
        let unwanted = self.exclusive.iter().find(|gpu| !is_wanted(gpu)).cloned();
        if let Some(gpu) = unwanted {
            self.queue.push_back(Step::Restore(gpu));
            return None;
        }
        let Some(goal) = goal else { return Some(Action::Finished) };
        if !self.prepared {
            // So that whatever is missing can be told.
            if now < self.retry_at {
                return Some(Action::Wait(Some(self.retry_at)));
            }
            self.queue.push_back(Step::Prepare);
            return None;
        }
        if goal.usable().next().is_none() {
            self.withdraw("none of its GPUs is Healthy".to_owned());
            return self.queue.is_empty().then_some(Action::Wait(None));
        }
        if now < self.retry_at {
            return Some(Action::Wait(Some(self.retry_at)));
        }
        self.queue_start(&goal);
        None
    }

    fn queue_start(&mut self, goal: &Goal) {
        let gpus: Vec<GoalGpu> = goal.usable().cloned().collect();
        let uuids = || gpus.iter().map(|gpu| gpu.uuid.clone());
        self.queue.push_back(Step::EndLeftover);
        self.queue.extend(uuids().map(Step::Exclusive));
        let multi_user = goal.multi_user;
        self.queue.push_back(Step::Start { gpus: uuids().collect(), multi_user });
        self.queue.push_back(Step::AwaitAnswer);
    }

    fn plan_running(&mut self, now: Moment) -> Option<Action> {
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
                self.queue.extend(is_retry.then_some(Step::Check));
                self.queue_limits(&running, limits);
                return None;
            }
        }
        if running.up_since.is_none() {
            self.queue.push_back(Step::Announce(running.gpus));
            return None;
        }
        // A GPU that is not shared any more is for others at once.
        let goal = self.goal.as_ref();
        let unwanted = |gpu: &&Uuid| !goal.is_some_and(|goal| goal.has(gpu));
        if let Some(gpu) = self.exclusive.iter().find(unwanted).cloned() {
            self.queue.push_back(Step::Restore(gpu));
            return None;
        }
        if now < running.check_at {
            return Some(Action::Wait(Some(running.check_at)));
        }
        self.queue.push_back(Step::Check);
        // One that was not shared for a time.
        let shared = running.gpus.iter().filter(|gpu| goal.is_some_and(|goal| goal.has(gpu)));
        let shared = shared.filter(|gpu| !self.exclusive.contains(*gpu)).cloned();
        self.queue.extend(shared.map(Step::Exclusive));
        if self.is_to_differ(&running) {
            self.queue.push_back(Step::CountClients);
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
        self.queue.extend(memory.iter().map(|(ordinal, mib)| Step::LimitMemory(*ordinal, *mib)));
        self.queue.push_back(Step::LimitThreads(*threads));
        if running.up_since.is_some() {
            self.queue.push_back(Step::LimitServers { memory, threads: *threads });
        }
        // A failure takes it back.
        if let Some(running) = &mut self.running {
            running.limits = Some(limits);
        }
    }

    /// Whether a daemon is to be another one than runs, when no client uses it.
    fn is_to_differ(&self, running: &Running) -> bool {
        let Some(goal) = &self.goal else { return true };
        let joins = goal.usable().any(|gpu| !running.gpus.contains(&gpu.uuid));
        let leaves = running.gpus.iter().any(|gpu| !goal.has(gpu));
        joins || leaves || goal.multi_user != running.multi_user
    }

    /// Whether a change waits for clients to end.
    #[must_use]
    pub(super) fn waits_for_clients(&self) -> bool {
        self.running.as_ref().is_some_and(|running| self.is_to_differ(running))
    }

    /// Whether the daemon works for clients, as was told last.
    #[must_use]
    pub(super) fn is_announced(&self) -> bool {
        self.told.is_none()
    }
}
