//! Reads the health of GPUs, and how they are linked. A call that does not return affects its own
//! GPU alone.

use std::collections::BTreeMap;

use device::health::{self, Moment, NodeObservation, Reading};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use tracing::warn;

use super::report::{about_gpu, log_stuck, missed_deadline};
use super::{CallResult, Supervisor};
use crate::nvml::channels::TimedObservation;
use crate::nvml::error::SupervisorError;
use crate::nvml::reading::Answers;
use crate::nvml::worker_pool::Subject;
use crate::util::log_rate_limit::LogRateLimit;

impl Supervisor {
    /// Reads the health of GPUs, in a `poll` or beside it.
    pub(super) async fn read(
        &mut self,
        gpus: BTreeMap<u32, Uuid>,
        poll: bool,
        batch: &mut Vec<TimedObservation>,
    ) -> Result<CallResult<()>, SupervisorError> {
        let jobs = gpus.into_iter().map(|(index, uuid)| {
            let with_fabric = !self.without_fabric.contains(&uuid);
            (Subject::Gpu(uuid.clone()), (index, uuid, with_fabric))
        });
        let jobs = jobs.filter(|(subject, _)| self.worker_pool.stuck_call(subject).is_none());
        let jobs: Vec<_> = jobs.collect();
        let (handle, clock) = (self.handle.clone(), self.clock);
        let read = move |(index, uuid, with_fabric): (u32, Uuid, bool)| {
            handle.read(clock, index, &uuid, with_fabric)
        };
        let mut result = Ok(());
        for (subject, answer) in self.worker_pool.run_each(jobs, read).await? {
            match (subject, answer) {
                (subject, None) => self.report_stuck(&subject, batch),
                (Subject::Gpu(uuid), Some(Ok((at, answers)))) => {
                    let reading = self.adopt_answers(&uuid, at, answers);
                    let observation = match poll {
                        true => health::Observation::Poll(reading),
                        false => health::Observation::Reading(reading),
                    };
                    batch.push(about_gpu(at, uuid, observation));
                }
                (_, Some(Ok(_))) => {}
                (_, Some(Err(error))) => result = Err(error),
            }
        }
        Ok(result)
    }

    /// Notes what a GPU has answered; the reading to report.
    fn adopt_answers(&mut self, uuid: &Uuid, at: Moment, answers: Answers) -> Reading {
        if !answers.has_fabric {
            self.without_fabric.insert(uuid.clone());
        }
        self.last_readings.insert(uuid.clone(), at);
        let mut reading = answers.reading;
        self.enumeration_due |= self.enumeration.is_outdated_by(uuid, reading.probe.as_ref());
        // A GPU that fails in the enumeration passes no probe.
        if let (Some(Ok(())), Some(error)) = (&reading.probe, self.enumeration.failure(uuid)) {
            reading.probe = Some(Err(error.clone()));
        }
        reading
    }

    /// Logs and reports that a call about a GPU does not return.
    pub(super) fn report_stuck(&self, subject: &Subject, batch: &mut Vec<TimedObservation>) {
        if let Some(stuck) = self.worker_pool.stuck_call(subject) {
            log_stuck(stuck);
            batch.extend(missed_deadline(self.clock.now(), stuck));
        }
    }

    /// Has the links between GPUs read on a thread that nothing waits for.
    pub(super) async fn read_links(&mut self) -> Result<(), SupervisorError> {
        let (handle, gpus) = (self.handle.clone(), self.enumeration.gpus());
        let (clock, observations_tx) = (self.clock, self.observations_tx.clone());
        self.run_job(move || handle.read_links_if_due(&gpus, clock, &observations_tx)).await
    }

    /// Does a job that is about no GPU in particular. Every GPU misses the deadlines that it
    /// misses.
    pub(super) async fn run_job<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SupervisorError> {
        let (observations_tx, clock) = (&self.observations_tx, self.clock);
        // For one job, however many deadlines it misses.
        let limit = LogRateLimit::new();
        let missed = async |call| {
            if limit.allow() {
                warn!(call, "NVML does not answer, waiting for it");
            }
            let missed = NodeObservation::EveryGpu(health::Observation::TimedOut { call });
            let observation = InventoryEvent::Health(missed);
            let _ =
                observations_tx.send(vec![TimedObservation { at: clock.now(), observation }]).await;
        };
        self.worker_pool.run(job, missed).await
    }
}
