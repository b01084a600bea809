//! The hooks, and what each needs.

use std::path::PathBuf;

use rustix::thread::CapabilitySet;

/// What is to be done in a container, or for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Makes symbolic links.
    CreateSymlinks(Vec<Link>),
    /// Adds directories to the loader's configuration, and writes its cache.
    UpdateLdcache(Vec<PathBuf>),
    /// Sets the permissions of directories and device nodes.
    Chmod {
        /// The permissions, at most 0777.
        mode: u32,
        /// Paths in the container.
        paths: Vec<PathBuf>,
    },
    /// Has the loader find the image's compatibility libraries, where they are newer than the
    /// driver.
    EnableCudaCompat {
        /// The first number of the driver's version; `None`: it is not known, and nothing is done.
        host_driver_major: Option<u32>,
    },
    /// Has the driver's libraries make no device nodes in the container.
    DisableDeviceNodeModification,
    /// Restricts EGL and Vulkan to the container's GPUs.
    UpdateApplicationProfile,
    /// Limits the memory of GPUs that the container may allocate.
    ApplyCudaMemoryLimits(Vec<MemoryLimit>),
}

/// A symbolic link in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The text of the link, which is never followed here.
    pub target: PathBuf,
    /// Its path in the container.
    pub path: PathBuf,
}

/// The most memory of one GPU that a container may allocate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The GPU's address on the bus, `0000:17:00.0`, in small letters.
    pub address: String,
    /// Bytes.
    pub bytes: u64,
}

/// Where the host has what is not the container's.
#[derive(Debug, Clone)]
pub struct Host {
    /// The tree of cgroups of version 2.
    pub cgroup_root: PathBuf,
    /// The process file system.
    pub proc_root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { cgroup_root: "/sys/fs/cgroup".into(), proc_root: "/proc".into() }
    }
}

impl Hook {
    /// What root may do that this hook needs.
    #[must_use]
    pub fn capabilities(&self) -> CapabilitySet {
        // The files of an image may belong to anybody, and be closed to everybody else.
        let files = CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
        match self {
            Self::DisableDeviceNodeModification => files | CapabilitySet::SYS_ADMIN,
            Self::ApplyCudaMemoryLimits(_) => CapabilitySet::DAC_OVERRIDE,
            _ => files,
        }
    }
}
