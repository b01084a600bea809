//! The PCI bus, the kernel module, and what a process of its own got from the driver.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The driver's kernel module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelModule {
    /// The version in `/proc/driver/nvidia/version`; `None`: there is no such file.
    pub version: Option<String>,
    /// Whether sysfs has the module `nvidia`.
    pub nvidia: bool,
    /// Whether sysfs has the module `nouveau`.
    pub nouveau: bool,
    /// Whether sysfs has the module `nvidia_uvm`.
    pub uvm: bool,
    /// The GPUs in `/proc/driver/nvidia/gpus`, by address: in a container, those that the runtime
    /// gives access to.
    pub gpus: BTreeSet<String>,
}

/// The outcome of the process that asks the driver.
#[derive(Debug, Clone)]
pub enum DriverProbe {
    /// It answered.
    Answered(Box<DriverAnswer>),
    /// It ended without an answer.
    Died {
        /// A signal or an exit code.
        how: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It did not answer in time.
    TimedOut(Duration),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// It was not started: the running plugin has released NVML, so that a GPU can be reset, and a
    /// program that opens the driver would be in the way.
    Released,
}

/// What the process that asks the driver sends, piece by piece: what comes later may never come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SurveyPart {
    /// What NVML answered, without device nodes.
    Nvml(Box<DriverAnswer>),
    /// A device node that it has tried to open.
    Node(DeviceNode),
    /// There is no more.
    End,
}

/// What the driver answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverAnswer {
    /// The places where the library was not found, with what was there.
    pub tried: Vec<(String, String)>,
    /// The library that was loaded.
    pub library: Option<String>,
    /// What keeps NVML from being used.
    pub problem: Option<NvmlProblem>,
    /// Version of the kernel driver, by NVML.
    pub driver_version: Option<String>,
    /// Version of the library.
    pub library_version: Option<String>,
    /// The newest CUDA that the driver supports, such as "13.0".
    pub cuda: Option<String>,
    /// Each index of NVML's enumeration.
    pub gpus: Vec<GpuFacts>,
    /// What would be offered.
    pub resources: Vec<OfferedResource>,
    /// GPUs that the configuration reserves, with the reason.
    pub reserved: Vec<(String, String)>,
    /// What is not offered as one would expect.
    pub findings: Vec<String>,
    /// The device nodes.
    pub nodes: Vec<DeviceNode>,
    /// Whether this container has `/dev/nvidiactl` itself.
    pub sees_control_node: bool,
    /// Why not all device nodes are in it.
    pub unfinished: Option<String>,
}

/// What keeps NVML from being used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NvmlProblem {
    /// No library could be loaded.
    NoLibrary {
        /// Whether the configuration names one.
        named: bool,
    },
    /// The library answers with an error.
    ReturnCode {
        /// The return code.
        code: u32,
        /// In words, with the call.
        text: String,
    },
    /// This call did not return in time.
    TimedOut(String),
    /// The survey itself failed.
    Failed(String),
}

/// A GPU at one index of NVML's enumeration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// NVML's index.
    pub index: u32,
    /// Its UUID, if it gave that.
    pub uuid: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its PCI address, as sysfs writes it.
    pub bus: Option<String>,
    /// The n of `/dev/nvidia<n>`.
    pub minor: Option<u32>,
    /// An error with which it answered.
    pub error: Option<String>,
    /// A call about it that did not return.
    pub unanswered_call: Option<String>,
    /// Why it is Unhealthy, the worst first.
    pub causes: Vec<Condition>,
    /// Why it is degraded.
    pub degradations: Vec<Condition>,
    /// The number of MIG devices, if MIG mode is on.
    pub mig: Option<usize>,
    /// Whether MIG mode is on after the next reset, where that differs from now.
    pub mig_pending: Option<bool>,
    /// Whether it is licensed, if it is a virtual GPU.
    pub licensed: Option<bool>,
    /// Whether it accepts work, where confidential computing is on.
    pub accepts_work: Option<bool>,
}

/// What is wrong with a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The word for it in `/status`, logs and labels.
    pub kind: String,
    /// What is wrong.
    pub text: String,
    /// What to do about it, in a few words.
    pub remedy: Option<String>,
    /// The number of the Xid, if it is one.
    pub xid: Option<u32>,
    /// The recovery action that the driver asks for, if it does.
    pub action: Option<u32>,
}

/// A resource that would be offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedResource {
    /// Its name.
    pub name: String,
    /// How many devices it has.
    pub devices: usize,
    /// How many of them are Healthy.
    pub healthy: usize,
    /// What the devices are called to the container runtime.
    pub ids: Vec<String>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Its path, as it is seen from here.
    pub path: String,
    /// Whether it could be opened.
    pub opened: OpenResult,
}

/// Whether a device node could be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenResult {
    /// It could be opened.
    Opened,
    /// It is not there.
    Missing,
    /// The operating system refused.
    Refused {
        /// errno.
        code: i32,
        /// In words.
        text: String,
    },
    /// The call did not return in time.
    TimedOut,
}
