//! Sample GPUs and nodes that the benchmarks share.
#![allow(dead_code, reason = "each benchmark uses its own part of it")]

use device::allocation::AllocationPolicy;
use device::gpu::{Gpu, MigDevice, MigMode, Placement};
use device::health::{Moment, NodeHealth};
use device::injection::Injector;
use device::inventory::{EnumerationEntry, Inventory, InventoryEvent};
use device::layout::Layout;
use device::layout::sharing::{Replication, Selection, SharedResource, Sharing};
use device::names::ResourceName;

/// A GPU cut into so many MIG devices of one slice, or whole.
pub(crate) fn gpu(index: u32, slices: u32) -> Gpu {
    let slice = |mig: u32| MigDevice {
        uuid: format!("MIG-{index:08x}-{mig:04x}-5ca1-ab1e-000000000000").parse().expect("a UUID"),
        index: mig,
        placement: Placement { gpu_instance: mig + 7, compute_instance: 0 },
        gpu_slices: 1,
        compute_slices: 1,
        memory_mib: 9_984,
        profile: Some("1g.10gb".to_owned()),
        engines: None,
    };
    Gpu {
        minor: Some(index),
        name: Some(format!("NVIDIA Model {index} 80GB")),
        mig_mode: if slices > 0 { MigMode::On } else { MigMode::Off },
        mig_devices: (0..slices).map(slice).collect(),
        ..Gpu::unknown(
            format!("GPU-{index:08x}-5ca1-ab1e-0000-000000000000").parse().expect("a UUID"),
            index,
        )
    }
}

/// The devices of one resource, each there so many times.
pub(crate) fn shared(name: &ResourceName, replicas: u32) -> SharedResource {
    SharedResource {
        name: name.clone(),
        offered_as: name.clone(),
        replicas,
        devices: Selection::All,
    }
}

/// Time-slicing of these resources under their own names.
pub(crate) fn time_slicing(resources: Vec<SharedResource>) -> Sharing {
    Sharing::TimeSlicing(Replication {
        memory_limits: None,
        rename_by_default: false,
        fail_requests_greater_than_one: false,
        resources,
    })
}

/// A node of these GPUs.
pub(crate) fn node(
    gpus: impl IntoIterator<Item = Gpu>,
    layout: Layout,
    policies: AllocationPolicy,
) -> Inventory {
    let mut inventory =
        Inventory::new(layout, Injector::default(), NodeHealth::default(), policies);
    let entries: Vec<_> = gpus.into_iter().map(EnumerationEntry::Gpu).collect();
    let count = entries.len() as u32;
    inventory.apply(Moment::default(), InventoryEvent::Enumeration { session: 1, count, entries });
    inventory
}
