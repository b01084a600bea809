//! Each GPU: errors, calls that do not return, causes and degradations, as far as a survey of the
//! driver or the running plugin has them. A GPU is one problem at most.

use status::{Gpu, Reason};

use super::fix::Target;
use crate::doctor::facts::{Condition, Facts, GpuFacts};
use crate::doctor::finding::{Check, Finding, Group, plural};

/// What is found about a GPU that the driver lists. `known` is the same GPU as the running plugin
/// has it.
pub(super) fn listed(facts: &Facts, gpu: &GpuFacts, known: Option<&Gpu>) -> Vec<Finding> {
    let gpu = &named(gpu, known);
    let target = Target::new(facts, gpu);
    let checked = format!("GPU {}", gpu.index);
    let check = Check::new(Group::Gpus, "gpus.gpu", &checked);
    let is_new = |reason: &&Reason| !gpu.causes.iter().any(|of| of.text == reason.message);
    let told: Vec<&Reason> = known.iter().flat_map(|gpu| &gpu.reasons).filter(is_new).collect();
    let mut findings = Vec::new();
    if is_bad(gpu) {
        findings.push(problem(gpu, &told, check, &target));
    } else if let (Some(known), false) = (known, told.is_empty()) {
        findings.push(by_plugin(known, &told, &target));
    }
    let degradations = degradations(gpu, known);
    findings.extend(degradations.iter().map(|of| degraded(gpu, check, of, &target)));
    findings.extend(pending_mode(gpu, check, &target));
    findings.extend(unlicensed(gpu, check));
    if findings.is_empty() {
        let mig = gpu.mig.map(|count| format!(", MIG mode on, {}", plural(count, "MIG device")));
        findings.push(check.ok(name(gpu) + &mig.unwrap_or_default()));
    }
    findings
}

/// What is found about a GPU that only the running plugin has.
pub(super) fn unlisted(facts: &Facts, known: &Gpu) -> Option<Finding> {
    let gpu = GpuFacts {
        uuid: Some(known.uuid.clone()),
        bus: known.pci_bus_id.clone(),
        ..GpuFacts::default()
    };
    let told: Vec<&Reason> = known.reasons.iter().collect();
    (!told.is_empty()).then(|| by_plugin(known, &told, &Target::new(facts, &gpu)))
}

/// The GPU with the names that the running plugin has for it: one that fails may tell none.
fn named(gpu: &GpuFacts, known: Option<&Gpu>) -> GpuFacts {
    let mut gpu = gpu.clone();
    if let Some(known) = known {
        gpu.uuid.get_or_insert_with(|| known.uuid.clone());
        gpu.bus = gpu.bus.or_else(|| known.pci_bus_id.clone());
        gpu.model = gpu.model.or_else(|| known.model.clone());
    }
    gpu
}

fn is_bad(gpu: &GpuFacts) -> bool {
    gpu.unanswered_call.is_some() || gpu.error.is_some() || !gpu.causes.is_empty()
}

/// All that is wrong with a GPU, with what to do about the first of it.
fn problem(gpu: &GpuFacts, told: &[&Reason], check: Check<'_>, target: &Target<'_>) -> Finding {
    let mut causes: Vec<Condition> = gpu.causes.clone();
    causes.extend(told.iter().map(|reason| condition(reason)));
    let texts: Vec<&str> = causes.iter().map(|cause| cause.text.as_str()).collect();
    let unhealthy = (!texts.is_empty()).then(|| format!("Unhealthy: {}", texts.join("; ")));
    let hang = gpu.unanswered_call.as_ref().map(|call| format!("{call} does not return"));
    // An error that is also a cause is told as the cause.
    let error = gpu.error.as_ref().filter(|_| causes.is_empty());
    let error = error.map(|error| format!("answers with an error: {error}"));
    let (why, fix) = match causes.first() {
        Some(worst) => ("no new pod gets an Unhealthy GPU", target.fix(worst)),
        None if hang.is_some() => (
            "the driver hangs in this GPU; the plugin marks it Unhealthy and serves the others",
            format!("{}; if it does not return: {}", target.details(), target.reset()),
        ),
        None => (
            "it cannot be served, or only as Unhealthy",
            format!("{}; {}", target.details(), target.reset()),
        ),
    };
    let seen: Vec<String> = [hang, error, unhealthy].into_iter().flatten().collect();
    check.problem(format!("{}: {}", name(gpu), seen.join("; "))).why(why).fix(fix)
}

/// Causes that cannot be determined again from outside.
fn by_plugin(known: &Gpu, told: &[&Reason], target: &Target<'_>) -> Finding {
    let checked = format!("{}, by the running plugin", known.name());
    let texts = told.iter().map(|reason| format!("since {}: {}", reason.since, reason.message));
    let texts: Vec<String> = texts.collect();
    let fix = told.first().map(|worst| target.fix(&condition(worst))).unwrap_or_default();
    Check::new(Group::Gpus, "gpus.plugin", &checked)
        .problem(format!("{}: Unhealthy {}", known.uuid, texts.join("; ")))
        .why(
            "no new pod gets an Unhealthy GPU; a cause in the hardware is over when there is \
             evidence of a repair",
        )
        .fix(fix)
}

fn condition(reason: &Reason) -> Condition {
    let Reason { kind, message: text, remedy, xid, .. } = reason;
    Condition {
        kind: kind.clone(),
        text: text.clone(),
        remedy: remedy.clone(),
        xid: *xid,
        action: None,
    }
}

/// The degradations that either of the two has.
fn degradations(gpu: &GpuFacts, known: Option<&Gpu>) -> Vec<Condition> {
    let mut all = gpu.degradations.clone();
    let told = known.iter().flat_map(|known| &known.degradations).map(condition);
    all.extend(told.filter(|of| !gpu.degradations.iter().any(|own| own.kind == of.kind)));
    all
}

fn degraded(gpu: &GpuFacts, check: Check<'_>, of: &Condition, target: &Target<'_>) -> Finding {
    let what = of.text.split_once("; ").map_or(of.text.as_str(), |(what, _)| what);
    check
        .warning(format!("{}: degraded: {what}", name(gpu)))
        .why("it stays Healthy, and needs attention")
        .fix(target.fix(of))
}

fn pending_mode(gpu: &GpuFacts, check: Check<'_>, target: &Target<'_>) -> Option<Finding> {
    let (now, next) = if gpu.mig_pending? { ("off", "on") } else { ("on", "off") };
    let finding = check
        .warning(format!(
            "{}: MIG mode is {now}, and {next} after its next reset (pending)",
            name(gpu)
        ))
        .why("until then it is offered by its present mode, whatever MIG devices are asked for")
        .fix(target.reset());
    Some(finding)
}

fn unlicensed(gpu: &GpuFacts, check: Check<'_>) -> Option<Finding> {
    if gpu.licensed? {
        return None;
    }
    let finding = check
        .warning(format!("{}: a virtual GPU without a licence (unlicensed vGPU)", name(gpu)))
        .why(
            "NVIDIA's driver slows an unlicensed vGPU down some minutes after its start, and CUDA \
             fails on it then",
        )
        .fix(
            "put the client configuration token into /etc/nvidia/ClientConfigToken of this virtual \
             machine, then `systemctl restart nvidia-gridd`; `nvidia-smi -q` shows \"License \
             Status\"",
        );
    Some(finding)
}

fn name(gpu: &GpuFacts) -> String {
    let parts = [&gpu.model, &gpu.uuid, &gpu.bus].map(Option::as_deref);
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "reports no name".to_owned() } else { parts.join(", ") }
}
