//! Opens the device nodes.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::doctor::facts::{DeviceNode, GpuFacts, OpenResult};
use crate::doctor::gather::host;

/// Opens without waiting, and without ever becoming the controlling terminal (fcntl.h, Linux on all
/// architectures that NVIDIA's driver supports).
const O_NONBLOCK: i32 = 0o4000;

/// The least time that opening a node may take: it initialises the GPU if no other process has it
/// open and persistence mode is off.
const MIN_DEADLINE: Duration = Duration::from_secs(15);

/// Opens the device nodes that NVML and containers need; where no GPU is known, those that exist.
pub(super) fn nodes(dev_root: &Path, gpus: &[GpuFacts], deadline: Duration) -> Vec<DeviceNode> {
    let dev = dev_root.join("dev");
    let mut minors: Vec<u32> = gpus.iter().filter_map(|gpu| gpu.minor).collect();
    if minors.is_empty() {
        let existing = host::names(&dev);
        minors = existing.filter_map(|name| name.strip_prefix("nvidia")?.parse().ok()).collect();
    }
    minors.sort_unstable();
    let names = ["nvidiactl".to_owned(), "nvidia-uvm".to_owned()].into_iter();
    let names = names.chain(minors.into_iter().map(|minor| format!("nvidia{minor}")));
    let node = |name| {
        let path: PathBuf = dev.join(name);
        let opened = open_within(path.clone(), deadline.max(MIN_DEADLINE));
        DeviceNode { path: path.display().to_string(), opened }
    };
    names.map(node).collect()
}

/// Opens on a thread of its own, which is left behind if it does not return.
fn open_within(path: PathBuf, deadline: Duration) -> OpenResult {
    let (result_tx, result_rx) = mpsc::channel();
    let opener = std::thread::Builder::new().name("open".to_owned()).spawn(move || {
        let _ = result_tx.send(open(&path));
    });
    match opener {
        Ok(_) => result_rx.recv_timeout(deadline).unwrap_or(OpenResult::TimedOut),
        Err(error) => refused(&error),
    }
}

fn open(path: &Path) -> OpenResult {
    match OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(path) {
        Ok(_) => OpenResult::Opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => OpenResult::Missing,
        Err(error) => refused(&error),
    }
}

fn refused(error: &io::Error) -> OpenResult {
    OpenResult::Refused { code: error.raw_os_error().unwrap_or_default(), text: error.to_string() }
}
