//! The PCI bus, the kernel module, NVML and the device nodes.

mod device_nodes;
mod nvml;

use std::collections::BTreeMap;

use crate::doctor::facts::{Facts, KernelModule, Platform};
use crate::doctor::finding::{Check, Finding, Group, Level, plural};

const PLATFORM: Check = Check::new(Group::Driver, "driver.platform", "the kind of system");
const BUS: Check = Check::new(Group::Driver, "driver.bus", "GPUs on the PCI bus");
const MODULE: Check = Check::new(Group::Driver, "driver.module", "NVIDIA's kernel module");
const VERSIONS: Check =
    Check::new(Group::Driver, "driver.versions", "one version of module and library");

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = platform(&facts.platform).into_iter().collect();
    findings.extend([bus(facts), module(facts)]);
    findings.extend(nvml::check(facts));
    findings.extend(versions(facts));
    findings.extend(device_nodes::check(facts));
    findings
}

/// A system whose GPU is no PCI device, and what follows from that.
fn platform(platform: &Platform) -> Option<Finding> {
    Some(match platform {
        Platform::Pci => return None,
        Platform::Tegra(sign) => PLATFORM
            .warning(format!("a Tegra system such as a Jetson: {sign}"))
            .why(
                "its GPU is part of the chip, and before JetPack 7 its driver has no NVML, through \
                 which alone this plugin finds GPUs",
            )
            .fix(
                "where NVML is not found below: run NVIDIA's device plugin on this node \
                 (flags.deviceDiscoveryStrategy: tegra), and keep this one off it by a node \
                 selector",
            ),
        Platform::Wsl(sign) => PLATFORM
            .warning(format!("Windows Subsystem for Linux: {sign}"))
            .why(
                "the driver is that of Windows: all GPUs are behind the node /dev/dxg, and NVML \
                 has neither events nor MIG there; this plugin was not tried on it",
            )
            .fix(
                "mount /dev/dxg and /usr/lib/wsl into the plugin's container; update the driver in \
                 Windows, then run `wsl --update` and `wsl --shutdown` there",
            ),
    })
}

/// GPUs on the PCI bus, and the kernel driver that is bound to each.
fn bus(facts: &Facts) -> Finding {
    match &facts.bus {
        Err(error) => BUS
            .unknown(format!("sysfs cannot be read: {error}"))
            .fix("mount sysfs and name its place with --sysfs-root"),
        Ok(gpus) if gpus.is_empty() => empty_bus(facts),
        Ok(gpus) => bound_drivers(gpus),
    }
}

fn empty_bus(facts: &Facts) -> Finding {
    let seen = "none: no PCI device has vendor 0x10de and class 03xx";
    if facts.platform != Platform::Pci {
        return BUS.ok("none, as on every system of this kind");
    }
    // The GPU of some systems is not a PCI device.
    if facts.driver_answer().is_some_and(|answer| !answer.gpus.is_empty()) {
        return BUS.ok(seen);
    }
    BUS.problem(seen)
        .why("a GPU that the kernel does not see on the bus cannot be used by any driver")
        .fix(
            "on a node without GPUs: do not run the plugin on it. Otherwise check the firmware's \
             PCIe settings, the slot and the power, and in a virtual machine what is passed \
             through to it",
        )
}

fn bound_drivers(gpus: &BTreeMap<String, Option<String>>) -> Finding {
    let bound = gpus.iter().filter_map(|(at, driver)| Some((at, driver.as_deref()?)));
    let taken = bound.filter(|(_, driver)| *driver != "nvidia");
    let taken: Vec<String> = taken.map(|(at, driver)| format!("{at} by {driver}")).collect();
    let count = plural(gpus.len(), "GPU");
    if taken.is_empty() {
        return BUS.ok(count);
    }
    let level = if taken.len() == gpus.len() { Level::Problem } else { Level::Warning };
    let fix = if gpus.values().flatten().any(|driver| driver == "nouveau") {
        "keep nouveau from loading (a file in /etc/modprobe.d with `blacklist nouveau` and \
         `options nouveau modeset=0`, then rebuild the initramfs), and reboot"
    } else {
        "if they are for virtual machines, nothing; otherwise bind them to the driver nvidia again"
    };
    BUS.finding(level, format!("{count}; taken by another kernel driver: {}", taken.join(", ")))
        .why("NVIDIA's driver cannot use a GPU that another driver is bound to")
        .fix(fix)
}

fn module(facts: &Facts) -> Finding {
    let module = &facts.module;
    match &module.version {
        Some(version) if module.uvm || !module.nvidia => {
            MODULE.ok(format!("loaded, version {version}"))
        }
        Some(version) => MODULE
            .warning(format!("version {version} is loaded, and the module nvidia_uvm is not"))
            .why(
                "CUDA needs it; NVIDIA's tools load it when they first need it, if they are \
                 allowed to",
            )
            .fix("modprobe nvidia-uvm on the node"),
        None if facts.initialised_driver().is_some_and(|answer| answer.library.is_some()) => MODULE
            .unknown("there is no /proc/driver/nvidia/version here, although NVML answers")
            .fix("name the place of the host's procfs with --proc-root"),
        None => match facts.platform {
            Platform::Wsl(_) => MODULE.ok("none: the driver is in Windows"),
            Platform::Tegra(_) => MODULE.ok("none of a PCI GPU, as on every system of this kind"),
            Platform::Pci => not_loaded(module),
        },
    }
}

fn not_loaded(module: &KernelModule) -> Finding {
    let seen = match (module.nvidia, module.nouveau) {
        (true, _) => "sysfs has the module, and there is no /proc/driver/nvidia/version",
        (false, true) => "not loaded; nouveau is loaded in its place",
        (false, false) => "not loaded: no /proc/driver/nvidia/version",
    };
    let fix = if module.nouveau {
        "keep nouveau from loading (blacklist it in /etc/modprobe.d, rebuild the initramfs, \
         reboot), then modprobe nvidia"
    } else {
        "install NVIDIA's driver on the node, or load it: modprobe nvidia. If that fails, the \
         kernel log (dmesg) says why: often there is no module for the running kernel, or Secure \
         Boot refuses an unsigned one"
    };
    MODULE.problem(seen).why("without it no program can use a GPU").fix(fix)
}

/// The kernel module's version against the library's, from two sources: NVML does not report every
/// mismatch itself.
fn versions(facts: &Facts) -> Option<Finding> {
    let answer = facts.driver_answer()?;
    let module = facts.module.version.as_deref().filter(|version| *version != "unknown")?;
    let library = answer.library_version.as_deref().map(driver_version);
    let library = library.or(answer.driver_version.as_deref())?;
    if module == library {
        return Some(VERSIONS.ok(format!("{module} and {library}")));
    }
    let finding = VERSIONS
        .problem(format!(
            "the module is {module}, the library {library} (Driver/library version mismatch)"
        ))
        .why(
            "programs in containers get the library of one driver while the kernel has the module \
             of another",
        )
        .fix(nvml::RELOAD);
    Some(finding)
}

/// NVML puts CUDA's major version before the driver's: "13.580.95.05".
fn driver_version(library: &str) -> &str {
    match library.split_once('.') {
        Some((cuda, driver)) if cuda.len() <= 2 && driver.contains('.') => driver,
        _ => library,
    }
}
