//! Each GPU, and what is made of all of them.

use super::driver::{count, unlisted};
use super::facts::{Asked, Facts, Gpu, Survey};
use super::finding::{Finding, Group};

const GROUP: Group = Group::Gpus;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Asked::Answered(survey) = &facts.driver else { return Vec::new() };
    if survey.trouble.is_some() {
        return Vec::new();
    }
    let mut findings = vec![enumeration(facts, survey)];
    findings.extend(survey.gpus.iter().flat_map(gpu));
    findings.extend(survey.reserved.iter().map(|(gpu, why)| {
        Finding::warning(
            GROUP,
            "gpus.reserved",
            "GPUs that are kept back",
            format!("{gpu} is not offered: {why}"),
        )
        .why("the setting `devices` keeps it for the system")
        .fix("change --devices (environment DEVICES, file key devices) if pods are to have it")
    }));
    findings.extend(survey.findings.iter().map(|finding| {
        Finding::problem(GROUP, "gpus.layout", "what is made of the GPUs", finding.clone())
            .why(format!(
                "MIG strategy {}: what is not offered, no pod gets",
                facts.settings.mig_strategy
            ))
            .fix("what the line says")
    }));
    findings.push(offers(facts, survey));
    findings.extend(by_plugin(facts, survey));
    findings
}

/// What the running plugin knows and a first look cannot: what GPUs went through.
fn by_plugin(facts: &Facts, survey: &Survey) -> Vec<Finding> {
    let Ok(status) = &facts.plugin else { return Vec::new() };
    let known = |message: &str| {
        survey.gpus.iter().any(|gpu| gpu.causes.iter().any(|(cause, _)| cause == message))
    };
    let mut findings = Vec::new();
    for gpu in &status.gpus {
        for reason in gpu.reasons.iter().filter(|reason| !known(&reason.message)) {
            let since = reason.since;
            let checked = format!("GPU {}, by the running plugin", gpu.index);
            let remedy = reason.remedy.clone();
            findings.push(
                Finding::problem(
                    GROUP,
                    "gpus.plugin",
                    &checked,
                    format!("Unhealthy since {since}: {}", reason.message),
                )
                .why("no new pod gets an Unhealthy GPU; what hardware did is over when there is evidence of a repair")
                .fix(remedy.unwrap_or_else(|| "`gpu-device-plugin status` and the plugin's log \
                    tell more".to_owned())),
            );
        }
    }
    findings
}

fn enumeration(facts: &Facts, survey: &Survey) -> Finding {
    const ID: &str = "gpus.enumeration";
    const CHECKED: &str = "GPUs that NVML lists";
    let listed = count(survey.gpus.len(), "GPU");
    // Systems whose GPU is no PCI device have none there.
    let Some(bus) = facts.bus.as_ref().ok().filter(|bus| !bus.is_empty()) else {
        return Finding::ok(GROUP, ID, CHECKED, listed);
    };
    // One that answers with errors is listed, and does not say where it is.
    let nameless = survey.gpus.iter().filter(|gpu| gpu.bus.is_none()).count();
    let unlisted: Vec<String> = unlisted(facts, survey)
        .into_iter()
        .filter(|(_, gpu)| gpu.driver.as_deref().is_none_or(|driver| driver == "nvidia"))
        .map(|(at, gpu)| format!("{at} ({})", gpu.driver.as_deref().unwrap_or("no driver has it")))
        .collect();
    let seen = format!("{listed} of {} on the PCI bus", bus.len());
    if unlisted.len() <= nameless {
        return Finding::ok(GROUP, ID, CHECKED, seen);
    }
    let hidden =
        |(at, _): &(&str, _)| !facts.module.gpus.is_empty() && !facts.module.gpus.contains(*at);
    if self::unlisted(facts, survey).iter().all(hidden) {
        return Finding::problem(
            GROUP,
            ID,
            CHECKED,
            format!("{seen}; this container is not let near the others"),
        )
        .why("the plugin can offer only what it sees: the other GPUs of the node are nobody's")
        .fix(
            "run the plugin's container privileged with the host's /dev, or with \
                NVIDIA_VISIBLE_DEVICES=all",
        );
    }
    Finding::problem(
        GROUP,
        ID,
        CHECKED,
        format!("{seen}; missing or not answering: {}", unlisted.join(", ")),
    )
    .why(
        "the driver could not bring these up: NVML, and with it everything else, does without them",
    )
    .fix(
        "the kernel log (dmesg, NVRM, RmInitAdapter, Xid 79) says why; reset the GPU (nvidia-smi \
             -r), then reboot the node, then look at slot and power",
    )
}

fn gpu(gpu: &Gpu) -> Vec<Finding> {
    const ID: &str = "gpus.gpu";
    let checked = format!("GPU {}", gpu.index);
    let name = name(gpu);
    let mut findings = Vec::new();
    if let Some(call) = &gpu.silent {
        findings.push(
            Finding::problem(GROUP, ID, &checked, format!("{call} does not return"))
                .why(
                    "the driver hangs in this GPU; the plugin has it Unhealthy and serves the \
                    others",
                )
                .fix(
                    "look for NVRM and Xid in the kernel log (dmesg); reset the GPU, or reboot the \
                    node",
                ),
        );
    }
    // An error that has become a cause of ill health is told as that, with what to do.
    if let (Some(error), true) = (&gpu.error, gpu.causes.is_empty()) {
        findings.push(
            Finding::problem(
                GROUP,
                ID,
                &checked,
                format!("{name}: answers with an error: {error}"),
            )
            .why("it cannot be served, or only as Unhealthy")
            .fix(format!(
                "`nvidia-smi -i {}` and the kernel log (dmesg, NVRM) tell more; reset the GPU or \
                        reboot the node",
                gpu.index
            )),
        );
    }
    for (cause, remedy) in &gpu.causes {
        let ask =
            format!("`nvidia-smi -i {}` and the kernel log (dmesg, NVRM) tell more", gpu.index);
        let fix = match remedy {
            Some(remedy) => remedy.clone(),
            None if cause.starts_with("quarantined") => {
                "do what the reason says; then remove the file from the quarantine directory \
                                                         (--quarantine-dir)"
                    .to_owned()
            }
            None => ask,
        };
        findings.push(
            Finding::problem(GROUP, ID, &checked, format!("{name}: Unhealthy: {cause}"))
                .why("no new pod gets an Unhealthy GPU")
                .fix(fix),
        );
    }
    for degradation in &gpu.degradations {
        let (what, remedy) =
            degradation.split_once("; ").unwrap_or((degradation, "see docs/health.md"));
        findings.push(
            Finding::warning(GROUP, ID, &checked, format!("{name}: {what}"))
                .why("it works on, and wants attention")
                .fix(remedy),
        );
    }
    if findings.is_empty() {
        let mig = gpu.mig.map_or_else(String::new, |devices| {
            format!(", MIG mode on, {}", count(devices, "MIG device"))
        });
        findings.push(Finding::ok(GROUP, ID, &checked, format!("{name}{mig}")));
    }
    findings
}

fn name(gpu: &Gpu) -> String {
    let parts = [gpu.model.as_deref(), gpu.uuid.as_deref(), gpu.bus.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "says nothing of itself".to_owned() } else { parts.join(", ") }
}

fn offers(facts: &Facts, survey: &Survey) -> Finding {
    const ID: &str = "gpus.offered";
    const CHECKED: &str = "what the kubelet is offered";
    let offered: Vec<_> = survey.resources.iter().filter(|offer| offer.devices > 0).collect();
    if offered.is_empty() {
        return Finding::problem(
            GROUP,
            ID,
            CHECKED,
            "nothing: no device of this node would be offered",
        )
        .why("the node has no allocatable GPU, and `kubectl describe node` shows none or 0")
        .fix(match survey.gpus.is_empty() {
            true => "see what is said of the driver and the bus above".to_owned(),
            false => {
                format!(
                    "see the findings above, --devices, and --mig-strategy ({})",
                    facts.settings.mig_strategy
                )
            }
        });
    }
    let list: Vec<String> = offered
        .iter()
        .map(|offer| format!("{}: {} ({} Healthy)", offer.name, offer.devices, offer.healthy))
        .collect();
    let seen = list.join(", ");
    if offered.iter().all(|offer| offer.healthy == 0) {
        return Finding::problem(GROUP, ID, CHECKED, seen)
            .why("the kubelet allocates Healthy devices alone, and there is none")
            .fix("see what is said of each GPU above");
    }
    Finding::ok(GROUP, ID, CHECKED, seen)
}
