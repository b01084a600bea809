//! Checks each device list more strictly than the kubelet does.

use std::collections::{BTreeMap, BTreeSet};

use super::violations::{ViolationKind, Violations};
use crate::proto::Device;

/// What one life has heard from the plugins.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// NUMA nodes of the node; None leaves them unchecked.
    numa_nodes: Option<BTreeSet<i64>>,
    /// The ids advertised in this life and whether each was healthy when it was last listed, by
    /// resource.
    advertised: BTreeMap<String, BTreeMap<String, bool>>,
    /// The last list of each open stream.
    last: BTreeMap<u64, Vec<Device>>,
}

impl Audit {
    pub(crate) fn new(numa_nodes: Option<BTreeSet<i64>>) -> Self {
        Self { numa_nodes, ..Self::default() }
    }

    /// Forgets a stream: the first list of the next one may be equal to its last.
    pub(crate) fn stream_ended(&mut self, client: u64) {
        self.last.remove(&client);
    }

    /// Checks one list. `in_use` are the resource's ids that pods hold.
    pub(crate) fn list(
        &mut self,
        resource: &str,
        client: u64,
        devices: &[Device],
        in_use: &BTreeSet<String>,
        found: &mut Violations,
    ) {
        if self.last.get(&client).is_some_and(|last| last == devices) {
            found.record(
                ViolationKind::RepeatedList,
                resource,
                format!("{} devices", devices.len()),
            );
        }
        self.last.insert(client, devices.to_vec());
        if !is_sorted(devices) {
            let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
            found.record(ViolationKind::UnsortedList, resource, ids.join(" "));
        }
        for device in devices {
            self.device(resource, device, found);
        }
        self.ids(resource, devices, in_use, found);
    }

    fn device(&self, resource: &str, device: &Device, found: &mut Violations) {
        if device.id.is_empty() {
            found.record(ViolationKind::EmptyId, resource, "");
        }
        if device.id.chars().count() > 63 {
            found.record(ViolationKind::LongId, resource, &device.id);
        }
        if device.health != "Healthy" && device.health != "Unhealthy" {
            found.record(
                ViolationKind::OddHealth,
                resource,
                format!("{} is {:?}", device.id, device.health),
            );
        }
        let Some(topology) = &device.topology else { return };
        if topology.nodes.is_empty() {
            found.record(ViolationKind::EmptyTopology, resource, &device.id);
        }
        for node in topology.nodes.iter().map(|node| node.id) {
            if node < 0 {
                found.record(
                    ViolationKind::NegativeNuma,
                    resource,
                    format!("{} on {node}", device.id),
                );
            } else if self.numa_nodes.as_ref().is_some_and(|known| !known.contains(&node)) {
                found.record(
                    ViolationKind::UnknownNuma,
                    resource,
                    format!("{} on {node}", device.id),
                );
            }
        }
    }

    fn ids(
        &mut self,
        resource: &str,
        devices: &[Device],
        in_use: &BTreeSet<String>,
        found: &mut Violations,
    ) {
        let mut listed = BTreeMap::new();
        for device in devices {
            if listed.insert(device.id.clone(), device.health == "Healthy").is_some() {
                found.record(ViolationKind::DuplicateId, resource, &device.id);
            }
        }
        for (other, ids) in &self.advertised {
            if other != resource {
                for id in ids.keys().filter(|id| listed.contains_key(*id)) {
                    found.record(
                        ViolationKind::IdOfTwoResources,
                        resource,
                        format!("{id} is of {other}, too"),
                    );
                }
            }
        }
        for id in in_use.iter().filter(|id| !listed.contains_key(*id)) {
            found.record(ViolationKind::VanishedInUse, resource, id);
        }
        let advertised = self.advertised.entry(resource.to_owned()).or_default();
        for id in advertised
            .iter()
            .filter(|(id, healthy)| **healthy && !listed.contains_key(*id))
            .map(|(id, _)| id)
        {
            found.record(ViolationKind::Vanished, resource, id);
        }
        // One that was Unhealthy and that no pod holds may go; the kubelet has no memory of it.
        *advertised = listed;
    }
}

/// In the order of the ids, or of the ids with the number after a last "::" taken as a number:
/// replica 10 may stand after replica 2, and before it.
fn is_sorted(devices: &[Device]) -> bool {
    devices.is_sorted_by(|a, b| a.id <= b.id)
        || devices.is_sorted_by(|a, b| replica(&a.id) <= replica(&b.id))
}

fn replica(id: &str) -> (&str, Option<u64>) {
    match id.rsplit_once("::") {
        Some((base, number)) if number.parse::<u64>().is_ok() => (base, number.parse().ok()),
        _ => (id, None),
    }
}
