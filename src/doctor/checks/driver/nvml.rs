//! The NVML library, and whether NVML initialises.

use crate::doctor::facts::{DriverAnswer, DriverProbe, Facts, NvmlProblem, Platform};
use crate::doctor::finding::{Check, Finding, Group};

const LIBRARY: Check =
    Check::new(Group::Driver, "driver.library", "the NVML library (libnvidia-ml.so.1)");
const NVML: Check = Check::new(Group::Driver, "driver.nvml", "NVML");

/// Return codes (nvml.h, nvmlReturn_t): the caller has no permission; the driver is not loaded;
/// library and kernel module are of different versions.
const NO_PERMISSION: u32 = 4;
const DRIVER_NOT_LOADED: u32 = 9;
const LIBRARY_MISMATCH: u32 = 18;

/// How one version of module and library comes to be in use.
pub(super) const RELOAD: &str = "drain the node (kubectl drain NODE) and reboot it; or end all \
                                 that uses GPUs and run `rmmod nvidia_uvm nvidia_drm \
                                 nvidia_modeset nvidia && modprobe nvidia nvidia-uvm`. Install no \
                                 second driver beside it";
const HANGS: &str = "a driver that hangs answers no program: no GPU of the node can be trusted";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.driver {
        DriverProbe::Answered(answer) => return answered(facts, answer),
        DriverProbe::Died { how, stderr } => NVML
            .problem(format!("the process that asked it ended: {how} {stderr}"))
            .why("a library that ends the process ends the plugin as well")
            .fix(
                "install the packages of the driver again, all of one version, and run \
                 `nvidia-smi` on the node, which has to end well too",
            ),
        DriverProbe::TimedOut(after) => {
            NVML.problem(format!("no answer within {} s", after.as_secs())).why(HANGS).fix(format!(
                "{}; {}. To wait for longer: --driver-timeout=60",
                facts.platform.driver_log(),
                facts.platform.restart()
            ))
        }
        DriverProbe::Released => NVML
            .unknown("released by the running plugin, so that a GPU can be reset: it was not asked")
            .why("a program that opens the driver is in the way of a reset")
            .fix(
                "run the doctor again when NVML is taken up again: `gpu-device-plugin status` \
                 says when",
            ),
        DriverProbe::NotStarted(error) => NVML
            .unknown(format!("no process to ask it could be started: {error}"))
            .fix("run the doctor where it can start a second process: /proc must be mounted"),
    }]
}

fn answered(facts: &Facts, answer: &DriverAnswer) -> Vec<Finding> {
    let library = answer.library.as_ref().map(|library| {
        let by = if library.contains('/') { "" } else { ", by the loader's search path" };
        LIBRARY.ok(format!("loaded from {library}{by}"))
    });
    let nvml = match &answer.problem {
        Some(NvmlProblem::NoLibrary { named }) if library.is_none() => {
            Some(not_found(facts, answer, *named))
        }
        Some(problem) => Some(not_usable(facts, answer, problem)),
        None => library.is_some().then(|| NVML.ok(versions(answer))),
    };
    library.into_iter().chain(nvml).collect()
}

fn not_found(facts: &Facts, answer: &DriverAnswer, named: bool) -> Finding {
    // A place may be a list in braces without spaces: a line may break after each comma.
    let tried = answer.tried.iter();
    let tried: Vec<String> =
        tried.map(|(place, outcome)| format!("{} ({outcome})", place.replace(',', ", "))).collect();
    let fix = if named {
        "name the libnvidia-ml.so.1 of the loaded driver with --nvml-library, or leave the option \
         out"
        .to_owned()
    } else {
        elsewhere(facts)
    };
    LIBRARY
        .problem(format!("not found; tried {}", tried.join(", ")))
        .why("the plugin finds GPUs through it alone; it belongs to the driver, not to the image")
        .fix(fix)
}

/// Where the library may be that was not found.
fn elsewhere(facts: &Facts) -> String {
    let root = facts.settings.driver_root.display();
    match facts.platform {
        Platform::Pci => format!(
            "mount the driver's root at {root} (flag --driver-root-ctr-path, environment \
             DRIVER_ROOT_CTR_PATH), start this container with the NVIDIA runtime, or name the \
             library with --nvml-library"
        ),
        Platform::Tegra(_) => format!(
            "if this Jetson has NVML (JetPack 7, as on Thor), mount the host's root at {root}; if \
             it has none, run NVIDIA's device plugin on it (flags.deviceDiscoveryStrategy: tegra)"
        ),
        Platform::Wsl(_) => format!(
            "mount the host's /usr/lib/wsl at {root}/usr/lib/wsl; if it is empty there, install \
             NVIDIA's driver in Windows, then run `wsl --shutdown`"
        ),
    }
}

fn versions(answer: &DriverAnswer) -> String {
    let versions = [&answer.driver_version, &answer.library_version, &answer.cuda];
    let [driver, library, cuda] = versions.map(|known| known.as_deref().unwrap_or("unknown"));
    format!("answers: driver {driver}, library {library}, CUDA up to {cuda}")
}

fn not_usable(facts: &Facts, answer: &DriverAnswer, problem: &NvmlProblem) -> Finding {
    let platform = &facts.platform;
    match problem {
        NvmlProblem::NoLibrary { .. } => NVML.problem("no library").fix(elsewhere(facts)),
        NvmlProblem::ReturnCode { code, text } => {
            let (why, fix) = of_return_code(*code, answer.sees_control_node, platform);
            NVML.problem(text).why(why).fix(fix)
        }
        NvmlProblem::TimedOut(call) if call.starts_with("nvmlInit") => NVML
            .unknown(format!("{call} has not returned yet"))
            .why(
                "the driver hangs; or it initialises its GPUs, which takes long without \
                 persistence mode",
            )
            .fix(format!(
                "run the doctor again with --driver-timeout=60; `systemctl enable --now \
                 nvidia-persistenced` keeps the driver started. If it still does not return: {}; \
                 {}",
                platform.driver_log(),
                platform.restart()
            )),
        NvmlProblem::TimedOut(call) => NVML
            .problem(format!("{call} does not return"))
            .why(HANGS)
            .fix(format!("{}; {}", platform.driver_log(), platform.restart())),
        NvmlProblem::Failed(error) => NVML.unknown(error).fix("run the doctor again"),
    }
}

/// Why a return code matters, and what fixes it. The texts in quotes are those of `nvidia-smi`.
fn of_return_code(
    code: u32,
    sees_control_node: bool,
    platform: &Platform,
) -> (&'static str, String) {
    const LOAD: &str = "load the driver on the node (`modprobe nvidia && nvidia-modprobe -c 0 \
                        -u`), and run this container privileged or with the NVIDIA runtime";
    match code {
        DRIVER_NOT_LOADED if matches!(platform, Platform::Wsl(_)) => (
            "the library does not get through to the driver in Windows",
            "mount /dev/dxg into this container; install NVIDIA's driver in Windows and run `wsl \
             --shutdown` there"
                .to_owned(),
        ),
        DRIVER_NOT_LOADED if !sees_control_node => (
            "this container does not see /dev/nvidiactl, through which the library reaches the \
             driver",
            LOAD.to_owned(),
        ),
        DRIVER_NOT_LOADED => {
            ("the library does not get through to the kernel driver", LOAD.to_owned())
        }
        NO_PERMISSION => (
            "the driver refuses this process (\"Insufficient Permissions\"): its user or its \
             device cgroup may not use the device nodes",
            "run the container as root, and privileged or with the NVIDIA runtime; `ls -l \
             /dev/nvidia*` on the node shows whose the nodes are"
                .to_owned(),
        ),
        LIBRARY_MISMATCH => (
            "\"Driver/library version mismatch\": the driver was upgraded under a loaded module, \
             or libraries of two drivers are installed",
            RELOAD.to_owned(),
        ),
        _ => (
            "the driver refuses to serve",
            format!("`nvidia-smi` on the node has to work first; {}", platform.driver_log()),
        ),
    }
}
