//! The GPU resources in the kubelet's checkpoint.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};
use crate::doctor::plural::plural;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let seen = match &facts.kubelet.checkpoint {
        Err(error) => format!("no checkpoint: {error}"),
        Ok(resources) => {
            let offered = facts.driver_answer().map_or(&[][..], |answer| &answer.resources);
            let is_ours = |name: &String| {
                name.starts_with("nvidia.com/") || offered.iter().any(|offer| offer.name == *name)
            };
            let gpus = resources.iter().filter(|(name, _)| is_ours(name));
            let gpus = gpus.map(|(name, n)| format!("{name}: {}", plural(*n, "Healthy device")));
            match gpus.collect::<Vec<_>>().as_slice() {
                [] => "its checkpoint has no GPU resource yet".to_owned(),
                gpus => format!("by its checkpoint {}", gpus.join(", ")),
            }
        }
    };
    vec![Finding::ok(Group::Kubelet, "kubelet.known", "what the kubelet knows", seen)]
}
