//! The versions that NVML tells.

use super::session::Session;
use super::worker_pool::mark_call;

/// Versions, as NVML tells them; `None` for what it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of the kernel driver, such as "580.95.05".
    pub driver: Option<String>,
    /// Of the library, such as "13.580.95.05".
    pub library: Option<String>,
    /// The newest CUDA that the driver serves, such as "13.0".
    pub cuda: Option<String>,
}

impl Versions {
    /// Asks for them.
    pub(super) fn ask(session: &Session) -> Self {
        let nvml = session.nvml();
        mark_call("nvmlSystemGetDriverVersion");
        let driver = nvml.sys_driver_version().ok();
        mark_call("nvmlSystemGetNVMLVersion");
        let library = nvml.sys_nvml_version().ok();
        mark_call("nvmlSystemGetCudaDriverVersion_v2");
        let cuda = nvml.sys_cuda_driver_version().ok();
        // 12080 is 12.8 (nvml.h, NVML_CUDA_DRIVER_VERSION_MAJOR).
        let cuda = cuda.map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
        Self { driver, library, cuda }
    }
}
