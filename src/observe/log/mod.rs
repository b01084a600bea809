//! Logs changes of the inventory: a record for each event, with the identifiers of the GPU.

mod json_lines;
mod logfmt;
mod queue;
mod subscriber;

use device::gpu::MigMode;
use device::health::{GpuPart, HealthChange, HealthNotice};
use device::identity::GpuRecord;
use device::in_use::holders::Holders;
use device::inventory::{Inventory, InventoryChanges};
use device::names::Uuid;
use device::topology::{NvLink, Topology};
pub(crate) use queue::dropped_lines;
pub use subscriber::{LogConfig, LogFormat, LogGuard};
use tracing::{debug, info, warn};

use super::status::{offered, xid_of};

/// A line for each GPU that appeared, each cause that began or is over, and each misfit between the
/// links of two GPUs. With the pods that hold the GPU, as far as `holders` has them.
pub(crate) fn changes(
    changes: &InventoryChanges,
    inventory: &Inventory,
    holders: Option<&Holders>,
) {
    if !changes.new_gpus.is_empty() {
        let offered = offered(inventory);
        let each = changes.new_gpus.iter();
        each.for_each(|uuid| appeared(uuid, inventory, offered.get(uuid)));
    }
    for (uuid, change) in &changes.health {
        health(uuid, change, inventory, holders);
    }
    if changes.links {
        links(inventory.topology());
    }
    for finding in &changes.topology_findings {
        warn!(%finding, "the links between GPUs do not fit together");
    }
}

fn links(topology: &Topology) {
    let gpus = topology.gpus().len();
    let pairs = (0..gpus).flat_map(|a| (a + 1..gpus).map(move |b| topology.pair(a, b)));
    let (mut direct, mut switched, mut pcie) = (0, 0, 0);
    for pair in pairs {
        match pair.nvlink {
            NvLink::Direct(_) => direct += 1,
            NvLink::Switched(_) => switched += 1,
            NvLink::None => pcie += 1,
        }
    }
    info!(
        gpus,
        pairs.nvlink = direct,
        pairs.nvswitch = switched,
        pairs.pcie = pcie,
        "the links between GPUs are known"
    );
}

fn appeared(uuid: &Uuid, inventory: &Inventory, resources: Option<&Vec<String>>) {
    let Some(gpu) = inventory.gpus().get(uuid) else { return };
    let facts = gpu.facts.as_ref();
    let name = facts.and_then(|gpu| gpu.name.as_deref()).unwrap_or("unknown");
    let numa = facts.and_then(|gpu| gpu.numa_node).map(|node| node.number());
    let bus = facts.and_then(|gpu| gpu.pci_bus_id).map(tracing::field::display);
    let memory = facts.and_then(|gpu| gpu.memory_bytes);
    let memory = memory.map(|bytes| bytes.saturating_add(1 << 29) >> 30);
    let mig = facts.filter(|gpu| gpu.mig_mode == MigMode::On).map(|gpu| gpu.mig_devices.len());
    let resources = resources.map(|all| all.join(","));
    let reserved = inventory.reserved().get(uuid);
    info!(
        gpu.index = gpu.index,
        gpu.uuid = %uuid,
        model = name,
        pci = bus,
        memory_gib = memory,
        numa,
        mig_devices = mig,
        resources,
        reserved,
        "GPU found"
    );
}

/// The containers that hold a device on a GPU: "namespace/pod/container", each once.
fn held_by(uuid: &Uuid, inventory: &Inventory, holders: Option<&Holders>) -> Option<String> {
    let mut names = std::collections::BTreeSet::new();
    let holders = holders?;
    for resource in inventory.resources() {
        for device in inventory.devices(resource).into_iter().flatten().map(|(_, device)| device) {
            if device.gpu == *uuid {
                names.extend(holders.of(resource, &device.id).iter().map(ToString::to_string));
            }
        }
    }
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn health(uuid: &Uuid, change: &HealthChange, inventory: &Inventory, holders: Option<&Holders>) {
    let index = inventory.gpus().get(uuid).and_then(GpuRecord::valid_index);
    // Only for a line that is written: in a storm most are not, and there may be many devices.
    let names_pod = |notice: &HealthNotice| match notice {
        HealthNotice::Xid { times, .. } => is_told(*times),
        notice => matches!(notice, HealthNotice::Degraded(_)),
    };
    let names_pods = !change.raised.is_empty() || change.notices.iter().any(names_pod);
    let pod = if names_pods { held_by(uuid, inventory, holders) } else { None };
    // What the driver reports is before what follows from it.
    let (xids, others): (Vec<_>, Vec<_>) =
        change.notices.iter().partition(|notice| matches!(notice, HealthNotice::Xid { .. }));
    xids.into_iter().for_each(|notice| log_notice(uuid, index, pod.as_deref(), notice));
    for cause in &change.raised {
        let (kind, xid) = (cause.as_str(), xid_of(cause));
        warn!(gpu.index = index, gpu.uuid = %uuid, kind, xid, pod, %cause, "GPU is Unhealthy");
    }
    for cause in &change.cleared {
        // What was to be done about it is done.
        let (kind, cause) = (cause.as_str(), cause.summary());
        info!(gpu.index = index, gpu.uuid = %uuid, kind, %cause, "a cause is over");
    }
    let health = inventory.node_health().health_of(uuid, GpuPart::Whole);
    if !change.cleared.is_empty() && health.is_healthy() {
        info!(gpu.index = index, gpu.uuid = %uuid, "GPU is Healthy again");
    }
    others.into_iter().for_each(|notice| log_notice(uuid, index, pod.as_deref(), notice));
}

/// Whether an Xid that came so many times is written: in a storm the first few, and then each
/// doubling.
fn is_told(times: u64) -> bool {
    times <= 4 || times.is_power_of_two()
}

fn log_notice(uuid: &Uuid, index: Option<u32>, pod: Option<&str>, notice: &HealthNotice) {
    match notice {
        HealthNotice::Xid { xid, scope, times } if is_told(*times) => {
            let (xid, name) = (xid.0, xid.meaning());
            warn!(gpu.index = index, gpu.uuid = %uuid, xid, name, pod, %scope, times, "the driver \
                reports an Xid");
        }
        HealthNotice::Xid { .. } => {}
        HealthNotice::Answered => debug!(gpu.index = index, gpu.uuid = %uuid, "the GPU answers"),
        HealthNotice::Degraded(degradation) => {
            let kind = degradation.as_str();
            warn!(gpu.index = index, gpu.uuid = %uuid, kind, pod, %degradation, "GPU is degraded");
        }
        HealthNotice::Restored(degradation) => {
            let kind = degradation.as_str();
            info!(gpu.index = index, gpu.uuid = %uuid, kind, "no longer degraded");
        }
    }
}
