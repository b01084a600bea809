//! GPUs on the bus, the kernel module, the device nodes, and the NVML library.

use std::collections::BTreeSet;

use super::facts::{Asked, DeviceNode, Facts, Module, Opening, PciGpu, Survey, Trouble};
use super::finding::{Finding, Group};

const GROUP: Group = Group::Driver;
const MODULE: &str = "NVIDIA's kernel module";
const LIBRARY: &str = "the NVML library (libnvidia-ml.so.1)";
const NVML: &str = "NVML";

/// What stands for a version that is not told.
const UNKNOWN: &str = "unknown";

/// The driver is not loaded; library and kernel module are not of one version (nvml.h,
/// nvmlReturn_t).
const DRIVER_NOT_LOADED: u32 = 9;
const LIBRARY_MISMATCH: u32 = 18;
const NO_PERMISSION: u32 = 4;

/// errno values, the same on every architecture that Linux runs on with NVIDIA's driver.
const EPERM: i32 = 1;
const EIO: i32 = 5;
const ENXIO: i32 = 6;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![bus(facts), module(facts)];
    match &facts.driver {
        Asked::Answered(survey) => {
            findings.extend(library(facts, survey));
            findings.extend(versions(&facts.module, survey));
            findings.extend(nodes(survey));
        }
        Asked::Died { how, words } => findings.push(
            Finding::problem(
                GROUP,
                "driver.nvml",
                NVML,
                format!("the process that asked it ended: {how} {words}"),
            )
            .why("a library that ends the process ends the plugin as well")
            .fix(
                "install the driver's libraries anew, all of one version; see `nvidia-smi` on the \
                    node",
            ),
        ),
        Asked::Silent(after) => findings.push(
            Finding::problem(
                GROUP,
                "driver.nvml",
                NVML,
                format!("no answer within {} s", after.as_secs()),
            )
            .why("a driver that hangs answers nobody: no GPU of the node can be trusted")
            .fix("look for NVRM and Xid in the kernel log (dmesg), then reboot the node"),
        ),
        Asked::NotStarted(why) => findings.push(
            Finding::unknown(
                GROUP,
                "driver.nvml",
                NVML,
                format!("no process to ask it could be started: {why}"),
            )
            .fix("run the doctor where it can start itself once more: /proc has to be mounted"),
        ),
    }
    findings
}

fn bus(facts: &Facts) -> Finding {
    const ID: &str = "driver.bus";
    const CHECKED: &str = "GPUs on the PCI bus";
    let gpus = match &facts.bus {
        Ok(gpus) => gpus,
        Err(error) => {
            return Finding::unknown(GROUP, ID, CHECKED, format!("sysfs cannot be read: {error}"))
                .fix("mount sysfs and name its place with --sysfs-root");
        }
    };
    if gpus.is_empty() {
        let seen = "none: no PCI device has vendor 0x10de and class 03xx";
        return match asked(facts) {
            // Systems whose GPU is no PCI device (Tegra, WSL) have none there and all the same
            // some.
            Some(survey) if !survey.gpus.is_empty() => Finding::ok(GROUP, ID, CHECKED, seen),
            _ => Finding::problem(GROUP, ID, CHECKED, seen)
                .why("what the kernel does not see on the bus, no driver can serve")
                .fix(
                    "on a node without GPUs: keep the plugin off it. Else look at the firmware's \
                     PCIe settings, at the slot and the power, and in a virtual machine at what is \
                     passed through to it",
                ),
        };
    }
    let taken: Vec<String> = gpus
        .iter()
        .filter(|(_, gpu)| gpu.driver.as_deref().is_some_and(|driver| driver != "nvidia"))
        .map(|(at, gpu)| format!("{at} by {}", gpu.driver.as_deref().unwrap_or_default()))
        .collect();
    let count = count(gpus.len(), "GPU");
    if taken.is_empty() {
        return Finding::ok(GROUP, ID, CHECKED, count);
    }
    let fix = if gpus.values().any(|gpu| gpu.driver.as_deref() == Some("nouveau")) {
        "keep nouveau away (a file in /etc/modprobe.d with `blacklist nouveau` and `options \
         nouveau modeset=0`, then rebuild the initramfs), and reboot"
    } else {
        "if they are for virtual machines, nothing; else bind them to the driver nvidia again"
    };
    let (seen, why) =
        (format!("{count}; taken by another kernel driver: {}", taken.join(", ")), OTHER_DRIVER);
    match taken.len() == gpus.len() {
        true => Finding::problem(GROUP, ID, CHECKED, seen),
        false => Finding::warning(GROUP, ID, CHECKED, seen),
    }
    .why(why)
    .fix(fix)
}

const OTHER_DRIVER: &str = "NVIDIA's driver cannot have a GPU that another driver has";

fn module(facts: &Facts) -> Finding {
    const ID: &str = "driver.module";
    let Module { version, nvidia, nouveau, uvm, .. } = &facts.module;
    match version {
        Some(version) if *uvm || !*nvidia => {
            Finding::ok(GROUP, ID, MODULE, format!("loaded, version {version}"))
        }
        Some(version) => Finding::warning(
            GROUP,
            ID,
            MODULE,
            format!("version {version} is loaded, and the module nvidia_uvm is not"),
        )
        .why("CUDA needs it; it is loaded by NVIDIA's tools when they first need it, if they may")
        .fix("modprobe nvidia-uvm on the node"),
        None if answers(facts) => Finding::unknown(
            GROUP,
            ID,
            MODULE,
            "no /proc/driver/nvidia/version to be seen here, although NVML answers",
        )
        .fix("name the place of the host's procfs with --proc-root"),
        None => {
            let seen = match (nvidia, nouveau) {
                (true, _) => "sysfs has the module, and there is no /proc/driver/nvidia/version",
                (false, true) => "not loaded; nouveau is loaded in its place",
                (false, false) => "not loaded: no /proc/driver/nvidia/version",
            };
            let fix = if *nouveau {
                "keep nouveau away (blacklist it in /etc/modprobe.d, rebuild the initramfs, \
                    reboot), then modprobe nvidia"
            } else {
                "install NVIDIA's driver on the node, or load it: modprobe nvidia. If that fails, \
                 the kernel log (dmesg) says why: often there is no module for the running kernel, \
                 or Secure Boot refuses an unsigned one"
            };
            Finding::problem(GROUP, ID, MODULE, seen)
                .why("without it there is no GPU for anybody")
                .fix(fix)
        }
    }
}

fn library(facts: &Facts, survey: &Survey) -> Vec<Finding> {
    const ID: &str = "driver.library";
    // Many places in one pair of braces: a line may end after each.
    let place =
        |(place, outcome): &(String, String)| format!("{} ({outcome})", place.replace(',', ", "));
    let tried = survey.tried.iter().map(place).collect::<Vec<_>>();
    let root = facts.settings.driver_root.display();
    let Some(library) = &survey.library else {
        return match &survey.trouble {
            Some(Trouble::NoLibrary(named)) => {
                let fix = if *named {
                    "name the libnvidia-ml.so.1 of the driver that is loaded with --nvml-library, \
                        or leave that away"
                        .to_owned()
                } else {
                    format!(
                        "mount the driver's root at {root} (flag --driver-root-ctr-path, \
                         environment DRIVER_ROOT_CTR_PATH), start this container with the NVIDIA \
                         runtime, or name the library with --nvml-library"
                    )
                };
                let seen = format!("not found; tried {}", tried.join(", "));
                vec![
                    Finding::problem(GROUP, ID, LIBRARY, seen)
                        .why(
                            "the plugin learns of GPUs from it alone; it belongs to the driver, \
                            not to the image",
                        )
                        .fix(fix),
                ]
            }
            Some(trouble) => vec![trouble_of(survey, trouble)],
            None => Vec::new(),
        };
    };
    let whence = if library.contains('/') { "" } else { ", by the loader's search path" };
    let mut findings =
        vec![Finding::ok(GROUP, ID, LIBRARY, format!("loaded from {library}{whence}"))];
    match &survey.trouble {
        Some(trouble) => findings.push(trouble_of(survey, trouble)),
        None => findings.push(Finding::ok(GROUP, "driver.nvml", NVML, up(survey))),
    }
    findings
}

fn up(survey: &Survey) -> String {
    let unknown = || UNKNOWN.to_owned();
    let driver = survey.driver_version.clone().unwrap_or_else(unknown);
    let library = survey.library_version.clone().unwrap_or_else(unknown);
    let cuda = survey.cuda.clone().unwrap_or_else(unknown);
    format!("answers: driver {driver}, library {library}, CUDA up to {cuda}")
}

fn trouble_of(survey: &Survey, trouble: &Trouble) -> Finding {
    let problem = |seen: String| Finding::problem(GROUP, "driver.nvml", NVML, seen);
    match trouble {
        Trouble::NoLibrary(_) => problem("no library".to_owned()),
        Trouble::Code { code: DRIVER_NOT_LOADED, text } if !survey.sees_control_node => problem(
            text.clone(),
        )
        .why("this container does not see /dev/nvidiactl, by which the library finds the driver")
        .fix(
            "load the driver (modprobe nvidia; nvidia-modprobe makes the device files), and run \
                 the container privileged or with the NVIDIA runtime",
        ),
        Trouble::Code { code: DRIVER_NOT_LOADED | NO_PERMISSION, text } => {
            problem(text.clone()).why("the library does not get through to the kernel driver").fix(
                "load the driver (modprobe nvidia), and run the container privileged or with the \
                NVIDIA runtime",
            )
        }
        Trouble::Code { code: LIBRARY_MISMATCH, text } => problem(text.clone())
            .why(
                "the driver was upgraded under a loaded module, or libraries of two drivers are \
                installed",
            )
            .fix(
                "reboot the node, or unload the old module (stop all that uses GPUs, then rmmod) \
                and load the new one",
            ),
        Trouble::Code { text, .. } => problem(text.clone())
            .why("the driver refuses to serve")
            .fix("`nvidia-smi` on the node and the kernel log (dmesg, NVRM) tell more"),
        Trouble::Silent(call) => problem(format!("{call} does not return"))
            .why("a driver that hangs answers nobody: no GPU of the node can be trusted")
            .fix(
                "look for NVRM and Xid in the kernel log (dmesg), then reboot the node. A driver \
                 that just starts takes long without persistence mode: run nvidia-persistenced, \
                 and try again",
            ),
        Trouble::Failed(why) => {
            Finding::unknown(GROUP, "driver.nvml", NVML, why.clone()).fix("run the doctor again")
        }
    }
}

/// The module's version beside the library's, from two sources, so that a mismatch shows that NVML
/// does not tell.
fn versions(module: &Module, survey: &Survey) -> Option<Finding> {
    const ID: &str = "driver.versions";
    const CHECKED: &str = "one version of module and library";
    let module = module.version.as_deref().filter(|version| *version != UNKNOWN)?;
    let library =
        survey.library_version.as_deref().map(of_driver).or(survey.driver_version.as_deref())?;
    Some(if module == library {
        Finding::ok(GROUP, ID, CHECKED, format!("{module} and {library}"))
    } else {
        Finding::problem(GROUP, ID, CHECKED, format!("the module is {module}, the library \
            {library}"))
            .why("programs in containers get the library of one driver and the kernel has the module of another")
            .fix("reboot the node, or unload the old module and load the new one; install no \
                second driver beside it")
    })
}

/// NVML counts itself with CUDA's major version before the driver's: "13.580.95.05".
fn of_driver(library: &str) -> &str {
    match library.split_once('.') {
        Some((cuda, driver)) if cuda.len() <= 2 && driver.contains('.') => driver,
        _ => library,
    }
}

fn nodes(survey: &Survey) -> Vec<Finding> {
    const ID: &str = "driver.nodes";
    const CHECKED: &str = "device nodes";
    let bad: Vec<&DeviceNode> =
        survey.nodes.iter().filter(|node| node.opening != Opening::Open).collect();
    if bad.is_empty() {
        return match survey.nodes.is_empty() {
            true => Vec::new(),
            false => {
                vec![Finding::ok(
                    GROUP,
                    ID,
                    CHECKED,
                    format!("{} can be opened", count(survey.nodes.len(), "node")),
                )]
            }
        };
    }
    bad.into_iter().map(|node| bad_node(ID, CHECKED, node)).collect()
}

fn bad_node(id: &'static str, checked: &str, node: &DeviceNode) -> Finding {
    const MISSING: &str = "nvidia-modprobe -c 0 -u on the node makes them, and `nvidia-smi` does \
        it by the way; in a container mount the host's /dev";
    let path = &node.path;
    let problem = |seen: String| Finding::problem(GROUP, id, checked, seen);
    let why = "containers reach the GPU through it, and so does NVML";
    match &node.opening {
        Opening::Open => Finding::ok(GROUP, id, checked, path.clone()),
        // Made by the first program that uses CUDA.
        Opening::Missing if path.contains("nvidia-uvm") => {
            Finding::warning(GROUP, id, checked, format!("{path} is not there"))
                .why("CUDA needs it")
                .fix(MISSING)
        }
        Opening::Missing => problem(format!("{path} is not there")).why(why).fix(MISSING),
        Opening::Silent => problem(format!("opening {path} does not return"))
            .why("the driver hangs")
            .fix("look for NVRM and Xid in the kernel log (dmesg), then reboot the node"),
        Opening::Refused { code: EPERM | EACCES, text } => {
            problem(format!("{path}: {text}")).why(why).fix(
                "the container's device cgroup or the file's mode forbids it: run the container \
             privileged or with the NVIDIA runtime. If it could before, a `systemctl \
             daemon-reload` took the device away: start the pod again",
            )
        }
        Opening::Refused { code: ENXIO | ENODEV, text } => problem(format!("{path}: {text}"))
            .why("the file is there, and no driver behind it")
            .fix(
                "load the driver (modprobe nvidia, modprobe nvidia-uvm); a file that was left \
                behind does no harm",
            ),
        Opening::Refused { code: EIO, text } => {
            problem(format!("{path}: {text}")).why("the driver cannot initialise this GPU").fix(
                "the kernel log (dmesg, NVRM: RmInitAdapter failed) says why; reset the GPU or \
                reboot the node",
            )
        }
        Opening::Refused { text, .. } => problem(format!("{path}: {text}"))
            .why(why)
            .fix("`ls -l /dev/nvidia*` on the node; nvidia-modprobe makes the files anew"),
    }
}

fn asked(facts: &Facts) -> Option<&Survey> {
    match &facts.driver {
        Asked::Answered(survey) => Some(survey),
        _ => None,
    }
}

fn answers(facts: &Facts) -> bool {
    asked(facts).is_some_and(|survey| survey.trouble.is_none() && survey.library.is_some())
}

/// "1 GPU", "2 GPUs".
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// GPUs on the bus that NVML does not list, with the driver that has them.
pub(super) fn unlisted<'f>(facts: &'f Facts, survey: &Survey) -> Vec<(&'f str, &'f PciGpu)> {
    let listed: BTreeSet<&str> = survey.gpus.iter().filter_map(|gpu| gpu.bus.as_deref()).collect();
    let gpus = facts.bus.iter().flatten();
    gpus.map(|(at, gpu)| (at.as_str(), gpu)).filter(|(at, _)| !listed.contains(at)).collect()
}
