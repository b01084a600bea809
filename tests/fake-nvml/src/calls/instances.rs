//! Partitioning as it is made: profiles, GPU instances, and the compute instances in them.

use std::collections::BTreeMap;
use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t, nvmlDevice_t,
    nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t,
    nvmlReturn_t,
};

use super::mig::mig_of;
use crate::code::{
    ARGUMENT_VERSION_MISMATCH, Answer, Code, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, UNKNOWN,
};
use crate::driver::{Device, Instance, on_gpu, on_instance};
use crate::ffi::{Out, answer, c_array, struct_version};
use crate::handles::Target;
use crate::mig_profile::MigProfile;
use crate::state::MigDevice;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceProfileInfo(
    device: nvmlDevice_t,
    profile: c_uint,
    info: Out<nvmlGpuInstanceProfileInfo_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGpuInstanceProfileInfo", device, |device| {
            info.set(profile_of(device, profile)?.info())
        })
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
            gpu_instances(device).get(&id).ok_or(NOT_FOUND)?;
            instance.set(device.handle_of(Target::GpuInstance(id)))
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
        on_gpu_instance("nvmlGpuInstanceGetInfo", instance, |instance| {
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
        on_gpu_instance("nvmlGpuInstanceGetComputeInstanceById", instance, |instance| {
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

/// A call on a GPU instance; the handle of a compute instance is not one.
fn on_gpu_instance(
    function: &str,
    instance: nvmlGpuInstance_t,
    body: impl FnOnce(&Instance) -> Answer,
) -> Answer {
    on_instance(function, instance, |instance| match instance.compute_instance {
        None => body(instance),
        Some(_) => Err(INVALID_ARGUMENT),
    })
}

/// A call on a compute instance, with its id; the handle of a GPU instance is not one.
fn on_compute_instance(
    function: &str,
    instance: nvmlComputeInstance_t,
    body: impl FnOnce(&Instance, u32) -> Answer,
) -> Answer {
    on_instance(function, instance, |instance| {
        body(instance, instance.compute_instance.ok_or(INVALID_ARGUMENT)?)
    })
}

/// The GPU instances by id, each with one of its MIG devices.
fn gpu_instances(device: &Device) -> BTreeMap<u32, &MigDevice> {
    device.mig_devices().map(|(_, mig)| (mig.gpu_instance, mig)).collect()
}

fn compute_instances(instance: &Instance) -> impl Iterator<Item = &MigDevice> {
    let devices = instance.device.mig_devices().map(|(_, mig)| mig);
    devices.filter(|mig| mig.gpu_instance == instance.gpu_instance)
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
    on_compute_instance(function, instance, |instance, id| {
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
