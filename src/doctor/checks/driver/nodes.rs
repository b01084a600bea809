//! Whether the device nodes can be opened.

use crate::doctor::facts::{DeviceNode, Facts, OpenResult};
use crate::doctor::finding::{Finding, Group};
use crate::doctor::plural::plural;

const GROUP: Group = Group::Driver;
const ID: &str = "driver.nodes";
const CHECKED: &str = "device nodes";

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
    let nodes = answer.nodes.as_slice();
    let bad: Vec<Finding> =
        nodes.iter().filter(|node| node.opened != OpenResult::Opened).map(not_opened).collect();
    if nodes.is_empty() || !bad.is_empty() {
        return bad;
    }
    let seen = format!("{} can be opened", plural(nodes.len(), "node"));
    vec![Finding::ok(GROUP, ID, CHECKED, seen)]
}

fn not_opened(node: &DeviceNode) -> Finding {
    let path = &node.path;
    let problem = |seen: String| Finding::problem(GROUP, ID, CHECKED, seen);
    match &node.opened {
        OpenResult::Opened => Finding::ok(GROUP, ID, CHECKED, path.clone()),
        // The first program that uses CUDA creates it.
        OpenResult::Missing if path.contains("nvidia-uvm") => {
            Finding::warning(GROUP, ID, CHECKED, format!("{path} is not there"))
                .why("CUDA needs it")
                .fix(CREATE)
        }
        OpenResult::Missing => problem(format!("{path} is not there")).why(USE).fix(CREATE),
        OpenResult::TimedOut => problem(format!("opening {path} does not return"))
            .why("the driver hangs")
            .fix("look for NVRM and Xid in the kernel log (dmesg), then reboot the node"),
        OpenResult::Refused { code, text } => {
            let (why, fix) = of_errno(*code);
            problem(format!("{path}: {text}")).why(why).fix(fix)
        }
    }
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
            "load the driver (modprobe nvidia, modprobe nvidia-uvm); a file that was left behind \
             does no harm",
        ),
        EIO => (
            "the driver cannot initialise this GPU",
            "the kernel log (dmesg, NVRM: RmInitAdapter failed) says why; reset the GPU or reboot \
             the node",
        ),
        _ => (USE, "`ls -l /dev/nvidia*` on the node; nvidia-modprobe creates the files again"),
    }
}
