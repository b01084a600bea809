//! What outlives this process, a load of the driver and a boot.

use std::collections::BTreeMap;

use super::NodeHealth;
use crate::health::observation::{HealthChange, Observation};
use crate::health::persisted::{Epoch, PersistedCause, PersistedHealth, outlives};
use crate::health::reason::{Moment, Reason, Since};
use crate::health::rules::PolicyFinding;
use crate::health::verdict::GpuHealth;
use crate::names::Uuid;

impl NodeHealth {
    /// Restores persisted causes, as far as they still apply in this boot and load of the driver
    /// and under this policy. To be called before the first enumeration.
    pub fn restore(&mut self, now: Moment, persisted: &PersistedHealth) -> Vec<PolicyFinding> {
        if self.epoch.boot == persisted.epoch.boot && self.epoch.driver.is_none() {
            self.epoch.driver.clone_from(&persisted.epoch.driver);
        }
        for uuid in self.add_persisted(now, persisted).keys() {
            self.transitions.start(uuid);
        }
        let causes = |(uuid, causes): (&Uuid, &Vec<PersistedCause>)| {
            let unknown = causes.iter().filter(|cause| cause.cause().is_none());
            let finding = |cause: &PersistedCause| PolicyFinding::UnknownCause {
                uuid: uuid.to_string(),
                word: cause.kind.clone(),
            };
            unknown.map(finding).collect::<Vec<_>>()
        };
        persisted.gpus.iter().flat_map(causes).collect()
    }

    /// Adds persisted causes, as far as they apply. Returns those that are new, by GPU.
    pub(super) fn add_persisted(
        &mut self,
        now: Moment,
        persisted: &PersistedHealth,
    ) -> BTreeMap<Uuid, HealthChange> {
        let evidence = self.epoch.evidence_since(&persisted.epoch);
        self.former.add(&persisted.ages, evidence);
        for (uuid, since) in self.former.take_contained() {
            let before = self.age(now, since);
            self.gpus.entry(uuid).or_default().restore_contained(now, before);
        }
        let mut changes = BTreeMap::<Uuid, HealthChange>::new();
        for (uuid, causes) in &persisted.gpus {
            for persisted in causes {
                let Some(cause) = persisted.cause() else { continue };
                if !outlives(&cause, evidence) || !self.policy.stands(&cause) {
                    continue;
                }
                let before = persisted.since_boot.map(|since| self.age(now, since));
                let before = before.unwrap_or_default();
                let gpu = self.gpus.entry(uuid.clone()).or_default();
                let change = changes.entry(uuid.clone()).or_default();
                change.raised.extend(gpu.restore(now, cause, persisted.repaired, before));
            }
        }
        changes
    }

    /// What to persist. It changes only when causes do.
    #[must_use]
    pub fn persist(&self) -> PersistedHealth {
        let causes = |gpu: &GpuHealth| -> Vec<_> {
            gpu.lasting_causes()
                .map(|(Reason { cause, since: known, before, .. }, repaired)| PersistedCause {
                    since_boot: self.since_boot(Since { known, before }),
                    ..PersistedCause::of(&cause, repaired)
                })
                .collect()
        };
        let gpus = self.gpus.iter().map(|(uuid, gpu)| (uuid.clone(), causes(gpu)));
        PersistedHealth {
            epoch: self.epoch.clone(),
            gpus: gpus.filter(|(_, causes)| !causes.is_empty()).collect(),
            ages: self.ages(),
        }
    }

    /// When something began, in whole seconds since the boot of the node: a fraction would not be
    /// the same in the file.
    pub(super) fn since_boot(&self, since: Since) -> Option<u64> {
        let began = self.origin?.saturating_add(since.known.0).saturating_sub(since.before);
        Some(began.as_secs())
    }

    pub(super) fn set_epoch(&mut self, now: Moment, epoch: Epoch) -> BTreeMap<Uuid, HealthChange> {
        let evidence = epoch.evidence_since(&self.epoch);
        if evidence.is_some() {
            self.former.forget_readings();
        }
        // While no driver is loaded, the last one is kept to compare the next one with.
        let driver = epoch.driver.or_else(|| self.epoch.driver.take());
        self.epoch = Epoch { boot: epoch.boot, driver };
        evidence.map_or_else(BTreeMap::new, |evidence| {
            self.each(now, |_| Observation::Repaired(evidence))
        })
    }
}
