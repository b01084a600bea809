//! NVLinks: to switches, over a bridge, and in the mesh of a DGX-1.

use super::bus_id;
use crate::state::{Gpu, NvLink};

/// `NVML_NVLINK_VERSION_2_0`, on Volta.
pub(super) const NVLINK_2: u32 = 2;
/// `NVML_NVLINK_VERSION_3_0`, on Ampere.
const NVLINK_3: u32 = 4;
/// `NVML_NVLINK_VERSION_4_0`, on Hopper.
pub(super) const NVLINK_4: u32 = 6;

/// `nvmlIntNvLinkDeviceType_t`
const TO_GPU: u32 = 0;
const TO_SWITCH: u32 = 2;

/// Links of an A100 PCIe over its three bridges.
const BRIDGED: usize = 12;

/// How many links join two GPUs of a DGX-1 with V100: six from each GPU.
const DGX1_LINKS: &[(usize, usize, usize)] = &[
    (0, 1, 1),
    (0, 2, 1),
    (0, 3, 2),
    (0, 4, 2),
    (1, 2, 2),
    (1, 3, 1),
    (1, 5, 2),
    (2, 3, 2),
    (2, 6, 1),
    (3, 7, 1),
    (4, 5, 1),
    (4, 6, 1),
    (4, 7, 2),
    (5, 6, 2),
    (5, 7, 1),
    (6, 7, 2),
];

/// The NVSwitches of a board, and how each GPU is tied to them.
pub(super) struct Switches<'a> {
    pub(super) buses: &'a [u32],
    /// Links of each GPU, shared out evenly.
    pub(super) links: usize,
    pub(super) version: u32,
}

impl Switches<'_> {
    /// The links of one GPU.
    pub(super) fn links(&self) -> Vec<NvLink> {
        let switches = self.buses.iter().cycle().take(self.links);
        switches
            .map(|bus| NvLink {
                active: true,
                version: self.version,
                remote_pci_bus_id: bus_id(*bus),
                remote_type: TO_SWITCH,
            })
            .collect()
    }
}

/// Joins two GPUs by NVLink bridges.
pub(super) fn bridge(gpus: &mut [Gpu], one: usize, other: usize) {
    join(gpus, one, other, BRIDGED, NVLINK_3);
}

/// Joins the eight GPUs of a DGX-1.
pub(super) fn mesh(gpus: &mut [Gpu]) {
    for (one, other, links) in DGX1_LINKS {
        join(gpus, *one, *other, *links, NVLINK_2);
    }
}

fn join(gpus: &mut [Gpu], one: usize, other: usize, links: usize, version: u32) {
    for (from, to) in [(one, other), (other, one)] {
        let remote_pci_bus_id = gpus[to].pci_bus_id.clone();
        let link = NvLink { active: true, version, remote_pci_bus_id, remote_type: TO_GPU };
        gpus[from].nvlinks.extend(std::iter::repeat_n(link, links));
    }
}
