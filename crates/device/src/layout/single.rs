//! The MIG strategy `single`: one resource with one kind of device.

use std::collections::{BTreeMap, BTreeSet};

use super::candidate::Candidate;
use super::finding::LayoutFinding;
use crate::names::{ResourceName, Uuid};

/// The kind of whole GPUs.
const WHOLE: &str = "whole GPUs";

/// Keeps, of the devices without a custom name, those of one kind: the kind that most GPUs have,
/// among equals the one with the most devices, then MIG devices before whole GPUs. So one GPU whose
/// MIG layout is being changed does not remove the others.
pub(super) fn unify(candidates: &mut Vec<Candidate>) -> Vec<LayoutFinding> {
    let mut kinds: BTreeMap<String, (BTreeSet<Uuid>, Vec<String>)> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.custom) {
        let (gpus, devices) = kinds.entry(kind(candidate)).or_default();
        gpus.insert(candidate.device.gpu.clone());
        devices.push(candidate.device.index_label());
    }
    let rank = |(kind, (gpus, devices)): &(&String, &(BTreeSet<Uuid>, Vec<String>))| {
        (gpus.len(), devices.len(), kind.as_str() != WHOLE, std::cmp::Reverse((*kind).clone()))
    };
    let Some(offered) = kinds.iter().max_by_key(rank).map(|(kind, _)| kind.clone()) else {
        return Vec::new();
    };
    candidates.retain(|candidate| candidate.custom || kind(candidate) == offered);
    let left_out = kinds.into_iter().filter(|(kind, _)| *kind != offered);
    left_out
        .map(|(kind, (_, devices))| LayoutFinding::LeftOut {
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
