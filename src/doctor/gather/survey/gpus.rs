//! The GPUs that NVML lists, and what the plugin would make of them.

use std::collections::BTreeMap;

use device::Device;
use device::gpu::MigMode;
use device::health::{
    Cause, Degradation, GpuPart, HealthNotice, Moment, NodeObservation,
    Observation as GpuObservation,
};
use device::inventory::{EnumerationEntry, Inventory, InventoryEvent};
use device::names::{ResourceName, Uuid};

use crate::config::Config;
use crate::doctor::facts::{Condition, DriverAnswer, GpuFacts, OfferedResource};
use crate::host::quarantine_dir;
use crate::nvml::inspection::Inspection;
use crate::nvml::survey::SurveyedGpu;

/// Adds the GPUs, with their health, and the resources that would be offered.
pub(super) fn describe(
    answer: &mut DriverAnswer,
    config: &Config,
    mut inventory: Inventory,
    surveyed: &[SurveyedGpu],
) {
    let now = Moment::default();
    let entries = surveyed.iter().filter_map(|gpu| match gpu {
        SurveyedGpu::Answered { found, .. } => Some(found.as_ref().clone()),
        SurveyedGpu::TimedOut { found, .. } => found.as_deref().cloned(),
    });
    let (count, entries) = (u32::try_from(surveyed.len()).unwrap_or(u32::MAX), entries.collect());
    inventory.apply(now, InventoryEvent::Enumeration { session: 1, count, entries });
    let degradations = apply_readings(&mut inventory, surveyed);
    if let Some(directory) = &config.process.quarantine_dir {
        let entries = NodeObservation::Quarantine(quarantine_dir::entries(directory, &inventory));
        inventory.apply(now, InventoryEvent::Health(entries));
    }
    answer.gpus = surveyed.iter().map(|of| gpu(of, &inventory, &degradations)).collect();
    answer.resources = inventory.resources().map(|name| resource(name, &inventory)).collect();
    answer.reserved = reserved(&inventory);
    answer.findings = inventory.findings().iter().map(ToString::to_string).collect();
}

/// Applies the reading of each GPU that has one; returns why each is degraded.
fn apply_readings(
    inventory: &mut Inventory,
    surveyed: &[SurveyedGpu],
) -> BTreeMap<Uuid, Vec<Condition>> {
    let mut degradations = BTreeMap::<Uuid, Vec<Condition>>::new();
    for gpu in surveyed {
        let SurveyedGpu::Answered { found, reading: Some(reading), .. } = gpu else { continue };
        let Some(uuid) = found.uuid() else { continue };
        let reading = GpuObservation::Poll(reading.clone());
        let observation = NodeObservation::Gpu(uuid.clone(), reading);
        let changes = inventory.apply(Moment::default(), InventoryEvent::Health(observation));
        for (uuid, change) in changes.health {
            let degraded = change.notices.iter().filter_map(|notice| match notice {
                HealthNotice::Degraded(degradation) => Some(of_degradation(*degradation)),
                _ => None,
            });
            degradations.entry(uuid).or_default().extend(degraded);
        }
    }
    degradations
}

/// All that is known of a GPU.
fn gpu(
    surveyed: &SurveyedGpu,
    inventory: &Inventory,
    degradations: &BTreeMap<Uuid, Vec<Condition>>,
) -> GpuFacts {
    let (found, inspection) = match surveyed {
        SurveyedGpu::TimedOut { index, call, .. } => {
            let unanswered_call = Some((*call).to_owned());
            return GpuFacts { index: *index, unanswered_call, ..GpuFacts::default() };
        }
        SurveyedGpu::Answered { found, inspection, .. } => (found.as_ref(), inspection),
    };
    let mut gpu = match found {
        EnumerationEntry::Failed { index, error, .. } => {
            GpuFacts { index: *index, error: Some(error.to_string()), ..GpuFacts::default() }
        }
        EnumerationEntry::MalformedUuid { index, error } => {
            GpuFacts { index: *index, error: Some(error.to_string()), ..GpuFacts::default() }
        }
        EnumerationEntry::Gpu(facts) => GpuFacts {
            index: facts.index,
            model: facts.name.clone(),
            bus: facts.pci_bus_id.map(|bus| bus.to_string()),
            minor: facts.minor,
            mig: (facts.mig_mode == MigMode::On).then_some(facts.mig_devices.len()),
            ..GpuFacts::default()
        },
    };
    if let Some(uuid) = found.uuid() {
        let health = inventory.node_health().health_of(uuid, GpuPart::Whole);
        let causes = health.reasons().iter().map(|reason| &reason.cause);
        gpu.causes = causes.map(of_cause).collect();
        gpu.degradations = degradations.get(uuid).cloned().unwrap_or_default();
        gpu.uuid = Some(uuid.to_string());
    }
    if let Some(inspection) = inspection {
        let Inspection { mig_pending, licensed, accepts_work } = *inspection;
        gpu = GpuFacts { mig_pending, licensed, accepts_work, ..gpu };
    }
    gpu
}

fn of_cause(cause: &Cause) -> Condition {
    let xid = if let Cause::Xid { xid, .. } = cause { Some(xid.0) } else { None };
    let action = if let Cause::RecoveryAction(of) = cause { Some(of.value()) } else { None };
    Condition {
        kind: cause.as_str().to_owned(),
        text: cause.summary().to_string(),
        remedy: cause.remedy().map(ToOwned::to_owned),
        xid,
        action,
    }
}

fn of_degradation(degradation: Degradation) -> Condition {
    let (kind, text) = (degradation.as_str().to_owned(), degradation.to_string());
    Condition { kind, text, ..Condition::default() }
}

fn resource(name: &ResourceName, inventory: &Inventory) -> OfferedResource {
    let devices: Vec<&Device> =
        inventory.devices(name).into_iter().flatten().map(|(_, device)| device).collect();
    let id = |device: &&Device| inventory.injector().cdi_name(device);
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
        Some(gpu) => gpu.name(uuid).to_string(),
        None => uuid.to_string(),
    };
    inventory.reserved().iter().map(|(uuid, why)| (named(uuid), why.clone())).collect()
}
