//! The plugins in the kubelet's directory: others for NVIDIA's GPUs, and this one.

use std::collections::BTreeSet;

use status::OTHER_PLUGIN;

use crate::doctor::facts::{Facts, PluginSocket, SocketProbe};
use crate::doctor::finding::{Check, Finding, Group, Level, plural};

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
    let mut findings = rivals(&served, &others, &offered(facts));
    if findings.iter().all(|finding| finding.level == Level::Ok) {
        // The running plugin also knows one whose socket has a name of its own.
        let told = facts.plugin.iter().flat_map(|status| &status.findings);
        let told: Vec<_> = told.filter(|of| of.kind == OTHER_PLUGIN).map(told_rival).collect();
        findings = if told.is_empty() { findings } else { told };
    }
    findings.extend([this_plugin(&served, facts), ready(facts)]);
    findings
}

/// The base names of the resources that this plugin offers, or would; `gpu` where that is not
/// known.
fn offered(facts: &Facts) -> BTreeSet<String> {
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let by_status = facts.plugin.iter().flat_map(|status| &status.resources);
    let by_survey = facts.driver_answer().into_iter().flat_map(|answer| &answer.resources);
    let names = by_status.map(|of| base(&of.name)).chain(by_survey.map(|of| base(&of.name)));
    let names: BTreeSet<String> = names.collect();
    if names.is_empty() { ["gpu".to_owned()].into() } else { names }
}

/// Whether a socket of another plugin is for one of these resources: NVIDIA's plugin names its
/// sockets after them (`nvidia-gpu.sock`, of old versions `nvidia.sock`). Other plugins of the
/// domain have names of their own, such as those of network cards.
pub(in crate::doctor) fn is_rival(other: &PluginSocket, offered: &BTreeSet<String>) -> bool {
    let name = other.name.strip_suffix(".sock").unwrap_or(&other.name);
    let resource = match name.strip_prefix("nvidia") {
        Some("") => "gpu",
        Some(rest) => rest.strip_prefix('-').unwrap_or_default(),
        None => return false,
    };
    let is_nvidias = |process: &String| process.starts_with("nvidia-device-plugin");
    offered.contains(resource) || other.process.as_ref().is_some_and(is_nvidias)
}

/// Other plugins that serve the resources of this one, and a second one of this kind.
fn rivals(
    served: &[&PluginSocket],
    others: &[&PluginSocket],
    offered: &BTreeSet<String>,
) -> Vec<Finding> {
    let (live, dead): (Vec<&PluginSocket>, Vec<&PluginSocket>) =
        others.iter().partition(|other| other.probe.is_served());
    let (rivals, strangers): (Vec<&PluginSocket>, Vec<&PluginSocket>) =
        live.into_iter().partition(|other| is_rival(other, offered));
    let mut findings: Vec<Finding> = rivals.into_iter().map(rival).collect();
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
        let left = (!dead.is_empty())
            .then(|| format!("{} left behind, without harm", plural(dead.len(), "dead socket")));
        let names: Vec<&str> = strangers.iter().map(|other| other.name.as_str()).collect();
        let strangers =
            (!names.is_empty()).then(|| format!("{} is for other resources", names.join(", ")));
        let notes: Vec<String> = left.into_iter().chain(strangers).collect();
        findings.push(RIVAL.ok(match notes.is_empty() {
            true => "none".to_owned(),
            false => format!("none ({})", notes.join("; ")),
        }));
    }
    findings
}

/// One that the running plugin has noticed.
fn told_rival(of: &status::Finding) -> Finding {
    let (seen, fix) = of.message.rsplit_once("; ").unwrap_or((&of.message, ""));
    RIVAL.problem(seen).why(ONE_RESOURCE).fix(fix)
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
fn this_plugin(served: &[&PluginSocket], facts: &Facts) -> Finding {
    let names = |answering: bool| {
        let those = served.iter().filter(|of| (of.probe == SocketProbe::Answers) == answering);
        those.map(|socket| socket.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (answering, silent) = (names(true), names(false));
    if !silent.is_empty() {
        PLUGIN
            .problem(format!("does not answer on {silent}"))
            .why("the kubelet waits for it without a timeout")
            .fix(
                "kubectl -n kube-system delete pod POD, the plugin's on this node, and report a \
                 bug with its log (kubectl logs --previous)",
            )
    } else if !answering.is_empty() {
        PLUGIN.ok(format!("serves {answering}"))
    } else if facts.plugin.as_ref().is_ok_and(|status| status.resources.is_empty()) {
        // Why is told elsewhere.
        PLUGIN.ok("runs, and has no GPU to serve")
    } else {
        PLUGIN
            .problem("it serves no socket in this directory")
            .why("while it does not run, or has no GPU to serve, the kubelet has none to allocate")
            .fix(
                "`kubectl -n kube-system get pods -o wide -l \
                 app.kubernetes.io/name=gpu-device-plugin` shows whether a pod of it is on this \
                 node, and `kubectl -n kube-system logs POD` why it serves nothing",
            )
    }
}

/// Whether the running plugin reports that it is ready.
fn ready(facts: &Facts) -> Finding {
    match &facts.plugin {
        Err(error) => not_heard(error),
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
                "`gpu-device-plugin status -o wide` and `kubectl -n kube-system logs POD` have the \
                 details",
            ),
    }
}

/// Without the plugin's status nothing follows, neither that it is ready nor that it is not.
fn not_heard(error: &str) -> Finding {
    READY
        .unknown(format!("not available: {error}"))
        .why("what only the running plugin knows is missing above: health over time, and holders")
        .fix(
            "run the doctor in the plugin's pod: kubectl -n kube-system exec POD -- \
             gpu-device-plugin doctor; on the node, with the plugin's --state-dir or \
             --http-address",
        )
}
