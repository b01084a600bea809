//! The NVML library, and whether NVML initialises.

use crate::doctor::facts::{DriverAnswer, DriverProbe, Facts, NvmlProblem};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Driver;
const LIBRARY: &str = "the NVML library (libnvidia-ml.so.1)";
const NVML: &str = "NVML";

/// Return codes (nvml.h, nvmlReturn_t): the caller has no permission; the driver is not loaded;
/// library and kernel module are of different versions.
const NO_PERMISSION: u32 = 4;
const DRIVER_NOT_LOADED: u32 = 9;
const LIBRARY_MISMATCH: u32 = 18;

const HANGS: &str = "a driver that hangs answers no program: no GPU of the node can be trusted";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    match &facts.driver {
        DriverProbe::Answered(answer) => library(facts, answer),
        DriverProbe::Died { how, stderr } => vec![
            problem(format!("the process that asked it ended: {how} {stderr}"))
                .why("a library that ends the process ends the plugin as well")
                .fix(
                    "install the driver's libraries again, all of one version; see `nvidia-smi` on \
                     the node",
                ),
        ],
        DriverProbe::TimedOut(after) => vec![
            problem(format!("no answer within {} s", after.as_secs()))
                .why(HANGS)
                .fix("look for NVRM and Xid in the kernel log (dmesg), then reboot the node"),
        ],
        DriverProbe::NotStarted(error) => vec![
            unknown(format!("no process to ask it could be started: {error}"))
                .fix("run the doctor where it can start a second process: /proc must be mounted"),
        ],
    }
}

fn problem(seen: impl Into<String>) -> Finding {
    Finding::problem(GROUP, "driver.nvml", NVML, seen)
}

fn unknown(seen: impl Into<String>) -> Finding {
    Finding::unknown(GROUP, "driver.nvml", NVML, seen)
}

fn library(facts: &Facts, answer: &DriverAnswer) -> Vec<Finding> {
    const ID: &str = "driver.library";
    let nvml = answer.problem.as_ref().map(|problem| of_problem(answer, problem));
    match (&answer.library, &answer.problem) {
        (None, Some(NvmlProblem::NoLibrary { named })) => vec![not_found(facts, answer, *named)],
        (None, _) => nvml.into_iter().collect(),
        (Some(library), _) => {
            let by = if library.contains('/') { "" } else { ", by the loader's search path" };
            let seen = format!("loaded from {library}{by}");
            vec![
                Finding::ok(GROUP, ID, LIBRARY, seen),
                nvml.unwrap_or_else(|| Finding::ok(GROUP, "driver.nvml", NVML, versions(answer))),
            ]
        }
    }
}

fn not_found(facts: &Facts, answer: &DriverAnswer, named: bool) -> Finding {
    // A place may be a list in braces without spaces: a line may break after each comma.
    let tried = answer.tried.iter();
    let tried: Vec<String> =
        tried.map(|(place, outcome)| format!("{} ({outcome})", place.replace(',', ", "))).collect();
    let fix = match named {
        true => {
            "name the libnvidia-ml.so.1 of the loaded driver with --nvml-library, or leave the \
                 option out"
                .to_owned()
        }
        false => format!(
            "mount the driver's root at {} (flag --driver-root-ctr-path, environment \
             DRIVER_ROOT_CTR_PATH), start this container with the NVIDIA runtime, or name the \
             library with --nvml-library",
            facts.settings.driver_root.display()
        ),
    };
    let seen = format!("not found; tried {}", tried.join(", "));
    Finding::problem(GROUP, "driver.library", LIBRARY, seen)
        .why("the plugin finds GPUs through it alone; it belongs to the driver, not to the image")
        .fix(fix)
}

fn versions(answer: &DriverAnswer) -> String {
    let known = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    format!(
        "answers: driver {}, library {}, CUDA up to {}",
        known(&answer.driver_version),
        known(&answer.library_version),
        known(&answer.cuda)
    )
}

fn of_problem(answer: &DriverAnswer, nvml: &NvmlProblem) -> Finding {
    match nvml {
        NvmlProblem::NoLibrary { .. } => problem("no library"),
        NvmlProblem::ReturnCode { code, text } => {
            let (why, fix) = of_return_code(*code, answer.sees_control_node);
            problem(text.clone()).why(why).fix(fix)
        }
        NvmlProblem::TimedOut(call) => problem(format!("{call} does not return")).why(HANGS).fix(
            "look for NVRM and Xid in the kernel log (dmesg), then reboot the node. A driver that \
             is just starting takes long without persistence mode: run nvidia-persistenced, and \
             try again",
        ),
        NvmlProblem::Failed(error) => unknown(error.clone()).fix("run the doctor again"),
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
