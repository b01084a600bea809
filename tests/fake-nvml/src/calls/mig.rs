//! Partitioning as a GPU and its MIG devices tell it: MIG mode, MIG devices, their attributes.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t, nvmlReturn_t};

use crate::code::{Answer, Code, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED};
use crate::driver::{Device, on_device, on_gpu};
use crate::ffi::{Out, answer};
use crate::handles::Target;
use crate::state::Mig;

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
            let mig = mig_of(device)?;
            current.set(mig.enabled.into())?;
            pending.set(mig.pending.unwrap_or(mig.enabled).into())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetMaxMigDeviceCount", device, |device| {
            let enabled = device.gpu().mig.as_ref().is_some_and(|mig| mig.enabled);
            count.set(device.said.number(if enabled { MAX_MIG_DEVICES } else { 0 }))
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
            let mut mig = device.mig_devices().filter(|(own, _)| *own == index as usize);
            let (_, mig) = mig.next().ok_or(NOT_FOUND)?;
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
unsafe extern "C" fn nvmlDeviceIsMigDeviceHandle(
    device: nvmlDevice_t,
    is_mig: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceIsMigDeviceHandle", device, |device| {
            is_mig.set(device.mig().is_some().into())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(
    device: nvmlDevice_t,
    id: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetGpuInstanceId", device, |device| {
            id.set(device.mig().ok_or(INVALID_ARGUMENT)?.gpu_instance)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(
    device: nvmlDevice_t,
    id: Out<c_uint>,
) -> nvmlReturn_t {
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

/// The partitioning of a GPU that knows such a thing.
pub(super) fn mig_of(device: &Device) -> Result<&Mig, Code> {
    device.gpu().mig.as_ref().ok_or(NOT_SUPPORTED)
}

fn device_attributes(
    function: &str,
    device: nvmlDevice_t,
    attributes: Out<nvmlDeviceAttributes_t>,
) -> Answer {
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
