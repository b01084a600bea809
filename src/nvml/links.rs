//! Reads how the GPUs are linked, one GPU a job: a call that hangs keeps the links of its GPU from
//! being known, and nothing else.
//!
//! What cannot be read is left out and logged once: placement is then less exact, which is no
//! failure.

use std::collections::{BTreeMap, BTreeSet};

use device::health::NvmlError as CallError;
use device::names::Uuid;
use device::topology::{NodeLinks, NvLinkVersion, ObservedLink, PcieLevel, Remote};
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::TopologyLevel;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::nv_link::NvLink;

use super::current_call::mark_call;
use super::raw;
use super::session::{Session, call_error, is_unsupported};
use super::shared_session::SharedSession;

/// The most NVLinks that are read of a GPU, twice as many as any GPU has (NVML_NVLINK_MAX_LINKS is
/// 18). Calls about a GPU end at the first number that it does not have.
const MOST_LINKS: u32 = 36;

/// The links of one GPU.
#[derive(Debug, Default)]
pub(super) struct GpuLinks {
    /// The nearest common ancestor with each of the other GPUs.
    pub(super) ancestors: BTreeMap<Uuid, PcieLevel>,
    /// Its NVLinks; `None` if they cannot be read.
    pub(super) nvlinks: Option<Vec<ObservedLink>>,
    /// Calls that failed.
    pub(super) failures: BTreeSet<CallError>,
}

/// Reads the links of a GPU, its PCIe topology to the `others` first.
pub(super) fn read(shared: &SharedSession, gpu: &Uuid, others: &BTreeSet<Uuid>) -> GpuLinks {
    let mut links = GpuLinks::default();
    // A GPU without a handle is reported by the enumeration.
    if let Ok(open) = shared.get()
        && let Some(device) = open.session.device(gpu)
    {
        links.read_ancestors(&open.session, &device, others);
        links.nvlinks = links.read_nvlinks(&open.session, &device);
    }
    links
}

impl GpuLinks {
    /// Adds them to the links of the node.
    pub(super) fn add_to(self, node: &mut NodeLinks, gpu: &Uuid) {
        for (other, level) in self.ancestors {
            let pair = if *gpu < other { (gpu.clone(), other) } else { (other, gpu.clone()) };
            node.ancestors.insert(pair, level);
        }
        match self.nvlinks {
            Some(links) => drop(node.nvlinks.insert(gpu.clone(), links)),
            None => drop(node.nvlinks.remove(gpu)),
        }
    }

    fn read_ancestors(&mut self, session: &Session, device: &Device<'_>, others: &BTreeSet<Uuid>) {
        const CALL: &str = "nvmlDeviceGetTopologyCommonAncestor";
        for other in others {
            let Some(device_of_other) = session.device(other) else { continue };
            mark_call(CALL);
            match session.nvml().topology_common_ancestor(device, &device_of_other) {
                Ok(level) => drop(self.ancestors.insert(other.clone(), pcie_level(level))),
                Err(error) => self.failed(CALL, &error),
            }
        }
    }

    fn read_nvlinks(
        &mut self,
        session: &Session,
        device: &Device<'_>,
    ) -> Option<Vec<ObservedLink>> {
        const CALL: &str = "nvmlDeviceGetNvLinkState";
        let mut links = Vec::new();
        for number in 0..MOST_LINKS {
            let link = device.link_wrapper_for(number);
            mark_call(CALL);
            match link.is_active() {
                Ok(true) => links.extend(self.active_link(session, device, &link, number)),
                Ok(false) => {
                    let remote = Remote::Unknown;
                    links.push(ObservedLink { remote, version: None, active: false });
                }
                // The GPU has no NVLink, or none with this number.
                Err(NvmlError::InvalidArg) => break,
                Err(error) if is_unsupported(&error) => break,
                Err(error) => {
                    self.failed(CALL, &error);
                    return None;
                }
            }
        }
        Some(links)
    }

    /// An active NVLink; `None` if it leads to no GPU.
    fn active_link(
        &mut self,
        session: &Session,
        device: &Device<'_>,
        link: &NvLink<'_, '_>,
        number: u32,
    ) -> Option<ObservedLink> {
        mark_call("nvmlDeviceGetNvLinkVersion");
        let version = match link.version() {
            Ok(code) => NvLinkVersion::from_nvml(code),
            Err(error) => {
                self.failed("nvmlDeviceGetNvLinkVersion", &error);
                None
            }
        };
        mark_call("nvmlDeviceGetNvLinkRemoteDeviceType");
        let remote = match raw::remote_device_type(session.nvml(), device, number) {
            Ok(raw::NVLINK_TO_SWITCH) => Remote::Switch,
            // It leads to the CPU, as on POWER9.
            Ok(raw::NVLINK_TO_CPU) => return None,
            // Whether the type says GPU or is unknown, the bus id tells which GPU it is.
            _ => self.remote_gpu(link),
        };
        Some(ObservedLink { remote, version, active: true })
    }

    fn remote_gpu(&mut self, link: &NvLink<'_, '_>) -> Remote {
        const CALL: &str = "nvmlDeviceGetNvLinkRemotePciInfo_v2";
        mark_call(CALL);
        match link.remote_pci_info() {
            Ok(pci) => pci.bus_id.parse().map_or(Remote::Unknown, Remote::Gpu),
            Err(error) => {
                self.failed(CALL, &error);
                Remote::Unknown
            }
        }
    }

    fn failed(&mut self, call: &'static str, error: &NvmlError) {
        if !is_unsupported(error) {
            self.failures.insert(call_error(call, error));
        }
    }
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
