//! One thread that makes NVML calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;
use tracing::Span;

use super::current_call::CurrentCall;
use crate::nvml::error::SupervisorError;
use crate::nvml::telemetry::NvmlTelemetry;
use crate::nvml::thread::{panic_text, spawn};

type Job = Box<dyn FnOnce() + Send>;

/// The answer of a job, or the text of its panic.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, String>>;

/// A thread that does the jobs it is given; it ends when this is dropped, after its last job.
pub(super) struct Worker {
    jobs: Sender<Job>,
    pub(super) current_call: CurrentCall,
}

impl Worker {
    pub(super) fn start(telemetry: NvmlTelemetry) -> Result<Self, SupervisorError> {
        let (jobs, received) = channel::<Job>();
        let current_call = CurrentCall::new();
        let bound = current_call.clone();
        spawn("nvml", move || {
            bound.bind_to_thread();
            telemetry.bind_to_thread();
            received.into_iter().for_each(|job| job());
        })?;
        Ok(Self { jobs, current_call })
    }

    /// Gives it a job, which runs in the current span.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Answer<T>, SupervisorError> {
        let (reply, answer) = oneshot::channel();
        self.current_call.set("nvml");
        let span = Span::current();
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(|| span.in_scope(job)));
            let _ = reply.send(result.map_err(|panic| panic_text(&*panic)));
        };
        self.jobs.send(Box::new(job)).map_err(|_| ended("its thread is gone".to_owned()))?;
        Ok(answer)
    }
}

/// The value of an answer that has come.
pub(super) fn value<T>(
    answer: Result<Result<T, String>, oneshot::error::RecvError>,
) -> Result<T, SupervisorError> {
    answer.map_err(|_| ended("it dropped a job".to_owned()))?.map_err(ended)
}

fn ended(why: String) -> SupervisorError {
    SupervisorError::ThreadEnded("nvml", why)
}
