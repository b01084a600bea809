//! The NVML calls that nvml-wrapper leaves out or answers in part, and the only unsafe code of the
//! product.
//!
//! The wrapper's own event set is not used: its `register_events` frees the whole set on any error,
//! and its `wait` drops the MIG instance ids.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use device::gpu::Clique;
use device::health::{Fabric, FabricState, ReturnCode};
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE, NVML_CC_SYSTEM_FEATURE_ENABLED, NvmlLib,
    nvmlConfComputeSystemState_t, nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlFieldValue_t,
    nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t, nvmlGpuFabricInfo_v3_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstanceProfileInfo_t, nvmlGpuVirtualizationMode_NVML_GPU_VIRTUALIZATION_MODE_VGPU,
    nvmlGridLicensableFeatures_t, nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_IBMNPU,
    nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH, nvmlMemory_t,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
};

/// The handle of a GPU, valid until NVML is shut down. A number: only [`device`] turns it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeviceHandle(usize);

/// The handle of a device.
pub(super) fn handle(device: &Device<'_>) -> DeviceHandle {
    // SAFETY: the handle is used again only by `device`, with the session that it is of.
    DeviceHandle(unsafe { device.handle() } as usize)
}

/// The device of a handle that this initialisation of NVML gave.
pub(super) fn device(nvml: &Nvml, handle: DeviceHandle) -> Device<'_> {
    // SAFETY: handles are kept in the session that gave them, or come in its events, and are valid
    // until it is shut down, which the result does not outlive.
    unsafe { Device::new(handle.0 as nvmlDevice_t, nvml) }
}

/// One event as the driver gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawEvent {
    /// The handle of the device; `None`: it names none.
    pub(super) device: Option<DeviceHandle>,
    /// One bit of `nvmlEventType*`.
    pub(super) event_type: u64,
    /// The number of the Xid, for an Xid.
    pub(super) data: u64,
    /// GPU instance id; 0xFFFFFFFF for none in particular.
    pub(super) gpu_instance: u32,
    /// Compute instance id; 0xFFFFFFFF for none in particular.
    pub(super) compute_instance: u32,
}

/// The event types that can be registered for a device, as a bit mask
/// (nvmlDeviceGetSupportedEventTypes).
pub(super) fn supported_event_types(nvml: &Nvml, device: &Device<'_>) -> Result<u64, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetSupportedEventTypes.as_ref())?;
    let mut types = 0;
    // SAFETY: the handle is the library's own and alive as long as `device`; `types` is a place for
    // the answer.
    nvml_try(unsafe { call(device.handle(), &mut types) })?;
    Ok(types)
}

/// The values of fields of a device, each with a return code of its own (nvmlDeviceGetFieldValues).
pub(super) fn field_values<const N: usize>(
    nvml: &Nvml,
    device: &Device<'_>,
    fields: [u32; N],
) -> Result<[Result<u32, u32>; N], NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetFieldValues.as_ref())?;
    let mut values = fields.map(|field| {
        // SAFETY: all fields are numbers or a union of numbers, for which zero is a value.
        let value: nvmlFieldValue_t = unsafe { std::mem::zeroed() };
        nvmlFieldValue_t { fieldId: field, ..value }
    });
    let count = i32::try_from(N).map_err(|_| NvmlError::InvalidArg)?;
    // SAFETY: the handle is alive; `values` has room for `count` answers.
    nvml_try(unsafe { call(device.handle(), count, values.as_mut_ptr()) })?;
    Ok(values.map(|value| match value.nvmlReturn {
        0 if value.valueType == nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG => {
            // SAFETY: NVML says that this is the member it has written. A value too large for 32
            // bits is none that is known.
            Ok(u32::try_from(unsafe { value.value.ullVal }).unwrap_or(u32::MAX))
        }
        // SAFETY: any bytes are a number; all of the union were zero before NVML wrote one of its
        // members.
        0 => Ok(unsafe { value.value.uiVal }),
        code => Err(code),
    }))
}

/// The frame buffer of a device in bytes (nvmlDeviceGetMemoryInfo, which every driver has).
pub(super) fn memory_bytes(nvml: &Nvml, device: &Device<'_>) -> Result<u64, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the handle is alive, `memory` is a place for the answer.
    nvml_try(unsafe { call(device.handle(), &mut memory) })?;
    Ok(memory.total)
}

/// Whether a device answers at all; that it refuses to state its memory, or has none of its own, is
/// an answer.
pub(super) fn answers(nvml: &Nvml, device: &Device<'_>) -> bool {
    matches!(
        memory_bytes(nvml, device),
        Ok(_) | Err(NvmlError::NoPermission | NvmlError::NotSupported)
    )
}

/// How a device is in its NVLink fabric, and its clique there once it has joined
/// (nvmlDeviceGetGpuFabricInfoV, driver 545 and later; before that nvmlDeviceGetGpuFabricInfo,
/// which knows of no health mask).
pub(super) fn fabric(
    nvml: &Nvml,
    device: &Device<'_>,
) -> Result<(Fabric, Option<Clique>), NvmlError> {
    let library = nvml.lib();
    let Ok(call) = nvml_sym(library.nvmlDeviceGetGpuFabricInfoV.as_ref()) else {
        let call = nvml_sym(library.nvmlDeviceGetGpuFabricInfo.as_ref())?;
        // SAFETY: all fields are numbers, for which zero is a value.
        let mut info: nvmlGpuFabricInfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is alive, `info` is a place for the answer.
        nvml_try(unsafe { call(device.handle(), &mut info) })?;
        let (status, state) = (ReturnCode(info.status), FabricState::from(u32::from(info.state)));
        let clique = clique(state, status, info.clusterUuid, info.cliqueId);
        return Ok((Fabric { state, status, health_mask: 0 }, clique));
    };
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut info: nvmlGpuFabricInfo_v3_t = unsafe { std::mem::zeroed() };
    // NVML_STRUCT_VERSION(GpuFabricInfo, 2): every driver that has the call knows it.
    info.version = u32::try_from(size_of::<nvmlGpuFabricInfo_v2_t>()).unwrap_or(0) | (2 << 24);
    // SAFETY: the handle is alive; `info` begins as version 2 does and is larger.
    nvml_try(unsafe { call(device.handle(), &mut info) })?;
    let (status, state) = (ReturnCode(info.status), FabricState::from(u32::from(info.state)));
    let clique = clique(state, status, info.clusterUuid, info.cliqueId);
    Ok((Fabric { state, status, health_mask: info.healthMask }, clique))
}

/// The clique of a device that has joined its fabric; a cluster of zeros is none.
fn clique(state: FabricState, status: ReturnCode, cluster: [u8; 16], id: u32) -> Option<Clique> {
    let joined = state == FabricState::Completed && status == ReturnCode::SUCCESS;
    (joined && cluster != [0; 16]).then_some(Clique { cluster, id })
}

/// Whether the GPUs of the node accept work under confidential computing; `None`: it is off
/// (nvmlSystemGetConfComputeState, nvmlSystemGetConfComputeGpusReadyState).
pub(super) fn confidential_computing(nvml: &Nvml) -> Result<Option<bool>, NvmlError> {
    let library = nvml.lib();
    let state_of = nvml_sym(library.nvmlSystemGetConfComputeState.as_ref())?;
    let ready_state = nvml_sym(library.nvmlSystemGetConfComputeGpusReadyState.as_ref())?;
    let mut state = nvmlConfComputeSystemState_t { environment: 0, ccFeature: 0, devToolsMode: 0 };
    // SAFETY: `state` is a place for the answer.
    nvml_try(unsafe { state_of(&mut state) })?;
    if state.ccFeature != NVML_CC_SYSTEM_FEATURE_ENABLED {
        return Ok(None);
    }
    let mut ready = 0;
    // SAFETY: `ready` is a place for the answer.
    nvml_try(unsafe { ready_state(&mut ready) })?;
    Ok(Some(ready == NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE))
}

/// Whether a virtual GPU is licensed; `None`: the device is none
/// (nvmlDeviceGetVirtualizationMode, nvmlDeviceGetGridLicensableFeatures_v4).
pub(super) fn vgpu_license(nvml: &Nvml, device: &Device<'_>) -> Result<Option<bool>, NvmlError> {
    let library = nvml.lib();
    let mode_of = nvml_sym(library.nvmlDeviceGetVirtualizationMode.as_ref())?;
    let features_of = nvml_sym(library.nvmlDeviceGetGridLicensableFeatures_v4.as_ref())?;
    let mut mode = 0;
    // SAFETY: the handle is alive, `mode` is a place for the answer.
    nvml_try(unsafe { mode_of(device.handle(), &mut mode) })?;
    if mode != nvmlGpuVirtualizationMode_NVML_GPU_VIRTUALIZATION_MODE_VGPU {
        return Ok(None);
    }
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut features: nvmlGridLicensableFeatures_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is alive, `features` is a place for the answer.
    nvml_try(unsafe { features_of(device.handle(), &mut features) })?;
    if features.isGridLicenseSupported == 0 {
        return Ok(None);
    }
    let count = usize::try_from(features.licensableFeaturesCount).unwrap_or(0);
    let all = features.gridLicensableFeatures.iter().take(count);
    Ok(Some(all.into_iter().any(|feature| feature.featureState != 0)))
}

/// Values of `nvmlIntNvLinkDeviceType_t`: the other end of an NVLink is an NVSwitch.
pub(super) const NVLINK_TO_SWITCH: u32 =
    nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH;
/// The same for a CPU.
pub(super) const NVLINK_TO_CPU: u32 = nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_IBMNPU;

/// What is at the other end of an NVLink (nvmlDeviceGetNvLinkRemoteDeviceType). The wrapper's own
/// call has the answer written into a temporary and always says "unknown".
pub(super) fn remote_device_type(
    nvml: &Nvml,
    device: &Device<'_>,
    link: u32,
) -> Result<u32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetNvLinkRemoteDeviceType.as_ref())?;
    let mut remote = 0;
    // SAFETY: the handle is the library's own and alive as long as `device`; `remote` is a place
    // for the answer.
    nvml_try(unsafe { call(device.handle(), link, &mut remote) })?;
    Ok(remote)
}

/// The GPU instance that a MIG device is on (nvmlDeviceGetGpuInstanceId).
pub(super) fn gpu_instance_id(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle is the library's own and alive as long as `device`; `id` is a place for
    // the answer.
    nvml_try(unsafe { call(device.handle(), &mut id) })?;
    Ok(id)
}

/// The compute instance that a MIG device is (nvmlDeviceGetComputeInstanceId).
pub(super) fn compute_instance_id(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle is the library's own and alive as long as `device`; `id` is a place for
    // the answer.
    nvml_try(unsafe { call(device.handle(), &mut id) })?;
    Ok(id)
}

/// The id of the profile of a GPU instance (nvmlDeviceGetGpuInstanceById, nvmlGpuInstanceGetInfo).
pub(super) fn gpu_instance_profile_id(
    nvml: &Nvml,
    gpu: &Device<'_>,
    instance: u32,
) -> Result<u32, NvmlError> {
    let library = nvml.lib();
    let by_id = nvml_sym(library.nvmlDeviceGetGpuInstanceById.as_ref())?;
    let get_info = nvml_sym(library.nvmlGpuInstanceGetInfo.as_ref())?;
    let mut handle = std::ptr::null_mut();
    // SAFETY: the handle is the library's own and alive as long as `gpu`; `handle` is a place for
    // the answer.
    nvml_try(unsafe { by_id(gpu.handle(), instance, &mut handle) })?;
    // SAFETY: all fields are numbers or a pointer, for which zero is a value.
    let mut info: nvmlGpuInstanceInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle was given a moment ago; `info` is a place for the answer.
    nvml_try(unsafe { get_info(handle, &mut info) })?;
    Ok(info.profileId)
}

/// The id of the GPU instance profile with this constant on a GPU
/// (nvmlDeviceGetGpuInstanceProfileInfo).
pub(super) fn gpu_instance_profile(
    nvml: &Nvml,
    gpu: &Device<'_>,
    constant: u32,
) -> Result<u32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceProfileInfo.as_ref())?;
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut info: nvmlGpuInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is the library's own and alive as long as `gpu`; `info` is a place for the
    // answer.
    nvml_try(unsafe { call(gpu.handle(), constant, &mut info) })?;
    Ok(info.id)
}

/// A set of events to wait for. Freed when dropped, before NVML is shut down.
pub(super) struct RawEventSet {
    nvml: Arc<dyn AsRef<Nvml> + Send + Sync>,
    set: nvmlEventSet_t,
}

// SAFETY: the handle is not tied to a thread: nvml.h names no such rule for event sets.
unsafe impl Send for RawEventSet {}
// SAFETY: NVML is thread-safe (NVML API reference, "Known issues and features of the API"): one
// thread may register a GPU while another waits. The set is freed only by its last owner.
unsafe impl Sync for RawEventSet {}

impl RawEventSet {
    /// An empty set (nvmlEventSetCreate).
    pub(super) fn create(nvml: Arc<dyn AsRef<Nvml> + Send + Sync>) -> Result<Self, NvmlError> {
        let mut set = std::ptr::null_mut();
        let library = (*nvml).as_ref().lib();
        let create = nvml_sym(library.nvmlEventSetCreate.as_ref())?;
        // Without a way to free it there is no set to have.
        nvml_sym(library.nvmlEventSetFree.as_ref())?;
        // SAFETY: `set` is a place for the answer.
        nvml_try(unsafe { create(&mut set) })?;
        Ok(Self { nvml, set })
    }

    fn lib(&self) -> &NvmlLib {
        (*self.nvml).as_ref().lib()
    }

    /// Adds event types of a device (nvmlDeviceRegisterEvents). One unsupported bit registers none
    /// of them (nvml.h:9897), so mask with [`supported_event_types`] first.
    pub(super) fn register(&self, device: &Device<'_>, types: u64) -> Result<(), NvmlError> {
        let call = nvml_sym(self.lib().nvmlDeviceRegisterEvents.as_ref())?;
        // SAFETY: both handles are the same library's and alive.
        nvml_try(unsafe { call(device.handle(), types, self.set) })
    }

    /// Waits for the next event (nvmlEventSetWait_v2); `None` if none came in time.
    pub(super) fn wait(&self, at_most: Duration) -> Result<Option<RawEvent>, NvmlError> {
        let call = nvml_sym(self.lib().nvmlEventSetWait_v2.as_ref())?;
        let milliseconds = u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: all fields are numbers or a pointer, for which zero is a value.
        let mut data: nvmlEventData_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is alive, `data` is a place for the answer.
        match nvml_try(unsafe { call(self.set, &mut data, milliseconds) }) {
            Err(NvmlError::Timeout) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(Some(RawEvent {
                device: (!data.device.is_null()).then_some(DeviceHandle(data.device as usize)),
                event_type: data.eventType,
                data: data.eventData,
                gpu_instance: data.gpuInstanceId,
                compute_instance: data.computeInstanceId,
            })),
        }
    }
}

impl Drop for RawEventSet {
    fn drop(&mut self) {
        if let Ok(free) = &self.lib().nvmlEventSetFree {
            // SAFETY: the set is alive and nobody has it any more. There is nothing to do about an
            // error.
            unsafe { free(self.set) };
        }
    }
}
