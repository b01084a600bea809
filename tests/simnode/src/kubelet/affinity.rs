//! The topology manager's hint: which of the available devices lie on the NUMA nodes that a
//! container is to use.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::Device;

/// The available devices by their relation to the hint.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sorted {
    pub(crate) aligned: BTreeSet<String>,
    pub(crate) unaligned: BTreeSet<String>,
    pub(crate) no_affinity: BTreeSet<String>,
}

/// Without a hint, and for a resource none of whose devices has topology, nothing is aligned.
pub(crate) fn sort(
    all: &BTreeMap<String, Device>,
    available: &BTreeSet<String>,
    hint: Option<&BTreeSet<i64>>,
) -> Sorted {
    let hint = hint.filter(|_| all.values().any(|device| !nodes(device).is_empty()));
    let Some(hint) = hint else {
        return Sorted { no_affinity: available.clone(), ..Sorted::default() };
    };
    let mut sorted = Sorted::default();
    for id in available {
        let nodes = all.get(id).map(nodes).unwrap_or_default();
        let set = if nodes.is_empty() {
            &mut sorted.no_affinity
        } else if nodes.iter().any(|node| hint.contains(node)) {
            &mut sorted.aligned
        } else {
            &mut sorted.unaligned
        };
        set.insert(id.clone());
    }
    sorted
}

/// The NUMA nodes that a device states.
pub(crate) fn nodes(device: &Device) -> Vec<i64> {
    device.topology.iter().flat_map(|topology| &topology.nodes).map(|node| node.id).collect()
}
