//! Whether what Allocate answers becomes a GPU in the container: through NVIDIA's container
//! runtime, or CDI.

mod cdi;
mod nvidia_runtime;

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Group};

const FOUND: Check = Check::new(Group::Runtime, "runtime.found", "the container runtime");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let runtimes = facts.runtimes.in_use();
    if runtimes.is_empty() {
        let finding = FOUND
            .unknown(format!("no sign of one below {}", settings.host_root.display()))
            .why("the plugin names GPUs, and the container runtime brings them into the container")
            .fix("name the place where the host's root is mounted with --host-root");
        return vec![finding];
    }
    let (readable, unreadable): (Vec<_>, Vec<_>) =
        runtimes.into_iter().partition(|runtime| runtime.problem.is_none());
    let unreadable = unreadable.iter().filter_map(|of| Some((of.name, of.problem.as_ref()?)));
    let mut findings: Vec<Finding> =
        unreadable.map(|(runtime, problem)| unreadable_config(runtime, problem)).collect();
    if settings.need_nvidia_runtime() {
        findings.extend(readable.iter().map(|runtime| nvidia_runtime::handler(runtime, settings)));
    }
    if settings.need_cdi() {
        findings.extend(readable.iter().map(|runtime| cdi::support(runtime)));
    }
    if settings.need_nvidia_runtime() {
        findings.extend(nvidia_runtime::toolkit(facts));
    }
    if settings.need_cdi() {
        findings.extend(cdi::unreadable_specs(facts));
        findings.push(cdi::specs(facts));
    }
    findings.extend(cdi::kubelet(facts));
    findings.extend(facts.runtimes.mps.iter().map(|(resource, answer)| mps(resource, answer)));
    findings
}

fn unreadable_config(runtime: &str, problem: &str) -> Finding {
    Check::new(Group::Runtime, "runtime.config", runtime)
        .unknown(problem)
        .why("it cannot be checked, and perhaps the runtime cannot read it either")
        .fix("correct the file, or run the doctor where it can read it")
}

/// Whether the control daemon of a resource that MPS shares answers.
fn mps(resource: &str, answer: &Result<String, String>) -> Finding {
    let checked = format!("the MPS control daemon of {resource}");
    let check = Check::new(Group::Runtime, "runtime.mps", &checked);
    match answer {
        Ok(percentage) => check.ok(format!("answers: {percentage} % of the threads")),
        Err(error) => check
            .problem(error)
            .why(
                "an MPS client without its daemon hangs, so the resource is not offered until the \
                 daemon answers",
            )
            .fix(
                "run NVIDIA's MPS control daemon on the node, and mount its directory at /mps in \
                 the plugin's container",
            ),
    }
}
