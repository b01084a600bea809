//! The simulated kernel driver and the library.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `NVML_FI_MAX` of driver 580.
const FIELDS_OF_580: u32 = nvml_wrapper_sys::bindings::field_id::NVML_FI_MAX;

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
    /// The driver's `NVML_FI_MAX`: field values from this number on are answered with 2. The GPU
    /// recovery action, 230, came with 565.
    pub fields: u32,
    /// The caller may see all that happens on a GPU in MIG mode. Else the memory of the whole GPU
    /// is answered with 4, and events of an instance do not come.
    pub privileged: bool,
    /// True: the enumeration follows the GPUs that are present. False, as with the real driver: it
    /// stays as it was when `nvmlInit` began, until the last shutdown and another init.
    pub enumerates_at_once: bool,
    /// Which lost GPU ends the waits on an event set with 15.
    pub deafened_by: DeafenedBy,
    /// Whether the GPUs accept work under confidential computing; absent: it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts_work: Option<bool>,
    /// The `/dev` of which `nvmlInit` opens the control device and those of the GPUs, until
    /// the last `nvmlShutdown`. It follows no links, so that `/proc/PID/fd` has the paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_root: Option<PathBuf>,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            loaded: true,
            generation: 0,
            version: "580.95.05".to_owned(),
            mismatch: false,
            cuda_version: 13_000,
            fields: FIELDS_OF_580,
            privileged: true,
            enumerates_at_once: false,
            deafened_by: DeafenedBy::Registered,
            accepts_work: None,
            dev_root: None,
        }
    }
}

/// Which lost GPU ends the waits on an event set. nvml.h says "a GPU has fallen off the bus".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeafenedBy {
    /// None.
    Nothing,
    /// One that the set is registered with.
    #[default]
    Registered,
    /// Any of the machine.
    Any,
}
