//! GPUs on the PCI bus, and the kernel driver that is bound to each.

use std::collections::BTreeMap;

use crate::doctor::facts::{Facts, PciGpu};
use crate::doctor::finding::{Finding, Group};
use crate::doctor::plural::plural;

const GROUP: Group = Group::Driver;
const ID: &str = "driver.bus";
const CHECKED: &str = "GPUs on the PCI bus";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let finding = match &facts.bus {
        Err(error) => {
            Finding::unknown(GROUP, ID, CHECKED, format!("sysfs cannot be read: {error}"))
                .fix("mount sysfs and name its place with --sysfs-root")
        }
        Ok(gpus) if gpus.is_empty() => empty(facts),
        Ok(gpus) => drivers(gpus),
    };
    vec![finding]
}

fn empty(facts: &Facts) -> Finding {
    let seen = "none: no PCI device has vendor 0x10de and class 03xx";
    // The GPU of some systems (Tegra, WSL) is not a PCI device.
    if facts.driver_answer().is_some_and(|answer| !answer.gpus.is_empty()) {
        return Finding::ok(GROUP, ID, CHECKED, seen);
    }
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why("a GPU that the kernel does not see on the bus cannot be used by any driver")
        .fix(
            "on a node without GPUs: do not run the plugin on it. Otherwise check the firmware's \
             PCIe settings, the slot and the power, and in a virtual machine what is passed \
             through to it",
        )
}

fn drivers(gpus: &BTreeMap<String, PciGpu>) -> Finding {
    let taken: Vec<String> = gpus
        .iter()
        .filter_map(|(at, gpu)| Some((at, gpu.driver.as_deref()?)))
        .filter(|(_, driver)| *driver != "nvidia")
        .map(|(at, driver)| format!("{at} by {driver}"))
        .collect();
    let count = plural(gpus.len(), "GPU");
    if taken.is_empty() {
        return Finding::ok(GROUP, ID, CHECKED, count);
    }
    let seen = format!("{count}; taken by another kernel driver: {}", taken.join(", "));
    let finding = match taken.len() == gpus.len() {
        true => Finding::problem(GROUP, ID, CHECKED, seen),
        false => Finding::warning(GROUP, ID, CHECKED, seen),
    };
    let nouveau = gpus.values().any(|gpu| gpu.driver.as_deref() == Some("nouveau"));
    finding.why("NVIDIA's driver cannot use a GPU that another driver is bound to").fix(
        match nouveau {
            true => {
                "keep nouveau from loading (a file in /etc/modprobe.d with `blacklist nouveau` and \
                 `options nouveau modeset=0`, then rebuild the initramfs), and reboot"
            }
            false => {
                "if they are for virtual machines, nothing; otherwise bind them to the driver \
                 nvidia again"
            }
        },
    )
}
