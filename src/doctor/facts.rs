//! What was found on the node, before anybody judges it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use device::injection::{DeviceIdStrategy, DeviceListStrategy};
use serde::{Deserialize, Serialize};
use status::Status;

/// Everything.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the plugin would run on.
    pub settings: Settings,
    /// GPUs on the PCI bus, by address; or why they cannot be read.
    pub bus: Result<BTreeMap<String, PciGpu>, String>,
    /// The driver's kernel module.
    pub module: Module,
    /// What a process of its own found out from the driver.
    pub driver: Asked,
    /// What the running plugin says of itself and its GPUs; or why it was not heard.
    pub plugin: Result<Box<Status>, String>,
    /// The kubelet.
    pub kubelet: Kubelet,
    /// What brings GPUs into containers.
    pub runtimes: Runtimes,
    /// The rest of the node.
    pub node: Node,
}

/// What the plugin would run on.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The config file.
    pub file: Option<String>,
    /// What keeps the configuration from being used.
    pub mistakes: Vec<String>,
    /// What is ignored in it.
    pub warnings: Vec<String>,
    /// The ways in which devices are handed over.
    pub strategies: BTreeSet<DeviceListStrategy>,
    /// How a device is named to the runtime.
    pub ids: DeviceIdStrategy,
    /// The MIG strategy, as it is written.
    pub mig_strategy: String,
    /// Where the driver's root is mounted.
    pub driver_root: PathBuf,
    /// The root of the host, as it is seen from here.
    pub host_root: PathBuf,
}

/// A PCI device of NVIDIA's that is a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciGpu {
    /// The PCI device id.
    pub device: String,
    /// The kernel driver that has it.
    pub driver: Option<String>,
}

/// The driver's kernel module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// The version in `/proc/driver/nvidia/version`; `None`: there is no such file.
    pub version: Option<String>,
    /// Whether sysfs has the module `nvidia`.
    pub nvidia: bool,
    /// Whether sysfs has the module `nouveau`.
    pub nouveau: bool,
    /// Whether sysfs has the module `nvidia_uvm`.
    pub uvm: bool,
    /// The GPUs in `/proc/driver/nvidia/gpus`, by address: in a container, those that the runtime
    /// has let in.
    pub gpus: BTreeSet<String>,
}

/// What came of the process that asks the driver.
#[derive(Debug, Clone)]
pub enum Asked {
    /// It answered.
    Answered(Box<Survey>),
    /// It ended without an answer.
    Died {
        /// How: a signal or an exit code.
        how: String,
        /// Its last words.
        words: String,
    },
    /// It did not answer in time.
    Silent(Duration),
    /// It could not be started.
    NotStarted(String),
}

/// What the driver said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The places where the library was looked for in vain, with what was there.
    pub tried: Vec<(String, String)>,
    /// The library that was loaded.
    pub library: Option<String>,
    /// What keeps NVML from being used.
    pub trouble: Option<Trouble>,
    /// Version of the kernel driver, by NVML.
    pub driver_version: Option<String>,
    /// Version of the library.
    pub library_version: Option<String>,
    /// The newest CUDA that the driver serves, such as "13.0".
    pub cuda: Option<String>,
    /// Each place of NVML's enumeration.
    pub gpus: Vec<Gpu>,
    /// What would be offered.
    pub resources: Vec<Offer>,
    /// GPUs that are left out by the configuration, with the reason.
    pub reserved: Vec<(String, String)>,
    /// What is not offered as one would expect.
    pub findings: Vec<String>,
    /// The device nodes.
    pub nodes: Vec<DeviceNode>,
    /// Whether this container has `/dev/nvidiactl` itself.
    pub sees_control_node: bool,
}

/// What keeps NVML from being used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// No library could be loaded. True: one was named.
    NoLibrary(bool),
    /// The library answers with an error.
    Code {
        /// The return code.
        code: u32,
        /// In words, with the call.
        text: String,
    },
    /// A call did not return in time.
    Silent(String),
    /// The asking itself failed.
    Failed(String),
}

/// One place of NVML's enumeration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's index.
    pub index: u32,
    /// Its UUID, if it gave that.
    pub uuid: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its place on the bus, as sysfs writes it.
    pub bus: Option<String>,
    /// The n of `/dev/nvidia<n>`.
    pub minor: Option<u32>,
    /// An error with which it answered.
    pub error: Option<String>,
    /// A call about it that did not return.
    pub silent: Option<String>,
    /// All that makes it Unhealthy, with what to do about it.
    pub causes: Vec<(String, Option<String>)>,
    /// What wants attention.
    pub degradations: Vec<String>,
    /// The number of MIG devices, if MIG mode is on.
    pub mig: Option<usize>,
}

/// A resource that would be offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// How many devices.
    pub devices: usize,
    /// How many of them Healthy.
    pub healthy: usize,
    /// What the devices are called to the container runtime.
    pub ids: Vec<String>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Its path, as it is seen from here.
    pub path: String,
    /// What came of opening it.
    pub opening: Opening,
}

/// What came of opening a device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// It could be opened.
    Open,
    /// It is not there.
    Missing,
    /// The operating system refused.
    Refused {
        /// errno.
        code: i32,
        /// In words.
        text: String,
    },
    /// The opening did not return in time.
    Silent,
}

/// The kubelet as it is seen from outside.
#[derive(Debug, Clone)]
pub struct Kubelet {
    /// The plugin directory.
    pub directory: PathBuf,
    /// What it is like.
    pub state: Directory,
    /// The registration socket; `None`: the plugin is told never to register.
    pub socket: Option<(PathBuf, Answer)>,
    /// Other sockets in the directory.
    pub others: Vec<Endpoint>,
    /// How many devices the kubelet knows of each resource, by its checkpoint; or why that is not
    /// known.
    pub checkpoint: Result<BTreeMap<String, usize>, String>,
    /// Its version, major and minor.
    pub version: Option<(u32, u32)>,
    /// The socket that tells who holds what; `None`: it is not to be asked.
    pub pod_resources: Option<(PathBuf, Answer)>,
}

/// What a directory is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory {
    /// Files can be made in it.
    Writable,
    /// It is not there.
    Missing,
    /// It is not there and would be made.
    WouldBeMade,
    /// It is something else.
    NotADirectory,
    /// It was deleted, and is held only by a mount.
    Deleted,
    /// Nothing can be made in it, for this reason.
    NotWritable(String),
}

/// What a socket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It answers.
    Answers,
    /// It is not there.
    Missing,
    /// Something else is there.
    NotASocket,
    /// Nobody listens on it.
    Dead,
    /// Somebody listens, and does not answer in time.
    Silent,
    /// Something else went wrong.
    Failed(String),
}

/// A socket of a device plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its file name.
    pub name: String,
    /// The part of the file name that stands for the resource, if it is named as ours are.
    pub ours: Option<String>,
    /// What it says.
    pub answer: Answer,
    /// The program that listens, if it can be seen.
    pub process: Option<String>,
}

/// What brings GPUs into containers.
#[derive(Debug, Clone, Default)]
pub struct Runtimes {
    /// The container runtimes that there are signs of.
    pub runtimes: Vec<Runtime>,
    /// The configuration of NVIDIA's runtime.
    pub toolkit: Option<Toolkit>,
    /// Files with CDI specifications.
    pub specs: Vec<Spec>,
    /// The directories in which they were looked for.
    pub spec_directories: Vec<PathBuf>,
    /// Resources that are shared by MPS, and what its control daemon says.
    pub mps: Vec<(String, Result<String, String>)>,
}

/// A container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// containerd, CRI-O or docker.
    pub name: &'static str,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What is wrong with one of them.
    pub trouble: Option<String>,
    /// Whether its socket is there.
    pub socket: bool,
    /// The name of its default runtime.
    pub default: Option<String>,
    /// Runtimes that are NVIDIA's, by name, with their program.
    pub nvidia: BTreeMap<String, Program>,
    /// Whether it takes CDI names; `None`: that depends on its version.
    pub cdi: Option<bool>,
}

/// A program that a runtime starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Its path on the host, if it is named.
    pub path: Option<PathBuf>,
    /// Whether it is there.
    pub exists: bool,
}

/// The configuration of NVIDIA's container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toolkit {
    /// Its file.
    pub file: PathBuf,
    /// Why it cannot be read.
    pub trouble: Option<String>,
    /// `accept-nvidia-visible-devices-as-volume-mounts`.
    pub volume_mounts: Option<bool>,
    /// `accept-nvidia-visible-devices-envvar-when-unprivileged`.
    pub envvar: Option<bool>,
}

/// A CDI specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its file.
    pub file: PathBuf,
    /// Kind and names of devices; or why it is none.
    pub content: Result<(String, BTreeSet<String>), String>,
}

/// The rest of the node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Limits and use of inotify.
    pub inotify: Inotify,
    /// The clock now.
    pub now: SystemTime,
    /// The newest change of a file of this node, with the file.
    pub newest: Option<(PathBuf, SystemTime)>,
    /// Where verdicts outlive the process.
    pub state: Option<(PathBuf, Directory)>,
    /// Why the state file cannot be read, if there is one.
    pub unreadable: Option<String>,
    /// Where files speak against GPUs.
    pub quarantine: Option<(PathBuf, Directory)>,
}

/// Limits and use of inotify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inotify {
    /// Why a watch cannot be had.
    pub refused: Option<String>,
    /// `fs.inotify.max_user_instances`.
    pub instances: Option<u64>,
    /// `fs.inotify.max_user_watches`.
    pub watches: Option<u64>,
    /// Instances of this user that can be seen from here.
    pub used: u64,
}
