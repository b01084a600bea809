//! Each GPU: errors, calls that do not return, causes and degradations.

use crate::doctor::facts::{Facts, GpuFacts};
use crate::doctor::finding::{Finding, Group};
use crate::doctor::plural::plural;

const GROUP: Group = Group::Gpus;
const ID: &str = "gpus.gpu";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = facts.initialised_driver() else { return Vec::new() };
    answer.gpus.iter().flat_map(of_gpu).collect()
}

fn of_gpu(gpu: &GpuFacts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = hangs(gpu).into_iter().chain(error(gpu)).collect();
    findings.extend(gpu.causes.iter().map(|(cause, remedy)| unhealthy(gpu, cause, remedy)));
    findings.extend(gpu.degradations.iter().map(|degradation| degraded(gpu, degradation)));
    if findings.is_empty() {
        let mig = gpu.mig.map(|count| format!(", MIG mode on, {}", plural(count, "MIG device")));
        let seen = name(gpu) + &mig.unwrap_or_default();
        findings.push(Finding::ok(GROUP, ID, &checked(gpu), seen));
    }
    findings
}

fn checked(gpu: &GpuFacts) -> String {
    format!("GPU {}", gpu.index)
}

fn hangs(gpu: &GpuFacts) -> Option<Finding> {
    let seen = format!("{} does not return", gpu.unanswered_call.as_ref()?);
    Some(
        Finding::problem(GROUP, ID, &checked(gpu), seen)
            .why(
                "the driver hangs in this GPU; the plugin marks it Unhealthy and serves the others",
            )
            .fix(
                "look for NVRM and Xid in the kernel log (dmesg); reset the GPU, or reboot the \
                 node",
            ),
    )
}

/// An error that is also a cause is reported as the cause, with its remedy.
fn error(gpu: &GpuFacts) -> Option<Finding> {
    let error = gpu.error.as_ref().filter(|_| gpu.causes.is_empty())?;
    let seen = format!("{}: answers with an error: {error}", name(gpu));
    Some(
        Finding::problem(GROUP, ID, &checked(gpu), seen)
            .why("it cannot be served, or only as Unhealthy")
            .fix(format!("{}; reset the GPU or reboot the node", details(gpu))),
    )
}

fn details(gpu: &GpuFacts) -> String {
    format!("`nvidia-smi -i {}` and the kernel log (dmesg, NVRM) have the details", gpu.index)
}

fn unhealthy(gpu: &GpuFacts, cause: &str, remedy: &Option<String>) -> Finding {
    let fix = match remedy {
        Some(remedy) => remedy.clone(),
        None if cause.starts_with("quarantined") => {
            "do what the reason says; then remove the file \
            from the quarantine directory (--quarantine-dir)"
                .to_owned()
        }
        None => details(gpu),
    };
    let seen = format!("{}: Unhealthy: {cause}", name(gpu));
    Finding::problem(GROUP, ID, &checked(gpu), seen)
        .why("no new pod gets an Unhealthy GPU")
        .fix(fix)
}

fn degraded(gpu: &GpuFacts, degradation: &str) -> Finding {
    let (what, remedy) =
        degradation.split_once("; ").unwrap_or((degradation, "see docs/health.md"));
    Finding::warning(GROUP, ID, &checked(gpu), format!("{}: degraded: {what}", name(gpu)))
        .why("it stays Healthy, and needs attention")
        .fix(remedy)
}

fn name(gpu: &GpuFacts) -> String {
    let parts = [gpu.model.as_deref(), gpu.uuid.as_deref(), gpu.bus.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "reports no name".to_owned() } else { parts.join(", ") }
}
