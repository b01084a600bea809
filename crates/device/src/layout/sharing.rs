//! Sharing: which devices move to which resource, and with how many replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::candidate::Candidate;
use super::finding::LayoutFinding;
use super::list_size::{self, ListTooLarge, ReplicatedDevices};
use crate::Device;
use crate::memory_share::MemoryLimits;
use crate::names::{DeviceId, ResourceName, Uuid};

/// How devices are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Not at all.
    #[default]
    None,
    /// By time-slicing, without isolation.
    TimeSlicing(Replication),
    /// Concurrently, under the control of an MPS daemon.
    Mps {
        /// The shared resources.
        replication: Replication,
        /// The host's directory of the control daemon.
        root: PathBuf,
    },
}

impl Sharing {
    /// The shared resources, if there are any.
    #[must_use]
    pub fn replication(&self) -> Option<&Replication> {
        match self {
            Self::None => None,
            Self::TimeSlicing(replication) | Self::Mps { replication, .. } => Some(replication),
        }
    }

    /// Whether memory is to be limited.
    #[must_use]
    pub fn limits_memory(&self) -> bool {
        self.replication().is_some_and(|replication| replication.memory_limits.is_some())
    }

    /// Puts each device into its resource, with the number of replicas that it has there; 1: not
    /// shared. `memory` has the bytes of each GPU and MIG device.
    pub(super) fn plan(
        &self,
        candidates: Vec<Candidate>,
        memory: &BTreeMap<&Uuid, u64>,
        findings: &mut Vec<LayoutFinding>,
    ) -> BTreeMap<ResourceName, Vec<(Device, u32)>> {
        let mut by_name: BTreeMap<ResourceName, Vec<Device>> = BTreeMap::new();
        for candidate in candidates {
            by_name.entry(candidate.resource).or_default().push(candidate.device);
        }
        let mut plan = BTreeMap::<_, Vec<_>>::new();
        let mut add = |resource, devices: Vec<Device>, replicas| {
            if !devices.is_empty() {
                let devices = devices.into_iter().map(|device| (device, replicas));
                plan.entry(resource).or_default().extend(devices);
            }
        };
        let entries = self.replication().into_iter().flat_map(|shared| &shared.resources);
        let absent = |entry: &&SharedResource| !by_name.contains_key(&entry.name);
        for entry in entries.filter(absent).filter(|_| !by_name.is_empty()) {
            findings.extend(entry.missing(&[]));
        }
        for (name, mut devices) in by_name {
            let entries = self.replication().into_iter().flat_map(|shared| &shared.resources);
            for entry in entries.filter(|entry| entry.name == name) {
                findings.extend(entry.missing(&devices));
                let mut shared;
                (shared, devices) = entry.devices.split(devices);
                if matches!(self, Self::Mps { .. }) {
                    let before = shared.len();
                    shared.retain(|device| device.placement.is_none());
                    let (resource, devices) = (entry.offered_as.clone(), before - shared.len());
                    findings.extend(
                        (devices > 0).then_some(LayoutFinding::MigUnderMps { resource, devices }),
                    );
                }
                self.limit_memory(&mut shared, entry.replicas, memory);
                add(entry.offered_as.clone(), shared, entry.replicas);
            }
            add(name, devices, 1);
        }
        plan
    }

    /// Gives each replica of these devices its share of the memory.
    fn limit_memory(&self, devices: &mut [Device], replicas: u32, memory: &BTreeMap<&Uuid, u64>) {
        let limits = self.replication().and_then(|replication| replication.memory_limits);
        for device in devices {
            let bytes = memory.get(device.id.uuid()).copied();
            device.memory_share = limits.zip(bytes).map(|(l, bytes)| l.share(bytes, replicas));
        }
    }
}

/// The resources that are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// Whether shared resources are renamed to `<name>.shared`.
    pub rename_by_default: bool,
    /// Whether a container may have one replica only.
    pub fail_requests_greater_than_one: bool,
    /// How the memory is divided; `None`: nobody has a share.
    pub memory_limits: Option<MemoryLimits>,
    /// One entry for each.
    pub resources: Vec<SharedResource>,
}

/// One resource whose devices are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedResource {
    /// The resource whose devices are shared.
    pub name: ResourceName,
    /// The resource under which the replicas are offered; the same as `name` unless it is renamed.
    pub offered_as: ResourceName,
    /// Replicas of each device, 2 or more.
    pub replicas: u32,
    /// Which of its devices are shared; the others stay unshared under `name`.
    pub devices: Selection,
}

impl SharedResource {
    /// The devices that are listed and that the resource does not have.
    fn missing(&self, devices: &[Device]) -> Vec<LayoutFinding> {
        let Selection::List(refs) = &self.devices else { return Vec::new() };
        let absent = refs.iter().filter(|named| !devices.iter().any(|device| named.is(device)));
        absent
            .map(|named| LayoutFinding::NoSuchDevice {
                resource: self.name.clone(),
                named: named.to_string(),
            })
            .collect()
    }
}

/// Which devices of a resource are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// The first ones, this many.
    Count(u32),
    /// These.
    List(BTreeSet<DeviceRef>),
}

impl Selection {
    /// The selected devices, and the others.
    fn split(&self, mut devices: Vec<Device>) -> (Vec<Device>, Vec<Device>) {
        match self {
            Self::All => (devices, Vec::new()),
            Self::Count(count) => {
                let rest = devices.split_off(devices.len().min(*count as usize));
                (devices, rest)
            }
            Self::List(refs) => {
                devices.into_iter().partition(|device| refs.iter().any(|named| named.is(device)))
            }
        }
    }
}

/// A device, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceRef {
    /// The GPU that is bound to this index.
    Gpu(u32),
    /// The MIG device with this index on the GPU with that one: `0:1`.
    Mig(u32, u32),
    /// The GPU or MIG device with this UUID.
    Uuid(Uuid),
}

impl DeviceRef {
    fn is(&self, device: &Device) -> bool {
        match self {
            Self::Gpu(index) => device.mig_index.is_none() && device.bound_index == Some(*index),
            Self::Mig(index, mig) => {
                device.mig_index == Some(*mig) && device.bound_index == Some(*index)
            }
            Self::Uuid(uuid) => device.id.uuid() == uuid,
        }
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu(gpu) => write!(f, "{gpu}"),
            Self::Mig(gpu, mig) => write!(f, "{gpu}:{mig}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}

/// Whether the kubelet can receive the list of these devices.
pub(super) fn check(devices: &[(Device, u32)]) -> Result<(), ListTooLarge> {
    list_size::check(devices.iter().map(|(device, replicas)| ReplicatedDevices {
        uuid_length: device.id.uuid().as_str().len() as u64,
        replicas: *replicas,
        devices: 1,
    }))
}

/// The devices by id, each as often as it has replicas.
pub(super) fn replicate(devices: Vec<(Device, u32)>) -> BTreeMap<DeviceId, Device> {
    let mut replicated = Vec::new();
    for (device, replicas) in devices {
        match replicas {
            0 | 1 => replicated.push(device),
            more => replicated.extend((0..more).map(|replica| Device {
                id: DeviceId::replica(device.id.uuid().clone(), replica),
                ..device.clone()
            })),
        }
    }
    replicated.into_iter().map(|device| (device.id.clone(), device)).collect()
}
