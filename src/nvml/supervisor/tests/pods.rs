//! Pods on the simulated node, how its GPUs are shared and partitioned, and that no GPU, nor a part
//! of one, ever has two owners.

use std::collections::BTreeSet;

use device::Device;
use device::gpu::{MigDevice, Placement};
use device::in_use::holders::{DeviceAssignment, Holder, Holders};
use device::in_use::tracker::InUseTracker;
use device::inventory::Inventory;
use device::layout::sharing::{Replication, Selection, SharedResource, Sharing};
use device::layout::{Layout, MigStrategy};
use device::names::{DeviceId, ResourceName, Uuid};

use super::node::Node;

/// MIG devices on each GPU that is partitioned.
const SLICES: u32 = 2;

/// What the kubelet has given to pods, and what is known of it.
#[derive(Default)]
pub(super) struct Pods {
    tracker: InUseTracker,
    /// Each pod has one device.
    assigned: Vec<(String, ResourceName, DeviceId)>,
    admitted: u32,
}

impl Node {
    /// The kubelet admits a pod and gives it a device that is Healthy and that no pod has.
    pub(super) fn admit(&mut self, pick: usize) {
        let taken = |resource: &ResourceName, id: &DeviceId| {
            self.pods.assigned.iter().any(|(_, of, has)| of == resource && has == id)
        };
        let free: Vec<(ResourceName, DeviceId)> = self
            .listed_devices()
            .filter(|(resource, device)| {
                self.inventory.is_healthy(device) && !taken(resource, &device.id)
            })
            .map(|(resource, device)| (resource.clone(), device.id.clone()))
            .collect();
        let Some((resource, id)) = free.get(pick % free.len().max(1)).cloned() else { return };
        let now = self.now();
        self.pods.tracker.record_grant(now, &resource, [id.clone()]);
        self.inventory.set_in_use(self.pods.tracker.in_use());
        self.pods.admitted += 1;
        self.pods.assigned.push((format!("pod-{}", self.pods.admitted), resource, id));
    }

    /// A pod ends.
    pub(super) fn end_pod(&mut self, pick: usize) {
        let pods = self.pods.assigned.len();
        if pods > 0 {
            self.pods.assigned.remove(pick % pods);
        }
    }

    /// The kubelet says which pod has what.
    pub(super) fn list_pods(&mut self) {
        let holders = self.holders();
        self.pods.tracker.update(Some(holders.into()));
        self.inventory.set_in_use(self.pods.tracker.in_use());
        self.review_pods();
    }

    /// What follows from what pods have, whenever the devices are others.
    pub(super) fn review_pods(&mut self) {
        if self.pods.assigned.is_empty() && !self.pods.tracker.has_withdrawn() {
            return;
        }
        self.inventory.adopt(&self.holders());
        let now = self.now();
        let gone = self.pods.tracker.reclaimable(now, &self.inventory);
        self.inventory.forget(&gone);
    }

    /// The plugin is started again: it knows what the kubelet says before it lists a GPU.
    pub(super) fn restart_pods(&mut self) {
        self.pods.tracker = InUseTracker::default();
        self.list_pods();
    }

    /// Every device gets so many replicas from now on; 1: none is shared.
    pub(super) fn share(&mut self, replicas: u32, renamed: bool) {
        self.inventory.set_layout(layout(replicas, renamed));
        self.review_pods();
    }

    fn holders(&self) -> Holders {
        let pod = |name: &String| Holder {
            namespace: "jobs".to_owned(),
            pod: name.clone(),
            container: "main".to_owned(),
        };
        // One that has nothing of ours: a kubelet that lists no pod at all is not believed.
        let mut pods = BTreeSet::from(["kube-system/dns".to_owned()]);
        pods.extend(self.pods.assigned.iter().map(|(name, ..)| format!("jobs/{name}")));
        let assigned = self.pods.assigned.iter().map(|(name, resource, id)| DeviceAssignment {
            resource: resource.clone(),
            id: id.text(),
            holder: pod(name),
        });
        Holders::new(self.now(), 1, pods, assigned)
    }

    /// The devices in the lists, the withdrawn ones too.
    pub(super) fn listed_devices(&self) -> impl Iterator<Item = (&ResourceName, &Device)> {
        self.inventory.resources().flat_map(|resource| {
            let devices = self.inventory.devices(resource).into_iter().flatten();
            devices.map(move |(_, device)| (resource, device))
        })
    }

    /// No device is Healthy while a pod has something of it under another id. Replicas of one
    /// device in one resource share it on purpose.
    pub(super) fn check_owners(&self) {
        for (pod, held_in, held) in &self.pods.assigned {
            for (resource, device) in self.listed_devices() {
                let same = resource == held_in && device.id.uuid() == held.uuid();
                let shares =
                    device.id.replica_number().is_some() == held.replica_number().is_some();
                let two = self.overlap(held.uuid(), device.id.uuid())
                    && !(same && shares)
                    && self.inventory.is_healthy(device);
                assert!(
                    !two,
                    "{} of {resource} is Healthy while {pod} has {held} of {held_in}",
                    device.id
                );
            }
        }
    }

    /// Whether two UUIDs have a part of a GPU in common.
    fn overlap(&self, one: &Uuid, other: &Uuid) -> bool {
        let is_part = |mig: &Uuid, gpu: &Uuid| {
            mig.as_str().strip_prefix("MIG-").is_some_and(|rest| {
                let number = rest.split('-').next();
                gpu.as_str().strip_prefix("GPU-") == number
            })
        };
        one == other || is_part(one, other) || is_part(other, one)
    }
}

/// Whether the devices of a GPU are Healthy, which have to agree; `None` while all of them have
/// another owner. Those that are listed for their pods alone say nothing.
pub(super) fn health_of(inventory: &Inventory, gpu: &Uuid) -> Option<bool> {
    let devices = inventory.resources().filter_map(|resource| inventory.devices(resource));
    let offered: Vec<&Device> = devices
        .flat_map(|of| of.values())
        .filter(|device| device.gpu == *gpu && !device.withdrawn)
        .collect();
    let own = offered.iter().filter(|device| device.owner.is_none());
    let health: BTreeSet<bool> = own.map(|device| inventory.is_healthy(device)).collect();
    assert!(health.len() < 2, "the parts of {gpu} differ");
    if !offered.is_empty() && health.is_empty() {
        return None;
    }
    Some(health.contains(&true))
}

/// The MIG devices of a GPU that is partitioned.
pub(super) fn mig_devices(gpu: &Uuid) -> Vec<MigDevice> {
    let slice = |index| MigDevice {
        uuid: format!("MIG-{}-{index}", gpu.as_str().trim_start_matches("GPU-")).parse().unwrap(),
        index,
        placement: Placement { gpu_instance: index + 1, compute_instance: 0 },
        gpu_slices: 3,
        compute_slices: 3,
        memory_mib: 40_320,
        profile: Some("3g.40gb".to_owned()),
        engines: None,
    };
    (0..SLICES).map(slice).collect()
}

/// GPUs are offered whole and MIG devices by their profile, each with so many replicas.
pub(super) fn layout(replicas: u32, renamed: bool) -> Layout {
    let shared = |name: ResourceName| SharedResource {
        offered_as: if renamed { format!("{name}.shared").parse().unwrap() } else { name.clone() },
        name,
        replicas,
        devices: Selection::All,
    };
    let names = [ResourceName::gpu(), "nvidia.com/mig-3g.40gb".parse().unwrap()];
    let replication = Replication {
        memory_limits: None,
        rename_by_default: renamed,
        fail_requests_greater_than_one: false,
        resources: names.into_iter().map(shared).collect(),
    };
    let sharing = if replicas > 1 { Sharing::TimeSlicing(replication) } else { Sharing::default() };
    Layout { mig_strategy: MigStrategy::Mixed, sharing, ..Layout::default() }
}
