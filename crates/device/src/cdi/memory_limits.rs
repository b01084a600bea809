//! Devices that limit the memory of a GPU: beside the GPU's own one, so that a container with
//! several replicas of it gets one limit, their sum.

use std::collections::BTreeMap;

use super::edits::ContainerEdits;
use super::hooks::Hooks;
use super::host::MemoryRegions;
use crate::Device;
use crate::identity::GpuRecord;
use crate::injection::cdi_names::memory_limit_name;
use crate::inventory::Inventory;
use crate::memory_share::MOST_REPLICAS;

/// The devices by name, and why there are none, or not for all that are shared with a limit, in
/// words.
pub(super) fn devices(
    inventory: &Inventory,
    memory: &MemoryRegions,
    hooks: Hooks<'_>,
) -> (BTreeMap<String, ContainerEdits>, Vec<String>) {
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    for (device, replicas) in limited(inventory) {
        match of_device(inventory, device, memory, hooks) {
            Ok(edits) => {
                let most = replicas.min(MOST_REPLICAS);
                for injector in inventory.cdi_injectors() {
                    let name = injector.cdi_name(device);
                    let of_replicas =
                        (1..=most).map(|count| (memory_limit_name(&name, count), edits(count)));
                    found.extend(of_replicas);
                }
            }
            Err(why) => problems.push(why),
        }
    }
    problems.sort();
    problems.dedup();
    (found, problems)
}

/// The devices that are to be shared with a limit, each once, and how many replicas each has.
fn limited(inventory: &Inventory) -> Vec<(&Device, u32)> {
    let mut found: Vec<(&Device, u32)> = Vec::new();
    if !inventory.layout().sharing.limits_memory() {
        return found;
    }
    for devices in inventory.resources().filter_map(|resource| inventory.devices(resource)) {
        let replicas = devices.values().filter(|device| device.id.replica_number().is_some());
        for device in replicas.filter(|device| !device.withdrawn) {
            match found.last_mut().filter(|(last, _)| last.id.uuid() == device.id.uuid()) {
                Some((_, replicas)) => *replicas += 1,
                None => found.push((device, 1)),
            }
        }
    }
    found
}

/// What a container gets with so many replicas of a device.
fn of_device<'a>(
    inventory: &Inventory,
    device: &Device,
    memory: &MemoryRegions,
    hooks: Hooks<'a>,
) -> Result<impl Fn(u32) -> ContainerEdits + use<'a>, String> {
    let regions = memory.as_ref().map_err(Clone::clone)?;
    if device.placement.is_some() {
        return Err(
            "the kernel's dmem controller knows the memory of whole GPUs, and not that of \
                    MIG devices"
                .to_owned(),
        );
    }
    let label = device.label();
    let share = device.memory_share.ok_or_else(|| {
        format!("the size of the memory of GPU {label} is not known, so it has no shares")
    })?;
    let bus = inventory.gpus().get(&device.gpu).and_then(GpuRecord::pci_bus_id);
    let bus = bus.ok_or_else(|| format!("the PCI address of GPU {label} is not known"))?;
    let capacity = *regions.get(&bus).ok_or_else(|| {
        format!(
            "the kernel's dmem controller does not list the memory of GPU {label} ({bus}); \
             NVIDIA's driver registers it from R615 on"
        )
    })?;
    if hooks.memory_limit(bus, 0).is_none() {
        return Err("only the plugin's own hook program sets them, and it is not called; set \
                    --cdi-hook-mode=self"
            .to_owned());
    }
    Ok(move |count| {
        let bytes = share.saturating_mul(u64::from(count)).min(capacity);
        let hooks = hooks.memory_limit(bus, bytes).into_iter().collect();
        ContainerEdits { hooks, ..ContainerEdits::default() }
    })
}
