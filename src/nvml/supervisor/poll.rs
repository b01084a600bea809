//! The questions: what is there, how each GPU is, how they are linked. The worker_pool asks; a call
//! that does not return costs its own GPU alone.

use std::collections::BTreeMap;

use device::health::{self, Moment, NodeObservation};
use device::inventory::{EnumerationEntry, InventoryEvent};
use device::names::Uuid;
use tracing::{info, warn};

use super::{Asked, Supervisor};
use crate::nvml::reading::Answers;
use crate::nvml::worker_pool::{StuckCall, Subject};
use crate::nvml::{SupervisorError, TimedObservation};
use crate::util::log_rate_limit::LogRateLimit;

impl Supervisor {
    /// Enumerates the GPUs, each by a job of its own. Told is what differs from the last time.
    pub(super) async fn scan(
        &mut self,
        batch: &mut Vec<TimedObservation>,
    ) -> Result<Asked<()>, SupervisorError> {
        let at = self.clock.now();
        let count = match self.count().await? {
            Ok(count) => count,
            Err(error) => return Ok(Err(error)),
        };
        let subjects = self.roll.subjects(count);
        let asked: Vec<_> = subjects
            .into_iter()
            .filter(|(subject, _)| !self.worker_pool.is_held_up(subject))
            .collect();
        let indices: Vec<u32> = asked.iter().map(|(_, (index, _))| *index).collect();
        let (handle, sysfs) = (self.handle.clone(), self.settings.sysfs_root.clone());
        let answers = self
            .worker_pool
            .each(asked, move |(index, known)| handle.identify(index, known, &sysfs))
            .await?;
        let answers: BTreeMap<u32, EnumerationEntry> = indices
            .into_iter()
            .zip(answers)
            .filter_map(|(index, (subject, answer))| {
                if answer.is_none() {
                    self.report_held_up(&subject, batch);
                }
                Some((index, answer?))
            })
            .collect();
        let roll = self.roll.merge(count, answers);
        roll.report_failed(&self.roll);
        if roll != self.roll || std::mem::take(&mut self.is_fresh) {
            // Before what was missed: a GPU has to be listed for anything to be known of it.
            let scan = InventoryEvent::Enumeration {
                session: self.session,
                entries: roll.found().to_vec(),
            };
            let first =
                batch.iter().position(|seen| !is_epoch(&seen.observation)).unwrap_or(batch.len());
            batch.insert(first, TimedObservation { at, observation: scan });
        }
        self.fabricless.clear();
        self.roll = roll;
        Ok(Ok(()))
    }

    /// Asks GPUs how they are.
    pub(super) async fn read(
        &mut self,
        gpus: Vec<Uuid>,
        polling: bool,
        batch: &mut Vec<TimedObservation>,
    ) -> Result<Asked<()>, SupervisorError> {
        let subjects = gpus.into_iter().map(|uuid| (Subject::Gpu(uuid.clone()), uuid));
        let free = subjects.filter(|(subject, _)| !self.worker_pool.is_held_up(subject));
        let asked = free.map(|(subject, uuid)| {
            let with_fabric = !self.fabricless.contains(&uuid);
            (subject, (uuid, with_fabric))
        });
        let asked: Vec<_> = asked.collect();
        let (handle, clock) = (self.handle.clone(), self.clock);
        let job = move |(uuid, with_fabric): (Uuid, bool)| handle.read(clock, &uuid, with_fabric);
        let mut outcome = Ok(());
        for (subject, answer) in self.worker_pool.each(asked, job).await? {
            let Some(answer) = answer else {
                self.report_held_up(&subject, batch);
                continue;
            };
            match (subject, answer) {
                (Subject::Gpu(uuid), Ok((at, answers))) => {
                    batch.push(self.taken(uuid, at, answers, polling))
                }
                (_, Ok(_)) => {}
                (_, Err(error)) => outcome = Err(error),
            }
        }
        Ok(outcome)
    }

    /// What a GPU has answered, as it is told.
    fn taken(
        &mut self,
        uuid: Uuid,
        at: Moment,
        answers: Answers,
        polling: bool,
    ) -> TimedObservation {
        if !answers.has_fabric {
            self.fabricless.insert(uuid.clone());
        }
        self.read.insert(uuid.clone(), at);
        let mut reading = answers.reading;
        self.wants_scan |= self.roll.is_news(&uuid, reading.probe.as_ref());
        // A GPU that cannot even be enumerated passes no probe.
        if let (Some(Ok(())), Some(error)) = (&reading.probe, self.roll.failure(&uuid)) {
            reading.probe = Some(Err(error.clone()));
        }
        let observation = match polling {
            true => health::Observation::Poll(reading),
            false => health::Observation::Reading(reading),
        };
        about(at, uuid, observation)
    }

    /// Says that a call about a GPU does not return.
    fn report_held_up(&self, subject: &Subject, batch: &mut Vec<TimedObservation>) {
        let Some(held_up) =
            self.worker_pool.held_up().iter().find(|held_up| held_up.subject == *subject)
        else {
            return;
        };
        warn!(
            gpu.uuid = held_up.gpu().map_or("unknown", Uuid::as_str),
            call = held_up.call,
            "NVML does not answer about a GPU; the others are not concerned"
        );
        batch.extend(missed(self.clock.now(), held_up));
    }

    /// How the GPUs are linked is read beside all this; nothing waits for it.
    pub(super) async fn see_links(&mut self) -> Result<(), SupervisorError> {
        let (handle, gpus) = (self.handle.clone(), self.roll.gpus());
        let (clock, observe) = (self.clock, self.observations_tx.clone());
        self.node(move || handle.see_links(&gpus, clock, &observe)).await
    }

    /// Has a job done that is about no GPU in particular; what it misses, every GPU misses.
    pub(super) async fn node<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SupervisorError> {
        let (observe, clock) = (&self.observations_tx, self.clock);
        // One job, however many of its deadlines pass.
        let silent = LogRateLimit::new();
        let missed = async |call| {
            if silent.allow() {
                warn!(call, "NVML does not answer, waiting for it");
            }
            let observation = NodeObservation::EveryGpu(health::Observation::TimedOut { call });
            let _ = observe
                .send(vec![TimedObservation {
                    at: clock.now(),
                    observation: Observation::Health(observation),
                }])
                .await;
        };
        self.worker_pool.node(job, missed).await
    }

    async fn count(&mut self) -> Result<Asked<u32>, SupervisorError> {
        let handle = self.handle.clone();
        self.node(move || handle.count()).await
    }
}

fn about(at: Moment, uuid: Uuid, observation: health::Observation) -> TimedObservation {
    TimedObservation {
        at,
        observation: Observation::Health(NodeObservation::Gpu(uuid, observation)),
    }
}

/// That a call about a GPU has not returned.
pub(super) fn missed(at: Moment, held_up: &StuckCall) -> Option<TimedObservation> {
    Some(about(at, held_up.gpu()?.clone(), health::Observation::Missed { call: held_up.call }))
}

fn is_epoch(observation: &InventoryEvent) -> bool {
    matches!(observation, InventoryEvent::Health(NodeObservation::Epoch(_)))
}

/// Says that a call has returned at last.
pub(super) fn report_return(held_up: &StuckCall) {
    info!(
        gpu.uuid = held_up.gpu().map_or("unknown", Uuid::as_str),
        call = held_up.call,
        seconds = held_up.lasted().as_secs(),
        "NVML answers about the GPU again"
    );
}
