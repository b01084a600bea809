//! The NVML library, and whether NVML initialises.

use crate::doctor::facts::{DriverAnswer, DriverProbe, Facts, NvmlProblem};
use crate::doctor::finding::{Check, Finding, Group};

const LIBRARY: Check =
    Check::new(Group::Driver, "driver.library", "the NVML library (libnvidia-ml.so.1)");
const NVML: Check = Check::new(Group::Driver, "driver.nvml", "NVML");

/// Return codes (nvml.h, nvmlReturn_t): the caller has no permission; the driver is not loaded;
/// library and kernel module are of different versions.
const NO_PERMISSION: u32 = 4;
const DRIVER_NOT_LOADED: u32 = 9;
const LIBRARY_MISMATCH: u32 = 18;

const HANGS: &str = "a driver that hangs answers no program: no GPU of the node can be trusted";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![match &facts.driver {
        DriverProbe::Answered(answer) => return answered(facts, answer),
        DriverProbe::Died { how, stderr } => NVML
            .problem(format!("the process that asked it ended: {how} {stderr}"))
            .why("a library that ends the process ends the plugin as well")
            .fix(
                "install the driver's libraries again, all of one version; see `nvidia-smi` on the \
                 node",
            ),
        DriverProbe::TimedOut(after) => {
            NVML.problem(format!("no answer within {} s", after.as_secs())).why(HANGS).fix(
                "look for NVRM and Xid in the kernel log (dmesg), then reboot the node. To wait \
                 for longer: --driver-timeout",
            )
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
        Some(problem) => Some(not_usable(answer, problem)),
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
        format!(
            "mount the driver's root at {} (flag --driver-root-ctr-path, environment \
             DRIVER_ROOT_CTR_PATH), start this container with the NVIDIA runtime, or name the \
             library with --nvml-library",
            facts.settings.driver_root.display()
        )
    };
    LIBRARY
        .problem(format!("not found; tried {}", tried.join(", ")))
        .why("the plugin finds GPUs through it alone; it belongs to the driver, not to the image")
        .fix(fix)
}

fn versions(answer: &DriverAnswer) -> String {
    let versions = [&answer.driver_version, &answer.library_version, &answer.cuda];
    let [driver, library, cuda] = versions.map(|known| known.as_deref().unwrap_or("unknown"));
    format!("answers: driver {driver}, library {library}, CUDA up to {cuda}")
}

fn not_usable(answer: &DriverAnswer, problem: &NvmlProblem) -> Finding {
    match problem {
        NvmlProblem::NoLibrary { .. } => NVML.problem("no library"),
        NvmlProblem::ReturnCode { code, text } => {
            let (why, fix) = of_return_code(*code, answer.sees_control_node);
            NVML.problem(text).why(why).fix(fix)
        }
        NvmlProblem::TimedOut(call) if call.starts_with("nvmlInit") => NVML
            .unknown(format!("{call} has not returned yet"))
            .why(
                "the driver hangs; or it initialises its GPUs, which takes long without \
                 persistence mode",
            )
            .fix(
                "run the doctor again with --driver-timeout=60s, or run nvidia-persistenced. If it \
                 still does not return: look for NVRM and Xid in the kernel log (dmesg), then \
                 reboot the node",
            ),
        NvmlProblem::TimedOut(call) => NVML
            .problem(format!("{call} does not return"))
            .why(HANGS)
            .fix("look for NVRM and Xid in the kernel log (dmesg), then reboot the node"),
        NvmlProblem::Failed(error) => NVML.unknown(error).fix("run the doctor again"),
    }
}

/// Why a return code matters, and what fixes it.
fn of_return_code(code: u32, sees_control_node: bool) -> (&'static str, &'static str) {
    match code {
        DRIVER_NOT_LOADED if !sees_control_node => (
            "this container does not see /dev/nvidiactl, through which the library reaches the \
             driver",
            "load the driver (modprobe nvidia; nvidia-modprobe creates the device files), and run \
             the container privileged or with the NVIDIA runtime",
        ),
        DRIVER_NOT_LOADED | NO_PERMISSION => (
            "the library does not get through to the kernel driver",
            "load the driver (modprobe nvidia), and run the container privileged or with the \
             NVIDIA runtime",
        ),
        LIBRARY_MISMATCH => (
            "the driver was upgraded under a loaded module, or libraries of two drivers are \
             installed",
            "reboot the node, or unload the old module (stop all that uses GPUs, then rmmod) and \
             load the new one",
        ),
        _ => (
            "the driver refuses to serve",
            "`nvidia-smi` on the node and the kernel log (dmesg, NVRM) have the details",
        ),
    }
}
