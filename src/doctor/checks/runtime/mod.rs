//! Whether what Allocate answers becomes a GPU in the container: through NVIDIA's container
//! runtime, or CDI.

mod cdi;
mod limits;
mod mps;
mod nvidia_runtime;
mod own_hook;

use crate::doctor::facts::{ContainerRuntime, ContainerRuntimes, EffectiveSettings, Facts};
use crate::doctor::finding::{Check, Finding, Group, Level};

const FOUND: Check = Check::new(Group::Runtime, "runtime.found", "the container runtime");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let mut findings = of_runtimes(&facts.runtimes, settings);
    findings.extend(limits::limits(facts));
    if !facts.runtimes.in_use().is_empty() {
        findings.extend(needs(facts, settings));
    }
    findings.extend(facts.runtimes.mps.iter().flat_map(mps::findings));
    findings
}

/// What the configuration needs of a runtime that is there.
fn needs(facts: &Facts, settings: &EffectiveSettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if settings.need_nvidia_runtime() {
        findings.extend(nvidia_runtime::toolkit(facts));
    }
    if settings.need_cdi() {
        findings.extend(cdi::unreadable_specs(facts));
        findings.extend(cdi::untrue_specs(facts));
        findings.push(cdi::specs(facts));
        findings.push(cdi::hooks(facts));
        findings.extend(own_hook::own_hook(facts));
    }
    findings.extend(cdi::kubelet(facts));
    findings
}

/// Whether the container runtime brings GPUs into containers; of several, each.
pub(in crate::doctor) fn of_runtimes(
    found: &ContainerRuntimes,
    settings: &EffectiveSettings,
) -> Vec<Finding> {
    let runtimes = found.in_use();
    if runtimes.is_empty() {
        let finding = FOUND
            .unknown(format!("no sign of one below {}", settings.host_root.display()))
            .why("the plugin names GPUs, and the container runtime brings them into the container")
            .fix("name the place where the host's root is mounted with --host-root");
        return vec![finding];
    }
    let mut findings: Vec<Finding> =
        runtimes.iter().flat_map(|runtime| of_runtime(runtime, settings)).collect();
    if runtimes.len() > 1 {
        findings.iter_mut().for_each(|finding| cannot_tell(finding, &runtimes));
    }
    findings
}

/// Whether one runtime brings GPUs into containers.
fn of_runtime(runtime: &ContainerRuntime, settings: &EffectiveSettings) -> Vec<Finding> {
    if let Some(problem) = &runtime.problem {
        return vec![unreadable_config(runtime.name, problem)];
    }
    if runtime.files.is_empty() && runtime.nvidia.is_empty() {
        return vec![without_config(runtime)];
    }
    let mut findings = Vec::new();
    if settings.need_nvidia_runtime() {
        findings.push(nvidia_runtime::handler(runtime, settings));
    }
    if settings.need_cdi() {
        findings.push(cdi::support(runtime));
    }
    findings
}

/// Of several runtimes the kubelet uses one: what is wrong with another keeps no GPU from a pod.
fn cannot_tell(finding: &mut Finding, runtimes: &[&ContainerRuntime]) {
    if finding.level != Level::Problem {
        return;
    }
    let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name).collect();
    finding.level = Level::Unknown;
    finding.seen += &format!("; which of {} the kubelet uses cannot be seen", names.join(" and "));
    finding.fix = format!("if it is this one: {}", finding.fix);
}

fn without_config(runtime: &ContainerRuntime) -> Finding {
    Check::new(Group::Runtime, "runtime.config", runtime.name)
        .unknown(format!("{} is there, and no configuration was found", runtime.socket.path))
        .why("whether it brings GPUs into containers is in its configuration")
        .fix(
            "ask it on the node: `crictl info` shows the runtimes of containerd, \
             `crio config` those of CRI-O",
        )
}

fn unreadable_config(runtime: &str, problem: &str) -> Finding {
    Check::new(Group::Runtime, "runtime.config", runtime)
        .unknown(problem)
        .why("it cannot be checked, and perhaps the runtime cannot read it either")
        .fix("correct the file, or run the doctor where it can read it")
}
