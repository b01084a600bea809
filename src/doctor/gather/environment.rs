//! What the environment of this process says.

use std::path::PathBuf;

/// What the environment of this process says of its container.
#[derive(Debug, Clone, Default)]
pub struct DoctorEnvironment {
    /// The directories of `PATH`.
    pub path: Vec<PathBuf>,
    /// `NVIDIA_DRIVER_CAPABILITIES`.
    pub driver_capabilities: Option<String>,
}
