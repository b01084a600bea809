//! Logs changes of the inventory: a line for each event, with the identifiers of the GPU.

mod fields;
mod queue;
mod subscriber;

use device::health::{GpuPart, HealthChange, HealthNotice};
use device::identity::GpuRecord;
use device::in_use::holders::Holders;
use device::inventory::{Inventory, InventoryChanges};
use device::names::Uuid;
use device::topology::{NvLink, Topology};
pub(crate) use queue::dropped_lines;
use status::aligned;
pub use subscriber::{LogConfig, LogFormat, LogGuard};
use tracing::{debug, info, warn};

use super::status::{offered, xid_of};

const HEADINGS: [&str; 8] = ["GPU", "model", "memory", "NUMA", "PCI", "MIG", "health", "resource"];

/// A line for each GPU that appeared, each cause that began or is over, and each misfit between the
/// links of two GPUs. With the pods that hold the GPU, as far as `holders` has them.
pub(crate) fn changes(
    changes: &InventoryChanges,
    inventory: &Inventory,
    holders: Option<&Holders>,
) {
    for uuid in &changes.new_gpus {
        appeared(uuid, inventory);
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

fn appeared(uuid: &Uuid, inventory: &Inventory) {
    let Some(gpu) = inventory.gpus().get(uuid) else { return };
    let facts = gpu.facts.as_ref();
    let name = facts.and_then(|gpu| gpu.name.as_deref()).unwrap_or("unknown");
    let numa = facts
        .and_then(|gpu| gpu.numa_node)
        .map_or_else(|| "none".to_owned(), |node| node.number().to_string());
    let bus = facts
        .and_then(|gpu| gpu.pci_bus_id)
        .map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    info!(gpu.index = gpu.index, gpu.uuid = %uuid, model = name, pci = bus, numa, "GPU found");
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
    let pod = if change.raised.is_empty() { None } else { held_by(uuid, inventory, holders) };
    for cause in &change.raised {
        let (kind, xid) = (cause.as_str(), xid_of(cause));
        warn!(gpu.index = index, gpu.uuid = %uuid, kind, xid, pod, %cause, "GPU is Unhealthy");
    }
    for cause in &change.cleared {
        let kind = cause.as_str();
        info!(gpu.index = index, gpu.uuid = %uuid, kind, %cause, "a cause is over");
    }
    let health = inventory.node_health().health_of(uuid, GpuPart::Whole);
    if !change.cleared.is_empty() && health.is_healthy() {
        info!(gpu.index = index, gpu.uuid = %uuid, "GPU is Healthy again");
    }
    for notice in &change.notices {
        log_notice(uuid, index, notice);
    }
}

fn log_notice(uuid: &Uuid, index: Option<u32>, notice: &HealthNotice) {
    match notice {
        // In a storm the first few, and then each doubling.
        HealthNotice::Xid { xid, scope, times } if *times <= 4 || times.is_power_of_two() => {
            let xid = xid.0;
            warn!(gpu.index = index, gpu.uuid = %uuid, xid, %scope, times, "the driver reports an \
                Xid");
        }
        HealthNotice::Xid { .. } => {}
        HealthNotice::Answered => debug!(gpu.index = index, gpu.uuid = %uuid, "the GPU answers"),
        HealthNotice::Degraded(degradation) => {
            let kind = degradation.as_str();
            warn!(gpu.index = index, gpu.uuid = %uuid, kind, %degradation, "GPU is degraded");
        }
        HealthNotice::Restored(degradation) => {
            let kind = degradation.as_str();
            info!(gpu.index = index, gpu.uuid = %uuid, kind, %degradation, "no longer degraded");
        }
    }
}

/// The node's GPUs as a table: a line of headings, and one for each GPU, whatever their names are.
#[must_use]
pub(crate) fn table(inventory: &Inventory) -> String {
    let mut gpus: Vec<(&Uuid, &GpuRecord)> = inventory.gpus().iter().collect();
    gpus.sort_by_key(|(uuid, gpu)| (gpu.order(), *uuid));
    let offered = offered(inventory);
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(gpus.into_iter().map(|(uuid, gpu)| row(uuid, gpu, inventory, offered.get(uuid))));
    aligned(&rows).trim_end().to_owned()
}

fn row(
    uuid: &Uuid,
    gpu: &GpuRecord,
    inventory: &Inventory,
    resources: Option<&Vec<String>>,
) -> [String; 8] {
    let facts = gpu.facts.as_ref();
    let dash = || "-".to_owned();
    let health = inventory.node_health().health_of(uuid, GpuPart::Whole);
    let resource = match inventory.reserved().get(uuid) {
        Some(_) => "(reserved)".to_owned(),
        None => resources.map_or_else(dash, |all| all.join(", ")),
    };
    [
        gpu.name(uuid).argument(),
        facts.and_then(|gpu| gpu.name.clone()).unwrap_or_else(dash),
        facts
            .and_then(|gpu| gpu.memory_bytes)
            .map_or_else(dash, |bytes| format!("{} GiB", bytes.saturating_add(1 << 29) >> 30)),
        facts.and_then(|gpu| gpu.numa_node).map_or_else(dash, |node| node.number().to_string()),
        facts.and_then(|gpu| gpu.pci_bus_id).map_or_else(dash, |id| id.to_string()),
        facts
            .filter(|gpu| gpu.mig_mode == device::gpu::MigMode::On)
            .map_or_else(dash, |gpu| gpu.mig_devices.len().to_string()),
        if health.is_healthy() { "Healthy" } else { "Unhealthy" }.to_owned(),
        resource,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use device::testing::node;
    use expect_test::expect;

    #[test]
    fn each_gpu_is_a_line_in_columns() {
        let expected = expect![[r#"
GPU  model                  memory  NUMA  PCI  MIG  health   resource
0    NVIDIA H100 80GB HBM3  -       0     -    -    Healthy  nvidia.com/gpu
1    NVIDIA H100 80GB HBM3  -       0     -    -    Healthy  nvidia.com/gpu"#]];
        expected.assert_eq(&table(&node(2)));
    }
}
