//! The health of all GPUs of the node, and the faults that affect all of them.

mod ages;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::cause::{Cause, CauseKind};
use super::counters::{AllTransitions, Transitions};
use super::former_ages::FormerAges;
use super::nvml_error::NodeFault;
use super::observation::{HealthChange, Observation};
use super::persisted::{Epoch, PersistedHealth};
use super::policy::HealthPolicy;
use super::reason::{Health, Moment, Reason, Since};
use super::scope::GpuPart;
use super::verdict::GpuHealth;
use crate::names::Uuid;

/// The most GPUs whose health is kept; no node has more.
const MOST_GPUS: usize = 1024;

/// Something observed on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeObservation {
    /// About one physical GPU; ignored if no enumeration has listed the GPU.
    Gpu(Uuid, Observation),
    /// About every GPU, such as an event that names none, or a call about no GPU in particular that
    /// does not return.
    EveryGpu(Observation),
    /// NVML was initialised and lists these physical GPUs, and no others. A session is one
    /// initialisation of NVML: any number that differs from the one before.
    Enumeration {
        /// Which initialisation.
        session: u64,
        /// The GPUs for which it gave a handle.
        gpus: BTreeSet<Uuid>,
        /// Whether every GPU that NVML counts is one of these, with a UUID of its own. Only then is
        /// a GPU that is not among them known to be absent.
        complete: bool,
    },
    /// Why NVML cannot be used; `None`: it can, to be observed only after the readings of the new
    /// session.
    Fault(Option<NodeFault>),
    /// The present boot and load of the driver.
    Epoch(Epoch),
    /// The text of each quarantined GPU, whether listed or not. Any other GPU is not quarantined.
    Quarantine(BTreeMap<Uuid, Arc<str>>),
    /// Causes that were persisted before this process started, or by another one, and that could
    /// not be read before. Those that are active already stay as they are.
    Persisted(PersistedHealth),
    /// The GPU is no longer offered and not in use.
    Forget(Uuid),
    /// A person says that what is latched of the GPU is repaired. A GPU that is not listed is
    /// forgotten, unless it is one cause of another kind that is.
    Clear {
        /// The GPU.
        gpu: Uuid,
        /// The kind of the causes; `None`: all.
        cause: Option<CauseKind>,
    },
}

/// The health of all GPUs of the node.
#[derive(Debug, Clone, Default)]
pub struct NodeHealth {
    policy: HealthPolicy,
    epoch: Epoch,
    /// The time from the boot of the node to the origin of moments; `None`: not known.
    origin: Option<Duration>,
    gpus: BTreeMap<Uuid, GpuHealth>,
    fault: Option<(NodeFault, Since)>,
    former: FormerAges,
    /// Of the last enumeration.
    session: Option<u64>,
    /// Kept for GPUs that are not listed yet.
    quarantine: BTreeMap<Uuid, Arc<str>>,
    transitions: AllTransitions,
}

impl NodeHealth {
    /// A node without GPUs.
    #[must_use]
    pub fn new(policy: HealthPolicy, epoch: Epoch) -> Self {
        Self { policy, epoch, ..Self::default() }
    }

    /// The same, which knows how long after the boot of the node the origin of moments is, so that
    /// causes keep their age over a restart of the process.
    #[must_use]
    pub fn with_origin(self, since_boot: Duration) -> Self {
        Self { origin: Some(since_boot), ..self }
    }

    /// The health of a device on a physical GPU. A GPU that was never listed is NotEnumerated.
    #[must_use]
    pub fn health_of(&self, gpu: &Uuid, device: GpuPart) -> Health {
        let mut reasons: Vec<_> = match self.gpus.get(gpu) {
            Some(gpu) => gpu.reasons(device).collect(),
            None => vec![Reason {
                cause: Cause::NotEnumerated,
                since: Moment::default(),
                before: Duration::ZERO,
                restored: false,
            }],
        };
        if let Some((fault, since)) = &self.fault {
            // With NVML as a whole out of use it says nothing that a GPU has not answered.
            reasons.retain(|reason| reason.cause != Cause::NotAnswered);
            reasons.push(Reason {
                cause: Cause::Node(fault.clone()),
                since: since.known,
                before: since.before,
                restored: false,
            });
        }
        Health::of(reasons)
    }

    /// The health of each physical GPU, without faults of the node.
    #[must_use]
    pub fn gpus(&self) -> &BTreeMap<Uuid, GpuHealth> {
        &self.gpus
    }

    /// How often a GPU became Unhealthy and Healthy again; a failure of a part of it counts.
    #[must_use]
    pub fn transitions(&self, gpu: &Uuid) -> Transitions {
        self.transitions.of(gpu)
    }

    /// The quarantined GPUs with the text of each, as last observed.
    #[must_use]
    pub fn quarantine(&self) -> &BTreeMap<Uuid, Arc<str>> {
        &self.quarantine
    }

    /// Why NVML cannot be used, and since when.
    #[must_use]
    pub fn fault(&self) -> Option<&(NodeFault, Since)> {
        self.fault.as_ref()
    }

    /// The present boot and load of the driver.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &HealthPolicy {
        &self.policy
    }

    /// Replaces the policy. A cause that no longer counts is cleared, and a tolerated state that
    /// counts now becomes a cause. Xids from before are not evaluated again. Returns the changes by
    /// physical GPU.
    pub fn set_health_policy(
        &mut self,
        now: Moment,
        policy: HealthPolicy,
    ) -> BTreeMap<Uuid, HealthChange> {
        if self.policy == policy {
            return BTreeMap::new();
        }
        self.policy = policy;
        let policy = &self.policy;
        let mut changes: BTreeMap<_, _> = self
            .gpus
            .iter_mut()
            .map(|(uuid, gpu)| (uuid.clone(), gpu.set_health_policy(now, policy)))
            .collect();
        changes.retain(|_, change| !change.is_empty());
        changes
    }

    /// The GPUs to be read between polls, and when.
    #[must_use]
    pub fn next_readings(&self) -> BTreeMap<Uuid, Moment> {
        let due = |(uuid, gpu): (&Uuid, &GpuHealth)| {
            gpu.next_reading().map(|moment| (uuid.clone(), moment))
        };
        self.gpus.iter().filter_map(due).collect()
    }

    /// The GPUs that wait for a new initialisation of NVML that lists them.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<Uuid> {
        let missing = self.gpus.iter().filter(|(_, gpu)| gpu.is_missing());
        missing.map(|(uuid, _)| uuid.clone()).collect()
    }

    /// Applies one observation. Returns the changes by physical GPU, without GPUs that did not
    /// change.
    pub fn apply(
        &mut self,
        now: Moment,
        observation: NodeObservation,
    ) -> BTreeMap<Uuid, HealthChange> {
        let restates = Self::restated_by(&observation);
        let mut changes = match observation {
            NodeObservation::Gpu(uuid, observation) => self.observed(now, uuid, observation),
            NodeObservation::EveryGpu(observation) => self.each(now, |_| observation.clone()),
            NodeObservation::Enumeration { session, gpus, complete } => {
                self.enumerated(now, session, &gpus, complete)
            }
            NodeObservation::Fault(fault) => self.set_fault(now, fault),
            NodeObservation::Epoch(epoch) => self.set_epoch(now, epoch),
            NodeObservation::Quarantine(quarantine) => {
                self.quarantine = quarantine;
                self.apply_quarantine(now)
            }
            NodeObservation::Persisted(persisted) => self.add_persisted(now, &persisted),
            NodeObservation::Forget(uuid) => return self.forget(uuid),
            NodeObservation::Clear { gpu, cause } => return self.clear(now, gpu, cause),
        };
        changes.retain(|_, change| !change.is_empty());
        for (gpu, change) in &changes {
            self.restore_ages(now, gpu, change);
        }
        self.settle_ages(&restates);
        for gpu in changes.keys() {
            self.transitions.update(gpu, !self.health_of(gpu, GpuPart::Whole).is_healthy());
        }
        changes
    }

    fn observed(
        &mut self,
        now: Moment,
        uuid: Uuid,
        observation: Observation,
    ) -> BTreeMap<Uuid, HealthChange> {
        let mut change = HealthChange::default();
        if matches!(observation, Observation::Xid { .. }) && !self.gpus.contains_key(&uuid) {
            // NVML reports it of a GPU that was forgotten, or is not listed yet: nothing states it
            // again when the GPU is listed.
            change = self.add_unlisted(now, &uuid);
        }
        let Some(gpu) = self.gpus.get_mut(&uuid) else { return BTreeMap::new() };
        change.merge(gpu.apply(now, observation, &self.policy));
        BTreeMap::from([(uuid, change)])
    }

    /// Knows a GPU from now on as one that the last enumeration did not identify.
    fn add_unlisted(&mut self, now: Moment, uuid: &Uuid) -> HealthChange {
        let mut change = HealthChange::default();
        if self.gpus.len() < MOST_GPUS {
            let gpu = self.gpus.entry(uuid.clone()).or_default();
            let quarantine = Observation::Quarantine(self.quarantine.get(uuid).cloned());
            let not_listed =
                self.session.map(|session| Observation::NotEnumerated { session, complete: false });
            for observation in not_listed.into_iter().chain([quarantine]) {
                change.merge(gpu.apply(now, observation, &self.policy));
            }
        }
        change
    }

    fn forget(&mut self, uuid: Uuid) -> BTreeMap<Uuid, HealthChange> {
        let Some(gpu) = self.gpus.remove(&uuid) else { return BTreeMap::new() };
        self.transitions.forget(&uuid);
        self.former.forget(&uuid);
        let cleared = gpu.reasons(GpuPart::Whole).map(|reason| reason.cause).collect();
        BTreeMap::from([(uuid, HealthChange { cleared, ..HealthChange::default() })])
    }

    fn clear(
        &mut self,
        now: Moment,
        uuid: Uuid,
        cause: Option<CauseKind>,
    ) -> BTreeMap<Uuid, HealthChange> {
        if self.gpus.get(&uuid).is_some_and(|gpu| gpu.is_forgotten_by(cause)) {
            return self.forget(uuid);
        }
        self.apply(now, NodeObservation::Gpu(uuid, Observation::Cleared(cause)))
    }

    fn each(
        &mut self,
        now: Moment,
        mut observed: impl FnMut(&Uuid) -> Observation,
    ) -> BTreeMap<Uuid, HealthChange> {
        let policy = &self.policy;
        let gpus = self.gpus.iter_mut();
        gpus.map(|(uuid, gpu)| (uuid.clone(), gpu.apply(now, observed(uuid), policy))).collect()
    }

    fn enumerated(
        &mut self,
        now: Moment,
        session: u64,
        gpus: &BTreeSet<Uuid>,
        complete: bool,
    ) -> BTreeMap<Uuid, HealthChange> {
        self.session = Some(session);
        for uuid in gpus {
            self.gpus.entry(uuid.clone()).or_default();
        }
        let observation = |uuid: &Uuid| match gpus.contains(uuid) {
            true => Observation::Enumerated { session },
            false => Observation::NotEnumerated { session, complete },
        };
        let mut changes = self.each(now, observation);
        // The quarantine may name GPUs that are listed only now.
        for (uuid, change) in self.apply_quarantine(now) {
            changes.entry(uuid).or_default().merge(change);
        }
        changes
    }

    fn apply_quarantine(&mut self, now: Moment) -> BTreeMap<Uuid, HealthChange> {
        let quarantine = std::mem::take(&mut self.quarantine);
        let changes = self.each(now, |uuid| Observation::Quarantine(quarantine.get(uuid).cloned()));
        self.quarantine = quarantine;
        changes
    }

    fn set_fault(&mut self, now: Moment, fault: Option<NodeFault>) -> BTreeMap<Uuid, HealthChange> {
        if self.fault.as_ref().map(|(fault, _)| fault) == fault.as_ref() {
            return BTreeMap::new();
        }
        if self.fault.is_none() {
            // What is known of a GPU is of the NVML that has failed.
            self.gpus.values_mut().for_each(GpuHealth::forget_answer);
        }
        let since = match &self.fault {
            Some((_, since)) => *since,
            None => {
                let former = self.former.take_fault();
                let before = former.map(|since| self.age(now, since)).unwrap_or_default();
                Since { known: now, before }
            }
        };
        let before = self.fault.take().map(|(fault, _)| Cause::Node(fault));
        self.fault = fault.map(|fault| (fault, since));
        let after = self.fault.as_ref().map(|(fault, _)| Cause::Node(fault.clone()));
        let change = HealthChange {
            raised: after.into_iter().collect(),
            cleared: before.into_iter().collect(),
            notices: Vec::new(),
        };
        self.gpus.keys().map(|uuid| (uuid.clone(), change.clone())).collect()
    }
}
