//! NVML from initialisation to shutdown, and its errors as those of `device::health`.

use std::convert::Infallible;

use device::health::{NvmlError as CallError, ReturnCode};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tokio::sync::oneshot;

use super::telemetry::NvmlTelemetry;

/// An initialised NVML. Shut down when the last owner drops it, which must be a thread that may
/// call NVML.
pub(super) struct Session {
    /// Boxed: a table of some four hundred functions, which no stack of a long-lived thread should
    /// hold.
    nvml: Option<Box<Nvml>>,
    /// Dropped after the shutdown, so that the receiver learns of it.
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
