//! Partitioning: MIG mode, MIG devices, GPU instances and compute instances.

use std::collections::BTreeMap;
use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t, nvmlDevice_t,
    nvmlDeviceAttributes_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t, nvmlReturn_t,
};

use crate::code::{ARGUMENT_VERSION_MISMATCH, Answer, Code, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, UNKNOWN};
use crate::driver::{Device, Instance, on_device, on_gpu, on_instance};
use crate::ffi::{Out, answer, c_array, struct_version};
use crate::handles::Target;
use crate::mig_profile::MigProfile;
use crate::state::{Mig, MigDevice};

/// No GPU can be cut into more.
const MAX_MIG_DEVICES: c_uint = 7;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: Out<c_uint>,
    pending: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetMigMode", device, |device| {
            let enabled = mig_of(device)?.enabled.into();
            current.set(enabled)?;
            pending.set(enabled)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: Out<c_uint>) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetMaxMigDeviceCount", device, |device| {
            let enabled = device.gpu().mig.as_ref().is_some_and(|mig| mig.enabled);
            count.set(if enabled { MAX_MIG_DEVICES } else { 0 })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    mig_device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetMigDeviceHandleByIndex", device, |device| {
            mig_of(device)?;
            let mig = device.mig_devices().nth(index as usize).ok_or(NOT_FOUND)?;
            mig_device.set(device.handle_of(Target::Mig(mig.uuid.clone())))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    mig_device: nvmlDevice_t,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", mig_device, |mig_device| {
            mig_device.mig().ok_or(INVALID_ARGUMENT)?;
            device.set(mig_device.handle_of(Target::Gpu))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, is_mig: Out<c_uint>) -> nvmlReturn_t {
    answer(|| on_device("nvmlDeviceIsMigDeviceHandle", device, |device| is_mig.set(device.mig().is_some().into())))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: Out<c_uint>) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetGpuInstanceId", device, |device| {
            id.set(device.mig().ok_or(INVALID_ARGUMENT)?.gpu_instance)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(device: nvmlDevice_t, id: Out<c_uint>) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetComputeInstanceId", device, |device| {
            id.set(device.mig().ok_or(INVALID_ARGUMENT)?.compute_instance)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nvmlDevice_t,
    attributes: Out<nvmlDeviceAttributes_t>,
) -> nvmlReturn_t {
    answer(|| device_attributes("nvmlDeviceGetAttributes_v2", device, attributes))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetAttributes(
    device: nvmlDevice_t,
    attributes: Out<nvmlDeviceAttributes_t>,
) -> nvmlReturn_t {
    answer(|| device_attributes("nvmlDeviceGetAttributes", device, attributes))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceProfileInfo(
    device: nvmlDevice_t,
    profile: c_uint,
    info: Out<nvmlGpuInstanceProfileInfo_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGpuInstanceProfileInfo", device, |device| info.set(profile_of(device, profile)?.info()))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceProfileInfoV(
    device: nvmlDevice_t,
    profile: c_uint,
    info: Out<nvmlGpuInstanceProfileInfo_v2_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGpuInstanceProfileInfoV", device, |device| {
            versioned_info(&profile_of(device, profile)?, info)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceById(
    device: nvmlDevice_t,
    id: c_uint,
    instance: Out<nvmlGpuInstance_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGpuInstanceById", device, |device| {
            mig_of(device)?;
            if device.mig_devices().any(|mig| mig.gpu_instance == id) {
                instance.set(device.handle_of(Target::GpuInstance(id)))
            } else {
                Err(NOT_FOUND)
            }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstances(
    device: nvmlDevice_t,
    profile_id: c_uint,
    instances: Out<nvmlGpuInstance_t>,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGpuInstances", device, |device| {
            mig_of(device)?;
            let of_profile = gpu_instances(device)
                .into_iter()
                .filter(|(_, mig)| MigProfile::id_of(mig.gpu_instance_profile) == profile_id);
            let mut found = 0;
            for (index, (id, _)) in of_profile.enumerate() {
                instances.set_at(index, device.handle_of(Target::GpuInstance(id)))?;
                found += 1;
            }
            count.set(found)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpuInstanceGetInfo(
    instance: nvmlGpuInstance_t,
    info: Out<nvmlGpuInstanceInfo_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_instance("nvmlGpuInstanceGetInfo", instance, |instance| {
            if instance.compute_instance.is_some() {
                return Err(INVALID_ARGUMENT);
            }
            info.set(gpu_instance_info(instance)?)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpuInstanceGetComputeInstanceById(
    instance: nvmlGpuInstance_t,
    id: c_uint,
    compute_instance: Out<nvmlComputeInstance_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_instance("nvmlGpuInstanceGetComputeInstanceById", instance, |instance| {
            if instance.compute_instance.is_some() {
                return Err(INVALID_ARGUMENT);
            }
            compute_instances(instance).find(|mig| mig.compute_instance == id).ok_or(NOT_FOUND)?;
            let target = Target::ComputeInstance { gpu_instance: instance.gpu_instance, id };
            compute_instance.set(instance.device.handle_of(target))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlComputeInstanceGetInfo_v2(
    instance: nvmlComputeInstance_t,
    info: Out<nvmlComputeInstanceInfo_t>,
) -> nvmlReturn_t {
    answer(|| compute_instance_info("nvmlComputeInstanceGetInfo_v2", instance, info))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlComputeInstanceGetInfo(
    instance: nvmlComputeInstance_t,
    info: Out<nvmlComputeInstanceInfo_t>,
) -> nvmlReturn_t {
    answer(|| compute_instance_info("nvmlComputeInstanceGetInfo", instance, info))
}

fn mig_of(device: &Device) -> Result<&Mig, Code> {
    device.gpu().mig.as_ref().ok_or(NOT_SUPPORTED)
}

fn device_attributes(function: &str, device: nvmlDevice_t, attributes: Out<nvmlDeviceAttributes_t>) -> Answer {
    on_device(function, device, |device| {
        let mig = device.mig().ok_or(NOT_SUPPORTED)?;
        attributes.set(nvmlDeviceAttributes_t {
            multiprocessorCount: mig.multiprocessors,
            sharedCopyEngineCount: mig.gpu_slices,
            sharedDecoderCount: mig.gpu_slices,
            sharedEncoderCount: 0,
            sharedJpegCount: mig.gpu_slices,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: mig.gpu_slices,
            computeInstanceSliceCount: mig.compute_slices,
            memorySizeMB: mig.memory_mib,
        })
    })
}

fn profile_of(device: &Device, profile: c_uint) -> Result<MigProfile, Code> {
    mig_of(device)?;
    MigProfile::of(device.gpu(), profile).ok_or(if profile < MigProfile::COUNT {
        NOT_SUPPORTED
    } else {
        INVALID_ARGUMENT
    })
}

/// Writes the struct that the caller's version word asks for.
fn versioned_info(profile: &MigProfile, out: Out<nvmlGpuInstanceProfileInfo_v2_t>) -> Answer {
    let version = out.cast::<c_uint>().get()?;
    let info = profile.info();
    let name = c_array(&format!("MIG {}", profile.name));
    if version == struct_version::<nvmlGpuInstanceProfileInfo_v2_t>(2) {
        out.set(nvmlGpuInstanceProfileInfo_v2_t {
            version,
            id: info.id,
            isP2pSupported: info.isP2pSupported,
            sliceCount: info.sliceCount,
            instanceCount: info.instanceCount,
            multiprocessorCount: info.multiprocessorCount,
            copyEngineCount: info.copyEngineCount,
            decoderCount: info.decoderCount,
            encoderCount: info.encoderCount,
            jpegCount: info.jpegCount,
            ofaCount: info.ofaCount,
            memorySizeMB: info.memorySizeMB,
            name,
        })
    } else if version == struct_version::<nvmlGpuInstanceProfileInfo_v3_t>(3) {
        out.cast().set(nvmlGpuInstanceProfileInfo_v3_t {
            version,
            id: info.id,
            sliceCount: info.sliceCount,
            instanceCount: info.instanceCount,
            multiprocessorCount: info.multiprocessorCount,
            copyEngineCount: info.copyEngineCount,
            decoderCount: info.decoderCount,
            encoderCount: info.encoderCount,
            jpegCount: info.jpegCount,
            ofaCount: info.ofaCount,
            memorySizeMB: info.memorySizeMB,
            name,
            capabilities: 0,
        })
    } else {
        Err(ARGUMENT_VERSION_MISMATCH)
    }
}

/// The GPU instances by id, each with one of its MIG devices.
fn gpu_instances(device: &Device) -> BTreeMap<u32, &MigDevice> {
    device.mig_devices().map(|mig| (mig.gpu_instance, mig)).collect()
}

fn compute_instances(instance: &Instance) -> impl Iterator<Item = &MigDevice> {
    instance.device.mig_devices().filter(|mig| mig.gpu_instance == instance.gpu_instance)
}

fn gpu_instance_info(instance: &Instance) -> Result<nvmlGpuInstanceInfo_t, Code> {
    let instances = gpu_instances(&instance.device);
    let mig = instances.get(&instance.gpu_instance).ok_or(NOT_FOUND)?;
    let eighths = |mig: &MigDevice| MigProfile::eighths_of(mig.gpu_instance_profile);
    // Side by side in the order of their ids: the file says nothing of placement.
    let start = instances.range(..instance.gpu_instance).map(|(_, mig)| eighths(mig)).sum();
    Ok(nvmlGpuInstanceInfo_t {
        device: instance.device.handle_of(Target::Gpu),
        id: instance.gpu_instance,
        profileId: MigProfile::id_of(mig.gpu_instance_profile),
        placement: nvmlGpuInstancePlacement_t { start, size: eighths(mig) },
    })
}

fn compute_instance_info(
    function: &str,
    instance: nvmlComputeInstance_t,
    info: Out<nvmlComputeInstanceInfo_t>,
) -> Answer {
    on_instance(function, instance, |instance| {
        let id = instance.compute_instance.ok_or(INVALID_ARGUMENT)?;
        let own = |mig: &&MigDevice| mig.compute_instance == id;
        let mig = compute_instances(instance).find(own).ok_or(NOT_FOUND)?;
        let before = compute_instances(instance).filter(|other| other.compute_instance < id);
        info.set(nvmlComputeInstanceInfo_t {
            device: instance.device.handle_of(Target::Gpu),
            gpuInstance: instance.device.handle_of(Target::GpuInstance(instance.gpu_instance)),
            id,
            profileId: compute_profile(mig.compute_slices)?,
            placement: nvmlComputeInstancePlacement_t {
                start: before.map(|other| other.compute_slices).sum(),
                size: mig.compute_slices,
            },
        })
    })
}

/// `NVML_COMPUTE_INSTANCE_PROFILE_*` by compute slices.
fn compute_profile(slices: u32) -> Result<c_uint, Code> {
    match slices {
        1..=4 => Ok(slices - 1),
        7 => Ok(4),
        8 => Ok(5),
        6 => Ok(6),
        _ => Err(UNKNOWN),
    }
}
