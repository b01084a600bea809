//! The simulated kernel driver and the library.

use serde::{Deserialize, Serialize};

/// The simulated kernel driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Driver {
    /// False: `nvmlInit` answers 9 (driver not loaded), and so does every call of a process that
    /// had it open.
    pub loaded: bool,
    /// Counts the loads of the driver. A process whose `nvmlInit` was before the last load gets 9
    /// until it shuts down and initialises again, as after an unload and load under its feet.
    pub generation: u64,
    /// The kernel driver's version, e.g. "580.95.05".
    pub version: String,
    /// True: library and kernel module differ, every call answers 18.
    pub mismatch: bool,
    /// As `nvmlSystemGetCudaDriverVersion` gives it: 1000 * major + 10 * minor.
    pub cuda_version: i32,
    /// True: the driver knows field value 230 (the GPU recovery action, drivers from 565 on).
    pub recovery_action_supported: bool,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            loaded: true,
            generation: 0,
            version: "580.95.05".to_owned(),
            mismatch: false,
            cuda_version: 13_000,
            recovery_action_supported: true,
        }
    }
}
