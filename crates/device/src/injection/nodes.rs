//! Device nodes, for where a runtime or the CPU manager would take away what only the runtime knows
//! of.

use std::collections::{BTreeMap, BTreeSet};

use super::Injector;
use crate::Device;
use crate::gpu::Placement;

/// Nodes that every user of a GPU needs, where the host has them.
pub const CONTROL_NODES: [&str; 4] =
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// The one IMEX channel that containers can have.
pub const IMEX_CHANNEL: &str = "/dev/nvidia-caps-imex-channels/channel0";

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// The path on the host.
    pub host: String,
    /// The path in the container.
    pub container: String,
}

/// The right to use an instance of a GPU, which a node of its own stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    /// The n of the GPU's `/dev/nvidia<n>`.
    pub minor: u32,
    /// The GPU instance.
    pub gpu_instance: u32,
    /// The compute instance; `None`: the GPU instance as such.
    pub compute_instance: Option<u32>,
}

/// What the host has beside the GPUs' own nodes.
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
    #[must_use]
    pub fn capabilities_of(&self, device: &Device) -> Option<[u32; 2]> {
        let Placement { gpu_instance, compute_instance } = device.placement?;
        let of = |compute_instance| {
            self.capabilities
                .get(&Capability { minor: device.minor?, gpu_instance, compute_instance })
                .copied()
        };
        Some([of(None)?, of(Some(compute_instance))?])
    }
}

impl Injector {
    /// The nodes that these devices need, each once.
    pub(super) fn nodes(&self, devices: &[&Device]) -> Vec<DeviceNode> {
        let control = CONTROL_NODES
            .iter()
            .filter(|node| self.host.control.contains(*node))
            .map(|node| (*node).into());
        let mut paths: Vec<String> = control.collect();
        let mut seen = BTreeSet::new();
        for device in devices {
            let capabilities = self.host.capabilities_of(device).into_iter().flatten();
            let own = device.minor.map(|minor| format!("/dev/nvidia{minor}"));
            let nodes = own
                .into_iter()
                .chain(capabilities.map(|cap| format!("/dev/nvidia-caps/nvidia-cap{cap}")));
            paths.extend(nodes.filter(|node| seen.insert(node.clone())));
        }
        if self.gives_imex() {
            paths.push(IMEX_CHANNEL.to_owned());
        }
        let root = self.dev_root.trim_end_matches('/');
        paths
            .into_iter()
            .map(|path| DeviceNode { host: format!("{root}{path}"), container: path })
            .collect()
    }
}
