//! What an answer means, and what follows from it.

use device::health::{
    self, EventType, Moment, NodeObservation, NvmlError as CallError, Reading, ResetSigns,
    ReturnCode, reset_evidence,
};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use tracing::{debug, info};

use super::{Phase, Supervisor};
use crate::nvml::bus::BusScan;
use crate::nvml::error::SupervisorError;
use crate::nvml::job::{Answer, Job, Outcome, Task};
use crate::nvml::reading::Answers;
use crate::nvml::session::{self, UNINITIALIZED};

impl Supervisor {
    /// Takes in the answer to a job, however late it comes.
    pub(in crate::nvml) fn answered(&mut self, now: Moment, answer: Answer) {
        let Answer { job, began, outcome } = answer;
        if let Outcome::Event(event) = outcome {
            return self.event(began, &job, event);
        }
        self.returned(now, &job);
        match outcome {
            Outcome::Panicked(text) => {
                self.error = Some(SupervisorError::ThreadEnded("nvml", text));
            }
            Outcome::NotStarted if job.task == Task::Open => self.not_opened(now),
            Outcome::NotStarted => self.events.listen_at = now.after(super::FIRST_DEADLINE),
            // Of an earlier session nothing is to be learned.
            _ if job.session != self.session => {}
            outcome => self.outcome(now, began, job.task, outcome),
        }
    }

    fn outcome(&mut self, now: Moment, began: Moment, task: Task, outcome: Outcome) {
        let is_open = matches!(self.phase, Phase::Starting { .. } | Phase::Serving);
        match (task, outcome) {
            (_, Outcome::Bus(epoch, scan)) => {
                // One that began before NVML was open knows less than that.
                if began >= self.opened_at {
                    self.epoch = epoch;
                }
                self.scanned_bus(began, scan);
            }
            (_, Outcome::Opened(result)) => self.opened(now, result),
            _ if !is_open => {}
            (_, Outcome::Counted(Ok(count))) => self.begin_scan(now, count),
            (_, Outcome::Counted(Err(error))) => self.fail(now, error),
            (Task::Identify { index }, Outcome::Identified(gpu)) => {
                self.identified(now, index, gpu);
            }
            (_, Outcome::Described(entry)) => {
                self.enumeration.described(entry);
                self.finish_scan(now);
            }
            (_, Outcome::Registered(Ok(registrations))) => self.events.registered(registrations),
            (_, Outcome::Registered(Err(error))) => self.events.not_registered(&error),
            (_, Outcome::Listened(Err(error))) => {
                self.events.wait_failed(now, &error);
                // Waiting fails when a GPU has fallen off the bus: which one, a poll tells.
                self.scan_due = true;
                self.poll_at = now;
            }
            (Task::Read { gpu, poll, .. }, Outcome::Read(answers)) => {
                self.answered_poll(now, &gpu);
                self.adopt_reading(began, gpu, poll, answers);
            }
            (Task::Links { gpu, .. }, Outcome::Links(links)) => {
                self.links.add(&gpu, links);
                self.links_read(now, &gpu);
            }
            _ => {}
        }
    }

    /// Takes over what is on the bus, and reports functions that differ.
    fn scanned_bus(&mut self, at: Moment, scan: BusScan) {
        self.bus = scan.bound;
        self.renewal.scanned(self.bus.as_ref());
        match scan.functions {
            Ok(functions) if self.functions.as_ref() != Some(&functions) => {
                self.functions = Some(functions.clone());
                self.observe(at, InventoryEvent::Bus(functions));
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "the PCI bus cannot be read"),
        }
    }

    /// A job is done. If a call of it was past its deadline, what it kept from being done is due.
    fn returned(&mut self, now: Moment, job: &Job) {
        let subject = job.task.subject();
        let given = match self.in_flight.get(&subject) {
            Some((other, given)) if other == job => *given,
            _ => return,
        };
        self.in_flight.remove(&subject);
        if self.overdue.remove(&subject) {
            let seconds = now.since(given).as_secs();
            info!(%subject, seconds, "NVML answers again");
            self.scan_due = true;
            self.poll_at = now;
        }
    }

    fn event(&mut self, at: Moment, job: &Job, event: Option<NodeObservation>) {
        if job.session == self.session {
            self.events.works();
        }
        let Some(event) = event else { return };
        let mig_changed = health::Observation::Event(EventType::MigConfigChange);
        if let NodeObservation::Gpu(_, of_gpu) | NodeObservation::EveryGpu(of_gpu) = &event
            && *of_gpu == mig_changed
        {
            self.scan_due = true;
        }
        self.observe(at, InventoryEvent::Health(event));
    }

    fn adopt_reading(&mut self, at: Moment, gpu: Uuid, poll: bool, answers: Answers) {
        let Answers { mut reading, has_fabric, energy } = answers;
        let recovery_action = reading.recovery_action.as_ref().and_then(|read| read.clone().ok());
        let signs = ResetSigns { recovery_action, energy };
        // Released, and taken up again: whoever asked for that may have reset the GPU.
        let before = self.before_release.remove(&gpu);
        if let Some(evidence) = before.and_then(|before| reset_evidence(before, signs)) {
            info!(gpu.uuid = %gpu, "the GPU was reset while NVML was released");
            self.observe_gpu(at, gpu.clone(), health::Observation::Repaired(evidence));
        }
        let listed = self.enumeration.identified().any(|listed| listed.uuid == gpu);
        let known = self.gpus.entry(gpu.clone()).or_default();
        known.last_reading = Some(at);
        known.signs = signs;
        known.without_fabric |= !has_fabric;
        let code = reading.probe.as_ref().and_then(|probe| probe.as_ref().err());
        let code = code.map(|error| error.code);
        known.lost = code == Some(ReturnCode::GPU_IS_LOST);
        // The answer contradicts the enumeration: the GPU is gone, or back.
        self.scan_due |= match code {
            Some(session::NOT_FOUND | ReturnCode::GPU_IS_LOST) => listed,
            _ => reading.probe == Some(Ok(())) && !listed,
        };
        // A GPU alone does not tell that NVML as a whole has failed.
        self.scan_due |= errors(&reading).any(|error| is_of_node(error.code));
        // A GPU whose handle is refused passes no probe.
        if let (Some(Ok(())), Some(error)) = (&reading.probe, self.enumeration.failure(&gpu)) {
            reading.probe = Some(Err(error.clone()));
        }
        let observation = match poll {
            true => health::Observation::Poll(reading),
            false => health::Observation::Reading(reading),
        };
        self.observe_gpu(at, gpu, observation);
    }
}

fn errors(reading: &Reading) -> impl Iterator<Item = &CallError> {
    let action = reading.recovery_action.as_ref().and_then(|action| action.as_ref().err());
    let probe = reading.probe.as_ref().and_then(|probe| probe.as_ref().err());
    action.into_iter().chain(probe)
}

/// Whether a code is about NVML as a whole, whatever was asked.
fn is_of_node(code: ReturnCode) -> bool {
    matches!(code, UNINITIALIZED | ReturnCode::DRIVER_NOT_LOADED | ReturnCode::LIBRARY_MISMATCH)
}
