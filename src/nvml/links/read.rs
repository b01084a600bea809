//! Reads the PCIe and NVLink topology, in calls that may hang.

use std::collections::BTreeMap;

use device::names::Uuid;
use device::topology::{NodeLinks, NvLinkVersion, ObservedLink, PcieLevel, Remote};
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::TopologyLevel;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::nv_link::NvLink;

use super::progress::LinkUpdates;
use crate::nvml::raw;
use crate::nvml::session::{Session, is_unsupported};

/// The most NVLinks that are read of a GPU, twice as many as any GPU has (NVML_NVLINK_MAX_LINKS is
/// 18). Calls about a GPU end at the first number that it does not have.
const MOST_LINKS: u32 = 36;

/// Reads the links, first PCIe and then each GPU's NVLinks. `None` if nobody wants them any more.
pub(super) fn read(
    session: &Session,
    gpus: &BTreeMap<u32, Uuid>,
    updates: &LinkUpdates,
) -> Option<NodeLinks> {
    let nvml = session.nvml();
    // A GPU without a handle is reported by the enumeration.
    let devices: Vec<(&Uuid, Device<'_>)> = gpus
        .values()
        .filter_map(|uuid| Some((uuid, nvml.device_by_uuid(uuid.as_str()).ok()?)))
        .collect();
    let ancestors = common_ancestors(session, &devices, updates)?;
    updates.update(|links| links.ancestors = ancestors)?;
    for (uuid, device) in &devices {
        let nvlinks = nvlinks(session, uuid, device, updates)?;
        updates.update(|links| match nvlinks {
            Some(nvlinks) => links.nvlinks.insert((*uuid).clone(), nvlinks),
            None => links.nvlinks.remove(*uuid),
        })?;
    }
    updates.update(|links| {
        links.nvlinks.retain(|uuid, _| gpus.values().any(|gpu| gpu == uuid));
        links.clone()
    })
}

fn common_ancestors(
    session: &Session,
    devices: &[(&Uuid, Device<'_>)],
    updates: &LinkUpdates,
) -> Option<BTreeMap<(Uuid, Uuid), PcieLevel>> {
    let mut ancestors = BTreeMap::new();
    for (at, (a, device)) in devices.iter().enumerate() {
        for (b, other) in &devices[at + 1..] {
            match session.nvml().topology_common_ancestor(device, other) {
                Ok(level) => {
                    ancestors.insert(((*a).clone(), (*b).clone()), pcie_level(level));
                }
                Err(error) => {
                    updates.failed(a, "nvmlDeviceGetTopologyCommonAncestor", &error)?;
                }
            }
        }
    }
    Some(ancestors)
}

/// The NVLinks of a GPU; inside, `None` if they cannot be read.
fn nvlinks(
    session: &Session,
    uuid: &Uuid,
    device: &Device<'_>,
    updates: &LinkUpdates,
) -> Option<Option<Vec<ObservedLink>>> {
    let mut links = Vec::new();
    for number in 0..MOST_LINKS {
        let link = device.link_wrapper_for(number);
        match link.is_active() {
            Ok(true) => links.extend(active_link(session, uuid, device, &link, number, updates)?),
            Ok(false) => {
                links.push(ObservedLink { remote: Remote::Unknown, version: None, active: false });
            }
            // The GPU has no NVLink, or none with this number.
            Err(NvmlError::InvalidArg) => break,
            Err(error) if is_unsupported(&error) => break,
            Err(error) => {
                updates.failed(uuid, "nvmlDeviceGetNvLinkState", &error)?;
                return Some(None);
            }
        }
    }
    Some(Some(links))
}

/// An active NVLink; inside, `None` if it leads to no GPU.
fn active_link(
    session: &Session,
    uuid: &Uuid,
    device: &Device<'_>,
    link: &NvLink<'_, '_>,
    number: u32,
    updates: &LinkUpdates,
) -> Option<Option<ObservedLink>> {
    let version = match link.version() {
        Ok(code) => NvLinkVersion::from_nvml(code),
        Err(error) => {
            updates.failed(uuid, "nvmlDeviceGetNvLinkVersion", &error)?;
            None
        }
    };
    let remote = match raw::remote_device_type(session, device, number) {
        Ok(raw::NVLINK_TO_SWITCH) => Remote::Switch,
        // It leads to the CPU, as on POWER9.
        Ok(raw::NVLINK_TO_CPU) => return Some(None),
        // Whether the type says GPU or is unknown, the bus id tells which GPU it is.
        _ => match link.remote_pci_info() {
            Ok(pci) => pci.bus_id.parse().map_or(Remote::Unknown, Remote::Gpu),
            Err(error) => {
                updates.failed(uuid, "nvmlDeviceGetNvLinkRemotePciInfo_v2", &error)?;
                Remote::Unknown
            }
        },
    };
    Some(Some(ObservedLink { remote, version, active: true }))
}

fn pcie_level(level: TopologyLevel) -> PcieLevel {
    match level {
        TopologyLevel::Internal => PcieLevel::SameBoard,
        TopologyLevel::Single => PcieLevel::SingleSwitch,
        TopologyLevel::Multiple => PcieLevel::MultipleSwitches,
        TopologyLevel::HostBridge => PcieLevel::HostBridge,
        TopologyLevel::Node => PcieLevel::SameNode,
        TopologyLevel::System => PcieLevel::AcrossSystem,
    }
}
