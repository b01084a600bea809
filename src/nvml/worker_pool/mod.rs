//! The threads that make NVML calls for the supervisor: one that works, and those that are stuck
//! in a call that does not return.
//!
//! ```text
//!             a call about a GPU is past its deadline
//!  working ────────────────────────────────────────────▶ stuck ──▶ call returns: thread ends
//!     ▲                                                    │
//!     └──────────── a new thread takes over ───────────────┘
//! ```
//!
//! A GPU with a stuck call gets no other call, so there are never more stuck threads than GPUs.

mod current_call;
mod partial_answers;
mod stuck_call;
#[cfg(test)]
mod tests;
mod worker;

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::error::SupervisorError;
use super::telemetry::NvmlTelemetry;
pub(super) use current_call::mark_call;
use partial_answers::PartialAnswers;
pub(super) use stuck_call::{StuckCall, Subject};
use worker::{Answer, Worker, value};

/// The threads.
pub(super) struct WorkerPool {
    deadline: Duration,
    worker: Worker,
    stuck_calls: Vec<StuckCall>,
    /// Ends with each stuck call that returns.
    returns: JoinSet<(Subject, Result<(), SupervisorError>)>,
    telemetry: NvmlTelemetry,
}

/// The end of a wait for an answer.
enum Waited<T> {
    Answered(T),
    /// The current call is past its deadline.
    Overdue(&'static str, Instant),
}

impl WorkerPool {
    pub(super) fn new(
        deadline: Duration,
        telemetry: NvmlTelemetry,
    ) -> Result<Self, SupervisorError> {
        let worker = Worker::start(telemetry.clone())?;
        Ok(Self { deadline, worker, stuck_calls: Vec::new(), returns: JoinSet::new(), telemetry })
    }

    /// Changes the deadline of calls, the stuck ones included.
    pub(super) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Does a job for each of some GPUs, one after the other on one thread. `None`: a call of the
    /// job is past its deadline; its thread is left behind, and another goes on with the rest.
    pub(super) async fn run_each<I: Clone + Send + 'static, T: Send + 'static>(
        &mut self,
        items: Vec<(Subject, I)>,
        job: impl Fn(I) -> T + Clone + Send + 'static,
    ) -> Result<Vec<(Subject, Option<T>)>, SupervisorError> {
        let mut answers = Vec::new();
        let mut rest = items.into_iter();
        while !rest.as_slice().is_empty() {
            let items: Vec<I> = rest.as_slice().iter().map(|(_, item)| item.clone()).collect();
            let partial = PartialAnswers::new();
            let (collected, job) = (partial.clone(), job.clone());
            let mut done = self.worker.submit(move || collected.collect(items, job))?;
            let overdue = self.done_or_overdue(&mut done, &partial).await?;
            let finished = partial.take();
            let subjects: Vec<_> =
                rest.by_ref().take(finished.len()).map(|(subject, _)| subject).collect();
            answers.extend(subjects.into_iter().zip(finished.into_iter().map(Some)));
            if let (Some((call, since)), Some((subject, _))) = (overdue, rest.next()) {
                self.replace_worker(StuckCall::new(subject.clone(), call, since), done)?;
                answers.push((subject, None));
            }
        }
        Ok(answers)
    }

    /// Does a job that is about no GPU in particular, however long it takes: nothing can be done
    /// meanwhile. `missed` is called for each deadline that passes.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
        mut missed: impl AsyncFnMut(&'static str),
    ) -> Result<T, SupervisorError> {
        let mut answer = self.worker.submit(job)?;
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

    /// The stuck calls.
    pub(super) fn stuck_calls(&self) -> &[StuckCall] {
        &self.stuck_calls
    }

    /// The stuck call about this GPU or index, if there is one.
    pub(super) fn stuck_call(&self, subject: &Subject) -> Option<&StuckCall> {
        self.stuck_calls.iter().find(|stuck| stuck.subject == *subject)
    }

    /// When a stuck call misses its next deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.stuck_calls.iter().filter_map(|stuck| stuck.next_deadline(self.deadline)).min()
    }

    /// The stuck calls that have missed one more deadline since this was last called.
    pub(super) fn missed_deadlines(&mut self) -> Vec<StuckCall> {
        let (deadline, now) = (self.deadline, Instant::now());
        let missed = self
            .stuck_calls
            .iter_mut()
            .filter_map(|stuck| stuck.count_missed(deadline, now).then(|| stuck.clone()));
        missed.collect()
    }

    /// A stuck call, once it returns. Pending for ever if there is none.
    pub(super) async fn returned(&mut self) -> Result<StuckCall, SupervisorError> {
        if let Some(Ok((subject, result))) = self.returns.join_next().await {
            result?;
            if let Some(at) = self.stuck_calls.iter().position(|stuck| stuck.subject == subject) {
                let returned = self.stuck_calls.remove(at);
                self.telemetry.set_stuck_calls(self.stuck_calls.len());
                return Ok(returned);
            }
        }
        std::future::pending().await
    }

    /// Waits until a thread is done; the call that it is stuck in, if it is past its deadline.
    async fn done_or_overdue<T>(
        &self,
        done: &mut Answer<()>,
        partial: &PartialAnswers<T>,
    ) -> Result<Option<(&'static str, Instant)>, SupervisorError> {
        while let Waited::Overdue(call, since) = self.wait(done, 1).await? {
            if partial.close_if(|| self.worker.current_call.get() == (call, since)) {
                return Ok(Some((call, since)));
            }
        }
        Ok(None)
    }

    /// Leaves the worker to its stuck call, and starts another.
    fn replace_worker(
        &mut self,
        stuck: StuckCall,
        done: Answer<()>,
    ) -> Result<(), SupervisorError> {
        self.worker = Worker::start(self.telemetry.clone())?;
        let subject = stuck.subject.clone();
        self.stuck_calls.push(stuck);
        self.telemetry.set_stuck_calls(self.stuck_calls.len());
        self.returns.spawn(async move { (subject, value(done.await)) });
        Ok(())
    }

    /// Waits for an answer, or until the current call of the worker has missed this many deadlines.
    async fn wait<T>(
        &self,
        answer: &mut Answer<T>,
        deadlines: u32,
    ) -> Result<Waited<T>, SupervisorError> {
        let mut answer = pin!(answer);
        loop {
            let (call, since) = self.worker.current_call.get();
            let due = since + self.deadline.saturating_mul(deadlines);
            tokio::select! {
                answer = &mut answer => return value(answer).map(Waited::Answered),
                () = tokio::time::sleep_until(due.into()) => {
                    if self.worker.current_call.get() == (call, since) {
                        return Ok(Waited::Overdue(call, since));
                    }
                }
            }
        }
    }
}
