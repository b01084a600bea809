//! The names of CDI devices, and which of them a container runtime can resolve.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The vendor of all kinds. It is that of NVIDIA's plugin, whose names people have in scripts.
pub const VENDOR: &str = "k8s.device-plugin.nvidia.com";
/// The class of GPUs and MIG devices.
pub const GPU_CLASS: &str = "gpu";
/// The class of IMEX channels.
pub const IMEX_CLASS: &str = "imex-channel";

/// Stands in the name of a device that limits memory, between that of the GPU and a number.
const MEMORY: &str = ".memory.";

/// The name of the device that limits the memory of a GPU to that of so many replicas.
#[must_use]
pub fn memory_limit_name(device: &str, replicas: u32) -> String {
    format!("{device}{MEMORY}{replicas}")
}

/// The name of the GPU whose memory a device limits; of any other device its own.
#[must_use]
pub(crate) fn limited_device(name: &str) -> &str {
    name.split_once(MEMORY).map_or(name, |(device, _)| device)
}

/// What is known about the files with the specifications.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CdiNames {
    /// The names that the files have, each as `class=device`.
    pub in_files: Arc<BTreeSet<String>>,
    /// Names of devices of which nothing can be said in a file, though it was written.
    pub left_out: BTreeSet<String>,
    /// Why the files are not as they should be, if so.
    pub problem: Option<String>,
    /// What a container lacks though its device is in the files, in words.
    pub incomplete: Vec<String>,
    /// Why memory is not limited that is to be, in words.
    pub not_limited: Vec<String>,
}

impl CdiNames {
    /// Whether a runtime can resolve a device of a class.
    #[must_use]
    pub fn has(&self, class: &str, device: &str) -> bool {
        self.in_files.contains(&key(class, device))
    }
}

/// A device of a class as in [`CdiNames::in_files`].
#[must_use]
pub fn key(class: &str, device: &str) -> String {
    format!("{class}={device}")
}

/// A name as CDI allows it. The UUIDs of MIG devices had slashes before driver 470.
#[must_use]
pub fn valid_name(name: &str) -> String {
    name.replace('/', "_")
}
