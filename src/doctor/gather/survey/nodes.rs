//! Opens the device nodes.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::doctor::facts::{DeviceNode, GpuFacts, OpenResult};
use crate::doctor::gather::host;

/// Opens without waiting, and without ever becoming the controlling terminal (fcntl.h, Linux on all
/// architectures that NVIDIA's driver supports).
const O_NONBLOCK: i32 = 0o4000;

/// Opens the device nodes that NVML and containers need, all at the same time, and sends each as it
/// is done; where no GPU is known, those that exist.
pub(super) fn open_all(
    dev_root: &Path,
    gpus: &[GpuFacts],
    deadline: Duration,
    mut send: impl FnMut(DeviceNode) -> io::Result<()>,
) -> io::Result<()> {
    let deadline = Instant::now() + deadline;
    let (result_tx, results) = mpsc::channel();
    let mut waiting = BTreeSet::new();
    for path in paths(dev_root, gpus) {
        waiting.insert(path.clone());
        let (tx, node) = (result_tx.clone(), path.clone());
        // On a thread of its own, which is left behind if it does not return.
        let open = move || drop(tx.send((node.clone(), open(&node))));
        if let Err(error) = thread::Builder::new().name("open".to_owned()).spawn(open) {
            let _ = result_tx.send((path, refused(&error)));
        }
    }
    let node = |path: &Path, opened| DeviceNode { path: path.display().to_string(), opened };
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((path, opened)) = results.recv_timeout(left) else { break };
        waiting.remove(&path);
        send(node(&path, opened))?;
    }
    waiting.iter().try_for_each(|path| send(node(path, OpenResult::TimedOut)))
}

fn paths(dev_root: &Path, gpus: &[GpuFacts]) -> Vec<PathBuf> {
    let dev = dev_root.join("dev");
    let mut minors: Vec<u32> = gpus.iter().filter_map(|gpu| gpu.minor).collect();
    if minors.is_empty() {
        let existing = host::names(&dev);
        minors = existing.filter_map(|name| name.strip_prefix("nvidia")?.parse().ok()).collect();
    }
    minors.sort_unstable();
    let names = ["nvidiactl".to_owned(), "nvidia-uvm".to_owned()].into_iter();
    let names = names.chain(minors.into_iter().map(|minor| format!("nvidia{minor}")));
    names.map(|name| dev.join(name)).collect()
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
