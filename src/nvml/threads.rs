//! Every thread that is in a call to NVML: what it is in, about which GPU, and since when.
//!
//! ```text
//!            a job has taken longer than SLOW, and others wait
//!  worker ──────────────────────────────────────────────────▶ a second worker takes the next job
//!     ▲                                                                  │
//!     └── of two workers without a job, one ends ◀────────────────────────┘
//! ```
//!
//! A call that does not return keeps its own thread and nothing else. The supervisor gives a GPU
//! one job at a time, so that there are never more threads than GPUs, and a few.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use device::health::{Moment, NodeObservation};
use tokio::sync::Notify;
use tracing::{Span, warn};

use super::channels::Clock;
use super::current_call::CurrentCall;
use super::job::{Answer, Job, Outcome, Task};
use super::telemetry::NvmlTelemetry;
use crate::util::log_rate_limit::LogRateLimit;

/// After this time a job no longer delays those that wait behind it.
const SLOW: Duration = Duration::from_millis(250);
/// While so many answers wait to be taken, events do.
const MOST_ANSWERS: usize = 1024;
/// How much later than its deadline a wait for events wakes anybody: there is time, and what wakes
/// at each poll anyway sees it before.
const WAIT_SLACK: Duration = Duration::from_secs(15);
/// How long to wait before a thread that could not be started is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The threads. Dropping this lets each end after its job; NVML is not shut down then, since that
/// may hang and the process is about to exit.
pub(super) struct Threads(Arc<Registry>);

/// What the threads share.
struct Registry {
    state: Mutex<State>,
    work: Condvar,
    answered: Notify,
    /// The answers were taken.
    taken: Condvar,
    do_job: Box<DoJob>,
    telemetry: NvmlTelemetry,
    clock: Clock,
    spawn_failed: LogRateLimit,
    spawn: Box<Spawn>,
}

/// Starts a thread of this name.
type Spawn = dyn Fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<()> + Send + Sync;

/// Does a job on the calling thread, and reports its events.
type DoJob = dyn Fn(&Job, &dyn Fn(Option<NodeObservation>)) -> Outcome + Send + Sync;

#[derive(Default)]
struct State {
    queue: VecDeque<(Job, Span)>,
    calls: BTreeMap<u64, InCall>,
    answers: Vec<Answer>,
    next_id: u64,
    /// Workers that wait for a job.
    idle: u32,
    /// Whether a worker is being started. It may fail, so that no other one ends for it.
    starting: bool,
    closed: bool,
}

/// A thread that does a job.
struct InCall {
    job: Job,
    began: Moment,
    call: CurrentCall,
    /// Whether it takes its jobs from the queue.
    is_worker: bool,
}

/// A call that has missed one more deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overdue {
    pub(super) job: Job,
    pub(super) call: &'static str,
    /// How many deadlines it has missed.
    pub(super) missed: u32,
}

impl Threads {
    pub(super) fn new(
        clock: Clock,
        telemetry: NvmlTelemetry,
        do_job: impl Fn(&Job, &dyn Fn(Option<NodeObservation>)) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self::with_spawn(clock, telemetry, do_job, |name, body| {
            thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
        })
    }

    fn with_spawn(
        clock: Clock,
        telemetry: NvmlTelemetry,
        do_job: impl Fn(&Job, &dyn Fn(Option<NodeObservation>)) -> Outcome + Send + Sync + 'static,
        spawn: impl Fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Registry {
            state: Mutex::default(),
            work: Condvar::new(),
            answered: Notify::new(),
            taken: Condvar::new(),
            do_job: Box::new(do_job),
            telemetry,
            clock,
            spawn_failed: LogRateLimit::new(),
            spawn: Box::new(spawn),
        }))
    }

    /// Has jobs done. Never waits. A worker that is idle is woken once for all of them.
    pub(super) fn submit(&self, jobs: impl IntoIterator<Item = Job>) {
        let span = Span::current();
        let is_own = |job: &Job| own_thread(&job.task).is_some();
        let (own, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_own);
        own.into_iter().for_each(|job| self.start(Some((job, span.clone()))));
        if !jobs.is_empty() {
            self.0.lock().queue.extend(jobs.into_iter().map(|job| (job, span.clone())));
            self.0.work.notify_one();
            self.tick();
        }
    }

    /// Starts another worker if jobs wait for one that is slow.
    pub(super) fn tick(&self) {
        let now = self.0.clock.now();
        let mut state = self.0.lock();
        let workers = state.calls.values().filter(|call| call.is_worker);
        let all_slow = workers.into_iter().all(|call| now.since(call.began) >= SLOW);
        if !state.queue.is_empty() && !state.has_spare_worker() && all_slow {
            state.starting = true;
            drop(state);
            self.start(None);
        }
    }

    /// When to look next: jobs wait behind a slow one, or a call misses a deadline.
    pub(super) fn next_tick(&self, deadline: Duration) -> Option<Moment> {
        let now = self.0.clock.now();
        let state = self.0.lock();
        let busy = state.calls.values().filter(|call| call.is_worker);
        let slow = busy.map(|call| call.began.after(SLOW)).min().unwrap_or(now.after(RETRY));
        let slow = if !state.has_spare_worker() { slow.max(now) } else { now.after(SLOW) };
        let slow = (!state.queue.is_empty()).then_some(slow);
        let deadlines = state.calls.values().map(|thread| {
            let due = thread.call.get().next_deadline(deadline);
            let is_wait = matches!(thread.job.task, Task::Listen { .. });
            let slack = if is_wait { WAIT_SLACK } else { Duration::ZERO };
            now.after(due.saturating_duration_since(Instant::now()) + slack)
        });
        deadlines.chain(slow).min()
    }

    /// The calls that have missed one more deadline since this was last called.
    pub(super) fn overdue(&self, deadline: Duration) -> Vec<Overdue> {
        let state = self.0.lock();
        let missed = state.calls.values().filter_map(|InCall { job, call, .. }| {
            let call = call.miss(deadline)?;
            Some(Overdue { job: job.clone(), call: call.name, missed: call.missed })
        });
        missed.collect()
    }

    /// How many calls are past a deadline now.
    pub(super) fn unanswered(&self) -> usize {
        self.0.lock().calls.values().filter(|call| call.call.get().missed > 0).count()
    }

    /// The calls that threads are in now, the longest first, and for how long.
    pub(super) fn calls(&self) -> Vec<(Job, &'static str, Duration)> {
        let state = self.0.lock();
        let calls = state.calls.values().map(|InCall { job, call, .. }| {
            let call = call.get();
            (job.clone(), call.name, call.since.elapsed())
        });
        let mut calls: Vec<_> = calls.collect();
        calls.sort_by_key(|(_, _, time)| std::cmp::Reverse(*time));
        calls
    }

    /// The answers since this was last called.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let answers = std::mem::take(&mut self.0.lock().answers);
        // Only then does a thread wait for that.
        if answers.len() >= MOST_ANSWERS {
            self.0.taken.notify_all();
        }
        answers
    }

    /// Returns once there are answers, and no job waits or is quick to be done.
    pub(super) async fn answered(&self) {
        self.0.answered.notified().await;
    }

    fn start(&self, own_job: Option<(Job, Span)>) {
        let registry = self.0.clone();
        let own_thread = own_job.as_ref().and_then(|(job, _)| own_thread(&job.task));
        let (name, is_worker) = (own_thread.unwrap_or("nvml"), own_job.is_none());
        let failed = own_job.as_ref().map(|(job, _)| job.clone());
        let body = move || match own_job {
            Some((job, span)) => {
                let id = registry.lock().begin(registry.clock.now(), &job, false);
                registry.run(id, job, &span);
            }
            None => registry.work(),
        };
        if let Err(error) = (self.0.spawn)(name, Box::new(body)) {
            if self.0.spawn_failed.allow() {
                warn!(%error, "cannot start a thread to call NVML, will retry; see the pids limit \
                    of the container");
            }
            let mut state = self.0.lock();
            if is_worker {
                state.starting = false;
            }
            let now = self.0.clock.now();
            state.answers.extend(failed.map(|job| Answer::not_started(job, now)));
            drop(state);
            self.0.answered.notify_one();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_all();
        self.0.taken.notify_all();
        // The session is left to the end of the process.
        std::mem::forget(self.0.clone());
    }
}

impl Registry {
    /// Does jobs until another worker waits for them, or the registry is closed.
    fn work(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.starting = false;
            state.idle += 1;
        }
        while let Some((id, job, span)) = self.take() {
            self.run(id, job, &span);
        }
    }

    /// Waits for a job, as a worker that is counted as idle; `None`: the worker is to end. At most
    /// one waits, so that whoever is woken finds all jobs that nobody has taken.
    fn take(&self) -> Option<(u64, Job, Span)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some((job, span)) = state.queue.pop_front() {
                state.idle -= 1;
                return Some((state.begin(self.clock.now(), &job, true), job, span));
            }
            if state.idle > 1 {
                state.idle -= 1;
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(self: &Arc<Self>, id: u64, job: Job, span: &Span) {
        let began = self.clock.now();
        self.telemetry.clone().bind_to_thread();
        let report = |observation| self.report(&job, observation);
        let run = || span.in_scope(|| (self.do_job)(&job, &report));
        let outcome = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Outcome::Panicked(panic_text(&*panic)));
        let mut state = self.lock();
        let call = state.calls.remove(&id);
        state.idle += u32::from(call.is_some_and(|call| call.is_worker));
        state.answers.push(Answer { job, began, outcome });
        let was_last = state.queue.is_empty();
        // Whoever is woken takes the answers at once, and would wait for the lock.
        drop(state);
        if was_last {
            self.answered.notify_one();
        }
    }

    /// An event, while the job goes on. In a storm it waits: NVML drops what its queue cannot hold.
    fn report(&self, job: &Job, observation: Option<NodeObservation>) {
        let (began, outcome) = (self.clock.now(), Outcome::Event(observation));
        let full = |state: &mut State| state.answers.len() >= MOST_ANSWERS && !state.closed;
        let state = self.taken.wait_while(self.lock(), full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.answers.push(Answer { job: job.clone(), began, outcome });
        drop(state);
        self.answered.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a worker waits for a job, or is about to.
    fn has_spare_worker(&self) -> bool {
        self.idle > 0 || self.starting
    }

    /// The calling thread begins a job.
    fn begin(&mut self, began: Moment, job: &Job, is_worker: bool) -> u64 {
        self.next_id += 1;
        let call = CurrentCall::of_thread();
        self.calls.insert(self.next_id, InCall { job: job.clone(), began, call, is_worker });
        self.next_id
    }
}

/// The name of the thread that a job has for itself: one that waits for events is busy for as long
/// as NVML is open, and one that opens it needs a stack that no thread should keep.
fn own_thread(task: &Task) -> Option<&'static str> {
    match task {
        Task::Listen { .. } => Some("nvml-events"),
        Task::Open => Some("nvml-open"),
        _ => None,
    }
}

/// The message of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.as_deref().unwrap_or("with no message"))
}
