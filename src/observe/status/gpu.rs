//! The physical GPUs of the status, why they are Unhealthy or degraded, and which NVLink joins.

use std::collections::BTreeMap;

use device::gpu::{self, MigMode, NumaNode};
use device::health::{Cause, CauseKind, Degradation, GpuHealth, GpuPart, Scope, Since};
use device::identity::GpuRecord;
use device::inventory::Inventory;
use device::names::Uuid;
use device::topology::{NvLink, Topology};
use status::{Gpu, MigDevice, MigEngines, Reason, RecoveryAction, Timestamp, VgpuHost, XidCount};

use crate::observe::wall_clock::WallClock;

/// A GPU without what depends on others: its NVLink island, its resources and its last event.
pub(super) fn gpu(uuid: &Uuid, tracked: &GpuRecord, inventory: &Inventory, wall: WallClock) -> Gpu {
    let facts = tracked.facts.as_ref();
    let node_health = inventory.node_health();
    let health = node_health.health_of(uuid, GpuPart::Whole);
    let history = node_health.gpus().get(uuid);
    let transitions = node_health.transitions(uuid);
    let reasons = health.reasons();
    let degradations = || history.into_iter().flat_map(GpuHealth::degradations);
    Gpu {
        uuid: uuid.to_string(),
        index: tracked.index,
        index_stale: tracked.valid_index().is_none(),
        minor: facts.and_then(|gpu| gpu.minor),
        pci_bus_id: tracked.pci_bus_id().map(|id| id.nvml_form()),
        model: facts.and_then(|gpu| gpu.name.clone()),
        memory_bytes: facts.and_then(|gpu| gpu.memory_bytes),
        compute_capability: facts
            .and_then(|gpu| gpu.compute_capability)
            .map(|(major, minor)| format!("{major}.{minor}")),
        numa_node: facts.and_then(|gpu| gpu.numa_node).map(NumaNode::number),
        pci_class: facts.and_then(|gpu| gpu.pci_class).map(|class| format!("{class:#08x}")),
        fabric_clique: facts.and_then(|gpu| gpu.clique).map(|clique| clique.to_string()),
        vgpu_host: facts.and_then(|gpu| gpu.vgpu_host.as_deref()).map(vgpu_host),
        nvlink_island: None,
        mig_capable: facts.is_some_and(|gpu| gpu.mig_capable),
        mig_enabled: facts.is_some_and(|gpu| gpu.mig_mode == MigMode::On),
        mig_devices: facts.into_iter().flat_map(|gpu| &gpu.mig_devices).map(mig_device).collect(),
        resources: Vec::new(),
        reserved: inventory.reserved().get(uuid).cloned(),
        healthy: health.is_healthy(),
        reasons: reasons
            .iter()
            .map(|of| of_cause(&of.cause, wall.at(of.since).before(of.before), of.restored))
            .collect(),
        degradations: degradations()
            .map(|(degradation, since)| of_degradation(*degradation, at(*since, wall)))
            .collect(),
        recovery_action: history
            .and_then(GpuHealth::recovery_action)
            .map(|action| RecoveryAction { value: action.value(), meaning: action.to_string() }),
        row_remap_pending: degradations()
            .any(|(degradation, _)| *degradation == Degradation::RowRemapPending),
        row_remap_failed: reasons.iter().any(|of| of.cause.kind() == CauseKind::RowRemapFailure),
        xids: history
            .into_iter()
            .flat_map(GpuHealth::xids)
            .map(|(xid, count)| XidCount { xid: xid.0, count: *count })
            .collect(),
        other_xids: history.map_or(0, GpuHealth::other_xids),
        became_unhealthy: transitions.to_unhealthy,
        became_healthy: transitions.to_healthy,
        last_event: None,
    }
}

fn mig_device(device: &gpu::MigDevice) -> MigDevice {
    MigDevice {
        uuid: device.uuid.to_string(),
        index: device.index,
        profile: device.profile.clone(),
        gpu_instance: device.placement.gpu_instance,
        compute_instance: device.placement.compute_instance,
        memory_bytes: device.memory_mib.saturating_mul(1 << 20),
        engines: device.engines.map(|engines| mig_engines(device, engines)),
    }
}

fn mig_engines(device: &gpu::MigDevice, engines: gpu::MigEngines) -> MigEngines {
    let gpu::MigEngines { multiprocessors, copy, decoder, encoder, jpeg, ofa } = engines;
    let gpu::MigDevice { gpu_slices, compute_slices, .. } = *device;
    MigEngines { gpu_slices, compute_slices, multiprocessors, copy, decoder, encoder, jpeg, ofa }
}

fn vgpu_host(host: &gpu::VgpuHost) -> VgpuHost {
    let (driver_version, driver_branch) = (host.driver_version.clone(), host.driver_branch.clone());
    VgpuHost { driver_version, driver_branch }
}

/// The point in time since when something lasts.
pub(super) fn at(since: Since, wall: WallClock) -> Timestamp {
    wall.at(since.known).before(since.before)
}

/// What makes a GPU, or NVML, Unhealthy.
pub(super) fn of_cause(cause: &Cause, since: Timestamp, remembered: bool) -> Reason {
    let part = match cause.scope() {
        Scope::Gpu => None,
        part => Some(part.to_string()),
    };
    Reason {
        kind: cause.as_str().to_owned(),
        xid: xid_of(cause),
        message: cause.summary().to_string(),
        remedy: cause.remedy().map(str::to_owned),
        since,
        part,
        remembered,
    }
}

/// The number of the Xid that a cause is, if it is one.
pub(in crate::observe) fn xid_of(cause: &Cause) -> Option<u32> {
    match cause {
        Cause::Xid { xid, .. } => Some(xid.0),
        _ => None,
    }
}

/// What is wrong with a GPU that stays Healthy.
pub(super) fn of_degradation(degradation: Degradation, since: Timestamp) -> Reason {
    Reason {
        kind: degradation.as_str().to_owned(),
        xid: None,
        message: degradation.to_string(),
        remedy: None,
        since,
        part: None,
        remembered: false,
    }
}

/// The groups of GPUs that NVLink joins, directly or through others, numbered in the order of their
/// first GPUs. A GPU without NVLink is in none.
pub(super) fn islands(topology: &Topology) -> BTreeMap<Uuid, u32> {
    let gpus = topology.gpus();
    let mut islands = BTreeMap::new();
    let mut number = 0;
    for first in 0..gpus.len() {
        if islands.contains_key(&gpus[first].uuid) {
            continue;
        }
        let members = reachable(topology, first);
        if members.len() > 1 {
            islands.extend(members.into_iter().map(|gpu| (gpus[gpu].uuid.clone(), number)));
            number += 1;
        }
    }
    islands
}

/// The GPUs that can be reached from one over NVLink, itself included.
fn reachable(topology: &Topology, first: usize) -> Vec<usize> {
    let mut reached = vec![first];
    let mut next = 0;
    while let Some(&gpu) = reached.get(next) {
        next += 1;
        for other in 0..topology.gpus().len() {
            if !reached.contains(&other) && topology.pair(gpu, other).nvlink != NvLink::None {
                reached.push(other);
            }
        }
    }
    reached
}
