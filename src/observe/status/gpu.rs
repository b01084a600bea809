//! A physical GPU of the status.

use device::gpu::{self, MigMode, NumaNode};
use device::health::{CauseKind, Degradation, GpuHealth, GpuPart};
use device::inventory::{GpuRecord, Inventory};
use device::names::Uuid;
use status::{Gpu, MigDevice, Reason, RecoveryAction, XidCount};

use super::reason;
use crate::observe::wall_clock::WallClock;

/// A GPU without what depends on others: its NVLink island, its resources and its last event.
pub(super) fn gpu(uuid: &Uuid, tracked: &GpuRecord, inventory: &Inventory, wall: WallClock) -> Gpu {
    let facts = tracked.facts.as_ref();
    let node_health = inventory.node_health();
    let health = node_health.health_of(uuid, GpuPart::Whole);
    let history = node_health.gpus().get(uuid);
    let transitions = node_health.transitions(uuid);
    let is_row_remap_failure =
        |of: &device::health::Reason| of.cause.kind() == CauseKind::RowRemapFailure;
    Gpu {
        uuid: uuid.to_string(),
        index: tracked.index,
        minor: facts.and_then(|gpu| gpu.minor),
        pci_bus_id: facts.and_then(|gpu| gpu.pci_bus_id).map(|id| id.nvml_form()),
        model: facts.and_then(|gpu| gpu.name.clone()),
        memory_bytes: facts.and_then(|gpu| gpu.memory_bytes),
        compute_capability: facts.and_then(compute_capability),
        numa_node: facts.and_then(|gpu| gpu.numa_node).map(NumaNode::number),
        nvlink_island: None,
        mig_enabled: facts.is_some_and(|gpu| gpu.mig_mode == MigMode::On),
        mig_devices: facts.map(mig_devices).unwrap_or_default(),
        resources: Vec::new(),
        reserved: inventory.reserved().get(uuid).cloned(),
        healthy: health.is_healthy(),
        reasons: health
            .reasons()
            .iter()
            .map(|of| reason::of_cause(&of.cause, wall.at(of.since), of.restored))
            .collect(),
        degradations: history.map(|gpu| degradations(gpu, wall)).unwrap_or_default(),
        recovery_action: history.and_then(recovery_action),
        row_remap_pending: history
            .is_some_and(|gpu| gpu.degradations().contains_key(&Degradation::RowRemapPending)),
        row_remap_failed: health.reasons().iter().any(is_row_remap_failure),
        xids: history.map(xids).unwrap_or_default(),
        other_xids: history.map_or(0, GpuHealth::other_xids),
        became_unhealthy: transitions.to_unhealthy,
        became_healthy: transitions.to_healthy,
        last_event: None,
    }
}

fn compute_capability(gpu: &gpu::Gpu) -> Option<String> {
    gpu.compute_capability.map(|(major, minor)| format!("{major}.{minor}"))
}

fn mig_devices(gpu: &gpu::Gpu) -> Vec<MigDevice> {
    gpu.mig_devices.iter().map(mig_device).collect()
}

fn mig_device(device: &gpu::MigDevice) -> MigDevice {
    MigDevice {
        uuid: device.uuid.to_string(),
        index: device.index,
        profile: device.profile.clone(),
        gpu_instance: device.placement.gpu_instance,
        compute_instance: device.placement.compute_instance,
        memory_bytes: device.memory_mib.saturating_mul(1 << 20),
    }
}

fn degradations(health: &GpuHealth, wall: WallClock) -> Vec<Reason> {
    let all = health.degradations().iter();
    all.map(|(degradation, since)| reason::of_degradation(*degradation, wall.at(*since))).collect()
}

fn recovery_action(health: &GpuHealth) -> Option<RecoveryAction> {
    let action = health.recovery_action()?;
    Some(RecoveryAction { value: action.value(), meaning: action.to_string() })
}

fn xids(health: &GpuHealth) -> Vec<XidCount> {
    health.xids().iter().map(|(xid, count)| XidCount { xid: xid.0, count: *count }).collect()
}
