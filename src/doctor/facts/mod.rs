//! What was found on the node, before it is checked.

mod driver;
mod kubelet;
mod node;
mod runtime;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use device::injection::{DeviceIdStrategy, DeviceListStrategy};
use status::Status;

pub use driver::{
    DeviceNode, DriverAnswer, DriverProbe, GpuFacts, KernelModule, NvmlProblem, OfferedResource,
    OpenResult, PciGpu,
};
pub use kubelet::{KubeletFacts, PluginSocket, SocketProbe};
pub use node::{DirectoryState, InotifyFacts, NodeFacts};
pub use runtime::{CdiSpec, ContainerRuntime, ContainerRuntimes, HandlerProgram, ToolkitConfig};

/// Everything that the checks need.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the plugin would run with.
    pub settings: EffectiveSettings,
    /// GPUs on the PCI bus, by address; or why they cannot be read.
    pub bus: Result<BTreeMap<String, PciGpu>, String>,
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
        match &self.driver {
            DriverProbe::Answered(answer) => Some(answer),
            _ => None,
        }
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
    /// How a device is named to the runtime.
    pub ids: DeviceIdStrategy,
    /// The MIG strategy, as it is written.
    pub mig_strategy: String,
    /// Where the driver's root is mounted.
    pub driver_root: PathBuf,
    /// The root of the host, as it is seen from here.
    pub host_root: PathBuf,
}
