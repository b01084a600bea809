//! Reads the health of one GPU, with at most four NVML calls whatever the GPU answers.

use device::health::{
    Fabric, NvmlError as CallError, Reading, RecoveryAction, RemappedRows, ReturnCode,
};
use device::names::Uuid;
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::raw;
use super::session::{Session, call_error, is_unsupported, return_code};
use super::telemetry::NvmlTelemetry;
use super::worker_pool::mark_call;

/// Fields of `nvmlDeviceGetFieldValues` (nvml.h): NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, driver 565
/// and later; NVML_FI_DEV_REMAPPED_COR, _UNC, _PENDING and _FAILURE, Ampere and later.
const FIELDS: [u32; 5] = [230, 142, 143, 144, 145];

/// What a GPU has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) reading: Reading,
    /// Whether the GPU has an NVLink fabric, if it was asked.
    pub(super) has_fabric: bool,
}

/// Reads the health of a GPU; its NVLink fabric only `with_fabric`.
///
/// # Errors
/// NVML as a whole cannot be used.
pub(super) fn read(
    session: &Session,
    uuid: &Uuid,
    with_fabric: bool,
) -> Result<Answers, CallError> {
    mark_call("nvmlDeviceGetHandleByUUID");
    let device = match session.nvml().device_by_uuid(uuid.as_str()) {
        Ok(device) => device,
        Err(error) => {
            let error = of_a_gpu(call_error("nvmlDeviceGetHandleByUUID", &error))?;
            let reading = Reading { probe: Some(Err(error)), ..Reading::default() };
            return Ok(Answers { reading, has_fabric: with_fabric });
        }
    };
    let (recovery_action, remapped_rows) = fields(session, &device)?;
    let probe = Some(probe(session, &device)?);
    let (fabric, has_fabric) = if with_fabric { fabric(session, &device) } else { (None, false) };
    let reading = Reading { recovery_action, remapped_rows, fabric, probe };
    Ok(Answers { reading, has_fabric })
}

type FieldAnswers = (Option<Result<RecoveryAction, CallError>>, Option<RemappedRows>);

fn fields(session: &Session, device: &Device<'_>) -> Result<FieldAnswers, CallError> {
    const CALL: &str = "nvmlDeviceGetFieldValues";
    mark_call(CALL);
    let values = match raw::field_values(session, device, FIELDS) {
        Ok(values) => values,
        Err(error) => return Ok((Some(Err(of_a_gpu(call_error(CALL, &error))?)), None)),
    };
    let [action, _, _, pending, failure] = values;
    let action = match action {
        Ok(value) => Ok(RecoveryAction::from(value)),
        Err(code) => {
            let error = CallError { call: CALL, code: ReturnCode(code) };
            NvmlTelemetry::count_failure(&error);
            Err(of_a_gpu(error)?)
        }
    };
    let rows = match (pending, failure) {
        (Ok(pending), Ok(failure)) => {
            Some(RemappedRows { pending: pending != 0, failure: failure != 0 })
        }
        _ => None,
    };
    Ok((Some(action), rows))
}

fn probe(session: &Session, device: &Device<'_>) -> Result<Result<(), CallError>, CallError> {
    const CALL: &str = "nvmlDeviceGetMemoryInfo";
    mark_call(CALL);
    match raw::memory_bytes(session, device) {
        Ok(_) => Ok(Ok(())),
        Err(error) => of_a_gpu(call_error(CALL, &error)).map(Err),
    }
}

/// The fabric of a GPU, and whether it has one. An error is not reported: what is wrong with the
/// GPU shows in the other answers.
fn fabric(session: &Session, device: &Device<'_>) -> (Option<Fabric>, bool) {
    mark_call("nvmlDeviceGetGpuFabricInfoV");
    match raw::fabric(session, device) {
        Ok(fabric) => (Some(fabric), true),
        Err(error) => (None, !is_without_fabric(&error)),
    }
}

/// An error of a call about a GPU, as the GPU's; as `Err` if it is one of NVML as a whole.
fn of_a_gpu(error: CallError) -> Result<CallError, CallError> {
    const UNINITIALIZED: ReturnCode = ReturnCode(1);
    match error.code {
        UNINITIALIZED | ReturnCode::DRIVER_NOT_LOADED | ReturnCode::LIBRARY_MISMATCH => Err(error),
        _ => Ok(error),
    }
}

/// Whether an error says that there is no fabric, with this GPU and this driver.
fn is_without_fabric(error: &NvmlError) -> bool {
    is_unsupported(error) || return_code(error).is_unsupported()
}
