//! NVIDIA's kernel module.

use crate::doctor::facts::{Facts, KernelModule};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Driver;
const ID: &str = "driver.module";
const CHECKED: &str = "NVIDIA's kernel module";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let module = &facts.module;
    let finding = match &module.version {
        Some(version) if module.uvm || !module.nvidia => {
            Finding::ok(GROUP, ID, CHECKED, format!("loaded, version {version}"))
        }
        Some(version) => without_uvm(version),
        None if nvml_answers(facts) => Finding::unknown(
            GROUP,
            ID,
            CHECKED,
            "there is no /proc/driver/nvidia/version here, although NVML answers",
        )
        .fix("name the place of the host's procfs with --proc-root"),
        None => not_loaded(module),
    };
    vec![finding]
}

fn nvml_answers(facts: &Facts) -> bool {
    facts.initialised_driver().is_some_and(|answer| answer.library.is_some())
}

fn without_uvm(version: &str) -> Finding {
    let seen = format!("version {version} is loaded, and the module nvidia_uvm is not");
    Finding::warning(GROUP, ID, CHECKED, seen)
        .why(
            "CUDA needs it; NVIDIA's tools load it when they first need it, if they are allowed to",
        )
        .fix("modprobe nvidia-uvm on the node")
}

fn not_loaded(module: &KernelModule) -> Finding {
    let seen = match (module.nvidia, module.nouveau) {
        (true, _) => "sysfs has the module, and there is no /proc/driver/nvidia/version",
        (false, true) => "not loaded; nouveau is loaded in its place",
        (false, false) => "not loaded: no /proc/driver/nvidia/version",
    };
    let fix = match module.nouveau {
        true => {
            "keep nouveau from loading (blacklist it in /etc/modprobe.d, rebuild the initramfs, \
             reboot), then modprobe nvidia"
        }
        false => {
            "install NVIDIA's driver on the node, or load it: modprobe nvidia. If that fails, the \
             kernel log (dmesg) says why: often there is no module for the running kernel, or \
             Secure Boot refuses an unsigned one"
        }
    };
    Finding::problem(GROUP, ID, CHECKED, seen).why("without it no program can use a GPU").fix(fix)
}
