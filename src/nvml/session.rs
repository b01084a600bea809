//! NVML from initialisation to shutdown, and its errors in the words of the health room.

use std::convert::Infallible;

use device::health::{NvmlError as CallError, ReturnCode};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tokio::sync::oneshot;

use super::telemetry::NvmlTelemetry;

/// An initialised NVML. Shut down when the last owner drops it, which is to be a thread that may
/// call NVML.
pub(super) struct Session {
    /// Boxed: a table of some four hundred functions, which no stack of a thread that lives on is
    /// to carry.
    nvml: Option<Box<Nvml>>,
    /// Dropped after the shutdown: whoever holds the other end knows of it.
    _ended: oneshot::Sender<Infallible>,
}

impl Session {
    pub(super) fn new(nvml: Box<Nvml>, ended: oneshot::Sender<Infallible>) -> Self {
        Self { nvml: Some(nvml), _ended: ended }
    }

    pub(super) fn nvml(&self) -> &Nvml {
        self.nvml.as_ref().expect("it is taken only in drop")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(nvml) = self.nvml.take()
            && nvml.lib().nvmlShutdown.is_err()
        {
            // The wrapper's drop panics where the library has no nvmlShutdown.
            std::mem::forget(nvml);
        }
    }
}

/// What NVML answered to a call, in the words of the health room; it is counted. An answer that is
/// no return code at all (a name that is not UTF-8, say) counts as an unknown error.
pub(super) fn call_error(call: &'static str, error: &NvmlError) -> CallError {
    let error = CallError { call, code: return_code(error) };
    NvmlTelemetry::count_failure(&error);
    error
}

/// The return code behind an error; one that is none at all counts as unknown.
pub(super) fn return_code(error: &NvmlError) -> ReturnCode {
    ReturnCode(code(error).unwrap_or(ReturnCode::UNKNOWN.0))
}

/// Whether the library or the GPU just does not have this: never a failure.
pub(super) fn is_unsupported(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)
    )
}

/// The return code behind an error of the wrapper (nvmlReturn_t, nvml.h).
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
