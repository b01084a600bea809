//! What was found on the node, before it is checked.

mod distribution;
mod driver;
mod mps;
mod platform;
mod runtime;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use device::injection::DeviceListStrategy;
use status::Status;

pub use distribution::*;
pub use driver::*;
pub use mps::*;
pub use platform::*;
pub use runtime::*;

/// Everything that the checks need.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the plugin would run with.
    pub settings: EffectiveSettings,
    /// What kind of system it is.
    pub platform: Platform,
    /// NVIDIA's GPUs on the PCI bus, by address, with the kernel driver that is bound to each; or
    /// why they cannot be read.
    pub bus: Result<BTreeMap<String, Option<String>>, String>,
    /// The driver's kernel module.
    pub module: KernelModule,
    /// What a process of its own got from the driver.
    pub driver: DriverProbe,
    /// The status of the running plugin; or why there is none.
    pub plugin: Result<Box<Status>, String>,
    /// The kubelet.
    pub kubelet: KubeletFacts,
    /// What brings GPUs into containers.
    pub runtimes: ContainerRuntimes,
    /// The rest of the node.
    pub node: NodeFacts,
}

impl Facts {
    /// What the driver answered, if it did.
    pub(super) fn driver_answer(&self) -> Option<&DriverAnswer> {
        let DriverProbe::Answered(answer) = &self.driver else { return None };
        Some(answer)
    }

    /// What the driver answered, if NVML could be initialised and used.
    pub(super) fn initialised_driver(&self) -> Option<&DriverAnswer> {
        self.driver_answer().filter(|answer| answer.problem.is_none())
    }
}

/// What the plugin would run with.
#[derive(Debug, Clone, Default)]
pub struct EffectiveSettings {
    /// The config file.
    pub file: Option<String>,
    /// What keeps the configuration from being used.
    pub mistakes: Vec<String>,
    /// What is ignored in it.
    pub warnings: Vec<String>,
    /// How devices are passed to containers.
    pub strategies: BTreeSet<DeviceListStrategy>,
    /// The MIG strategy, as it is written.
    pub mig_strategy: String,
    /// Where the driver's root is mounted.
    pub driver_root: PathBuf,
    /// The root of the host, as it is seen from here.
    pub host_root: PathBuf,
    /// The quarantine directory, if any.
    pub quarantine_dir: Option<PathBuf>,
}

impl EffectiveSettings {
    /// Whether NVIDIA's container runtime brings devices into containers.
    pub(super) fn need_nvidia_runtime(&self) -> bool {
        self.strategies.contains(&DeviceListStrategy::Envvar)
            || self.strategies.contains(&DeviceListStrategy::VolumeMounts)
    }

    /// Whether CDI brings devices into containers.
    pub(super) fn need_cdi(&self) -> bool {
        self.strategies.contains(&DeviceListStrategy::CdiAnnotations)
            || self.strategies.contains(&DeviceListStrategy::CdiCri)
    }
}

/// The kubelet as it is seen from outside.
#[derive(Debug, Clone)]
pub struct KubeletFacts {
    /// The plugin directory.
    pub directory: PathBuf,
    /// The state of that directory.
    pub state: DirectoryState,
    /// The registration socket; `None`: the plugin is configured never to register.
    pub socket: Option<(PathBuf, SocketProbe)>,
    /// Other sockets in the directory.
    pub others: Vec<PluginSocket>,
    /// How many devices of each resource the kubelet can allocate; or why it cannot be asked.
    pub allocatable: Result<BTreeMap<String, usize>, String>,
    /// Its version, major and minor.
    pub version: Option<(u32, u32)>,
    /// The podresources socket; `None`: it is configured not to be used.
    pub pod_resources: Option<(PathBuf, SocketProbe)>,
    /// Who asks, for the sockets that may not be used.
    pub access: Access,
}

/// What decides whether this process may use a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The user that it runs as, by number.
    pub user: u32,
    /// Whether SELinux is enforced on the node.
    pub selinux: bool,
}

/// Whether a program answers on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketProbe {
    /// One does.
    Answers,
    /// The socket is not there.
    Missing,
    /// Something else is there.
    NotASocket,
    /// No program listens on it.
    Refused,
    /// This process may not use it.
    Denied,
    /// A program listens, and does not answer in time.
    TimedOut,
    /// Another error.
    Failed(String),
}

impl SocketProbe {
    /// Whether a program listens on the socket.
    pub(super) fn is_served(&self) -> bool {
        matches!(self, Self::Answers | Self::TimedOut | Self::Failed(_))
    }

    /// What is seen of the socket at `path`; as an error, if it does not answer.
    pub(super) fn seen(&self, path: &Path) -> Result<String, String> {
        let path = path.display();
        match self {
            Self::Answers => Ok(format!("{path} answers")),
            Self::Missing => Err(format!("{path} is not there")),
            Self::NotASocket => Err(format!("{path} is no socket")),
            Self::Refused => Err(format!("{path} is there and nobody listens on it")),
            Self::Denied => Err(format!("{path}: permission denied")),
            Self::TimedOut => Err(format!("{path}: somebody listens, and does not answer")),
            Self::Failed(error) => Err(format!("{path}: {error}")),
        }
    }
}

/// A socket of a device plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSocket {
    /// Its file name.
    pub name: String,
    /// The part of the file name that stands for the resource, if it is named as ours are.
    pub ours: Option<String>,
    /// Whether it answers.
    pub probe: SocketProbe,
    /// The program that listens, if it can be seen.
    pub process: Option<String>,
}

/// The rest of the node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// The distribution of Kubernetes.
    pub distribution: DistributionFacts,
    /// Limits and use of inotify.
    pub inotify: InotifyFacts,
    /// The time.
    pub now: SystemTime,
    /// The last change of a file of this node, with the file.
    pub newest: Option<(PathBuf, SystemTime)>,
    /// The state directory.
    pub state: Option<(PathBuf, DirectoryState)>,
    /// Why the state file cannot be read, if there is one.
    pub unreadable: Option<String>,
    /// The quarantine directory.
    pub quarantine: Option<(PathBuf, DirectoryState)>,
}

/// Limits and use of inotify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InotifyFacts {
    /// Why a watch cannot be created.
    pub refused: Option<String>,
    /// `fs.inotify.max_user_instances`.
    pub instances: Option<u64>,
    /// `fs.inotify.max_user_watches`.
    pub watches: Option<u64>,
    /// Instances of this user that can be seen from here.
    pub used: u64,
}

/// The state of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryState {
    /// Files can be created in it.
    Writable,
    /// It is not there.
    Missing,
    /// It is not there, and the plugin can create it.
    CanBeCreated,
    /// It is something else.
    NotADirectory,
    /// It was deleted, and only a mount keeps it.
    Deleted,
    /// Nothing can be created in it, for this reason.
    NotWritable(String),
}

impl DirectoryState {
    /// What is seen of a directory that the plugin creates itself; as an error, if it cannot be
    /// used.
    pub(super) fn own_directory(&self, path: &Path) -> Result<String, String> {
        let path = path.display();
        match self {
            Self::Writable => Ok(format!("{path} is writable")),
            Self::CanBeCreated => Ok(format!("{path} is not there and can be created")),
            Self::Missing => Err(format!("{path} is not there and cannot be created")),
            Self::NotADirectory => Err(format!("{path} is no directory")),
            Self::Deleted => Err(format!("{path} was deleted on the host under this mount")),
            Self::NotWritable(error) => Err(format!("{path}: nothing can be written: {error}")),
        }
    }
}
