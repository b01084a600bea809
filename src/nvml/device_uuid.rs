//! The UUID of a GPU or MIG device.

use device::health::{NvmlError as CallError, ReturnCode};
use device::names::Uuid;
use nvml_wrapper::Device;
use tracing::warn;

use super::session::call_error;
use super::worker_pool::mark_call;

/// Reads the UUID of a device. One that cannot be parsed is an unknown error.
pub(super) fn device_uuid(device: &Device<'_>) -> Result<Uuid, CallError> {
    const CALL: &str = "nvmlDeviceGetUUID";
    mark_call(CALL);
    let text = device.uuid().map_err(|error| call_error(CALL, &error))?;
    text.parse().map_err(|error| {
        warn!(%error, "NVML returns an invalid UUID");
        CallError { call: CALL, code: ReturnCode::UNKNOWN }
    })
}
