//! The plugins in the kubelet's directory: others for NVIDIA's GPUs, and this one.

use crate::doctor::facts::{Facts, PluginSocket, SocketProbe};
use crate::doctor::finding::{Check, Finding, Group, plural};

const RIVAL: Check =
    Check::new(Group::Kubelet, "kubelet.rival", "other plugins for the same resources");
const PLUGIN: Check = Check::new(Group::Kubelet, "kubelet.plugin", "this plugin");
const READY: Check = Check::new(Group::Kubelet, "kubelet.ready", "the running plugin's status");

const ONE_RESOURCE: &str =
    "two plugins that register one resource take it from each other: the last one has it";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let (ours, others): (Vec<&PluginSocket>, Vec<&PluginSocket>) =
        facts.kubelet.others.iter().partition(|socket| socket.ours.is_some());
    let served: Vec<&PluginSocket> =
        ours.into_iter().filter(|socket| socket.probe.is_served()).collect();
    let mut findings = rivals(&served, &others);
    findings.extend([this_plugin(&served), ready(facts)]);
    findings
}

/// Other plugins that serve NVIDIA's GPUs on this node, and a second one of this kind.
fn rivals(served: &[&PluginSocket], others: &[&PluginSocket]) -> Vec<Finding> {
    let rivals = others.iter().filter(|other| other.probe.is_served());
    let mut findings: Vec<Finding> = rivals.map(|other| rival(other)).collect();
    let mut resources: Vec<&str> = served.iter().filter_map(|of| of.ours.as_deref()).collect();
    resources.sort_unstable();
    if let Some(twice) = resources.windows(2).find(|pair| pair[0] == pair[1]) {
        let seen = format!("this plugin serves \"{}\" more than once on this node", twice[0]);
        findings.push(RIVAL.problem(seen).why(ONE_RESOURCE).fix(
            "run one pod of it on each node: look for a second DaemonSet, or for one beside a \
             systemd unit",
        ));
    }
    if findings.is_empty() {
        findings.push(RIVAL.ok(match others.len() {
            0 => "none".to_owned(),
            dead => format!("none ({} left behind, without harm)", plural(dead, "dead socket")),
        }));
    }
    findings
}

fn rival(other: &PluginSocket) -> Finding {
    let by = other.process.as_ref().map(|process| format!(", by {process}")).unwrap_or_default();
    RIVAL.problem(format!("{} is served{by}", other.name)).why(ONE_RESOURCE).fix(
        "remove NVIDIA's plugin: kubectl -n kube-system delete daemonset \
         nvidia-device-plugin-daemonset, or helm uninstall, or devicePlugin.enabled=false in the \
         GPU Operator's ClusterPolicy",
    )
}

/// Whether this plugin serves a socket.
fn this_plugin(served: &[&PluginSocket]) -> Finding {
    let names = |answering: bool| {
        let those = served.iter().filter(|of| (of.probe == SocketProbe::Answers) == answering);
        those.map(|socket| socket.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (answering, silent) = (names(true), names(false));
    if !silent.is_empty() {
        PLUGIN
            .problem(format!("does not answer on {silent}"))
            .why("the kubelet waits for it without a timeout")
            .fix("delete the plugin's pod, and report a bug with its log")
    } else if !answering.is_empty() {
        PLUGIN.ok(format!("serves {answering}"))
    } else {
        PLUGIN
            .problem("it serves no socket in this directory")
            .why("while it does not run, or has no GPU to serve, the kubelet has none to allocate")
            .fix(
                "kubectl -n kube-system get pods -o wide -l \
                 app.kubernetes.io/name=gpu-device-plugin, and its log",
            )
    }
}

/// Whether the running plugin reports that it is ready.
fn ready(facts: &Facts) -> Finding {
    match &facts.plugin {
        Err(error) => READY.ok(format!("not available: {error}")),
        Ok(status) if status.plugin.ready => {
            let names: Vec<&str> = status.resources.iter().map(|of| of.name.as_str()).collect();
            READY.ok(format!("ready: {}", names.join(", ")))
        }
        Ok(status) => READY
            .problem(format!("not ready: {}", status.plugin.not_ready.join("; ")))
            .why(
                "what is not registered with the kubelet, or not watched by it, is not allocatable",
            )
            .fix(
                "see the findings above; `gpu-device-plugin status -o wide` and the plugin's log \
                 have the details",
            ),
    }
}
