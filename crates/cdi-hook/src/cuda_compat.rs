//! `enable-cuda-compat`: CUDA images bring libraries of a newer driver in `/usr/local/cuda/compat`,
//! which work with an older kernel module (NVIDIA, CUDA Compatibility, "Forward Compatibility").
//! The loader takes them before the host's where its configuration names that directory first.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::HookError;
use crate::ldcache::conf;
use crate::limits;
use crate::root::ContainerRoot;

const DIRECTORY: &str = "/usr/local/cuda/compat";
const LIBRARY: &str = "libcuda.so.";

/// Names the directory to the loader, if its libcuda.so is of a later major version than the
/// driver. `update-ldcache` has to follow.
pub(crate) fn enable(root: &ContainerRoot, driver_major: Option<u32>) -> Result<(), HookError> {
    let (Some(driver), Some(compat)) = (driver_major, compat_major(root)) else { return Ok(()) };
    let has_loader_configuration = root.directory_id(Path::new(conf::DIRECTORY)).is_ok();
    if compat <= driver || !has_loader_configuration {
        return Ok(());
    }
    conf::write(root, conf::CUDA_COMPAT, &[Path::new(DIRECTORY)])
}

/// The highest major version of a libcuda.so in the directory.
fn compat_major(root: &ContainerRoot) -> Option<u32> {
    let entries = root
        .entries(Path::new(DIRECTORY), limits::DIRECTORY_ENTRIES, |name| major(name).is_some())
        .ok()?;
    entries.entries.iter().filter_map(|entry| major(&entry.name)).max()
}

/// 580 of `libcuda.so.580.95.05`; `libcuda.so.1` is no version.
fn major(name: &OsStr) -> Option<u32> {
    let (major, rest) = name.to_str()?.strip_prefix(LIBRARY)?.split_once('.')?;
    (!rest.is_empty()).then(|| major.parse().ok()).flatten()
}
