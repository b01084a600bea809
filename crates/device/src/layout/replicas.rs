//! Sharing: which devices move to which resource, and with how many replicas.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::finding::LayoutFinding;
use super::list_size::{self, ListTooLarge, ReplicatedDevices};
use super::sharing::{DeviceRef, Selection, SharedResource, Sharing};
use crate::Device;
use crate::names::{DeviceId, ResourceName};

/// The devices of each resource with their number of replicas; 1: not shared.
pub(super) type Plan = BTreeMap<ResourceName, Vec<(Device, u32)>>;

/// Puts each device into its resource, with the replicas that it has there.
pub(super) fn plan(
    sharing: &Sharing,
    candidates: Vec<Candidate>,
    findings: &mut Vec<LayoutFinding>,
) -> Plan {
    let mut by_name: BTreeMap<ResourceName, Vec<Device>> = BTreeMap::new();
    for candidate in candidates {
        by_name.entry(candidate.resource).or_default().push(candidate.device);
    }
    let mut plan = Plan::new();
    for (name, mut devices) in by_name {
        let entries = sharing.replication().into_iter().flat_map(|shared| &shared.resources);
        for entry in entries.filter(|entry| entry.name == name) {
            findings.extend(missing(entry, &devices));
            let (shared, rest) = select(devices, &entry.devices);
            devices = rest;
            let shared = if matches!(sharing, Sharing::Mps { .. }) {
                without_mig(entry, shared, findings)
            } else {
                shared
            };
            add(&mut plan, entry.offered_as.clone(), shared, entry.replicas);
        }
        add(&mut plan, name, devices, 1);
    }
    plan
}

fn add(plan: &mut Plan, resource: ResourceName, devices: Vec<Device>, replicas: u32) {
    if !devices.is_empty() {
        let devices = devices.into_iter().map(|device| (device, replicas));
        plan.entry(resource).or_default().extend(devices);
    }
}

/// The devices that MPS can share: all but MIG devices, which are a finding.
fn without_mig(
    entry: &SharedResource,
    devices: Vec<Device>,
    findings: &mut Vec<LayoutFinding>,
) -> Vec<Device> {
    let (mig, whole): (Vec<_>, Vec<_>) =
        devices.into_iter().partition(|device| device.placement.is_some());
    if !mig.is_empty() {
        let resource = entry.offered_as.clone();
        findings.push(LayoutFinding::MigUnderMps { resource, devices: mig.len() });
    }
    whole
}

/// The devices that an entry lists and that the resource does not have.
fn missing(entry: &SharedResource, devices: &[Device]) -> Vec<LayoutFinding> {
    let Selection::List(refs) = &entry.devices else { return Vec::new() };
    let absent = refs.iter().filter(|named| !devices.iter().any(|device| is(device, named)));
    absent
        .map(|named| LayoutFinding::NoSuchDevice {
            resource: entry.name.clone(),
            named: named.clone(),
        })
        .collect()
}

/// The selected devices, and the others.
fn select(devices: Vec<Device>, selection: &Selection) -> (Vec<Device>, Vec<Device>) {
    match selection {
        Selection::All => (devices, Vec::new()),
        Selection::Count(count) => {
            let mut selected = devices;
            let rest = selected.split_off(selected.len().min(*count as usize));
            (selected, rest)
        }
        Selection::List(refs) => {
            devices.into_iter().partition(|device| refs.iter().any(|named| is(device, named)))
        }
    }
}

fn is(device: &Device, named: &DeviceRef) -> bool {
    match named {
        DeviceRef::Gpu(index) => device.mig_index.is_none() && device.index == *index,
        DeviceRef::Mig(index, mig) => device.mig_index == Some(*mig) && device.index == *index,
        DeviceRef::Uuid(uuid) => device.id.uuid() == uuid,
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
