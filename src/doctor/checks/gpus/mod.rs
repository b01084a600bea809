//! Each GPU, and what is offered of all of them.

mod fix;
mod gpu;

use std::collections::BTreeSet;

use device::names::PciBusId;
use status::{Gpu, Status};

use crate::doctor::facts::{DriverAnswer, Facts, GpuFacts};
use crate::doctor::finding::{Check, Finding, Group, plural};

const ENUMERATION: Check = Check::new(Group::Gpus, "gpus.enumeration", "GPUs that NVML lists");
const RESERVED: Check = Check::new(Group::Gpus, "gpus.reserved", "reserved GPUs");
const COUNTS: Check =
    Check::new(Group::Gpus, "gpus.counts", "the GPUs that the running plugin counts");
const CONFIDENTIAL: Check = Check::new(Group::Gpus, "gpus.confidential", "confidential computing");
const LAYOUT: Check = Check::new(Group::Gpus, "gpus.layout", "how the GPUs are offered");
const OFFERED: Check = Check::new(Group::Gpus, "gpus.offered", "what the kubelet is offered");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let status = facts.plugin.as_deref().ok();
    let mut findings = Vec::new();
    if let Some(answer) = facts.initialised_driver() {
        findings = by_survey(facts, answer, status);
    }
    findings.extend(status.and_then(counts));
    findings
}

fn by_survey(facts: &Facts, answer: &DriverAnswer, status: Option<&Status>) -> Vec<Finding> {
    let mut findings = vec![enumeration(facts, answer)];
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for gpu in &answer.gpus {
        let by_plugin = status.and_then(|status| same(gpu, status));
        known.extend(by_plugin.map(|gpu| gpu.uuid.as_str()));
        findings.extend(gpu::listed(facts, gpu, by_plugin));
    }
    let others = status.iter().flat_map(|status| &status.gpus);
    let others = others.filter(|gpu| gpu.reserved.is_none() && !known.contains(gpu.uuid.as_str()));
    let unlisted: Vec<(&Gpu, Finding)> =
        others.filter_map(|gpu| Some((gpu, gpu::unlisted(facts, gpu)?))).collect();
    if let Some(enumeration) = findings.first_mut()
        && !unlisted.is_empty()
        && are_told(&enumeration.seen, &unlisted)
    {
        enumeration.follows = Some("gpus.plugin");
    }
    findings.extend(unlisted.into_iter().map(|(_, finding)| finding));
    findings.extend(confidential_computing(answer));
    findings.extend(answer.reserved.iter().map(|(gpu, why)| reserved(gpu, why)));
    let mig_strategy = &facts.settings.mig_strategy;
    findings.extend(answer.findings.iter().map(|finding| layout(finding, mig_strategy)));
    findings.push(offered(answer, mig_strategy));
    findings
}

/// Whether each GPU that is missing from the enumeration has a finding of its own.
fn are_told(missing: &str, unlisted: &[(&Gpu, Finding)]) -> bool {
    let address =
        |gpu: &Gpu| Some(gpu.pci_bus_id.as_deref()?.parse::<PciBusId>().ok()?.to_string());
    let told: Vec<String> = unlisted.iter().filter_map(|(gpu, _)| address(gpu)).collect();
    let Some((_, missing)) = missing.split_once("answering: ") else { return false };
    missing.split(", ").all(|one| told.iter().any(|told| one.starts_with(told.as_str())))
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
                "`dmesg -T | grep -iE 'nvrm|xid'` on the node says why no driver is bound (\"probe \
                 of ... failed\", RmInitAdapter, \"fallen off the bus\"); drain the node (kubectl \
                 drain NODE) and reboot it, then check the slot and the power of that address"
            }
            false => {
                "`dmesg -T | grep -iE 'nvrm|xid'` on the node says why (RmInitAdapter, Xid 79, \
                 \"fallen off the bus\"); drain the node (kubectl drain NODE) and reboot it, then \
                 check the slot and the power of that address"
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
        .fix(
            "where the line says no more: --mig-strategy (environment MIG_STRATEGY, file key \
             flags.migStrategy) decides how MIG devices are offered, and `nvidia-smi -L` on the \
             node lists them",
        )
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
                true => "`lspci -d 10de:` and `nvidia-smi -L` on the node show which GPUs there \
                         are"
                .to_owned(),
                false => format!(
                    "--devices (environment DEVICES) reserves GPUs, and with --mig-strategy \
                     {mig_strategy} others are not offered: change one of them"
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
        .fix("repair the GPUs: `gpu-device-plugin status` says of each what to do")
}

/// How the running plugin counts the GPUs.
fn counts(status: &Status) -> Option<Finding> {
    let counts = &status.gpu_counts;
    let Some(difference) = counts.difference() else {
        return counts
            .enumerated
            .map(|count| COUNTS.ok(format!("{count}, wherever they are counted")));
    };
    let is = |count: Option<u32>| count.is_some_and(|count| count != counts.identified);
    let fix = if is(counts.bus) || is(counts.enumerated) {
        "`lspci -d 10de:` on the node lists those on the bus and `nvidia-smi -L` those of NVML; \
         for the one that is missing: `dmesg -T | grep -iE 'nvrm|xid'`, then reboot the node"
    } else if is(counts.expected) {
        "if the number is right, set --expected-gpus (environment EXPECTED_GPUS) to it; otherwise \
         look for the others: `lspci -d 10de:` on the node"
    } else {
        "--mig-strategy (environment MIG_STRATEGY, file key flags.migStrategy) decides how MIG \
         devices are offered; `gpu-device-plugin status` shows which GPUs are in no resource"
    };
    let finding = COUNTS
        .problem(difference)
        .why("a GPU that is counted at one place and not at the next gets no pods")
        .fix(fix);
    Some(finding)
}

/// Whether the GPUs accept work, where confidential computing is on.
fn confidential_computing(answer: &DriverAnswer) -> Option<Finding> {
    let accepts = answer.gpus.iter().find_map(|gpu| gpu.accepts_work)?;
    if accepts {
        return Some(CONFIDENTIAL.ok("on, and the GPUs accept work"));
    }
    let finding = CONFIDENTIAL
        .problem("on, and the GPUs are not in the ready state")
        .why("until then every CUDA program fails to start, though the GPUs are Healthy")
        .fix(
            "attest the GPUs, then `nvidia-smi conf-compute -srs 1` on the node; `nvidia-smi \
             conf-compute -grs` shows the state",
        );
    Some(finding)
}

/// The GPU of the running plugin that a GPU of the survey is: by UUID, by PCI address; one without
/// either by its index, if that is no other's.
fn same<'s>(gpu: &GpuFacts, status: &'s Status) -> Option<&'s Gpu> {
    let address = |text: &str| text.parse::<PciBusId>().ok();
    let is_it = |known: &&Gpu| match (&gpu.uuid, &gpu.bus) {
        (Some(uuid), _) => known.uuid == *uuid,
        (None, Some(bus)) => {
            let known = known.pci_bus_id.as_deref().and_then(address);
            known.is_some() && known == address(bus)
        }
        (None, None) => known.index == gpu.index && !known.index_stale,
    };
    status.gpus.iter().find(is_it)
}
