//! Whether the CDI specifications name every device that would be offered.

use std::collections::BTreeSet;

use device::injection::DeviceIdStrategy;

use super::strategies::{need_cdi, runtimes_in_use};
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Group};
use crate::doctor::plural::plural;

const GROUP: Group = Group::Runtime;
const ID: &str = "runtime.specs";
const CHECKED: &str = "CDI specifications";
/// The kind of the CDI devices that the plugin names.
const GPU_KIND: &str = "k8s.device-plugin.nvidia.com/gpu";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if !need_cdi(&facts.settings.strategies) || runtimes_in_use(facts).is_empty() {
        return Vec::new();
    }
    let named = named(facts);
    let missing: Vec<&str> = offered(facts).difference(&named).copied().collect();
    let seen = if named.is_empty() {
        format!("none of the kind {GPU_KIND} in {}", directories(facts))
    } else if missing.is_empty() {
        let seen = format!("{} of the kind {GPU_KIND}", plural(named.len(), "device"));
        return vec![Finding::ok(GROUP, ID, CHECKED, seen)];
    } else {
        format!("not in the specifications: {}", missing.join(", "))
    };
    vec![missing_devices(seen, facts.settings.ids)]
}

/// The devices of our kind in the specifications.
fn named(facts: &Facts) -> BTreeSet<&str> {
    let specs = facts.runtimes.specs.iter().filter_map(|spec| spec.content.as_ref().ok());
    let ours = specs.filter(|(kind, _)| kind == GPU_KIND);
    ours.flat_map(|(_, names)| names.iter().map(String::as_str)).collect()
}

/// The devices that would be offered.
fn offered(facts: &Facts) -> BTreeSet<&str> {
    let resources = facts.driver_answer().into_iter().flat_map(|answer| &answer.resources);
    resources.flat_map(|resource| resource.ids.iter().map(String::as_str)).collect()
}

fn directories(facts: &Facts) -> String {
    let directories = facts.runtimes.spec_directories.iter();
    directories.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

fn missing_devices(seen: String, ids: DeviceIdStrategy) -> Finding {
    let strategy = match ids {
        DeviceIdStrategy::Uuid => "uuid",
        DeviceIdStrategy::Index => "index",
    };
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why(
            "the runtime refuses a container whose CDI device has no specification: \
             \"unresolvable CDI devices\"",
        )
        .fix(format!(
            "write them on the node, and again after each change of GPUs or MIG devices: \
             nvidia-ctk cdi generate --vendor=k8s.device-plugin.nvidia.com --class=gpu \
             --device-name-strategy={strategy} \
             --output=/var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json"
        ))
}
