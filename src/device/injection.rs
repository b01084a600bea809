//! What a container gets for the devices that are allocated to it.

use std::collections::BTreeMap;

use super::inventory::Device;

/// The variable by which NVIDIA's container runtime learns which GPUs to make visible.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";

/// Additions to one container.
///
/// The kubelet keeps it for the life of the pod, so nothing in it may depend on this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injection {
    /// Environment variables.
    pub envs: BTreeMap<String, String>,
}

impl Injection {
    /// For these devices, in their order: each UUID once, however many replicas of it there are.
    #[must_use]
    pub fn of(devices: &[&Device]) -> Self {
        let mut uuids: Vec<&str> = Vec::with_capacity(devices.len());
        for device in devices {
            let uuid = device.id.uuid().as_str();
            if !uuids.contains(&uuid) {
                uuids.push(uuid);
            }
        }
        Self { envs: BTreeMap::from([(VISIBLE_DEVICES.to_owned(), uuids.join(","))]) }
    }
}
