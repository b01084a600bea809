//! The MIG devices of a GPU, each on its own: what one answers never keeps the others from being
//! read.

use std::collections::BTreeMap;

use device::gpu::{MigDevice, MigFailure, Placement};
use device::health::NvmlError as CallError;
use device::mig_profile::{MigAttributes, MigProfile};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::session::{Session, call_error, is_unsupported};
use super::{discovery, raw};

/// NVML's GPU instance profiles are numbered from 0; nvml.h has 18 of them, and this leaves room
/// for those to come.
const PROFILES: u32 = 32;

/// What there is on a GPU: the devices that say who they are, and the failures of the others.
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

/// Who it is and where it sits have to be known; what it is merge may be missing.
fn read(
    session: &Session,
    gpu: &Device<'_>,
    device: &Device<'_>,
    index: u32,
    profiles: &BTreeMap<u32, u32>,
    gpu_memory_bytes: Option<u64>,
) -> Result<MigDevice, CallError> {
    let uuid = discovery::uuid(device)?;
    let placement = Placement {
        gpu_instance: raw::gpu_instance_id(session, device)
            .map_err(|error| call_error("nvmlDeviceGetGpuInstanceId", &error))?,
        compute_instance: raw::compute_instance_id(session, device)
            .map_err(|error| call_error("nvmlDeviceGetComputeInstanceId", &error))?,
    };
    let attributes = match device.attributes() {
        Ok(attributes) => Some(attributes),
        Err(error) if is_unsupported(&error) => None,
        Err(error) => return Err(call_error("nvmlDeviceGetAttributes_v2", &error)),
    };
    let constant = raw::gpu_instance_profile_id(session, gpu, placement.gpu_instance).ok();
    let constant = constant.and_then(|id| profiles.get(&id)).copied();
    let described = attributes.as_ref().map(|attributes| MigAttributes {
        gpu_instance_profile: constant,
        gpu_slices: attributes.gpu_instance_slice_count,
        compute_slices: attributes.compute_instance_slice_count,
        memory_mib: attributes.memory_size_mb,
        gpu_memory_bytes: gpu_memory_bytes.unwrap_or(0),
    });
    let computed = || described.as_ref().and_then(MigProfile::of);
    let named = || device.name().ok().as_deref().and_then(MigProfile::in_name);
    // Without its number a profile cannot be told from others of its size: then the driver's word
    // comes first.
    let profile = match constant {
        Some(_) => computed().or_else(named),
        None => named().or_else(computed),
    };
    Ok(MigDevice {
        uuid,
        index,
        placement,
        gpu_slices: described.map_or(0, |described| described.gpu_slices),
        compute_slices: described.map_or(0, |described| described.compute_slices),
        memory_mib: described.map_or(0, |described| described.memory_mib),
        profile: profile.map(|profile| profile.to_string()),
    })
}

/// NVML's constant of each GPU instance profile that the GPU has, by the id that its instances
/// carry. The ids are the model's own; only this table tells what they stand for.
fn profiles_by_id(session: &Session, gpu: &Device<'_>) -> BTreeMap<u32, u32> {
    let id = |constant| Some((raw::gpu_instance_profile(session, gpu, constant).ok()?, constant));
    (0..PROFILES).filter_map(id).collect()
}
