//! What a container gets for the devices that are allocated to it: environment, mounts, device
//! nodes, annotations and CDI names, as NVIDIA's container runtime and CDI know them.

mod cdi;
mod nodes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Finding;
use super::names::ResourceName;
use crate::Device;
pub use nodes::{CONTROL_NODES, Capability, DeviceNode, HostNodes, IMEX_CHANNEL};

/// The variable by which NVIDIA's container runtime learns which GPUs to make visible.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// Where the runtime looks for mounts whose names are devices; as the value of the variable it says
/// to do so.
const MOUNT_ROOT: &str = "/var/run/nvidia-container-devices";

/// One way in which Allocate hands over devices to the container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceListStrategy {
    /// Environment variable `NVIDIA_VISIBLE_DEVICES`.
    Envvar,
    /// Mounts of `/dev/null` whose paths carry the ids.
    VolumeMounts,
    /// CDI device names in an annotation of the container.
    CdiAnnotations,
    /// CDI device names in the field of the kubelet's API.
    CdiCri,
}

/// How a device is named to the container runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceIdStrategy {
    /// By UUID.
    #[default]
    Uuid,
    /// By NVML's index.
    Index,
}

/// The rules by which devices are handed over, and what of the host they rest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injector {
    /// The ways; at least one.
    pub strategies: BTreeSet<DeviceListStrategy>,
    /// How a device is named.
    pub ids: DeviceIdStrategy,
    /// Also list the device nodes.
    pub pass_device_specs: bool,
    /// The root of the device nodes on the host.
    pub dev_root: String,
    /// GPUDirect Storage.
    pub gds: bool,
    /// Mellanox devices.
    pub mofed: bool,
    /// GDRCopy.
    pub gdrcopy: bool,
    /// IMEX channel 0, where the host has it.
    pub imex: bool,
    /// What stands before the name in the key of the annotation, `cdi.k8s.io/`.
    pub annotation_prefix: String,
    /// The host's directory of the MPS control daemon, where replicas are shared by MPS.
    pub mps_root: Option<String>,
    /// Whether a container may have one replica at most.
    pub one_replica_only: bool,
    /// What the host has.
    pub host: HostNodes,
}

impl Default for Injector {
    fn default() -> Self {
        Self {
            strategies: [DeviceListStrategy::Envvar].into(),
            ids: DeviceIdStrategy::Uuid,
            pass_device_specs: false,
            dev_root: "/".to_owned(),
            gds: false,
            mofed: false,
            gdrcopy: false,
            imex: false,
            annotation_prefix: "cdi.k8s.io/".to_owned(),
            mps_root: None,
            one_replica_only: false,
            host: HostNodes::default(),
        }
    }
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path on the host.
    pub host: String,
    /// The path in the container.
    pub container: String,
}

/// Additions to one container.
///
/// The kubelet keeps it for the life of the pod, so nothing in it may depend on this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injection {
    /// Environment variables.
    pub envs: BTreeMap<String, String>,
    /// Mounts; none is read-only.
    pub mounts: Vec<Mount>,
    /// Device nodes; all for reading and writing.
    pub devices: Vec<DeviceNode>,
    /// Annotations of the container.
    pub annotations: BTreeMap<String, String>,
    /// Names of CDI devices.
    pub cdi_devices: Vec<String>,
}

impl Injector {
    /// What a container gets for these devices of `resource`, in their order, each once. `chance`
    /// is 16 random bytes, asked for where an annotation needs a key that no other has.
    #[must_use]
    pub fn inject(
        &self,
        resource: &ResourceName,
        devices: &[&Device],
        chance: impl FnOnce() -> [u8; 16],
    ) -> Injection {
        let ids = self.ids_of(devices);
        let mut injection = Injection::default();
        self.cdi(&ids, chance, &mut injection);
        self.mps(resource, devices, &mut injection);
        for (enabled, name) in [
            (self.gdrcopy, "NVIDIA_GDRCOPY"),
            (self.gds, "NVIDIA_GDS"),
            (self.mofed, "NVIDIA_MOFED"),
        ] {
            if enabled {
                injection.envs.insert(name.to_owned(), "enabled".to_owned());
            }
        }
        if self.has(DeviceListStrategy::Envvar) {
            injection.envs.insert(VISIBLE_DEVICES.to_owned(), ids.join(","));
            if self.gives_imex() {
                injection.envs.insert("NVIDIA_IMEX_CHANNELS".to_owned(), "0".to_owned());
            }
        }
        if self.has(DeviceListStrategy::VolumeMounts) {
            injection.envs.insert(VISIBLE_DEVICES.to_owned(), MOUNT_ROOT.to_owned());
            let imex = self.gives_imex().then(|| "imex/0".to_owned());
            injection.mounts.extend(ids.into_iter().chain(imex).map(|id| Mount {
                host: "/dev/null".to_owned(),
                container: format!("{MOUNT_ROOT}/{id}"),
            }));
        }
        if self.pass_device_specs && !self.is_cdi_alone() {
            injection.devices = self.nodes(devices);
        }
        injection
    }

    /// What is missing for handing over these devices as they are to be.
    pub fn findings<'a>(&self, devices: impl Iterator<Item = &'a Device>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.pass_device_specs && !self.is_cdi_alone() {
            for device in devices.filter(|device| {
                device.placement.is_some() && device.id.replica_number().is_none_or(|n| n == 0)
            }) {
                if self.host.capabilities_of(device).is_none() {
                    let (index, device) = (device.place_name(), device.id.uuid().clone());
                    findings.push(Finding::NoCapability { index, device });
                }
            }
        }
        findings
    }

    fn has(&self, strategy: DeviceListStrategy) -> bool {
        self.strategies.contains(&strategy)
    }

    /// Whether the runtime gets CDI names and nothing else that lists devices.
    fn is_cdi_alone(&self) -> bool {
        !self.has(DeviceListStrategy::Envvar) && !self.has(DeviceListStrategy::VolumeMounts)
    }

    fn gives_imex(&self) -> bool {
        self.imex && self.host.imex_channel
    }

    /// The names of the devices for the runtime, each once.
    fn ids_of(&self, devices: &[&Device]) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut ids = Vec::with_capacity(devices.len());
        for device in devices.iter().filter(|device| seen.insert(device.id.uuid())) {
            ids.push(match self.ids {
                DeviceIdStrategy::Uuid => device.id.uuid().to_string(),
                DeviceIdStrategy::Index => device.place_name(),
            });
        }
        ids
    }

    /// A client of MPS finds its daemon by a directory, and shares its memory segments.
    fn mps(&self, resource: &ResourceName, devices: &[&Device], injection: &mut Injection) {
        let Some(root) = &self.mps_root else { return };
        if !devices.iter().any(|device| device.id.replica_number().is_some()) {
            return;
        }
        let (pipe, root) = (mps_pipe(resource), root.trim_end_matches('/'));
        injection
            .mounts
            .push(Mount { host: format!("{root}/{resource}/pipe"), container: pipe.clone() });
        injection
            .mounts
            .push(Mount { host: format!("{root}/shm"), container: "/dev/shm".to_owned() });
        injection.envs.insert("CUDA_MPS_PIPE_DIRECTORY".to_owned(), pipe);
    }
}

/// Where the pipes of the MPS control daemon of a resource are, in the plugin's container and in a
/// client's.
#[must_use]
pub fn mps_pipe(resource: &ResourceName) -> String {
    format!("/mps/{resource}/pipe")
}
