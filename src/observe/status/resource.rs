//! A resource of the status: its devices, their health and their holders.

use std::collections::BTreeMap;

use device::CdiState;
use device::in_use::holders::{self, Holders};
use device::inventory::Inventory;
use device::layout;
use device::mps::MpsDaemon;
use device::names::{ResourceName, Uuid};
use status::{
    Device, Holder, MpsShare, MpsSharing, Registration, Resource, Sharing, SharingStrategy,
};

/// A resource with its devices in the order of their GPUs, MIG devices and replicas.
pub(super) fn resource(
    name: &ResourceName,
    kubelet: Registration,
    inventory: &Inventory,
    holders: Option<&Holders>,
) -> Resource {
    let devices = devices(name, inventory, holders);
    let resource = Resource {
        name: name.to_string(),
        kubelet,
        sharing: sharing(name, inventory),
        healthy: 0,
        offered: 0,
        allocated: holders
            .map(|_| devices.iter().filter(|device| !device.holders.is_empty()).count()),
        devices,
    };
    let (offered, healthy) = resource.offered_and_healthy();
    Resource { offered, healthy, ..resource }
}

/// How the devices of a resource are shared, by the rules of the layout.
fn sharing(name: &ResourceName, inventory: &Inventory) -> Option<Sharing> {
    let by = &inventory.layout().sharing;
    let strategy = match by {
        layout::sharing::Sharing::None => return None,
        layout::sharing::Sharing::TimeSlicing(_) => SharingStrategy::TimeSlicing,
        layout::sharing::Sharing::Mps { .. } => SharingStrategy::Mps,
    };
    let shared = &by.replication()?.resources;
    let entry = shared.iter().find(|entry| entry.offered_as == *name)?;
    let mps = matches!(strategy, SharingStrategy::Mps).then(|| mps(name, inventory));
    Some(Sharing { strategy, replicas: entry.replicas, of: entry.name.to_string(), mps })
}

/// How MPS shares the GPUs of a resource.
fn mps(name: &ResourceName, inventory: &Inventory) -> MpsSharing {
    let daemon = inventory.mps_daemon(name);
    let injector = inventory.injector();
    let mut shares = BTreeMap::new();
    for device in inventory.devices(name).into_iter().flat_map(BTreeMap::values) {
        if let Some(share) = device.mps {
            shares.entry((device.order(), &device.gpu)).or_insert(share);
        }
    }
    let share = |((_, gpu), share): ((u32, &Uuid), device::mps::MpsShare)| MpsShare {
        gpu: gpu.to_string(),
        thread_percentage: share.threads,
        memory_mib: share.memory,
        most_memory_mib: share.most_memory,
    };
    MpsSharing {
        up: matches!(daemon, Some(MpsDaemon::Up(_))),
        cause: match daemon {
            Some(MpsDaemon::Down(cause)) => Some(cause.clone()),
            _ => None,
        },
        multi_user: injector.mps.multi_user,
        limits_by_container: !injector.one_replica_only,
        shares: shares.into_iter().map(share).collect(),
    }
}

fn devices(name: &ResourceName, inventory: &Inventory, holders: Option<&Holders>) -> Vec<Device> {
    let mut devices: Vec<&device::Device> =
        inventory.devices(name).into_iter().flat_map(BTreeMap::values).collect();
    devices.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    // Replicas of one device share their health: it is worked out once.
    let of_replicas = |replicas: &[&device::Device]| {
        let Some(first) = replicas.first() else { return Vec::new() };
        let (healthy, reasons) = (inventory.is_healthy(first), reasons(inventory, first));
        let device = |device: &&device::Device| Device {
            id: device.id.to_string(),
            uuid: device.id.uuid().to_string(),
            index: device.label(),
            replica: device.id.replica_number(),
            gpu: device.gpu.to_string(),
            healthy,
            withdrawn: device.withdrawn,
            reasons: reasons.clone(),
            holders: holders
                .into_iter()
                .flat_map(|holders| holders.of(name, &device.id))
                .map(holder)
                .collect(),
        };
        replicas.iter().map(device).collect()
    };
    devices.chunk_by(|a, b| a.is_replica_of(b)).flat_map(of_replicas).collect()
}

fn holder(holder: &holders::Holder) -> Holder {
    let holders::Holder { namespace, pod, container } = holder.clone();
    Holder { namespace, pod, container }
}

/// The kinds of the causes that make a device Unhealthy.
fn reasons(inventory: &Inventory, device: &device::Device) -> Vec<String> {
    let health = inventory.health(device);
    let mut kinds: Vec<String> =
        health.reasons().iter().map(|reason| reason.cause.as_str().to_owned()).collect();
    kinds.dedup();
    if device.awaits_mps {
        kinds.push("awaits_mps".to_owned());
    }
    if device.owner.is_some() {
        kinds.push("other_owner".to_owned());
    }
    if device.cdi != CdiState::Resolvable {
        kinds.push("awaits_cdi".to_owned());
    }
    kinds
}

/// The resources in which each GPU is offered.
pub(in crate::observe) fn offered(inventory: &Inventory) -> BTreeMap<Uuid, Vec<String>> {
    let mut offered = BTreeMap::<Uuid, Vec<String>>::new();
    for name in inventory.resources() {
        let devices = inventory.devices(name).into_iter().flat_map(BTreeMap::values);
        for device in devices.filter(|device| !device.withdrawn) {
            let resources = offered.entry(device.gpu.clone()).or_default();
            if resources.last().map(String::as_str) != Some(name.as_str()) {
                resources.push(name.to_string());
            }
        }
    }
    offered
}
