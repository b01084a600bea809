//! Calls about no GPU in particular.

use device::health::NvmlError as CallError;

use super::session::{Session, call_error};
use super::versions::Versions;
use super::worker_pool::mark_call;

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
