//! The groups of GPUs that NVLink joins.

use std::collections::BTreeMap;

use device::names::Uuid;
use device::topology::{NvLink, Topology};

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
