//! Answers by the status of the running plugin.

use status::{Gpu, NvmlState, Status};

use super::result::CheckResult;
use super::rule::Rule;
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
        return match status.nvml.state {
            NvmlState::Up => {
                CheckResult::non_ok("no GPU on this node, or none that is offered".to_owned())
            }
            _ => CheckResult::unknown("NVML is down, and no GPU was ever seen".to_owned()),
        };
    }
    if bad.is_empty() {
        return CheckResult::ok(format!("{} Healthy", plural(offered.len(), "GPU")));
    }
    // Which ones and why comes first where there is room for it: the line is cut off.
    let which: Vec<String> = bad.iter().map(|gpu| format!("{}{}", gpu.index, why(gpu))).collect();
    CheckResult::non_ok(format!(
        "{}/{} GPUs Unhealthy: {}",
        bad.len(),
        offered.len(),
        which.join(", ")
    ))
}

/// The worst reason in two words.
fn why(gpu: &Gpu) -> String {
    match gpu.reasons.first() {
        Some(reason) => match reason.xid {
            Some(xid) => format!(" Xid {xid}"),
            None => format!(" {}", reason.kind.replace('_', " ")),
        },
        None => String::new(),
    }
}

fn registration(status: &Status) -> CheckResult {
    if status.resources.is_empty() {
        return CheckResult::non_ok("no resource to register: no GPU is offered".to_owned());
    }
    let missing: Vec<_> =
        status.resources.iter().filter(|resource| !resource.kubelet.registered).collect();
    match missing.first() {
        None => {
            let names: Vec<&str> =
                status.resources.iter().map(|resource| resource.name.as_str()).collect();
            CheckResult::ok(format!("registered: {}", names.join(", ")))
        }
        Some(first) => {
            let problem = first.kubelet.problem.as_deref().unwrap_or("not registered");
            CheckResult::non_ok(format!("{}: {problem}", first.name))
        }
    }
}

fn nvml(status: &Status) -> CheckResult {
    let nvml = &status.nvml;
    let version = nvml.driver_version.as_deref().unwrap_or("of unknown version");
    match nvml.state {
        NvmlState::Down => {
            let fault = nvml.fault.as_ref().map_or("it is down", |fault| fault.message.as_str());
            CheckResult::non_ok(format!("NVML: {fault}"))
        }
        _ if nvml.unanswered_calls > 0 => {
            let calls = usize::try_from(nvml.unanswered_calls).unwrap_or(usize::MAX);
            let verb = if calls == 1 { "does" } else { "do" };
            CheckResult::non_ok(format!("NVML hangs: {} {verb} not return", plural(calls, "call")))
        }
        NvmlState::Released => {
            CheckResult::ok("NVML was released for the reset of a GPU".to_owned())
        }
        NvmlState::Up => CheckResult::ok(format!("NVML answers, driver {version}")),
    }
}
