//! The devices of a resource as the kubelet sees them.

use std::collections::BTreeMap;

use device::Device;
use device::gpu::NumaNode;
use device::inventory::Inventory;
use device::names::{DeviceId, ResourceName};

/// One device as the kubelet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Whether it can be allocated.
    pub healthy: bool,
    /// Its NUMA node, where known.
    pub numa_node: Option<NumaNode>,
}

/// Every device of the resource, sorted by id.
#[must_use]
pub fn advertised_devices(resource: &ResourceName, inventory: &Inventory) -> Vec<AdvertisedDevice> {
    let devices = inventory.devices(resource);
    let mut advertised = Vec::with_capacity(devices.map_or(0, BTreeMap::len));
    let mut before: Option<(&Device, bool)> = None;
    for device in devices.into_iter().flat_map(BTreeMap::values) {
        // The replicas of a device follow each other and share its health.
        let healthy = match before {
            Some((other, healthy)) if other.is_replica_of(device) => healthy,
            _ => inventory.is_healthy(device),
        };
        before = Some((device, healthy));
        let (id, numa_node) = (device.id.clone(), device.numa_node);
        advertised.push(AdvertisedDevice { id, healthy, numa_node });
    }
    advertised
}
