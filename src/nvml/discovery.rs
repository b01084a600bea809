//! Identifies the GPUs of an enumeration, each by itself: an error of one never keeps the others
//! from being identified.

use std::path::Path;

use device::gpu::{Gpu, NumaNode};
use device::health::NvmlError as CallError;
use device::inventory::EnumerationEntry;
use device::names::{PciBusId, Uuid};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::device_uuid::device_uuid;
use super::event_registry::EventRegistry;
use super::mig;
use super::session::{Session, call_error, is_unsupported};
use super::worker_pool::mark_call;

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
    match facts(session, &device, index, uuid.clone(), sysfs) {
        Ok(gpu) => EnumerationEntry::Gpu(gpu),
        Err(error) => failed(index, Some(uuid), error),
    }
}

fn failed(index: u32, uuid: Option<Uuid>, error: CallError) -> EnumerationEntry {
    EnumerationEntry::Failed { index, uuid, error }
}

/// Reads the facts of a GPU. A fact that it or the library does not support is missing; any other
/// error is an error of the GPU.
fn facts(
    session: &Session,
    device: &Device<'_>,
    index: u32,
    uuid: Uuid,
    sysfs: &Path,
) -> Result<Gpu, CallError> {
    let pci_bus_id: Option<PciBusId> = supported("nvmlDeviceGetPciInfo_v3", device.pci_info())?
        .and_then(|pci| pci.bus_id.parse().ok());
    let compute_capability =
        supported("nvmlDeviceGetCudaComputeCapability", device.cuda_compute_capability())?
            .and_then(|at| Some((u32::try_from(at.major).ok()?, u32::try_from(at.minor).ok()?)));
    let memory_bytes =
        supported("nvmlDeviceGetMemoryInfo_v2", device.memory_info())?.map(|memory| memory.total);
    let mig_enabled =
        supported("nvmlDeviceGetMigMode", device.mig_mode())?.is_some_and(|mode| mode.current == 1);
    let (mig_devices, mig_failures) = if mig_enabled {
        mig::enumerate(session, device, memory_bytes)
    } else {
        Default::default()
    };
    Ok(Gpu {
        uuid,
        index,
        minor: supported("nvmlDeviceGetMinorNumber", device.minor_number())?,
        name: supported("nvmlDeviceGetName", device.name())?,
        pci_bus_id,
        memory_bytes,
        compute_capability,
        numa_node: pci_bus_id.and_then(|id| numa_node(sysfs, id)),
        mig_enabled,
        mig_devices,
        mig_failures,
    })
}

/// The answer to a call; `None` if the call is not supported.
fn supported<T>(call: &'static str, answer: Result<T, NvmlError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_unsupported(&error) => Ok(None),
        Err(error) => Err(call_error(call, &error)),
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
