//! Reads the facts of GPUs and MIG devices, each by itself: an error of one never keeps the others
//! from being read.

use std::collections::BTreeMap;
use std::path::Path;

use device::gpu::{Clique, Gpu, MigDevice, MigEngines, MigFailure, MigMode, NumaNode, Placement};
use device::health::{NvmlError as CallError, ReturnCode};
use device::inventory::EnumerationEntry;
use device::mig_profile::{MigAttributes, MigProfile};
use device::names::{PciBusId, Uuid};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::DeviceAttributes;

use super::current_call::mark_call;
use super::raw;
use super::session::{NoUuid, Session, call_error, device_uuid, is_unsupported};
use crate::host::{pci, vgpu};

/// NVML's GPU instance profiles are numbered from 0; nvml.h has 18 of them, and this leaves room
/// for those to come.
const PROFILES: u32 = 32;
/// The most MIG devices of a GPU that are read; no GPU has more than 14.
const MOST_MIG_DEVICES: u32 = 64;

/// The GPU at an index of NVML's enumeration.
pub(super) fn identify(session: &Session, index: u32) -> Result<Uuid, NoUuid> {
    session.identify(&device_at(session, index)?)
}

/// Reads the GPU at an index, where this session had `gpu`: it stands for one whose handle is
/// refused now.
pub(super) fn describe(
    session: &Session,
    index: u32,
    gpu: &Uuid,
    sysfs: &Path,
) -> EnumerationEntry {
    let device = device_at(session, index).map_err(NoUuid::Failed);
    match device.and_then(|device| Ok((session.identify(&device)?, device))) {
        Ok((uuid, device)) => EnumerationEntry::Gpu(facts(session, &device, index, uuid, sysfs)),
        Err(why) => EnumerationEntry::Failed { index, uuid: Some(gpu.clone()), error: why.into() },
    }
}

fn device_at(session: &Session, index: u32) -> Result<Device<'_>, CallError> {
    const CALL: &str = "nvmlDeviceGetHandleByIndex_v2";
    mark_call(CALL);
    session.nvml().device_by_index(index).map_err(|error| call_error(CALL, &error))
}

/// Collects the gaps among the facts of one GPU.
#[derive(Default)]
struct Gaps(Vec<CallError>);

impl Gaps {
    /// The answer to a call; `None` if it is not supported, or a gap.
    fn read<T>(
        &mut self,
        call: &'static str,
        ask: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        mark_call(call);
        match ask() {
            Ok(value) => Some(value),
            Err(error) if is_unsupported(&error) => None,
            Err(error) => {
                self.0.push(call_error(call, &error));
                None
            }
        }
    }
}

fn facts(session: &Session, device: &Device<'_>, index: u32, uuid: Uuid, sysfs: &Path) -> Gpu {
    let mut gaps = Gaps::default();
    let pci_bus_id: Option<PciBusId> = gaps
        .read("nvmlDeviceGetPciInfo_v3", || device.pci_info())
        .and_then(|pci| pci.bus_id.parse().ok());
    let compute_capability = gaps
        .read("nvmlDeviceGetCudaComputeCapability", || device.cuda_compute_capability())
        .and_then(|at| Some((u32::try_from(at.major).ok()?, u32::try_from(at.minor).ok()?)));
    // Not version 2 of the call, which drivers before 510 do not have.
    let memory_bytes =
        gaps.read("nvmlDeviceGetMemoryInfo", || raw::memory_bytes(session.nvml(), device));
    let known_gaps = gaps.0.len();
    let mig = gaps.read("nvmlDeviceGetMigMode", || device.mig_mode());
    let mig_capable = mig.is_some();
    let mig_mode = match mig {
        Some(mode) if mode.current == 1 => MigMode::On,
        None if gaps.0.len() > known_gaps => MigMode::Unknown,
        _ => MigMode::Off,
    };
    let (mig_devices, mig_failures) = match mig_mode {
        MigMode::On => mig_devices(session, device, memory_bytes),
        MigMode::Off | MigMode::Unknown => Default::default(),
    };
    Gpu {
        uuid,
        index,
        minor: gaps.read("nvmlDeviceGetMinorNumber", || device.minor_number()),
        name: gaps.read("nvmlDeviceGetName", || device.name()),
        pci_bus_id,
        memory_bytes,
        compute_capability,
        numa_node: pci_bus_id.and_then(|id| numa_node(sysfs, id)),
        pci_class: pci_bus_id.and_then(|id| pci::class(sysfs, id)),
        clique: clique(session, device),
        vgpu_host: pci_bus_id.and_then(|id| vgpu::host(sysfs, id)).map(Box::new),
        mig_capable,
        mig_mode,
        mig_devices,
        mig_failures,
        gaps: gaps.0,
    }
}

/// The NVLink clique of a GPU. That it cannot be read is no gap: its fabric is read at every poll,
/// and what is wrong there is a matter of health.
fn clique(session: &Session, device: &Device<'_>) -> Option<Clique> {
    mark_call("nvmlDeviceGetGpuFabricInfoV");
    raw::fabric(session.nvml(), device).ok().and_then(|(_, clique)| clique)
}

/// The NUMA node of a PCI device, from sysfs. nvmlDeviceGetNumaNodeId does not serve: it answers
/// only where the GPU's own memory is a NUMA node.
fn numa_node(sysfs: &Path, device: PciBusId) -> Option<NumaNode> {
    let file = sysfs.join("bus/pci/devices").join(device.to_string()).join("numa_node");
    NumaNode::from_sysfs(std::fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

/// Reads the MIG devices of a GPU, by their index. NVML leaves gaps between indices.
fn mig_devices(
    session: &Session,
    gpu: &Device<'_>,
    gpu_memory_bytes: Option<u64>,
) -> (Vec<MigDevice>, Vec<MigFailure>) {
    const COUNT: &str = "nvmlDeviceGetMaxMigDeviceCount";
    const HANDLE: &str = "nvmlDeviceGetMigDeviceHandleByIndex";
    mark_call(COUNT);
    let (mut devices, mut failures, mut profiles) = (Vec::new(), Vec::new(), None);
    let count = gpu.mig_device_count().map_err(|error| call_error(COUNT, &error));
    // A number that no GPU has is no answer; the devices that there are, are read all the same.
    let error = match &count {
        Ok(count) if *count > MOST_MIG_DEVICES => {
            Some(CallError { call: COUNT, code: ReturnCode::UNKNOWN })
        }
        Ok(_) => None,
        Err(error) => Some(error.clone()),
    };
    failures.extend(error.map(|error| MigFailure { index: None, error }));
    for index in 0..count.unwrap_or(0).min(MOST_MIG_DEVICES) {
        mark_call(HANDLE);
        let read = match gpu.mig_device_by_index(index) {
            Err(NvmlError::NotFound) => continue,
            Err(error) => Err(call_error(HANDLE, &error)),
            Ok(device) => {
                let profiles = profiles.get_or_insert_with(|| profiles_by_id(session, gpu));
                mig_device(session, gpu, &device, index, profiles, gpu_memory_bytes)
            }
        };
        match read {
            Ok(device) => devices.push(device),
            Err(error) => failures.push(MigFailure { index: Some(index), error }),
        }
    }
    (devices, failures)
}

/// Reads a MIG device. Its UUID and placement must be known; other facts may be missing.
fn mig_device(
    session: &Session,
    gpu: &Device<'_>,
    device: &Device<'_>,
    index: u32,
    profiles: &BTreeMap<u32, u32>,
    gpu_memory_bytes: Option<u64>,
) -> Result<MigDevice, CallError> {
    let uuid = device_uuid(device)?;
    let placement = placement(session, device)?;
    mark_call("nvmlDeviceGetAttributes_v2");
    let attributes = attributes(device);
    let engines = attributes.as_ref().map(engines);
    mark_call("nvmlGpuInstanceGetInfo");
    let profile_id = raw::gpu_instance_profile_id(session.nvml(), gpu, placement.gpu_instance).ok();
    let constant = profile_id.and_then(|id| profiles.get(&id)).copied();
    let attributes = attributes.map(|attributes| MigAttributes {
        gpu_instance_profile: constant,
        gpu_slices: attributes.gpu_instance_slice_count,
        compute_slices: attributes.compute_instance_slice_count,
        memory_mib: attributes.memory_size_mb,
        gpu_memory_bytes: gpu_memory_bytes.unwrap_or(0),
    });
    Ok(MigDevice {
        uuid,
        index,
        placement,
        gpu_slices: attributes.as_ref().map_or(0, |attributes| attributes.gpu_slices),
        compute_slices: attributes.as_ref().map_or(0, |attributes| attributes.compute_slices),
        memory_mib: attributes.as_ref().map_or(0, |attributes| attributes.memory_mib),
        profile: profile(device, attributes.as_ref()).map(|profile| profile.to_string()),
        engines,
    })
}

fn placement(session: &Session, device: &Device<'_>) -> Result<Placement, CallError> {
    Ok(Placement {
        gpu_instance: raw::gpu_instance_id(session.nvml(), device)
            .map_err(|error| call_error("nvmlDeviceGetGpuInstanceId", &error))?,
        compute_instance: raw::compute_instance_id(session.nvml(), device)
            .map_err(|error| call_error("nvmlDeviceGetComputeInstanceId", &error))?,
    })
}

/// The attributes of a MIG device. Without them its name says what it is.
fn attributes(device: &Device<'_>) -> Option<DeviceAttributes> {
    let count = |error| call_error("nvmlDeviceGetAttributes_v2", &error);
    device.attributes().map_err(count).ok()
}

fn engines(attributes: &DeviceAttributes) -> MigEngines {
    MigEngines {
        multiprocessors: attributes.multiprocessor_count,
        copy: attributes.shared_copy_engine_count,
        decoder: attributes.shared_decoder_count,
        encoder: attributes.shared_encoder_count,
        jpeg: attributes.shared_jpeg_count,
        ofa: attributes.shared_ofa_count,
    }
}

/// The profile of a MIG device, by its attributes and by the device's name. Without the constant of
/// its GPU instance profile it cannot be told from others of its size by the attributes: then the
/// name comes first.
fn profile(device: &Device<'_>, attributes: Option<&MigAttributes>) -> Option<MigProfile> {
    let computed = || attributes.and_then(MigProfile::of);
    let named = || device.name().ok().as_deref().and_then(MigProfile::in_name);
    match attributes.and_then(|attributes| attributes.gpu_instance_profile) {
        Some(_) => computed().or_else(named),
        None => named().or_else(computed),
    }
}

/// NVML's constant of each GPU instance profile of a GPU, by profile id. The ids differ between GPU
/// models; only this table maps them.
fn profiles_by_id(session: &Session, gpu: &Device<'_>) -> BTreeMap<u32, u32> {
    let id =
        |constant| Some((raw::gpu_instance_profile(session.nvml(), gpu, constant).ok()?, constant));
    (0..PROFILES).filter_map(id).collect()
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
