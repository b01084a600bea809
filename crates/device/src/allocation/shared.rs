//! The choice of replicas and MIG devices: how many from each physical GPU, and then how many from
//! each device group on it (all replicas of one MIG device or GPU), by the same rule.
//!
//! - `distributed` takes one device at a time from the GPU with the fewest in use, among equals
//!   from the one with the fewest of this request.
//! - `spread` compares these two in the opposite order, so it puts two on one GPU only where every
//!   other GPU is used up.
//! - `packed` takes the fullest GPU on which the request fits, so that free capacity stays in one
//!   piece. Where it fits on none, the GPU with the most free devices comes first, so that the
//!   request is on the fewest GPUs. A GPU that the request already uses is filled first.

use std::ops::Range;

use super::index::AllocationIndex;
use super::policy::SharedPolicy;

/// How the devices of one GPU, or of one device group, are used.
#[derive(Debug, Clone, Copy)]
struct Usage {
    /// Free devices.
    free: usize,
    /// Devices in use by this request or others.
    used: usize,
    /// Devices of this request.
    mine: usize,
}

/// Chooses `wanted` of the free devices, or all if there are fewer. Both lists are in the order of
/// the index. Returns the chosen, and on how many GPUs the request has more than one device.
pub(super) fn pick(
    index: &AllocationIndex,
    must: &[usize],
    free: &[usize],
    wanted: usize,
    policy: SharedPolicy,
) -> (Vec<usize>, usize) {
    let devices = &index.devices;
    let on_gpu = |gpu: &Range<usize>| index.groups[gpu.clone()].iter().map(Range::len).sum();
    let mut gpus = usage(index.gpus.iter().map(on_gpu), must, free, |at| devices[at].gpu);
    let mut groups = usage(index.groups.iter().map(Range::len), must, free, |at| devices[at].group);
    let (gpus_before, groups_before) = (gpus.clone(), groups.clone());
    share(&mut gpus, wanted, policy);
    for (at, gpu) in index.gpus.iter().enumerate() {
        share(&mut groups[gpu.clone()], gpus[at].mine - gpus_before[at].mine, policy);
    }

    let mut missing: Vec<usize> =
        groups.iter().zip(groups_before).map(|(now, was)| now.mine - was.mine).collect();
    let take = |device: &usize| {
        let missing = &mut missing[devices[*device].group];
        let take = *missing > 0;
        *missing -= usize::from(take);
        take
    };
    let chosen = free.iter().copied().filter(take).collect();
    (chosen, gpus.iter().filter(|gpu| gpu.mine > 1).count())
}

/// The usage of each group. Devices that are neither free nor of this request are of others.
fn usage(
    totals: impl Iterator<Item = usize>,
    must: &[usize],
    free: &[usize],
    group_of: impl Fn(usize) -> usize,
) -> Vec<Usage> {
    let mut usage: Vec<Usage> = totals.map(|used| Usage { free: 0, used, mine: 0 }).collect();
    for device in must {
        usage[group_of(*device)].mine += 1;
    }
    for device in free {
        let group = &mut usage[group_of(*device)];
        group.free += 1;
        group.used -= 1;
    }
    usage
}

/// Takes `wanted` devices from the groups, or all if there are fewer.
fn share(groups: &mut [Usage], mut wanted: usize, policy: SharedPolicy) {
    while wanted > 0 {
        let open = groups.iter_mut().filter(|group| group.free > 0);
        // Of equals, the first: groups are in the order of the GPU indices.
        let next = match policy {
            SharedPolicy::Distributed => open.min_by_key(|group| (group.used, group.mine)),
            SharedPolicy::Spread => open.min_by_key(|group| (group.mine, group.used)),
            SharedPolicy::Packed => open.rev().max_by_key(|group| fullness(group, wanted)),
        };
        let Some(next) = next else { return };
        let count = if policy == SharedPolicy::Packed { next.free.min(wanted) } else { 1 };
        next.free -= count;
        next.used += count;
        next.mine += count;
        wanted -= count;
    }
}

/// What `packed` prefers: the request's own, then the fullest that fits, else the one with the most
/// free devices.
fn fullness(group: &Usage, wanted: usize) -> (bool, bool, usize, usize) {
    let fits = group.free >= wanted;
    let (first, second) =
        if fits { (group.used, usize::MAX - group.free) } else { (group.free, group.used) };
    (group.mine > 0, fits, first, second)
}
