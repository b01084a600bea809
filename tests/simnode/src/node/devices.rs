//! The device nodes of the simulated host, as links to `/dev/null`, and the driver's list of
//! capability numbers.
//!
//! The list has every instance that could exist, the nodes are those of the instances that do: on a
//! real node too, nvidia-modprobe makes a capability's node when it is wanted.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fake_nvml::state::{Gpu, MigDevice, State};

use super::Node;

/// What every node with a driver has. There is no IMEX channel: few nodes have one.
const CONTROL: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];

/// GPU instances and compute instances of which the driver lists capabilities for each GPU.
const GPU_INSTANCES: u32 = 15;
const COMPUTE_INSTANCES: u32 = 8;

/// Where the nodes of capabilities are.
pub(super) fn capability_directory(node: &Node) -> PathBuf {
    node.dev().join("nvidia-caps")
}

/// Lays out `/dev` and `/proc/driver/nvidia-caps/mig-minors` for the GPUs of a state.
pub(super) fn write(node: &Node, state: &State) -> io::Result<()> {
    let dev = node.dev();
    CONTROL.iter().try_for_each(|name| device(&dev.join(name)))?;
    state.gpus.iter().try_for_each(|gpu| device(&dev.join(format!("nvidia{}", gpu.minor))))?;
    let directory = node.proc().join("driver/nvidia-caps");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("mig-minors"), minors(state))
}

/// Makes the nodes of the MIG instances that exist, those which are not there yet.
pub(super) fn write_instances(node: &Node, state: &State) -> io::Result<()> {
    let caps = capability_directory(node);
    let numbers = state.gpus.iter().flat_map(|gpu| {
        let mig = gpu.mig.iter().filter(|mig| mig.enabled);
        mig.flat_map(|mig| &mig.devices).flat_map(|device| capabilities(gpu, device))
    });
    numbers.into_iter().try_for_each(|number| device(&caps.join(format!("nvidia-cap{number}"))))
}

/// The driver's list: of each GPU each GPU instance, then its compute instances.
fn minors(state: &State) -> String {
    let mut minors = String::from("config 1\nmonitor 2\n");
    for minor in state.gpus.iter().map(|gpu| gpu.minor) {
        for gi in 0..GPU_INSTANCES {
            let number = gpu_instance(minor, gi);
            let _ = writeln!(minors, "gpu{minor}/gi{gi}/access {number}");
            for ci in 0..COMPUTE_INSTANCES {
                let number = compute_instance(minor, gi, ci);
                let _ = writeln!(minors, "gpu{minor}/gi{gi}/ci{ci}/access {number}");
            }
        }
    }
    minors
}

/// The capabilities that a MIG device needs.
fn capabilities(gpu: &Gpu, device: &MigDevice) -> [u32; 2] {
    let (gi, ci) = (device.gpu_instance, device.compute_instance);
    [gpu_instance(gpu.minor, gi), compute_instance(gpu.minor, gi, ci)]
}

fn gpu_instance(minor: u32, gi: u32) -> u32 {
    3 + (minor * GPU_INSTANCES + gi) * (1 + COMPUTE_INSTANCES)
}

fn compute_instance(minor: u32, gi: u32, ci: u32) -> u32 {
    gpu_instance(minor, gi) + 1 + ci
}

/// Makes a path that leads to a character device, if it is not there.
fn device(path: &Path) -> io::Result<()> {
    match symlink("/dev/null", path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
