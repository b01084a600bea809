//! NVML from initialisation to shutdown, and its errors in the field's words.

use std::fmt;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

/// An initialised NVML. Shut down when the last owner drops it.
pub(super) struct Session(Option<Nvml>);

impl Session {
    pub(super) fn new(nvml: Nvml) -> Self {
        Self(Some(nvml))
    }

    pub(super) fn nvml(&self) -> &Nvml {
        self.0.as_ref().expect("it is taken only in drop")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(nvml) = self.0.take()
            && nvml.lib().nvmlShutdown.is_err()
        {
            // The wrapper's drop panics where the library has no nvmlShutdown.
            std::mem::forget(nvml);
        }
    }
}

/// A call that NVML answered with an error, e.g. "nvmlDeviceGetUUID: GPU is lost (15)".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The function's name in nvml.h.
    pub call: &'static str,
    /// The return code; `None` if the answer was no return code (a name that is not UTF-8, say).
    pub code: Option<u32>,
    /// What it means.
    pub meaning: String,
}

impl CallError {
    pub(super) fn new(call: &'static str, error: &NvmlError) -> Self {
        let (code, meaning) = match code(error) {
            Some((code, meaning)) => (Some(code), meaning.to_owned()),
            None => (None, error.to_string()),
        };
        Self { call, code, meaning }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.meaning)?;
        self.code.map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

impl std::error::Error for CallError {}

/// Whether the library or the GPU just does not have this: never a failure.
pub(super) fn is_unsupported(error: &NvmlError) -> bool {
    matches!(error, NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_))
}

/// The return code behind an error of the wrapper, and what it means (nvmlReturn_t, nvml.h).
fn code(error: &NvmlError) -> Option<(u32, &'static str)> {
    Some(match error {
        NvmlError::Uninitialized => (1, "NVML is not initialised"),
        NvmlError::InvalidArg => (2, "an argument is not valid"),
        NvmlError::NotSupported => (3, "not supported"),
        NvmlError::NoPermission => (4, "no permission"),
        NvmlError::NotFound => (6, "not found"),
        NvmlError::InsufficientSize(_) => (7, "a buffer is too small"),
        NvmlError::InsufficientPower => (8, "a power cable is not attached"),
        NvmlError::DriverNotLoaded => (9, "the NVIDIA driver is not loaded"),
        NvmlError::Timeout => (10, "the driver did not answer in time"),
        NvmlError::IrqIssue => (11, "the kernel has found an interrupt problem with a GPU"),
        NvmlError::LibraryNotFound => (12, "a library that NVML needs cannot be found"),
        NvmlError::FunctionNotFound => (13, "the driver does not have this function"),
        NvmlError::CorruptedInfoROM => (14, "the InfoROM is corrupted"),
        NvmlError::GpuLost => (15, "the GPU is lost: it has fallen off the bus or is not reachable"),
        NvmlError::ResetRequired => (16, "the GPU needs a reset"),
        NvmlError::OperatingSystem => (17, "the operating system has blocked access to the GPU"),
        NvmlError::LibRmVersionMismatch => (18, "the library and the kernel driver differ in version"),
        NvmlError::InUse => (19, "the GPU is in use"),
        NvmlError::InsufficientMemory => (20, "out of memory"),
        NvmlError::Unknown => (999, "an internal driver error"),
        NvmlError::UnexpectedVariant(code) => (*code, "an error that this plugin does not know"),
        _ => return None,
    })
}
