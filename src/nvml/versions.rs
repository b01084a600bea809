//! The versions of the driver and of what comes with it.

/// Versions, as NVML states them; `None` for those that it does not state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of the kernel driver, such as "580.95.05".
    pub driver: Option<String>,
    /// Of the library, such as "13.580.95.05".
    pub library: Option<String>,
    /// The newest CUDA version that the driver supports, such as "13.0".
    pub cuda: Option<String>,
}
