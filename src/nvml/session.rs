//! NVML from initialisation to shutdown: the handles of its GPUs, and its errors as those of
//! `device::health`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use device::health::{NvmlError as CallError, ReturnCode};
use device::inventory::EnumerationEntry;
use device::names::{NameError, Uuid};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::current_call::mark_call;
use super::raw::{self, DeviceHandle};
use super::telemetry::{NvmlTelemetry, Versions};

/// `NVML_ERROR_UNINITIALIZED`.
pub(super) const UNINITIALIZED: ReturnCode = ReturnCode(1);
/// `NVML_ERROR_NOT_FOUND`.
pub(super) const NOT_FOUND: ReturnCode = ReturnCode(6);

/// An initialised NVML. Shut down when the last owner drops it, which must be a thread that may
/// call NVML.
pub(super) struct Session {
    /// Boxed: a table of some four hundred functions, which no stack of a long-lived thread should
    /// hold.
    nvml: Option<Box<Nvml>>,
    /// The GPUs whose UUIDs were read. A handle is valid until the shutdown, and stays that of its
    /// GPU when NVML numbers the GPUs differently.
    handles: Mutex<BTreeMap<DeviceHandle, Uuid>>,
    /// Called after the shutdown.
    ended: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Session {
    pub(super) fn new(nvml: Box<Nvml>, ended: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { nvml: Some(nvml), handles: Mutex::default(), ended: Some(Box::new(ended)) }
    }

    pub(super) fn nvml(&self) -> &Nvml {
        self.nvml.as_ref().expect("it is taken only in drop")
    }

    /// The UUID of a GPU, which is read once for each handle.
    pub(super) fn identify(&self, device: &Device<'_>) -> Result<Uuid, NoUuid> {
        let handle = raw::handle(device);
        if let Some(uuid) = self.handles().get(&handle) {
            return Ok(uuid.clone());
        }
        let uuid = device_uuid(device)?;
        self.handles().insert(handle, uuid.clone());
        Ok(uuid)
    }

    /// The GPU with this UUID, if it was identified in this session. No call to NVML:
    /// nvmlDeviceGetHandleByUUID touches other GPUs and fails by any that is lost (nvml.h).
    pub(super) fn device(&self, uuid: &Uuid) -> Option<Device<'_>> {
        let handles = self.handles();
        let (handle, _) = handles.iter().find(|(_, known)| *known == uuid)?;
        Some(raw::device(self.nvml(), *handle))
    }

    /// The GPU of a handle, if it was identified in this session.
    pub(super) fn uuid_of(&self, handle: DeviceHandle) -> Option<Uuid> {
        self.handles().get(&handle).cloned()
    }

    fn handles(&self) -> MutexGuard<'_, BTreeMap<DeviceHandle, Uuid>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        mark_call("nvmlShutdown");
        match self.nvml.take() {
            // The wrapper's drop panics where the library has no nvmlShutdown.
            Some(nvml) if nvml.lib().nvmlShutdown.is_err() => std::mem::forget(nvml),
            nvml => drop(nvml),
        }
        if let Some(ended) = self.ended.take() {
            ended();
        }
    }
}

impl AsRef<Nvml> for Session {
    fn as_ref(&self) -> &Nvml {
        self.nvml()
    }
}

/// Why the UUID of a device is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoUuid {
    /// A call fails.
    #[error("{0}")]
    Failed(CallError),
    /// What NVML returns has not the form of one.
    #[error("{0}")]
    Malformed(NameError),
}

impl NoUuid {
    /// The entry of a GPU at this index.
    pub(super) fn entry(self, index: u32) -> EnumerationEntry {
        match self {
            Self::Failed(error) => EnumerationEntry::Failed { index, uuid: None, error },
            Self::Malformed(error) => EnumerationEntry::MalformedUuid { index, error },
        }
    }
}

impl From<CallError> for NoUuid {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

impl From<NoUuid> for CallError {
    /// A UUID without the form of one is an unknown error.
    fn from(why: NoUuid) -> Self {
        match why {
            NoUuid::Failed(error) => error,
            NoUuid::Malformed(_) => Self { call: UUID_CALL, code: ReturnCode::UNKNOWN },
        }
    }
}

const UUID_CALL: &str = "nvmlDeviceGetUUID";

/// Reads the UUID of a GPU or MIG device.
pub(super) fn device_uuid(device: &Device<'_>) -> Result<Uuid, NoUuid> {
    mark_call(UUID_CALL);
    let text = device.uuid().map_err(|error| call_error(UUID_CALL, &error))?;
    text.parse().map_err(NoUuid::Malformed)
}

/// How many GPUs NVML lists.
pub(super) fn count_gpus(session: &Session) -> Result<u32, CallError> {
    const CALL: &str = "nvmlDeviceGetCount_v2";
    mark_call(CALL);
    session.nvml().device_count().map_err(|error| call_error(CALL, &error))
}

/// The versions of the driver, the library and CUDA.
pub(super) fn versions(session: &Session) -> Versions {
    let nvml = session.nvml();
    mark_call("nvmlSystemGetDriverVersion");
    let driver = nvml.sys_driver_version().ok();
    mark_call("nvmlSystemGetNVMLVersion");
    let library = nvml.sys_nvml_version().ok();
    mark_call("nvmlSystemGetCudaDriverVersion_v2");
    let cuda = nvml.sys_cuda_driver_version().ok();
    // 12080 is 12.8 (nvml.h, NVML_CUDA_DRIVER_VERSION_MAJOR).
    let cuda = cuda.map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
    Versions { driver, library, cuda }
}

/// Converts the error of a call, and counts it. An error without a return code (a name that is not
/// UTF-8, say) becomes an unknown error.
pub(super) fn call_error(call: &'static str, error: &NvmlError) -> CallError {
    let error = CallError { call, code: return_code(error) };
    NvmlTelemetry::count_failure(&error);
    error
}

/// The return code of an error; "unknown" if it has none.
pub(super) fn return_code(error: &NvmlError) -> ReturnCode {
    ReturnCode(code(error).unwrap_or(ReturnCode::UNKNOWN.0))
}

/// Whether the library or the GPU does not support the call, which is no failure.
pub(super) fn is_unsupported(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)
    )
}

/// The return code of an error of the wrapper (nvmlReturn_t, nvml.h).
fn code(error: &NvmlError) -> Option<u32> {
    Some(match error {
        NvmlError::Uninitialized => 1,
        NvmlError::InvalidArg => 2,
        NvmlError::NotSupported => 3,
        NvmlError::NoPermission => 4,
        NvmlError::NotFound => 6,
        NvmlError::InsufficientSize(_) => 7,
        NvmlError::InsufficientPower => 8,
        NvmlError::DriverNotLoaded => 9,
        NvmlError::Timeout => 10,
        NvmlError::IrqIssue => 11,
        NvmlError::LibraryNotFound => 12,
        NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_) => 13,
        NvmlError::CorruptedInfoROM => 14,
        NvmlError::GpuLost => 15,
        NvmlError::ResetRequired => 16,
        NvmlError::OperatingSystem => 17,
        NvmlError::LibRmVersionMismatch => 18,
        NvmlError::InUse => 19,
        NvmlError::InsufficientMemory => 20,
        NvmlError::NoData => 21,
        NvmlError::UnexpectedVariant(code) => *code,
        _ => return None,
    })
}
