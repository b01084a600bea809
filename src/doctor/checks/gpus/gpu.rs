//! Each GPU: errors, calls that do not return, causes and degradations.

use crate::doctor::facts::GpuFacts;
use crate::doctor::finding::{Check, Finding, Group, plural};

pub(super) fn of_gpu(gpu: &GpuFacts) -> Vec<Finding> {
    let checked = format!("GPU {}", gpu.index);
    let check = Check::new(Group::Gpus, "gpus.gpu", &checked);
    let mut findings: Vec<Finding> = hang(gpu, check).into_iter().collect();
    findings.extend(error(gpu, check));
    findings.extend(gpu.causes.iter().map(|cause| unhealthy(gpu, check, cause)));
    findings.extend(gpu.degradations.iter().map(|degradation| degraded(gpu, check, degradation)));
    if findings.is_empty() {
        let mig = gpu.mig.map(|count| format!(", MIG mode on, {}", plural(count, "MIG device")));
        findings.push(check.ok(name(gpu) + &mig.unwrap_or_default()));
    }
    findings
}

fn hang(gpu: &GpuFacts, check: Check<'_>) -> Option<Finding> {
    let call = gpu.unanswered_call.as_ref()?;
    let finding = check
        .problem(format!("{call} does not return"))
        .why("the driver hangs in this GPU; the plugin marks it Unhealthy and serves the others")
        .fix("look for NVRM and Xid in the kernel log (dmesg); reset the GPU, or reboot the node");
    Some(finding)
}

/// An error that is also a cause is reported as the cause, with its remedy.
fn error(gpu: &GpuFacts, check: Check<'_>) -> Option<Finding> {
    let error = gpu.error.as_ref().filter(|_| gpu.causes.is_empty())?;
    let finding = check
        .problem(format!("{}: answers with an error: {error}", name(gpu)))
        .why("it cannot be served, or only as Unhealthy")
        .fix(format!("{}; reset the GPU or reboot the node", details(gpu)));
    Some(finding)
}

fn unhealthy(
    gpu: &GpuFacts,
    check: Check<'_>,
    (cause, remedy): &(String, Option<String>),
) -> Finding {
    let fix = match remedy {
        Some(remedy) => remedy.clone(),
        None if cause.starts_with("quarantined") => {
            "do what the reason says; then remove the file from the quarantine directory \
             (--quarantine-dir)"
                .to_owned()
        }
        None => details(gpu),
    };
    check
        .problem(format!("{}: Unhealthy: {cause}", name(gpu)))
        .why("no new pod gets an Unhealthy GPU")
        .fix(fix)
}

fn degraded(gpu: &GpuFacts, check: Check<'_>, degradation: &str) -> Finding {
    let (what, remedy) =
        degradation.split_once("; ").unwrap_or((degradation, "see docs/health.md"));
    check
        .warning(format!("{}: degraded: {what}", name(gpu)))
        .why("it stays Healthy, and needs attention")
        .fix(remedy)
}

fn details(gpu: &GpuFacts) -> String {
    format!("`nvidia-smi -i {}` and the kernel log (dmesg, NVRM) have the details", gpu.index)
}

fn name(gpu: &GpuFacts) -> String {
    let parts = [&gpu.model, &gpu.uuid, &gpu.bus].map(Option::as_deref);
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "reports no name".to_owned() } else { parts.join(", ") }
}
