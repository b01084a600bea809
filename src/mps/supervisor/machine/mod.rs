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

mod plan;
mod step;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use device::names::Uuid;

use super::goal::{Goal, GoalGpu};
use crate::util::backoff::Backoff;
pub(super) use step::{DaemonAction, DaemonStep, Moment, Outcome};

/// How often a daemon that works is looked at.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The pause before a daemon is started again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// For how long a daemon has to work until its next failure counts as a first one.
const STABLE: Duration = Duration::from_secs(60);
/// How many looks in a row a daemon may not answer before it is ended.
const MOST_MISSED: u32 = 3;

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
    queue: VecDeque<DaemonStep>,
    running: Option<Running>,
    /// GPUs that only MPS has the use of.
    exclusive: BTreeSet<Uuid>,
    backoff: Backoff,
    retry_at: Moment,
    /// Since when not all of its GPUs are Healthy.
    incomplete_since: Option<Moment>,
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
            incomplete_since: None,
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
    pub(super) fn next(&mut self, now: Moment) -> DaemonAction {
        if self.queue.is_empty()
            && let Some(action) = self.plan(now)
        {
            return action;
        }
        match self.queue.front() {
            Some(step) => DaemonAction::Do(step.clone()),
            None => DaemonAction::Wait(Some(now + CHECK_INTERVAL)),
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

    fn succeeded(&mut self, step: DaemonStep, count: usize, now: Moment) {
        match step {
            DaemonStep::Prepare => self.prepared = true,
            DaemonStep::Exclusive(gpu) => drop(self.exclusive.insert(gpu)),
            DaemonStep::Restore(gpu) => drop(self.exclusive.remove(&gpu)),
            DaemonStep::Start { gpus, multi_user } => {
                self.running = Some(Running {
                    gpus,
                    multi_user,
                    limits: None,
                    up_since: None,
                    missed: 0,
                    check_at: now,
                });
            }
            DaemonStep::Announce(_) => {
                self.told = None;
                if let Some(running) = &mut self.running {
                    running.up_since.get_or_insert(now);
                    running.missed = 0;
                    running.check_at = now + CHECK_INTERVAL;
                }
            }
            DaemonStep::Check => self.answered(now),
            DaemonStep::CountClients if count == 0 => {
                self.end("it is started again, as configured")
            }
            DaemonStep::Withdraw(why) => self.told = Some(why),
            DaemonStep::Quit | DaemonStep::Kill => self.running = None,
            _ => {}
        }
    }

    fn failed(&mut self, step: DaemonStep, why: String, now: Moment) {
        match step {
            DaemonStep::Check => self.missed(why, now),
            // It is counted again later, and meanwhile clients are taken to run.
            DaemonStep::CountClients => {}
            // Clients run: what they have stays, and it is tried again.
            DaemonStep::LimitMemory(..)
            | DaemonStep::LimitThreads(_)
            | DaemonStep::LimitServers { .. }
                if self.is_up() =>
            {
                self.queue.push_front(step);
                self.drop_queue();
                if let Some(running) = &mut self.running {
                    running.check_at = now + CHECK_INTERVAL;
                }
            }
            // Both come again with a later look.
            DaemonStep::Exclusive(_) | DaemonStep::Announce(_) if self.is_up() => {}
            DaemonStep::Quit => self.queue.push_front(DaemonStep::Kill),
            // A process that cannot be killed is in the driver. The next start finds its lock.
            DaemonStep::Kill => self.running = None,
            // What is told by a line of the log is not tried for good.
            DaemonStep::Restore(gpu) => drop(self.exclusive.remove(&gpu)),
            DaemonStep::Withdraw(told) => self.told = Some(told),
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
            self.queue.push_back(DaemonStep::Quit);
        } else {
            self.running = None;
        }
    }

    /// Ends a daemon that runs, without a failure.
    fn end(&mut self, why: &str) {
        self.queue.clear();
        self.withdraw(why.to_owned());
        if self.running.is_some() {
            self.queue.push_back(DaemonStep::Quit);
        }
    }

    /// Goes on with nothing that is under way. Limits that are not set are not had.
    fn drop_queue(&mut self) {
        let is_limit = |step: &DaemonStep| {
            matches!(
                step,
                DaemonStep::LimitMemory(..)
                    | DaemonStep::LimitThreads(_)
                    | DaemonStep::LimitServers { .. }
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
            self.queue.push_back(DaemonStep::Withdraw(why));
        }
    }

    fn answered(&mut self, now: Moment) {
        let Some(running) = &mut self.running else { return };
        running.missed = 0;
        running.check_at = now + CHECK_INTERVAL;
        if self.told.is_some() {
            self.queue.push_back(DaemonStep::Announce(running.gpus.clone()));
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
