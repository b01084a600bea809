//! Whether this plugin serves a socket.

use crate::doctor::facts::{Facts, PluginSocket, SocketProbe};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Kubelet;
const ID: &str = "kubelet.plugin";
const CHECKED: &str = "this plugin";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let ours = facts.kubelet.others.iter().filter(|socket| socket.ours.is_some());
    let served = ours.filter(|socket| socket.probe.is_served());
    let (answering, silent): (Vec<_>, Vec<_>) =
        served.partition(|socket| socket.probe == SocketProbe::Answers);
    vec![if !silent.is_empty() {
        Finding::problem(GROUP, ID, CHECKED, format!("does not answer on {}", names(&silent)))
            .why("the kubelet waits for it without a timeout")
            .fix("delete the plugin's pod, and report a bug with its log")
    } else if !answering.is_empty() {
        Finding::ok(GROUP, ID, CHECKED, format!("serves {}", names(&answering)))
    } else {
        Finding::warning(GROUP, ID, CHECKED, "it serves no socket in this directory")
            .why("while it does not run, or has no GPU to serve, the kubelet has none to allocate")
            .fix(
                "kubectl -n kube-system get pods -o wide -l \
                 app.kubernetes.io/name=gpu-device-plugin, and its log",
            )
    }]
}

fn names(sockets: &[&PluginSocket]) -> String {
    sockets.iter().map(|socket| socket.name.as_str()).collect::<Vec<_>>().join(", ")
}
