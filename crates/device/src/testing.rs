//! Sample GPUs and nodes for tests and benches.
// A fixture that cannot be made is a failed test.
#![allow(clippy::unwrap_used)]

use crate::allocation::AllocationPolicy;
use crate::gpu::{Gpu, MigMode, NumaNode};
use crate::health::{Moment, NodeHealth, NodeObservation, Observation, Reading};
use crate::injection::Injector;
use crate::inventory::{EnumerationEntry, Inventory, InventoryEvent};
use crate::layout::Layout;

/// A GPU whose facts follow from its index, with four GPUs to a NUMA node.
#[must_use]
pub fn gpu(index: u32) -> Gpu {
    Gpu {
        minor: Some(index),
        name: Some("NVIDIA H100 80GB HBM3".to_owned()),
        compute_capability: Some((9, 0)),
        mig_mode: MigMode::Off,
        numa_node: NumaNode::from_sysfs(i64::from(index / 4)),
        ..Gpu::unknown(format!("GPU-{index}").parse().unwrap(), index)
    }
}

/// A node of `count` such GPUs, offered whole.
#[must_use]
pub fn node(count: u32) -> Inventory {
    let (layout, injector) = (Layout::default(), Injector::default());
    let mut inventory =
        Inventory::new(layout, injector, NodeHealth::default(), AllocationPolicy::default());
    inventory.apply(Moment::default(), enumeration(0..count));
    inventory.apply(Moment::default(), answers());
    inventory
}

/// An answer of every GPU that NVML lists, without which none is Healthy.
#[must_use]
pub fn answers() -> InventoryEvent {
    let reading = Reading { probe: Some(Ok(())), ..Reading::default() };
    InventoryEvent::Health(NodeObservation::EveryGpu(Observation::Poll(reading)))
}

/// An enumeration of the GPUs with these indices.
#[must_use]
pub fn enumeration(indices: impl IntoIterator<Item = u32>) -> InventoryEvent {
    listing(indices.into_iter().map(gpu))
}

/// An enumeration of these GPUs.
#[must_use]
pub fn listing(gpus: impl IntoIterator<Item = Gpu>) -> InventoryEvent {
    let entries: Vec<_> = gpus.into_iter().map(EnumerationEntry::Gpu).collect();
    let count = u32::try_from(entries.len()).unwrap();
    InventoryEvent::Enumeration { session: 1, count, entries }
}
