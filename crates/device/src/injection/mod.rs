//! What a container gets for the devices allocated to it: environment variables, mounts, device
//! nodes, annotations and CDI names, in the forms that NVIDIA's container runtime and CDI define.

pub mod cdi_names;
mod memory;
mod nodes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::Device;
use crate::layout::LayoutFinding;
use crate::mps::MpsRules;
use crate::names::ResourceName;
use cdi_names::{CdiNames, GPU_CLASS, IMEX_CLASS, VENDOR, valid_name};
pub use nodes::{CONTROL_NODES, Capability, DeviceNode, HostNodes, IMEX_CHANNEL};

/// The variable that tells NVIDIA's container runtime which GPUs to make visible.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// Where the runtime looks for mounts named by device; as the value of [`VISIBLE_DEVICES`] it makes
/// the runtime look there.
const MOUNT_ROOT: &str = "/var/run/nvidia-container-devices";
/// What precedes the random UUID in the CDI annotation's key. Both together have 57 characters, of
/// which 63 are allowed.
const CDI_KEY: &str = "nvidia-device-plugin_";

/// One way in which Allocate passes devices to the container runtime.
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

/// How a device is identified to the container runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceIdStrategy {
    /// By UUID.
    #[default]
    Uuid,
    /// By NVML's index.
    Index,
}

/// The rules by which devices are passed to containers, and the facts of the host they depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injector {
    /// The strategies; at least one.
    pub strategies: BTreeSet<DeviceListStrategy>,
    /// How a device is identified.
    pub ids: DeviceIdStrategy,
    /// Whether device nodes are listed too.
    pub pass_device_specs: bool,
    /// The root of the device nodes on the host.
    pub dev_root: String,
    /// Whether GPUDirect Storage is enabled for containers.
    pub gds: bool,
    /// Whether Mellanox devices (MOFED) are.
    pub mofed: bool,
    /// Whether GDRCopy is.
    pub gdrcopy: bool,
    /// IMEX channel 0, where the host has it.
    pub imex: bool,
    /// Prefix of the annotation's key, `cdi.k8s.io/`.
    pub annotation_prefix: String,
    /// The host's directory of the MPS control daemon, where replicas are shared by MPS.
    pub mps_root: Option<String>,
    /// How a GPU is divided among its clients.
    pub mps: MpsRules,
    /// Whether a container may have one replica only.
    pub one_replica_only: bool,
    /// The device nodes of the host.
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
            mps: MpsRules::default(),
            one_replica_only: false,
            host: HostNodes::default(),
        }
    }
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path on the host.
    pub host: String,
    /// The path in the container.
    pub container: String,
    /// Whether the container cannot write to it.
    pub read_only: bool,
}

/// Additions to one container.
///
/// The kubelet keeps it for the lifetime of the pod, so nothing in it may depend on this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injection {
    /// Environment variables.
    pub envs: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Device nodes, all for reading and writing.
    pub devices: Vec<DeviceNode>,
    /// Annotations of the container.
    pub annotations: BTreeMap<String, String>,
    /// Names of CDI devices.
    pub cdi_devices: Vec<String>,
}

impl Injector {
    /// What a container gets for these devices of `resource`, in their order, each once. `random`
    /// returns 16 random bytes; it is called where an annotation needs a unique key. `names` are
    /// the CDI names that can be resolved; `None`: all.
    #[must_use]
    pub fn inject(
        &self,
        resource: &ResourceName,
        devices: &[&Device],
        names: Option<&CdiNames>,
        random: impl FnOnce() -> [u8; 16],
    ) -> Injection {
        let ids = self.ids_of(devices, Device::present_name);
        let mut injection = Injection::default();
        self.cdi(devices, names, random, &mut injection);
        self.mps(resource, devices, &mut injection);
        memory::add_information(devices, &mut injection.envs);
        for feature in self.features() {
            let name = format!("NVIDIA_{}", feature.to_uppercase());
            injection.envs.insert(name, "enabled".to_owned());
        }
        self.visible_devices(ids, &mut injection);
        if self.passes_nodes() {
            injection.devices = self.host.nodes_for(devices, &self.dev_root, self.gives_imex());
        }
        injection
    }

    /// MIG devices whose capability nodes are to be passed and that the driver does not list.
    pub fn findings<'a>(&self, devices: impl Iterator<Item = &'a Device>) -> Vec<LayoutFinding> {
        if !self.passes_nodes() {
            return Vec::new();
        }
        let is_first = |device: &&Device| device.id.replica_number().is_none_or(|n| n == 0);
        let mig = devices.filter(|device| device.placement.is_some()).filter(is_first);
        mig.filter(|device| self.host.capabilities_of(device).is_none())
            .map(|device| LayoutFinding::NoCapability {
                index: device.label(),
                device: device.id.uuid().clone(),
            })
            .collect()
    }

    /// Whether containers get names of CDI devices.
    #[must_use]
    pub fn uses_cdi(&self) -> bool {
        self.has(DeviceListStrategy::CdiAnnotations) || self.has(DeviceListStrategy::CdiCri)
    }

    /// The name of a device among the CDI devices of its class. An index is that of the boot: a
    /// specification was written earlier.
    #[must_use]
    pub fn cdi_name(&self, device: &Device) -> String {
        valid_name(&match self.ids {
            DeviceIdStrategy::Uuid => device.id.uuid().to_string(),
            DeviceIdStrategy::Index => device.bound_name(),
        })
    }

    /// CDI device names: in an annotation of the container, or in the field of the kubelet's API.
    fn cdi(
        &self,
        devices: &[&Device],
        resolvable: Option<&CdiNames>,
        random: impl FnOnce() -> [u8; 16],
        injection: &mut Injection,
    ) {
        if !self.uses_cdi() {
            return;
        }
        let mut seen = BTreeSet::new();
        let once = devices.iter().filter(|device| seen.insert(device.id.uuid()));
        let gpus = once.map(|device| (GPU_CLASS, self.cdi_name(device)));
        let imex = self.gives_imex().then(|| (IMEX_CLASS, "0".to_owned()));
        let features = self.features().map(|feature| (feature, "all".to_owned()));
        // A class of which the node has nothing is left out, or no container would start.
        let others = imex.into_iter().chain(features);
        let others = others
            .filter(|(class, device)| resolvable.is_none_or(|names| names.has(class, device)));
        let limits = memory::limits(devices, |device| self.cdi_name(device), resolvable);
        let others = others.chain(limits.map(|device| (GPU_CLASS, device)));
        let name = |(class, device)| format!("{VENDOR}/{class}={device}");
        let names: Vec<String> = gpus.chain(others).map(name).collect();
        if self.has(DeviceListStrategy::CdiAnnotations) && !names.is_empty() {
            let key = format!("{}{CDI_KEY}{}", self.annotation_prefix, uuid_v4(random()));
            injection.annotations.insert(key, names.join(","));
        }
        if self.has(DeviceListStrategy::CdiCri) {
            injection.cdi_devices = names;
        }
    }

    /// What is enabled for containers, as CDI calls it.
    pub(crate) fn features(&self) -> impl Iterator<Item = &'static str> {
        let features = [(self.gdrcopy, "gdrcopy"), (self.gds, "gds"), (self.mofed, "mofed")];
        features.into_iter().filter(|(enabled, _)| *enabled).map(|(_, name)| name)
    }

    /// The strategies [`DeviceListStrategy::Envvar`] and [`DeviceListStrategy::VolumeMounts`]. With
    /// both, the variable refers to the mounts.
    fn visible_devices(&self, ids: Vec<String>, injection: &mut Injection) {
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
                read_only: false,
            }));
        }
    }

    fn has(&self, strategy: DeviceListStrategy) -> bool {
        self.strategies.contains(&strategy)
    }

    /// Whether device nodes are passed: never where the runtime gets CDI names alone.
    fn passes_nodes(&self) -> bool {
        let lists = [DeviceListStrategy::Envvar, DeviceListStrategy::VolumeMounts];
        self.pass_device_specs && lists.into_iter().any(|strategy| self.has(strategy))
    }

    fn gives_imex(&self) -> bool {
        self.imex && self.host.imex_channel
    }

    /// The ids of the devices for the runtime, each once; `by_index` where that is the strategy.
    fn ids_of(&self, devices: &[&Device], by_index: fn(&Device) -> String) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let once = devices.iter().filter(|device| seen.insert(device.id.uuid()));
        once.map(|device| match self.ids {
            DeviceIdStrategy::Uuid => device.id.uuid().to_string(),
            DeviceIdStrategy::Index => by_index(device),
        })
        .collect()
    }

    /// The directory of the MPS control daemon's pipes and its shared memory, which clients need.
    fn mps(&self, resource: &ResourceName, devices: &[&Device], injection: &mut Injection) {
        let Some(root) = &self.mps_root else { return };
        if !devices.iter().any(|device| device.id.replica_number().is_some()) {
            return;
        }
        let (pipe, root) = (mps_pipe(resource), root.trim_end_matches('/'));
        injection.mounts.extend([
            Mount {
                host: format!("{root}/{resource}/pipe"),
                container: pipe.clone(),
                read_only: self.mps.read_only_pipe,
            },
            Mount {
                host: format!("{root}/shm"),
                container: "/dev/shm".to_owned(),
                read_only: false,
            },
        ]);
        injection.envs.insert("CUDA_MPS_PIPE_DIRECTORY".to_owned(), pipe);
        if !self.one_replica_only {
            mps_limits(devices, injection);
        }
    }
}

/// Where a container may have several replicas, its limits are variables of its own: the daemon's
/// hold for every client alike. A client can lower by them what the daemon gives, and they are read
/// by each process of it.
fn mps_limits(devices: &[&Device], injection: &mut Injection) {
    let Some(share) = devices.iter().find_map(|device| device.mps) else { return };
    // Each id once, all of one GPU: see `AllocateError::SeveralGpus`.
    let share = share.times(u32::try_from(devices.len()).unwrap_or(u32::MAX));
    let threads = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE".to_owned();
    injection.envs.insert(threads, share.threads.to_string());
    if let Some(memory) = share.memory {
        // The container's only GPU has the ordinal 0 there.
        let limit = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT".to_owned();
        injection.envs.insert(limit, format!("0={memory}M"));
    }
}

/// Where the pipes of the MPS control daemon of a resource are in a client's container, and by
/// default in the plugin's.
#[must_use]
pub fn mps_pipe(resource: &ResourceName) -> String {
    format!("/mps/{resource}/pipe")
}

/// A random UUID (RFC 9562, version 4) from 16 random bytes.
fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&place) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
