//! Whether the device nodes can be opened.

use crate::doctor::facts::{DeviceNode, Facts, OpenResult, Platform};
use crate::doctor::finding::{Check, Finding, Group, plural};

const NODES: Check = Check::new(Group::Driver, "driver.nodes", "device nodes");

/// errno values, the same on every architecture that Linux runs on with NVIDIA's driver.
const EPERM: i32 = 1;
const EIO: i32 = 5;
const ENXIO: i32 = 6;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;

const USE: &str = "containers reach the GPU through it, and so does NVML";
const CREATE: &str = "nvidia-modprobe -c 0 -u on the node creates them, and so does `nvidia-smi`; \
                      in a container mount the host's /dev";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = facts.driver_answer() else { return Vec::new() };
    let platform = &facts.platform;
    if matches!(platform, Platform::Wsl(_)) {
        // There is one node for all GPUs, /dev/dxg, and none of these.
        return Vec::new();
    }
    let hang = || format!("{}; {}", platform.driver_log(), platform.restart());
    let mut findings: Vec<Finding> =
        answer.nodes.iter().filter_map(|node| not_opened(node, hang)).collect();
    findings.extend(answer.unfinished.as_ref().map(|why| {
        NODES
            .unknown(format!("not all of them were opened: {why}"))
            .why("a driver that holds a process in the kernel holds its containers too")
            .fix(hang())
    }));
    if findings.is_empty() && !answer.nodes.is_empty() {
        findings.push(NODES.ok(format!("{} can be opened", plural(answer.nodes.len(), "node"))));
    }
    findings
}

/// A node that cannot be opened; `hang` is what to do where the driver hangs.
fn not_opened(node: &DeviceNode, hang: impl Fn() -> String) -> Option<Finding> {
    let path = &node.path;
    Some(match &node.opened {
        OpenResult::Opened => return None,
        // The first program that uses CUDA creates it.
        OpenResult::Missing if path.contains("nvidia-uvm") => {
            NODES.warning(format!("{path} is not there")).why("CUDA needs it").fix(CREATE)
        }
        OpenResult::Missing => NODES.problem(format!("{path} is not there")).why(USE).fix(CREATE),
        OpenResult::TimedOut => NODES
            .problem(format!("opening {path} does not return"))
            .why("the driver hangs")
            .fix(hang()),
        OpenResult::Refused { code, text } => {
            let (why, fix) = of_errno(*code);
            NODES.problem(format!("{path}: {text}")).why(why).fix(fix)
        }
    })
}

/// Why an error matters, and what fixes it.
fn of_errno(code: i32) -> (&'static str, &'static str) {
    match code {
        EPERM | EACCES => (
            USE,
            "the container's device cgroup or the file's mode forbids it: run the container \
             privileged or with the NVIDIA runtime. If it worked before, a `systemctl \
             daemon-reload` removed the permission: start the pod again",
        ),
        ENXIO | ENODEV => (
            "the file is there, with no driver behind it",
            "load the driver on the node: `modprobe nvidia && modprobe nvidia-uvm`; a file that \
             was left behind does no harm",
        ),
        EIO => (
            "the driver cannot initialise this GPU",
            "`dmesg -T | grep -iE 'nvrm|xid'` on the node says why (RmInitAdapter failed); drain \
             the node (kubectl drain NODE) and reboot it",
        ),
        _ => (
            USE,
            "`ls -l /dev/nvidia*` on the node; `nvidia-modprobe -c 0 -u` creates the files again",
        ),
    }
}
