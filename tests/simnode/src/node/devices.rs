//! The device nodes of the simulated host, as links to `/dev/null`, and the driver's list of
//! capability numbers.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use fake_nvml::state::{Gpu, State};

use super::Node;

/// What every node with a driver has. There is no IMEX channel: few nodes have one.
const CONTROL: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];

/// GPU instances and compute instances of which the driver lists capabilities for each GPU.
const GPU_INSTANCES: u32 = 15;
const COMPUTE_INSTANCES: u32 = 8;

/// Lays out `/dev` and `/proc/driver/nvidia-caps/mig-minors` for the GPUs of a state.
pub(super) fn write(node: &Node, state: &State) -> io::Result<()> {
    let (dev, caps) = (node.dev(), node.dev().join("nvidia-caps"));
    fs::create_dir_all(&caps)?;
    CONTROL.iter().try_for_each(|name| device(&dev.join(name)))?;
    state.gpus.iter().try_for_each(|gpu| device(&dev.join(format!("nvidia{}", gpu.minor))))?;
    let mut minors = String::from("config 1\nmonitor 2\n");
    for (path, number) in state.gpus.iter().flat_map(capabilities) {
        let _ = writeln!(minors, "{path} {number}");
        device(&caps.join(format!("nvidia-cap{number}")))?;
    }
    let directory = node.proc().join("driver/nvidia-caps");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("mig-minors"), minors)
}

/// The capabilities of a GPU in the order of the driver's list: each GPU instance, then its compute
/// instances.
fn capabilities(gpu: &Gpu) -> impl Iterator<Item = (String, u32)> {
    let each = 1 + COMPUTE_INSTANCES;
    let first = 3 + gpu.minor * GPU_INSTANCES * each;
    let minor = gpu.minor;
    (0..GPU_INSTANCES).flat_map(move |gi| {
        let number = first + gi * each;
        let own = (format!("gpu{minor}/gi{gi}/access"), number);
        let compute = (0..COMPUTE_INSTANCES)
            .map(move |ci| (format!("gpu{minor}/gi{gi}/ci{ci}/access"), number + 1 + ci));
        std::iter::once(own).chain(compute)
    })
}

/// Makes a path that leads to a character device.
fn device(path: &Path) -> io::Result<()> {
    symlink("/dev/null", path)
}
