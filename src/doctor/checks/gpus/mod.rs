//! Each GPU, and what is offered of all of them.

mod gpu;

use std::collections::BTreeSet;

use status::{Gpu, Reason, Status};

use crate::doctor::facts::{DriverAnswer, Facts};
use crate::doctor::finding::{Check, Finding, Group, plural};

const ENUMERATION: Check = Check::new(Group::Gpus, "gpus.enumeration", "GPUs that NVML lists");
const RESERVED: Check = Check::new(Group::Gpus, "gpus.reserved", "reserved GPUs");
const LAYOUT: Check = Check::new(Group::Gpus, "gpus.layout", "how the GPUs are offered");
const OFFERED: Check = Check::new(Group::Gpus, "gpus.offered", "what the kubelet is offered");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = facts.initialised_driver() else { return Vec::new() };
    let mut findings = vec![enumeration(facts, answer)];
    findings.extend(answer.gpus.iter().flat_map(gpu::of_gpu));
    findings.extend(answer.reserved.iter().map(|(gpu, why)| reserved(gpu, why)));
    let mig_strategy = &facts.settings.mig_strategy;
    findings.extend(answer.findings.iter().map(|finding| layout(finding, mig_strategy)));
    findings.push(offered(answer, mig_strategy));
    if let Ok(status) = &facts.plugin {
        findings.extend(by_running_plugin(status, answer));
    }
    findings
}

/// The GPUs that NVML lists against those on the bus.
fn enumeration(facts: &Facts, answer: &DriverAnswer) -> Finding {
    let count = plural(answer.gpus.len(), "GPU");
    // The GPU of some systems is not a PCI device.
    let Some(bus) = facts.bus.as_ref().ok().filter(|bus| !bus.is_empty()) else {
        return ENUMERATION.ok(count);
    };
    let seen = format!("{count} of {} on the PCI bus", bus.len());
    let listed: BTreeSet<&str> = answer.gpus.iter().filter_map(|gpu| gpu.bus.as_deref()).collect();
    let unlisted: Vec<_> = bus.iter().filter(|(at, _)| !listed.contains(at.as_str())).collect();
    let missing: Vec<String> = unlisted
        .iter()
        .map(|(at, driver)| (at, driver.as_deref()))
        .filter(|(_, driver)| driver.is_none_or(|driver| driver == "nvidia"))
        .map(|(at, driver)| format!("{at} ({})", driver.unwrap_or("no driver")))
        .collect();
    // A GPU that answers with errors is listed without its bus id.
    let without_bus_id = answer.gpus.iter().filter(|gpu| gpu.bus.is_none()).count();
    if missing.len() <= without_bus_id {
        return ENUMERATION.ok(seen);
    }
    // A GPU without a driver is not hidden from this container: nothing has it.
    let visible = &facts.module.gpus;
    let is_hidden =
        |at: &str, driver: Option<&str>| driver == Some("nvidia") && !visible.contains(at);
    let hidden = unlisted.iter().all(|(at, driver)| is_hidden(at, driver.as_deref()));
    if !visible.is_empty() && hidden {
        return ENUMERATION
            .problem(format!("{seen}; this container has no access to the others"))
            .why("the plugin can offer only what it sees: no pod gets the other GPUs of the node")
            .fix(
                "run the plugin's container privileged with the host's /dev, or with \
                 NVIDIA_VISIBLE_DEVICES=all",
            );
    }
    let without_driver = unlisted.iter().any(|(_, driver)| driver.is_none());
    ENUMERATION
        .problem(format!("{seen}; missing or not answering: {}", missing.join(", ")))
        .why("the driver could not initialise them, so NVML does not list them")
        .fix(match without_driver {
            true => {
                "the kernel log (dmesg, NVRM: \"probe of ... failed\", RmInitAdapter, \"fallen \
                 off the bus\") says why no driver is bound; reboot the node, then check slot and \
                 power"
            }
            false => {
                "the kernel log (dmesg, NVRM, RmInitAdapter, Xid 79, \"fallen off the bus\") says \
                 why; reset the GPU (nvidia-smi -r), then reboot the node, then check slot and \
                 power"
            }
        })
}

fn reserved(gpu: &str, why: &str) -> Finding {
    RESERVED
        .warning(format!("{gpu} is not offered: {why}"))
        .why("the setting `devices` reserves it for the system")
        .fix("change --devices (environment DEVICES, file key devices) if pods are to get it")
}

fn layout(seen: &str, mig_strategy: &str) -> Finding {
    LAYOUT
        .problem(seen)
        .why(format!("MIG strategy {mig_strategy}: what is not offered, no pod gets"))
        .fix("what the line says")
}

/// The resources that are offered to the kubelet.
fn offered(answer: &DriverAnswer, mig_strategy: &str) -> Finding {
    let offered = || answer.resources.iter().filter(|resource| resource.devices > 0);
    let list: Vec<String> = offered()
        .map(|of| format!("{}: {} ({} Healthy)", of.name, of.devices, of.healthy))
        .collect();
    if list.is_empty() {
        return OFFERED
            .problem("nothing: no device of this node would be offered")
            .why("the node has no allocatable GPU, and `kubectl describe node` shows none or 0")
            .fix(match answer.gpus.is_empty() {
                true => "see the findings about the driver and the bus above".to_owned(),
                false => format!(
                    "see the findings above, --devices, and --mig-strategy ({mig_strategy})"
                ),
            });
    }
    let seen = list.join(", ");
    if offered().any(|resource| resource.healthy > 0) {
        return OFFERED.ok(seen);
    }
    OFFERED
        .problem(seen)
        .why("the kubelet allocates only Healthy devices, and there are none")
        .fix("see the findings about each GPU above")
}

/// Causes that the running plugin has for a GPU and that cannot be determined again from outside.
fn by_running_plugin(status: &Status, answer: &DriverAnswer) -> Vec<Finding> {
    let mut known: BTreeSet<(&str, &str)> = BTreeSet::new();
    for gpu in &answer.gpus {
        let uuid = gpu.uuid.as_deref().unwrap_or_default();
        known.extend(gpu.causes.iter().map(|(cause, _)| (uuid, cause.as_str())));
    }
    let reasons = status.gpus.iter().flat_map(|gpu| gpu.reasons.iter().map(move |of| (gpu, of)));
    let is_new = |(gpu, reason): &(&Gpu, &Reason)| {
        !known.contains(&(gpu.uuid.as_str(), reason.message.as_str()))
    };
    reasons.filter(is_new).map(|(gpu, reason)| unhealthy(gpu, reason)).collect()
}

fn unhealthy(gpu: &Gpu, reason: &Reason) -> Finding {
    let checked = format!("{}, by the running plugin", gpu.name());
    let remedy = reason.remedy.as_deref();
    Check::new(Group::Gpus, "gpus.plugin", &checked)
        .problem(format!("Unhealthy since {}: {}", reason.since, reason.message))
        .why(
            "no new pod gets an Unhealthy GPU; a cause in the hardware is over when there is \
             evidence of a repair",
        )
        .fix(remedy.unwrap_or("`gpu-device-plugin status` and the plugin's log have the details"))
}
