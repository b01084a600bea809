//! What the plugin would make of the GPUs.

use std::collections::BTreeMap;

use device::Device;
use device::health::{
    HealthNotice, Moment, NodeObservation, Observation as GpuObservation, Reading,
};
use device::injection::DeviceIdStrategy;
use device::inventory::{EnumerationEntry, Inventory, InventoryEvent};
use device::names::{ResourceName, Uuid};

use super::gpu;
use crate::config::Config;
use crate::doctor::facts::{DriverAnswer, OfferedResource};
use crate::host::quarantine_dir;
use crate::nvml::survey::SurveyedGpu;

/// Adds the GPUs, with their health, and the resources that would be offered.
pub(super) fn describe(
    answer: &mut DriverAnswer,
    config: &Config,
    mut inventory: Inventory,
    surveyed: &[SurveyedGpu],
) {
    let now = Moment::default();
    let found: Vec<EnumerationEntry> = surveyed.iter().filter_map(gpu::found).collect();
    inventory.apply(now, InventoryEvent::Enumeration { session: 1, entries: found });
    let degradations = apply_readings(&mut inventory, surveyed.iter().filter_map(gpu::reading));
    if let Some(directory) = &config.process.quarantine_dir {
        let entries = NodeObservation::Quarantine(quarantine_dir::entries(directory, &inventory));
        inventory.apply(now, InventoryEvent::Health(entries));
    }
    answer.gpus = surveyed.iter().map(|of| gpu::gpu(of, &inventory, &degradations)).collect();
    answer.resources = inventory.resources().map(|name| resource(name, &inventory)).collect();
    answer.reserved = reserved(&inventory);
    answer.findings = inventory.findings().iter().map(ToString::to_string).collect();
}

/// Applies a reading of each GPU; returns why each is degraded.
fn apply_readings(
    inventory: &mut Inventory,
    readings: impl Iterator<Item = (Uuid, Reading)>,
) -> BTreeMap<Uuid, Vec<String>> {
    let mut degradations = BTreeMap::<Uuid, Vec<String>>::new();
    for (uuid, reading) in readings {
        let observation = NodeObservation::Gpu(uuid, GpuObservation::Poll(reading));
        let changes = inventory.apply(Moment::default(), InventoryEvent::Health(observation));
        for (uuid, change) in changes.health {
            let degraded = change.notices.iter().filter_map(|notice| match notice {
                HealthNotice::Degraded(degradation) => Some(degradation.to_string()),
                _ => None,
            });
            degradations.entry(uuid).or_default().extend(degraded);
        }
    }
    degradations
}

fn resource(name: &ResourceName, inventory: &Inventory) -> OfferedResource {
    let devices: Vec<&Device> =
        inventory.devices(name).into_iter().flatten().map(|(_, device)| device).collect();
    let id = |device: &&Device| match inventory.injector().ids {
        DeviceIdStrategy::Uuid => device.id.uuid().to_string(),
        DeviceIdStrategy::Index => device.index_label(),
    };
    let mut ids: Vec<String> = devices.iter().map(id).collect();
    ids.dedup();
    OfferedResource {
        name: name.to_string(),
        devices: devices.len(),
        healthy: devices.iter().filter(|device| inventory.is_healthy(device)).count(),
        ids,
    }
}

/// The GPUs that the configuration reserves, with the reason.
fn reserved(inventory: &Inventory) -> Vec<(String, String)> {
    let named = |uuid: &Uuid| match inventory.gpus().get(uuid) {
        Some(gpu) => format!("GPU {}, {uuid}", gpu.index),
        None => uuid.to_string(),
    };
    inventory.reserved().iter().map(|(uuid, why)| (named(uuid), why.clone())).collect()
}
