//! The age of what lasts, over a restart of this process.

use std::time::Duration;

use super::{NodeHealth, NodeObservation};
use crate::health::former_ages::{Restates, Source, source};
use crate::health::observation::{HealthChange, HealthNotice};
use crate::health::persisted::PersistedAges;
use crate::health::reason::Moment;
use crate::names::Uuid;

impl NodeHealth {
    /// What an observation states again.
    pub(super) fn restated_by(observation: &NodeObservation) -> Restates {
        match observation {
            NodeObservation::Fault(None) => Restates::Fault,
            NodeObservation::Quarantine(_) => Restates::Gpus(None, Source::Quarantine),
            NodeObservation::EveryGpu(observation) => Restates::of_gpu(None, observation),
            NodeObservation::Gpu(uuid, observation) => {
                Restates::of_gpu(Some(uuid.clone()), observation)
            }
            _ => Restates::Nothing,
        }
    }

    /// Gives what a change has stated again its age.
    pub(super) fn restore_ages(&mut self, now: Moment, uuid: &Uuid, change: &HealthChange) {
        let degraded = change.notices.iter().filter_map(|notice| match notice {
            HealthNotice::Degraded(which) => Some(which.as_str()),
            _ => None,
        });
        let words: Vec<_> =
            change.raised.iter().map(|cause| cause.as_str()).chain(degraded).collect();
        for word in words {
            let Some(since_boot) = self.former.take(uuid, word) else { continue };
            let before = self.age(now, since_boot);
            if let Some(gpu) = self.gpus.get_mut(uuid) {
                gpu.set_age(word, before);
            }
        }
    }

    /// Forgets the age of what an observation could have stated again and did not.
    pub(super) fn settle_ages(&mut self, restated: &Restates) {
        match restated {
            Restates::Nothing => {}
            Restates::Fault => drop(self.former.take_fault()),
            Restates::Gpus(of, source) => {
                let gpus = &self.gpus;
                let is_meant = |uuid: &Uuid| {
                    gpus.contains_key(uuid) && of.as_ref().is_none_or(|of| of == uuid)
                };
                self.former.retain(|uuid, of| of != *source || !is_meant(uuid));
            }
        }
    }

    /// How long something lasts that began so many seconds after the boot.
    pub(super) fn age(&self, now: Moment, since_boot: u64) -> Duration {
        let since_boot = Duration::from_secs(since_boot);
        let age = |origin: Duration| origin.saturating_add(now.0).saturating_sub(since_boot);
        self.origin.map(age).unwrap_or_default()
    }

    /// What to keep: the ages of what lasts, and those that still wait to be stated again.
    pub(super) fn ages(&self) -> PersistedAges {
        let mut ages = self.former.waiting().clone();
        if let Some((_, since)) = &self.fault {
            ages.fault = self.since_boot(*since);
        }
        for (uuid, gpu) in &self.gpus {
            for (word, since) in gpu.restated().filter(|(word, _)| source(word).is_some()) {
                if let Some(since) = self.since_boot(since) {
                    ages.gpus.entry(uuid.clone()).or_default().insert(word.to_owned(), since);
                }
            }
        }
        ages.gpus.retain(|_, words| !words.is_empty());
        ages
    }
}
