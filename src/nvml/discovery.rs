//! Identifies the GPUs of an enumeration, each by itself: an error of one never keeps the others
//! from being identified.

use std::path::Path;

use device::gpu::{Gpu, MigMode, NumaNode};
use device::health::NvmlError as CallError;
use device::inventory::EnumerationEntry;
use device::names::{PciBusId, Uuid};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::device_uuid::device_uuid;
use super::event_registry::EventRegistry;
use super::session::{Session, call_error, is_unsupported};
use super::worker_pool::mark_call;
use super::{mig, raw};

/// Reads the GPU at an index of NVML's enumeration, and registers it for events.
///
/// `known` is the GPU at that index in the last enumeration, if that had as many GPUs: it stands
/// for a GPU that no longer answers with its UUID.
pub(super) fn identify(
    session: &Session,
    registry: Option<&EventRegistry>,
    index: u32,
    known: Option<Uuid>,
    sysfs: &Path,
) -> EnumerationEntry {
    const CALL: &str = "nvmlDeviceGetHandleByIndex_v2";
    mark_call(CALL);
    let device = match session.nvml().device_by_index(index) {
        Ok(device) => device,
        Err(error) => return failed(index, known, call_error(CALL, &error)),
    };
    let uuid = match device_uuid(&device) {
        Ok(uuid) => uuid,
        Err(error) => return failed(index, known, error),
    };
    if let Some(registry) = registry {
        registry.register(session, &device, &uuid, index);
    }
    mark_call("a call of the enumeration");
    EnumerationEntry::Gpu(facts(session, &device, index, uuid, sysfs))
}

fn failed(index: u32, uuid: Option<Uuid>, error: CallError) -> EnumerationEntry {
    EnumerationEntry::Failed { index, uuid, error }
}

/// Reads the facts of a GPU, each by itself: one that is refused or fails is a gap.
fn facts(session: &Session, device: &Device<'_>, index: u32, uuid: Uuid, sysfs: &Path) -> Gpu {
    let mut gaps = Vec::new();
    let mut fact = Facts(&mut gaps);
    let pci_bus_id: Option<PciBusId> = fact
        .read("nvmlDeviceGetPciInfo_v3", device.pci_info())
        .and_then(|pci| pci.bus_id.parse().ok());
    let compute_capability = fact
        .read("nvmlDeviceGetCudaComputeCapability", device.cuda_compute_capability())
        .and_then(|at| Some((u32::try_from(at.major).ok()?, u32::try_from(at.minor).ok()?)));
    let memory_bytes = fact.read("nvmlDeviceGetMemoryInfo", raw::memory_bytes(session, device));
    let mig_mode = match device.mig_mode() {
        Ok(mode) if mode.current == 1 => MigMode::On,
        Ok(_) => MigMode::Off,
        Err(error) if is_unsupported(&error) => MigMode::Off,
        Err(error) => {
            fact.failed("nvmlDeviceGetMigMode", &error);
            MigMode::Unknown
        }
    };
    let (mig_devices, mig_failures) = match mig_mode {
        MigMode::On => mig::enumerate(session, device, memory_bytes),
        MigMode::Off | MigMode::Unknown => Default::default(),
    };
    Gpu {
        uuid,
        index,
        minor: fact.read("nvmlDeviceGetMinorNumber", device.minor_number()),
        name: fact.read("nvmlDeviceGetName", device.name()),
        pci_bus_id,
        memory_bytes,
        compute_capability,
        numa_node: pci_bus_id.and_then(|id| numa_node(sysfs, id)),
        mig_mode,
        mig_devices,
        mig_failures,
        gaps,
    }
}

/// Collects the gaps among the facts of one GPU.
struct Facts<'a>(&'a mut Vec<CallError>);

impl Facts<'_> {
    /// The answer to a call; `None` if it is not supported, or a gap.
    fn read<T>(&mut self, call: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
        answer.map_err(|error| self.failed(call, &error)).ok()
    }

    fn failed(&mut self, call: &'static str, error: &NvmlError) {
        if !is_unsupported(error) {
            self.0.push(call_error(call, error));
        }
    }
}

/// The NUMA node of a PCI device, from sysfs. nvmlDeviceGetNumaNodeId does not serve: it answers
/// only where the GPU's own memory is a NUMA node.
fn numa_node(sysfs: &Path, device: PciBusId) -> Option<NumaNode> {
    let file = sysfs.join("bus/pci/devices").join(device.to_string()).join("numa_node");
    NumaNode::from_sysfs(std::fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numa_node_is_a_number_that_is_not_negative() {
        let sysfs = tempfile::tempdir().unwrap();
        let device: PciBusId = "00000000:1B:00.0".parse().unwrap();
        let directory = sysfs.path().join("bus/pci/devices/0000:1b:00.0");
        assert_eq!(numa_node(sysfs.path(), device), None, "nothing there");
        std::fs::create_dir_all(&directory).unwrap();
        for (text, expected) in
            [("1\n", Some(1)), ("0", Some(0)), ("-1\n", None), ("", None), ("one", None)]
        {
            std::fs::write(directory.join("numa_node"), text).unwrap();
            assert_eq!(numa_node(sysfs.path(), device).map(NumaNode::number), expected, "{text:?}");
        }
    }
}
