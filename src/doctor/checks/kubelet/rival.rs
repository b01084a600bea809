//! Other plugins that serve NVIDIA's GPUs on this node, and a second one of this kind.

use crate::doctor::facts::{Facts, PluginSocket};
use crate::doctor::finding::{Finding, Group};
use crate::doctor::plural::plural;

const GROUP: Group = Group::Kubelet;
const ID: &str = "kubelet.rival";
const CHECKED: &str = "other plugins for the same resources";
const WHY: &str = "two plugins that register one resource take it from each other: the last one \
    has it";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let (ours, others): (Vec<&PluginSocket>, Vec<&PluginSocket>) =
        facts.kubelet.others.iter().partition(|socket| socket.ours.is_some());
    let mut findings: Vec<Finding> =
        others.iter().filter(|other| other.probe.is_served()).map(|other| rival(other)).collect();
    findings.extend(served_twice(&ours).map(twice));
    if findings.is_empty() {
        findings.push(none(others.len()));
    }
    findings
}

fn rival(other: &PluginSocket) -> Finding {
    let by = other.process.as_ref().map_or_else(String::new, |process| format!(", by {process}"));
    Finding::problem(GROUP, ID, CHECKED, format!("{} is served{by}", other.name)).why(WHY).fix(
        "remove NVIDIA's plugin: kubectl -n kube-system delete daemonset \
         nvidia-device-plugin-daemonset, or helm uninstall, or devicePlugin.enabled=false in the \
         GPU Operator's ClusterPolicy",
    )
}

/// The first resource that two sockets of this plugin serve.
fn served_twice<'f>(ours: &[&'f PluginSocket]) -> Option<&'f str> {
    let served = ours.iter().filter(|socket| socket.probe.is_served());
    let mut resources: Vec<&str> = served.filter_map(|socket| socket.ours.as_deref()).collect();
    resources.sort_unstable();
    resources.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn twice(resource: &str) -> Finding {
    let seen = format!("this plugin serves \"{resource}\" more than once on this node");
    Finding::problem(GROUP, ID, CHECKED, seen).why(WHY).fix(
        "run one pod of it on each node: look for a second DaemonSet, or for one beside a systemd \
         unit",
    )
}

fn none(dead: usize) -> Finding {
    let left = match dead {
        0 => String::new(),
        dead => format!(" ({} left behind, without harm)", plural(dead, "dead socket")),
    };
    Finding::ok(GROUP, ID, CHECKED, format!("none{left}"))
}
