//! Device nodes in the Allocate response. They are needed where a device cgroup is rewritten from
//! what the kubelet knows (the CPU manager does that), so that the runtime's own additions are
//! lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::Device;
use crate::gpu::Placement;

/// Nodes that every container with a GPU needs, where the host has them.
pub const CONTROL_NODES: [&str; 4] =
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// The one IMEX channel that containers can get.
pub const IMEX_CHANNEL: &str = "/dev/nvidia-caps-imex-channels/channel0";

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// The path on the host.
    pub host: String,
    /// The path in the container.
    pub container: String,
}

/// The right to use a GPU or compute instance, for which the driver has a device node
/// (`/proc/driver/nvidia-caps/mig-minors`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    /// The n of the GPU's `/dev/nvidia<n>`.
    pub minor: u32,
    /// The GPU instance.
    pub gpu_instance: u32,
    /// The compute instance; `None`: the GPU instance itself.
    pub compute_instance: Option<u32>,
}

/// The device nodes of the host other than the GPUs' own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNodes {
    /// Those of [`CONTROL_NODES`] that exist.
    pub control: BTreeSet<&'static str>,
    /// Whether [`IMEX_CHANNEL`] exists.
    pub imex_channel: bool,
    /// The n of `/dev/nvidia-caps/nvidia-cap<n>` for each instance.
    pub capabilities: BTreeMap<Capability, u32>,
}

impl HostNodes {
    /// The numbers of the two capability nodes that a MIG device needs: of its GPU instance and of
    /// its compute instance.
    pub(super) fn capabilities_of(&self, device: &Device) -> Option<[u32; 2]> {
        let Placement { gpu_instance, compute_instance } = device.placement?;
        let of = |compute_instance| {
            self.capabilities
                .get(&Capability { minor: device.minor?, gpu_instance, compute_instance })
                .copied()
        };
        Some([of(None)?, of(Some(compute_instance))?])
    }

    /// The nodes that these devices need, each once, with their paths on the host under `dev_root`.
    pub(super) fn nodes_for(
        &self,
        devices: &[&Device],
        dev_root: &str,
        imex: bool,
    ) -> Vec<DeviceNode> {
        let control = CONTROL_NODES.into_iter().filter(|node| self.control.contains(node));
        let mut paths: Vec<String> = control.map(str::to_owned).collect();
        let mut seen = BTreeSet::new();
        for device in devices {
            let own = device.minor.map(|minor| format!("/dev/nvidia{minor}"));
            let capabilities = self.capabilities_of(device).into_iter().flatten();
            let nodes = own
                .into_iter()
                .chain(capabilities.map(|cap| format!("/dev/nvidia-caps/nvidia-cap{cap}")));
            paths.extend(nodes.filter(|node| seen.insert(node.clone())));
        }
        paths.extend(imex.then(|| IMEX_CHANNEL.to_owned()));
        let root = dev_root.trim_end_matches('/');
        let node = |path| DeviceNode { host: format!("{root}{path}"), container: path };
        paths.into_iter().map(node).collect()
    }
}
