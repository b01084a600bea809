//! The MIG strategy `single`: one resource, and one kind of device in it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, Finding};
use crate::names::{ResourceName, Uuid};

/// What stands for whole GPUs among the kinds.
const WHOLE: &str = "whole GPUs";

/// Keeps, of the devices that no pattern named, those of one kind: the kind that most GPUs have,
/// among equals the one with the most devices, then MIG devices before whole GPUs. So one GPU in
/// the middle of a new layout does not take the others away.
pub(super) fn unify(candidates: &mut Vec<Candidate>) -> Vec<Finding> {
    let mut kinds: BTreeMap<String, (BTreeSet<Uuid>, Vec<String>)> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.named) {
        let (gpus, devices) = kinds.entry(kind(candidate)).or_default();
        gpus.insert(candidate.device.gpu.clone());
        devices.push(candidate.device.place_name());
    }
    let rank = |(kind, (gpus, devices)): &(&String, &(BTreeSet<Uuid>, Vec<String>))| {
        (gpus.len(), devices.len(), kind.as_str() != WHOLE, std::cmp::Reverse((*kind).clone()))
    };
    let Some(offered) = kinds.iter().max_by_key(rank).map(|(kind, _)| kind.clone()) else {
        return Vec::new();
    };
    candidates.retain(|candidate| candidate.named || kind(candidate) == offered);
    let left_out = kinds.into_iter().filter(|(kind, _)| *kind != offered);
    left_out
        .map(|(kind, (_, devices))| Finding::LeftOut {
            resource: ResourceName::gpu(),
            offered: offered.clone(),
            kind,
            devices,
        })
        .collect()
}

fn kind(candidate: &Candidate) -> String {
    candidate.profile.as_ref().map_or_else(|| WHOLE.to_owned(), |profile| format!("MIG {profile}"))
}
