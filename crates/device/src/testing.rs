//! Sample GPUs and nodes for tests and benches.
// A fixture that cannot be made is a failed test.
#![allow(clippy::unwrap_used)]

use crate::allocation::Policies;
use crate::gpu::{Gpu, NumaNode};
use crate::health::{Moment, NodeHealth};
use crate::injection::Injector;
use crate::inventory::{Found, Inventory, Observation};
use crate::layout::Layout;

/// A GPU whose facts follow from its index, with four GPUs to a NUMA node.
#[must_use]
pub fn gpu(index: u32) -> Gpu {
    Gpu {
        minor: Some(index),
        name: Some("NVIDIA H100 80GB HBM3".to_owned()),
        compute_capability: Some((9, 0)),
        numa_node: NumaNode::from_sysfs(i64::from(index / 4)),
        ..Gpu::unknown(format!("GPU-{index}").parse().unwrap(), index)
    }
}

/// A node of `count` such GPUs, offered whole.
#[must_use]
pub fn node(count: u32) -> Inventory {
    let (layout, injector) = (Layout::default(), Injector::default());
    let mut inventory =
        Inventory::new(layout, injector, NodeHealth::default(), Policies::default());
    inventory.apply(Moment::default(), scan(0..count));
    inventory
}

/// An enumeration of the GPUs with these indices.
#[must_use]
pub fn scan(indices: impl IntoIterator<Item = u32>) -> Observation {
    let found = indices.into_iter().map(|index| Found::Gpu(gpu(index))).collect();
    Observation::Scan { session: 1, found }
}
