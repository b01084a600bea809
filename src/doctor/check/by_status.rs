//! Answers by the status of the running plugin.

use status::{Gpu, NvmlState, OTHER_PLUGIN, Status};

use super::answer::{CheckResult, CheckState, Rule};
use crate::doctor::finding::plural;

/// The answer by the status of the running plugin.
pub(super) fn by_status(rule: Rule, status: &Status) -> CheckResult {
    match rule {
        Rule::Gpus => gpus(status),
        Rule::Registration => registration(status),
        Rule::Nvml | Rule::All => nvml(status),
    }
}

fn gpus(status: &Status) -> CheckResult {
    let offered: Vec<&Gpu> = status.gpus.iter().filter(|gpu| gpu.reserved.is_none()).collect();
    let bad: Vec<&&Gpu> = offered.iter().filter(|gpu| !gpu.healthy).collect();
    if offered.is_empty() {
        return match (status.nvml.state, status.gpu_counts.bus) {
            _ if is_starting(status) => CheckState::Unknown.with(STARTING),
            _ if has_no_gpu(status) => CheckState::Ok.with(NO_GPU),
            (NvmlState::Up, _) => {
                CheckState::NonOk.with("no GPU on this node, or none that is offered")
            }
            (_, Some(bus)) if bus > 0 => CheckState::NonOk
                .with(format!("none of {} on the bus is offered", plural(bus as usize, "GPU"))),
            _ => CheckState::Unknown.with("NVML is down, and no GPU was ever seen"),
        };
    }
    if let Some(counts) = status.gpu_counts.difference().filter(|_| bad.is_empty()) {
        return CheckState::NonOk.with(format!("GPUs: {counts}"));
    }
    if bad.is_empty() {
        let healthy = format!("{} Healthy", plural(offered.len(), "GPU"));
        return match status.nvml.state {
            NvmlState::Released => {
                CheckState::Unknown.with(format!("{RELEASED}; before: {healthy}"))
            }
            _ => CheckState::Ok.with(healthy),
        };
    }
    // Which ones and why comes first where there is room for it: the line is cut off.
    let which: Vec<String> = bad.iter().map(|gpu| format!("{}{}", gpu.label(), why(gpu))).collect();
    let (bad, all, which) = (bad.len(), offered.len(), which.join(", "));
    CheckState::NonOk.with(format!("{bad}/{all} GPUs Unhealthy: {which}"))
}

/// Of a node that has none, none is missing.
const NO_GPU: &str = "no GPU on this node";

/// Whether the bus has no GPU, none was ever seen, and none is expected.
fn has_no_gpu(status: &Status) -> bool {
    let counts = &status.gpu_counts;
    let is_expected = counts.expected.is_some_and(|count| count > 0);
    status.plugin.ready && status.gpus.is_empty() && counts.bus == Some(0) && !is_expected
}

/// While no GPU is watched.
const RELEASED: &str = "NVML is released for the reset of a GPU";

/// While nothing was heard of NVML nothing follows from that no GPU is known.
const STARTING: &str = "the plugin is starting: NVML has not answered yet";

fn is_starting(status: &Status) -> bool {
    status.nvml.state == NvmlState::Down && status.nvml.fault.is_none() && status.gpus.is_empty()
}

/// The worst reason in two words.
fn why(gpu: &Gpu) -> String {
    gpu.reasons.first().map(|reason| format!(" {}", reason.words())).unwrap_or_default()
}

fn registration(status: &Status) -> CheckResult {
    let resources = &status.resources;
    if resources.is_empty() && is_starting(status) {
        return CheckState::Unknown.with(STARTING);
    }
    if resources.is_empty() && has_no_gpu(status) {
        return CheckState::Ok.with(NO_GPU);
    }
    if resources.is_empty() {
        return CheckState::NonOk.with("no resource to register: no GPU is offered");
    }
    if let Some(missing) = resources.iter().find(|resource| !resource.kubelet.registered) {
        let problem = missing.kubelet.problem.as_deref().unwrap_or("not registered");
        return CheckState::NonOk.with(format!("{}: {problem}", missing.name));
    }
    // The kubelet has the plugin that registered last, whatever this one was told.
    if let Some(other) = status.findings.iter().find(|of| of.kind == OTHER_PLUGIN) {
        return CheckState::NonOk.with(&other.message);
    }
    let names: Vec<&str> = resources.iter().map(|resource| resource.name.as_str()).collect();
    CheckState::Ok.with(format!("registered: {}", names.join(", ")))
}

fn nvml(status: &Status) -> CheckResult {
    let nvml = &status.nvml;
    let version = nvml.driver_version.as_deref().unwrap_or("of unknown version");
    match nvml.state {
        _ if is_starting(status) => CheckState::Unknown.with(STARTING),
        NvmlState::Unknown => CheckState::Unknown
            .with("NVML is in a state that this program, older than the plugin, does not know"),
        NvmlState::Down if has_no_gpu(status) => CheckState::Ok.with(NO_GPU),
        NvmlState::Down => {
            let fault = nvml.fault.as_ref().map_or("it is down", |fault| fault.message.as_str());
            CheckState::NonOk.with(format!("NVML: {fault}"))
        }
        _ if nvml.unanswered_calls > 0 => {
            let calls = usize::try_from(nvml.unanswered_calls).unwrap_or(usize::MAX);
            let verb = if calls == 1 { "does" } else { "do" };
            CheckState::NonOk
                .with(format!("NVML hangs: {} {verb} not return", plural(calls, "call")))
        }
        NvmlState::Released => CheckState::Unknown.with(RELEASED),
        NvmlState::Up => CheckState::Ok.with(format!("NVML answers, driver {version}")),
    }
}
