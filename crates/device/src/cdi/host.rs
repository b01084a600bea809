//! What the host has of what a specification names: values, found by whoever may look at files.

use std::collections::BTreeMap;

use super::edits::NodeNumbers;
use crate::injection::Capability;
use crate::names::PciBusId;

/// What the host has of what a specification names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdiHost {
    /// Files of the driver.
    pub files: DriverFiles,
    /// Device nodes.
    pub devices: HostDevices,
    /// The program whose hooks are called; `None`: none.
    pub hook: Option<HookProgram>,
    /// The memory of GPUs that the kernel can limit.
    pub memory: MemoryRegions,
}

/// The bytes of each GPU's memory that the kernel can limit; or why it limits none.
pub type MemoryRegions = Result<BTreeMap<PciBusId, u64>, String>;

/// Files of the driver's installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverFiles {
    /// The driver's version, by which its files are known.
    pub version: Option<String>,
    /// What containers read: libraries, firmware, programs, configuration.
    pub files: Vec<HostFile>,
    /// Sockets of the driver's daemons.
    pub sockets: Vec<HostFile>,
    /// What GPUDirect Storage needs beside its device nodes.
    pub gds_files: Vec<HostFile>,
    /// Links to the libraries.
    pub links: Vec<FileLink>,
    /// The directories of the libraries in a container.
    pub library_directories: Vec<String>,
    /// Those among them with libcuda.so.
    pub libcuda_directories: Vec<String>,
    /// What was not found, in words.
    pub missing: Vec<String>,
}

/// A file of the host and its place in a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostFile {
    /// The path in the container.
    pub container: String,
    /// The path on the host.
    pub host: String,
}

/// A symbolic link in a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileLink {
    /// Its path.
    pub path: String,
    /// What it leads to: a name in its own directory, or a relative path.
    pub target: String,
    /// The file of the host that it leads to in the end.
    pub host: String,
}

/// Device nodes of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostDevices {
    /// The character devices that are of interest, by their paths below the root of the nodes:
    /// `/dev/nvidia0`.
    pub nodes: BTreeMap<String, NodeNumbers>,
    /// The names below `/dev/dri` of each GPU.
    pub drm: BTreeMap<PciBusId, Vec<String>>,
    /// The n of `/dev/nvidia-caps/nvidia-cap<n>` for each instance.
    pub capabilities: BTreeMap<Capability, u32>,
}

impl Default for CdiHost {
    fn default() -> Self {
        let (files, devices) = Default::default();
        Self { files, devices, hook: None, memory: Ok(BTreeMap::new()) }
    }
}

/// `nvidia-cdi-hook` or `nvidia-ctk` on the host, or the plugin's own program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookProgram {
    /// Its path on the host.
    pub path: String,
    /// Its version, where it is known.
    pub version: Option<(u32, u32, u32)>,
    /// Whether it is the plugin's own, of this version.
    pub is_own: bool,
}

/// The first version whose `enable-cuda-compat` a container cannot take the host over with
/// (CVE-2025-23266), and the first that has `disable-device-node-modification`.
const LAST_CHANGE: (u32, u32, u32) = (1, 17, 8);
/// The first version that has `update-application-profile`.
const APPLICATION_PROFILES: (u32, u32, u32) = (1, 20, 0);

impl HookProgram {
    /// Whether all hooks may be called: of an older one, and of one whose version is not known,
    /// only those that every version has and that are safe in every version.
    #[must_use]
    pub fn is_known_good(&self) -> bool {
        self.is_own || self.version.is_some_and(|version| version >= LAST_CHANGE)
    }

    /// Whether it is known to have `update-application-profile`.
    #[must_use]
    pub fn has_application_profiles(&self) -> bool {
        self.is_own || self.version.is_some_and(|version| version >= APPLICATION_PROFILES)
    }
}
