//! The choice of replicas and MIG devices: how many from each physical GPU, and then how many from
//! each carrier on it (a MIG device, or the whole GPU, that replicas share), by the same rule.
//!
//! - `distributed` takes one device at a time from where the fewest are in use, and among those
//!   from where this request has the fewest.
//! - `spread` turns the two around, so it doubles only where every other GPU is used up.
//! - `packed` takes the fullest GPU on which all that is wanted fits, so that free room stays in
//!   one piece. Where nothing fits, the GPU with the most room comes first, so that the request
//!   lies on the fewest. A GPU that the request is on already is filled before another is begun.

use super::index::AllocationIndex;
use super::policy::SharedPolicy;

/// The devices chosen beside those that must be.
pub(super) struct Picked {
    pub(super) devices: Vec<usize>,
    /// On how many GPUs the request has more than one device.
    pub(super) doubled: usize,
}

/// The devices of one GPU, or of one carrier.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Those that can be had.
    free: usize,
    /// Those in use, of this request or another.
    used: usize,
    /// Those of this request.
    mine: usize,
}

/// Chooses `wanted` of the free devices, or all if there are fewer. Both lists are in the
/// catalogue's order.
pub(super) fn pick(
    catalogue: &AllocationIndex,
    must: &[usize],
    free: &[usize],
    wanted: usize,
    policy: SharedPolicy,
) -> Picked {
    let devices = &catalogue.devices;
    let mut gpus =
        groups(catalogue.gpus.iter().map(|gpu| gpu.devices), must, free, |at| devices[at].gpu);
    let mut carriers =
        groups(catalogue.carriers.iter().map(|carrier| carrier.devices), must, free, |at| {
            devices[at].carrier
        });
    let (gpus_before, carriers_before) = (gpus.clone(), carriers.clone());
    share(&mut gpus, wanted, policy);
    for (at, gpu) in catalogue.gpus.iter().enumerate() {
        share(&mut carriers[gpu.carriers.clone()], gpus[at].mine - gpus_before[at].mine, policy);
    }

    let mut missing: Vec<usize> =
        carriers.iter().zip(carriers_before).map(|(now, was)| now.mine - was.mine).collect();
    let take = |device: &usize| {
        let missing = &mut missing[devices[*device].carrier];
        let take = *missing > 0;
        *missing -= usize::from(take);
        take
    };
    let devices = free.iter().copied().filter(take).collect();
    Picked { devices, doubled: gpus.iter().filter(|gpu| gpu.mine > 1).count() }
}

/// How the devices of each group stand. What is neither free nor this request's is another's.
fn groups(
    totals: impl Iterator<Item = usize>,
    must: &[usize],
    free: &[usize],
    group_of: impl Fn(usize) -> usize,
) -> Vec<Group> {
    let mut groups: Vec<Group> = totals.map(|used| Group { free: 0, used, mine: 0 }).collect();
    for device in must {
        groups[group_of(*device)].mine += 1;
    }
    for device in free {
        let group = &mut groups[group_of(*device)];
        group.free += 1;
        group.used -= 1;
    }
    groups
}

/// Takes `wanted` devices from the groups, or all if there are fewer.
fn share(groups: &mut [Group], mut wanted: usize, policy: SharedPolicy) {
    while wanted > 0 {
        let open = groups.iter_mut().filter(|group| group.free > 0);
        // Of equals, the first: groups stand in the order of the GPU indices.
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

/// What `packed` looks for: the request's own, then one that fits and is full, else one with much
/// room.
fn fullness(group: &Group, wanted: usize) -> (bool, bool, usize, usize) {
    let fits = group.free >= wanted;
    let (first, second) =
        if fits { (group.used, usize::MAX - group.free) } else { (group.free, group.used) };
    (group.mine > 0, fits, first, second)
}
