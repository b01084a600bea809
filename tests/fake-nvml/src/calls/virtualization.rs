//! Confidential computing, and what a virtual GPU says of itself.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    NVML_CC_SYSTEM_ENVIRONMENT_PROD, nvmlConfComputeSystemState_t, nvmlDevice_t,
    nvmlGpuVirtualizationMode_t, nvmlGridLicensableFeatures_t, nvmlReturn_t,
};

use crate::code::NOT_SUPPORTED;
use crate::driver::{on_gpu, on_node};
use crate::ffi::{Out, answer};

/// `NVML_GPU_VIRTUALIZATION_MODE_NONE` and `..._VGPU`.
const NONE: nvmlGpuVirtualizationMode_t = 0;
const VGPU: nvmlGpuVirtualizationMode_t = 2;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetConfComputeState(
    state: Out<nvmlConfComputeSystemState_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_node("nvmlSystemGetConfComputeState", |node, _| {
            state.set(nvmlConfComputeSystemState_t {
                environment: NVML_CC_SYSTEM_ENVIRONMENT_PROD,
                ccFeature: node.driver.accepts_work.is_some().into(),
                devToolsMode: 0,
            })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetConfComputeGpusReadyState(
    accepts_work: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_node("nvmlSystemGetConfComputeGpusReadyState", |node, _| {
            accepts_work.set(node.driver.accepts_work.ok_or(NOT_SUPPORTED)?.into())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetVirtualizationMode(
    device: nvmlDevice_t,
    mode: Out<nvmlGpuVirtualizationMode_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetVirtualizationMode", device, |device| {
            mode.set(device.gpu().licensed.map_or(NONE, |_| VGPU))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGridLicensableFeatures_v4(
    device: nvmlDevice_t,
    features: Out<nvmlGridLicensableFeatures_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGridLicensableFeatures_v4", device, |device| {
            let licensed = device.gpu().licensed.ok_or(NOT_SUPPORTED)?;
            // SAFETY: all fields are numbers, for which zero is a value.
            let mut answer: nvmlGridLicensableFeatures_t = unsafe { std::mem::zeroed() };
            (answer.isGridLicenseSupported, answer.licensableFeaturesCount) = (1, 1);
            answer.gridLicensableFeatures[0].featureState = licensed.into();
            features.set(answer)
        })
    })
}
