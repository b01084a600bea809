//! The threads that call NVML for the supervisor: one at work, and those held up in a call that does
//! not return.
//!
//! ```text
//!            a job for a GPU is past the deadline of its call
//!  at work ───────────────────────────────────────────────────▶ held up ──▶ the call returns, the thread ends
//!     ▲                                                            │
//!     └──────────── a new thread takes the work ───────────────────┘
//! ```
//!
//! A GPU whose call is held up gets no other, so there are never more such threads than GPUs.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use device::names::Uuid;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::telemetry::NvmlTelemetry;
use super::{SupervisorError, panic_text, spawn};

/// What a job is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A place of the enumeration whose GPU is not known yet.
    Index(u32),
    /// A GPU.
    Gpu(Uuid),
}

/// A call that has not returned for longer than its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StuckCall {
    pub(super) subject: Subject,
    pub(super) call: &'static str,
    since: Instant,
    /// Deadlines that have passed.
    missed: u32,
}

type Job = Box<dyn FnOnce() + Send>;

/// The call that a thread is in, and since when.
#[derive(Debug, Clone)]
struct CurrentCall(Arc<Mutex<(&'static str, Instant)>>);

thread_local! {
    static BOARD: RefCell<Option<CurrentCall>> = const { RefCell::new(None) };
}

/// Writes on the board of this thread which call comes next: its deadline begins anew.
pub(super) fn mark_call(call: &'static str) {
    BOARD.with_borrow(|board| {
        if let Some(board) = board {
            board.set(call);
        }
    });
}

impl CurrentCall {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(("", Instant::now()))))
    }

    fn set(&self, call: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (call, Instant::now());
    }

    fn get(&self) -> (&'static str, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads.
pub(super) struct WorkerPool {
    deadline: Duration,
    jobs: Sender<Job>,
    board: CurrentCall,
    held_up: Vec<StuckCall>,
    returns: JoinSet<(Subject, Result<(), SupervisorError>)>,
    telemetry: NvmlTelemetry,
}

/// The answers of one thread that works for several GPUs, until it is left behind.
struct Round<T>(Arc<Mutex<(Vec<T>, bool)>>);

impl<T> Clone for Round<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Round<T> {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), false))))
    }

    fn work<I>(&self, items: Vec<I>, job: impl Fn(I) -> T) {
        for item in items {
            let answer = job(item);
            let mut handed_in = self.lock();
            if handed_in.1 {
                return;
            }
            handed_in.0.push(answer);
        }
    }

    /// Takes no more answers, if it `hangs` still.
    fn leave(&mut self, hangs: impl FnOnce() -> bool) -> bool {
        let mut handed_in = self.lock();
        handed_in.1 = hangs();
        handed_in.1
    }

    fn answers(&mut self) -> Vec<T> {
        std::mem::take(&mut self.lock().0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<T>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of waiting for an answer.
enum Waited<T> {
    Answered(T),
    Overdue(&'static str, Instant),
}

impl WorkerPool {
    pub(super) fn new(
        deadline: Duration,
        telemetry: NvmlTelemetry,
    ) -> Result<Self, SupervisorError> {
        let (jobs, board) = worker(telemetry.clone())?;
        Ok(Self { deadline, jobs, board, held_up: Vec::new(), returns: JoinSet::new(), telemetry })
    }

    /// Allows calls another time from now on, those that are held up included.
    pub(super) fn allow(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Has a job done for each of some GPUs, one after the other on one thread. `None`: a call in
    /// it is past its deadline; that thread is left to it, and another goes on with the rest.
    pub(super) async fn each<I: Clone + Send + 'static, T: Send + 'static>(
        &mut self,
        items: Vec<(Subject, I)>,
        job: impl Fn(I) -> T + Clone + Send + 'static,
    ) -> Result<Vec<(Subject, Option<T>)>, SupervisorError> {
        let mut answers = Vec::new();
        let mut left = items.into_iter();
        while !left.as_slice().is_empty() {
            let mut round = Round::new();
            let (given, own, job): (Vec<I>, _, _) = (
                left.as_slice().iter().map(|(_, item)| item.clone()).collect(),
                round.clone(),
                job.clone(),
            );
            let mut done = self.give(move || own.work(given, job))?;
            let held_up = loop {
                let Waited::Overdue(call, since) = self.wait(&mut done, 1).await? else {
                    break None;
                };
                // Under one lock: either the thread comes back in time to hand in its answer, or it
                // is left behind.
                if round.leave(|| self.board.get() == (call, since)) {
                    break Some((call, since));
                }
            };
            let handed_in = round.answers();
            let subjects =
                left.by_ref().take(handed_in.len()).map(|(subject, _)| subject).collect::<Vec<_>>();
            answers.extend(subjects.into_iter().zip(handed_in.into_iter().map(Some)));
            let (Some((call, since)), Some((subject, _))) = (held_up, left.next()) else {
                continue;
            };
            (self.jobs, self.board) = worker(self.telemetry.clone())?;
            self.held_up.push(StuckCall { subject: subject.clone(), call, since, missed: 1 });
            self.telemetry.set_stuck_calls(self.held_up.len());
            answers.push((subject.clone(), None));
            self.returns.spawn(async move {
                let came = match done.await {
                    Ok(done) => done.map_err(ended),
                    Err(_) => Err(ended("it dropped a question".to_owned())),
                };
                (subject, came)
            });
        }
        Ok(answers)
    }

    /// Has a job done that is about no GPU in particular, however long it takes: there is nothing
    /// to do meanwhile. `missed` hears of each deadline that passes.
    pub(super) async fn node<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
        mut missed: impl AsyncFnMut(&'static str),
    ) -> Result<T, SupervisorError> {
        let mut answer = self.give(job)?;
        let mut deadlines = 1;
        loop {
            match self.wait(&mut answer, deadlines).await? {
                Waited::Answered(answer) => {
                    self.telemetry.set_node_call_overdue(false);
                    return Ok(answer);
                }
                Waited::Overdue(call, _) => {
                    self.telemetry.set_node_call_overdue(true);
                    missed(call).await;
                    deadlines += 1;
                }
            }
        }
    }

    /// The calls that are held up.
    pub(super) fn held_up(&self) -> &[StuckCall] {
        &self.held_up
    }

    pub(super) fn is_held_up(&self, subject: &Subject) -> bool {
        self.held_up.iter().any(|held_up| held_up.subject == *subject)
    }

    /// When the next deadline of a call that is held up passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.held_up.iter().filter_map(|held_up| held_up.due(self.deadline)).min()
    }

    /// The calls of which one more deadline has passed.
    pub(super) fn missed(&mut self) -> Vec<StuckCall> {
        let (deadline, now) = (self.deadline, Instant::now());
        let due = self
            .held_up
            .iter_mut()
            .filter(|held_up| held_up.due(deadline).is_some_and(|due| due <= now));
        due.map(|held_up| {
            held_up.missed = held_up.missed.saturating_add(1);
            held_up.clone()
        })
        .collect()
    }

    /// A call that was held up, once it returns. Waits for ever if there is none.
    pub(super) async fn returned(&mut self) -> Result<StuckCall, SupervisorError> {
        if let Some(Ok((subject, came))) = self.returns.join_next().await {
            came?;
            if let Some(at) = self.held_up.iter().position(|held_up| held_up.subject == subject) {
                let returned = self.held_up.remove(at);
                self.telemetry.set_stuck_calls(self.held_up.len());
                return Ok(returned);
            }
        }
        std::future::pending().await
    }

    fn give<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, String>>, SupervisorError> {
        let (reply, answer) = oneshot::channel();
        self.board.set("nvml");
        let job = move || {
            let done = catch_unwind(AssertUnwindSafe(job));
            let _ = reply.send(done.map_err(|panic| panic_text(&*panic)));
        };
        self.jobs.send(Box::new(job)).map_err(|_| ended("its thread is gone".to_owned()))?;
        Ok(answer)
    }

    /// Waits until the answer is there, or until the call that the thread is in has missed so many
    /// deadlines.
    async fn wait<T>(
        &self,
        answer: &mut oneshot::Receiver<Result<T, String>>,
        deadlines: u32,
    ) -> Result<Waited<T>, SupervisorError> {
        let mut answer = pin!(answer);
        loop {
            let (call, since) = self.board.get();
            let due = since + self.deadline.saturating_mul(deadlines);
            tokio::select! {
                answered = &mut answer => {
                    let done = answered.map_err(|_| ended("it dropped a question".to_owned()))?;
                    return done.map(Waited::Answered).map_err(ended);
                }
                () = tokio::time::sleep_until(due.into()) => {
                    if self.board.get() == (call, since) {
                        return Ok(Waited::Overdue(call, since));
                    }
                }
            }
        }
    }
}

impl StuckCall {
    fn due(&self, deadline: Duration) -> Option<Instant> {
        self.since.checked_add(deadline.saturating_mul(self.missed.saturating_add(1)))
    }

    pub(super) fn gpu(&self) -> Option<&Uuid> {
        match &self.subject {
            Subject::Gpu(uuid) => Some(uuid),
            Subject::Index(_) => None,
        }
    }

    pub(super) fn lasted(&self) -> Duration {
        self.since.elapsed()
    }
}

fn ended(why: String) -> SupervisorError {
    SupervisorError::ThreadEnded("nvml", why)
}

/// Starts a thread that does the jobs it is given; it ends when nobody can give it more.
fn worker(telemetry: NvmlTelemetry) -> Result<(Sender<Job>, CurrentCall), SupervisorError> {
    let (jobs, received) = channel::<Job>();
    let board = CurrentCall::new();
    let own = board.clone();
    spawn("nvml", move || {
        BOARD.set(Some(own));
        telemetry.bind_to_thread();
        received.into_iter().for_each(|job| job());
    })?;
    Ok((jobs, board))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than a call that returns at once takes, on a busy machine too.
    const DEADLINE: Duration = Duration::from_millis(500);

    fn gpu(n: u32) -> Subject {
        Subject::Gpu(format!("GPU-{n}").parse().unwrap())
    }

    #[tokio::test]
    async fn a_call_that_does_not_return_is_left_to_its_thread_and_work_goes_on() {
        let mut worker_pool = WorkerPool::new(DEADLINE, NvmlTelemetry::default()).unwrap();
        let (release, hang) = channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let stuck = move |n| {
            mark_call("nvmlHangs");
            if n == 1 {
                let _ = hang.lock().unwrap().recv();
            }
            n
        };
        let items = (0..4).map(|n| (gpu(n), n)).collect();
        let answers: Vec<_> = worker_pool
            .each(items, stuck)
            .await
            .unwrap()
            .into_iter()
            .map(|(_, answer)| answer)
            .collect();
        assert_eq!(answers, [Some(0), None, Some(2), Some(3)]);
        assert!(worker_pool.is_held_up(&gpu(1)) && !worker_pool.is_held_up(&gpu(2)));
        tokio::time::sleep_until(worker_pool.next_deadline().unwrap().into()).await;
        assert_eq!(worker_pool.missed()[0].call, "nvmlHangs");
        drop(release);
        assert_eq!(worker_pool.returned().await.unwrap().subject, gpu(1));
        assert!(worker_pool.held_up().is_empty());
    }

    #[tokio::test]
    async fn each_call_of_a_job_has_a_deadline_of_its_own() {
        let mut worker_pool = WorkerPool::new(DEADLINE, NvmlTelemetry::default()).unwrap();
        // Longer than one deadline together.
        let slow = |()| {
            for _ in 0..6 {
                mark_call("nvmlSlow");
                std::thread::sleep(DEADLINE / 5);
            }
        };
        assert_eq!(worker_pool.each(vec![(gpu(0), ())], slow).await.unwrap(), [(gpu(0), Some(()))]);
    }

    #[tokio::test]
    async fn a_call_about_the_node_is_waited_for_and_each_deadline_is_told() {
        let mut worker_pool =
            WorkerPool::new(Duration::from_millis(20), NvmlTelemetry::default()).unwrap();
        let (release, hang) = channel::<()>();
        let mut release = Some(release);
        let mut missed = 0;
        let answer = worker_pool.node(
            move || {
                mark_call("nvmlInit_v2");
                let _ = hang.recv();
                3
            },
            async |call| {
                // The thread may not have begun when the first deadline passes.
                assert!(["nvml", "nvmlInit_v2"].contains(&call), "{call}");
                missed += 1;
                if missed == 3 {
                    release = None;
                }
            },
        );
        assert_eq!(answer.await.unwrap(), 3);
        assert!(missed >= 3, "{missed}");
    }

    #[tokio::test]
    async fn a_panic_in_a_job_is_told_with_its_text() {
        let mut worker_pool =
            WorkerPool::new(Duration::from_secs(30), NvmlTelemetry::default()).unwrap();
        let unlucky = |()| -> u32 { panic!("out of luck") };
        let error = worker_pool.each(vec![(gpu(0), ())], unlucky).await.unwrap_err();
        assert!(error.to_string().contains("out of luck"), "{error}");
    }
}
