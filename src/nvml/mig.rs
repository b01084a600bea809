//! Reads the MIG devices of a GPU, each by itself: an error of one never keeps the others from
//! being read.

use std::collections::BTreeMap;

use device::gpu::{MigDevice, MigFailure, Placement};
use device::health::NvmlError as CallError;
use device::mig_profile::{MigAttributes, MigProfile};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::DeviceAttributes;

use super::device_uuid::device_uuid;
use super::raw;
use super::session::{Session, call_error, is_unsupported};

/// NVML's GPU instance profiles are numbered from 0; nvml.h has 18 of them, and this leaves room
/// for those to come.
const PROFILES: u32 = 32;

/// The MIG devices of a GPU that could be read, and the failures of the others.
pub(super) type Listed = (Vec<MigDevice>, Vec<MigFailure>);

/// Reads the MIG devices of a GPU with MIG mode on, by their index. NVML leaves gaps between
/// indices.
pub(super) fn enumerate(
    session: &Session,
    gpu: &Device<'_>,
    gpu_memory_bytes: Option<u64>,
) -> Listed {
    const COUNT: &str = "nvmlDeviceGetMaxMigDeviceCount";
    let (mut devices, mut failures) = Listed::default();
    let count = match gpu.mig_device_count() {
        Ok(count) => count,
        Err(error) => {
            failures.push(MigFailure { index: None, error: call_error(COUNT, &error) });
            return (devices, failures);
        }
    };
    let mut profiles = None;
    for index in 0..count {
        let device = match gpu.mig_device_by_index(index) {
            Ok(device) => device,
            Err(NvmlError::NotFound) => continue,
            Err(error) => {
                let error = call_error("nvmlDeviceGetMigDeviceHandleByIndex", &error);
                failures.push(MigFailure { index: Some(index), error });
                continue;
            }
        };
        let profiles = profiles.get_or_insert_with(|| profiles_by_id(session, gpu));
        match read(session, gpu, &device, index, profiles, gpu_memory_bytes) {
            Ok(device) => devices.push(device),
            Err(error) => failures.push(MigFailure { index: Some(index), error }),
        }
    }
    (devices, failures)
}

/// Reads a MIG device. Its UUID and placement must be known; other facts may be missing.
fn read(
    session: &Session,
    gpu: &Device<'_>,
    device: &Device<'_>,
    index: u32,
    profiles: &BTreeMap<u32, u32>,
    gpu_memory_bytes: Option<u64>,
) -> Result<MigDevice, CallError> {
    let uuid = device_uuid(device)?;
    let placement = placement(session, device)?;
    let attributes = attributes(device)?;
    let profile_id = raw::gpu_instance_profile_id(session, gpu, placement.gpu_instance).ok();
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
    })
}

fn placement(session: &Session, device: &Device<'_>) -> Result<Placement, CallError> {
    Ok(Placement {
        gpu_instance: raw::gpu_instance_id(session, device)
            .map_err(|error| call_error("nvmlDeviceGetGpuInstanceId", &error))?,
        compute_instance: raw::compute_instance_id(session, device)
            .map_err(|error| call_error("nvmlDeviceGetComputeInstanceId", &error))?,
    })
}

fn attributes(device: &Device<'_>) -> Result<Option<DeviceAttributes>, CallError> {
    match device.attributes() {
        Ok(attributes) => Ok(Some(attributes)),
        Err(error) if is_unsupported(&error) => Ok(None),
        Err(error) => Err(call_error("nvmlDeviceGetAttributes_v2", &error)),
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
    let id = |constant| Some((raw::gpu_instance_profile(session, gpu, constant).ok()?, constant));
    (0..PROFILES).filter_map(id).collect()
}
