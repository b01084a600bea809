//! What NVML answers for each index of its enumeration.

use std::collections::BTreeMap;

use device::health::{Cause, GpuPart, Reading};
use device::inventory::{EnumerationEntry, Inventory};
use device::names::Uuid;

use crate::doctor::facts::GpuFacts;
use crate::nvml::survey::SurveyedGpu;

/// What the enumeration has at an index, if all calls returned.
pub(super) fn found(surveyed: &SurveyedGpu) -> Option<EnumerationEntry> {
    match surveyed {
        SurveyedGpu::Answered { found, .. } => Some(found.as_ref().clone()),
        SurveyedGpu::TimedOut { .. } => None,
    }
}

/// The reading of a GPU, if there is one.
pub(super) fn reading(surveyed: &SurveyedGpu) -> Option<(Uuid, Reading)> {
    let SurveyedGpu::Answered { found, reading: Some(reading) } = surveyed else { return None };
    let uuid = match found.as_ref() {
        EnumerationEntry::Gpu(gpu) => Some(&gpu.uuid),
        EnumerationEntry::Failed { uuid, .. } => uuid.as_ref(),
    };
    Some((uuid?.clone(), reading.clone()))
}

/// All that is known of a GPU.
pub(super) fn gpu(
    surveyed: &SurveyedGpu,
    inventory: &Inventory,
    degradations: &BTreeMap<Uuid, Vec<String>>,
) -> GpuFacts {
    let found = match surveyed {
        SurveyedGpu::TimedOut { index, call } => {
            let unanswered_call = Some((*call).to_owned());
            return GpuFacts { index: *index, unanswered_call, ..GpuFacts::default() };
        }
        SurveyedGpu::Answered { found, .. } => found.as_ref(),
    };
    let mut gpu = of_found(found);
    let uuid = gpu.uuid.as_deref().and_then(|uuid| uuid.parse::<Uuid>().ok());
    if let Some(uuid) = uuid {
        let health = inventory.node_health().health_of(&uuid, GpuPart::Whole);
        gpu.causes = health.reasons().iter().map(|reason| with_remedy(&reason.cause)).collect();
        gpu.degradations = degradations.get(&uuid).cloned().unwrap_or_default();
    }
    gpu
}

fn of_found(found: &EnumerationEntry) -> GpuFacts {
    match found {
        EnumerationEntry::Failed { index, uuid, error } => GpuFacts {
            index: *index,
            uuid: uuid.as_ref().map(ToString::to_string),
            error: Some(error.to_string()),
            ..GpuFacts::default()
        },
        EnumerationEntry::Gpu(facts) => GpuFacts {
            index: facts.index,
            uuid: Some(facts.uuid.to_string()),
            model: facts.name.clone(),
            bus: facts.pci_bus_id.map(|bus| bus.to_string()),
            minor: facts.minor,
            mig: (facts.mig_mode == device::gpu::MigMode::On).then_some(facts.mig_devices.len()),
            ..GpuFacts::default()
        },
    }
}

fn with_remedy(cause: &Cause) -> (String, Option<String>) {
    (cause.summary().to_string(), cause.remedy().map(ToOwned::to_owned))
}
