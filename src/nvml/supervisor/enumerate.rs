//! Enumerates the GPUs.

use std::collections::BTreeMap;

use device::health::{Moment, NodeObservation};
use device::inventory::{EnumerationEntry, InventoryEvent};
use tracing::{Instrument, debug_span};

use super::enumeration::Enumeration;
use super::{CallResult, Supervisor};
use crate::nvml::channels::TimedObservation;
use crate::nvml::error::SupervisorError;

impl Supervisor {
    /// Enumerates the GPUs, each in a job of its own. An enumeration that differs from the previous
    /// one is added to `batch`.
    pub(super) async fn enumerate(
        &mut self,
        batch: &mut Vec<TimedObservation>,
    ) -> Result<CallResult<()>, SupervisorError> {
        let span = debug_span!("enumeration", session = self.session);
        let at = self.clock.now();
        let found = self.identify_gpus(batch).instrument(span).await?;
        Ok(found.map(|(count, found)| self.adopt_enumeration(at, count, found, batch)))
    }

    /// How many GPUs there are, and those that have answered, by index.
    async fn identify_gpus(
        &mut self,
        batch: &mut Vec<TimedObservation>,
    ) -> Result<CallResult<(u32, BTreeMap<u32, EnumerationEntry>)>, SupervisorError> {
        let handle = self.handle.clone();
        let count = match self.run_job(move || handle.count_gpus()).await? {
            Ok(count) => count,
            Err(error) => return Ok(Err(error)),
        };
        let mut jobs = self.enumeration.jobs(count);
        jobs.retain(|(subject, _)| self.worker_pool.stuck_call(subject).is_none());
        let indices: Vec<u32> = jobs.iter().map(|(_, (index, _))| *index).collect();
        let (handle, sysfs) = (self.handle.clone(), self.settings.sysfs_root.clone());
        let identify = move |(index, known)| handle.identify(index, known, &sysfs);
        let answers = self.worker_pool.run_each(jobs, identify).await?;
        let mut found = BTreeMap::new();
        for (index, (subject, answer)) in indices.into_iter().zip(answers) {
            match answer {
                Some(answer) => drop(found.insert(index, answer)),
                None => self.report_stuck(&subject, batch),
            }
        }
        Ok(Ok((count, found)))
    }

    fn adopt_enumeration(
        &mut self,
        at: Moment,
        count: u32,
        found: BTreeMap<u32, EnumerationEntry>,
        batch: &mut Vec<TimedObservation>,
    ) {
        let enumeration = self.enumeration.merge(count, found);
        enumeration.log_failed(&self.enumeration);
        if enumeration != self.enumeration || std::mem::take(&mut self.is_new_session) {
            batch.insert(enumeration_position(batch), self.scan(at, &enumeration));
        }
        self.without_fabric.clear();
        self.enumeration = enumeration;
    }

    fn scan(&self, at: Moment, enumeration: &Enumeration) -> TimedObservation {
        let entries = enumeration.entries().to_vec();
        TimedObservation {
            at,
            observation: InventoryEvent::Enumeration { session: self.session, entries },
        }
    }
}

/// After the epoch, and before deadlines that were missed: a GPU has to be listed for anything to
/// be known of it.
fn enumeration_position(batch: &[TimedObservation]) -> usize {
    let is_epoch = |timed: &TimedObservation| {
        matches!(timed.observation, InventoryEvent::Health(NodeObservation::Epoch(_)))
    };
    batch.iter().position(|timed| !is_epoch(timed)).unwrap_or(batch.len())
}
