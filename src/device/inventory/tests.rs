//! Nodes for the tests of the whole room, and the tests of the inventory itself.

use super::*;
use crate::device::gpu::NumaNode;
use crate::device::health::NvmlError;

/// A GPU with facts that follow from its index: four to a NUMA node.
pub(crate) fn gpu(index: u32) -> Gpu {
    Gpu {
        minor: Some(index),
        name: Some("NVIDIA H100 80GB HBM3".to_owned()),
        compute_capability: Some((9, 0)),
        numa_node: NumaNode::from_sysfs(i64::from(index / 4)),
        ..Gpu::unknown(format!("GPU-{index}").parse().unwrap(), index)
    }
}

/// A node of `count` such GPUs, offered whole.
pub(crate) fn node(count: u32) -> Inventory {
    let (layout, injector) = (Layout::default(), Injector::default());
    let mut inventory = Inventory::new(layout, injector, NodeHealth::default(), Policies::default());
    inventory.apply(Moment::default(), scan(0..count));
    inventory
}

pub(crate) fn scan(indices: impl IntoIterator<Item = u32>) -> Observation {
    let found = indices.into_iter().map(|index| Found::Gpu(gpu(index))).collect();
    Observation::Scan { session: 1, found }
}

fn unhealthy(inventory: &Inventory) -> Vec<String> {
    let devices = inventory.devices(&ResourceName::gpu()).unwrap().values();
    devices.filter(|device| !inventory.is_healthy(device)).map(|device| device.id.to_string()).collect()
}

#[test]
fn an_id_once_advertised_stays_unhealthy_while_its_gpu_is_gone() {
    let mut node = node(3);
    let changes = node.apply(Moment::default(), scan([0, 2]));
    assert_eq!(changes.health.keys().collect::<Vec<_>>(), [&gpu(1).uuid]);
    assert_eq!(unhealthy(&node), ["GPU-1"]);
    assert_eq!(node.apply(Moment::default(), scan([0, 2])), Changes::default(), "the same scan again is no news");
}

#[test]
fn a_failed_gpu_is_served_unhealthy_if_its_uuid_is_known_and_never_harms_the_others() {
    let mut node = node(0);
    let failed = |index, uuid: Option<&str>| Found::Failed {
        index,
        uuid: uuid.map(|uuid| uuid.parse().unwrap()),
        error: NvmlError { call: "nvmlDeviceGetPciInfo_v3", code: ReturnCode::GPU_IS_LOST },
    };
    let found = vec![Found::Gpu(gpu(0)), failed(1, None), failed(2, Some("GPU-2")), Found::Gpu(gpu(3))];
    let changes = node.apply(Moment::default(), Observation::Scan { session: 1, found });
    assert_eq!(changes.appeared.len(), 3);
    assert_eq!(node.devices(&ResourceName::gpu()).unwrap().len(), 3);
    assert_eq!(unhealthy(&node), ["GPU-2"]);
}
