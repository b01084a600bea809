//! The GPUs that NVML lists against those on the bus.

use std::collections::{BTreeMap, BTreeSet};

use crate::doctor::facts::{DriverAnswer, Facts, PciGpu};
use crate::doctor::finding::{Finding, Group};
use crate::doctor::plural::plural;

const GROUP: Group = Group::Gpus;
const ID: &str = "gpus.enumeration";
const CHECKED: &str = "GPUs that NVML lists";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = facts.initialised_driver() else { return Vec::new() };
    let listed = plural(answer.gpus.len(), "GPU");
    vec![match &facts.bus {
        Ok(bus) if !bus.is_empty() => {
            compare(facts, answer, bus, format!("{listed} of {} on the PCI bus", bus.len()))
        }
        // The GPU of some systems is not a PCI device.
        _ => Finding::ok(GROUP, ID, CHECKED, listed),
    }]
}

fn compare(
    facts: &Facts,
    answer: &DriverAnswer,
    bus: &BTreeMap<String, PciGpu>,
    seen: String,
) -> Finding {
    let listed: BTreeSet<&str> = answer.gpus.iter().filter_map(|gpu| gpu.bus.as_deref()).collect();
    let unlisted: Vec<_> = bus.iter().filter(|(at, _)| !listed.contains(at.as_str())).collect();
    let missing: Vec<String> = unlisted
        .iter()
        .filter(|(_, gpu)| gpu.driver.as_deref().is_none_or(|driver| driver == "nvidia"))
        .map(|(at, gpu)| format!("{at} ({})", gpu.driver.as_deref().unwrap_or("no driver")))
        .collect();
    // A GPU that answers with errors is listed without its bus id.
    let without_bus_id = answer.gpus.iter().filter(|gpu| gpu.bus.is_none()).count();
    if missing.len() <= without_bus_id {
        return Finding::ok(GROUP, ID, CHECKED, seen);
    }
    let visible = &facts.module.gpus;
    let is_hidden = |at: &String| !visible.is_empty() && !visible.contains(at);
    match unlisted.iter().all(|(at, _)| is_hidden(at)) {
        true => hidden(&seen),
        false => not_initialised(&seen, &missing),
    }
}

fn hidden(seen: &str) -> Finding {
    let seen = format!("{seen}; this container has no access to the others");
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why("the plugin can offer only what it sees: no pod gets the other GPUs of the node")
        .fix(
            "run the plugin's container privileged with the host's /dev, or with \
             NVIDIA_VISIBLE_DEVICES=all",
        )
}

fn not_initialised(seen: &str, missing: &[String]) -> Finding {
    let seen = format!("{seen}; missing or not answering: {}", missing.join(", "));
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why("the driver could not initialise them, so NVML does not list them")
        .fix(
            "the kernel log (dmesg, NVRM, RmInitAdapter, Xid 79) says why; reset the GPU \
             (nvidia-smi -r), then reboot the node, then check slot and power",
        )
}
