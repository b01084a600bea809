//! Reads the health of one GPU, with at most three NVML calls whatever the GPU answers.

use device::health::{
    Fabric, NvmlError as CallError, Reading, RecoveryAction, RemappedRows, ReturnCode,
};
use device::names::Uuid;
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::current_call::mark_call;
use super::raw;
use super::session::{NOT_FOUND, Session, call_error, is_unsupported, return_code};
use super::shared_session::SharedSession;
use super::telemetry::NvmlTelemetry;

/// Fields of `nvmlDeviceGetFieldValues` (nvml.h): NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, driver 565
/// and later; NVML_FI_DEV_REMAPPED_COR, _UNC, _PENDING and _FAILURE, Ampere and later.
const FIELDS: [u32; 5] = [230, 142, 143, 144, 145];

/// What a GPU has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) reading: Reading,
    /// Whether the GPU has an NVLink fabric, if it was asked.
    pub(super) has_fabric: bool,
    /// What it has consumed, in mJ, if it was asked and its driver keeps it when NVML is closed.
    pub(super) energy: Option<u64>,
}

/// Reads the health of a GPU; its NVLink fabric only `with_fabric`, what it has consumed only
/// `with_energy`.
pub(super) fn read(
    shared: &SharedSession,
    gpu: &Uuid,
    with_fabric: bool,
    with_energy: bool,
) -> Answers {
    let failed = |error| Answers {
        reading: Reading { probe: Some(Err(error)), ..Reading::default() },
        has_fabric: with_fabric,
        energy: None,
    };
    let session = match shared.get() {
        Ok(open) => open.session,
        Err(error) => return failed(error),
    };
    match session.device(gpu) {
        Some(device) => {
            let energy = if with_energy { energy(&device) } else { None };
            Answers { energy, ..answers(&session, &device, with_fabric) }
        }
        None => failed(CallError { call: "nvmlDeviceGetHandleByIndex_v2", code: NOT_FOUND }),
    }
}

/// Reads the health of a GPU that has a handle.
pub(super) fn answers(session: &Session, device: &Device<'_>, with_fabric: bool) -> Answers {
    let (recovery_action, remapped_rows) = fields(session, device);
    let probe = Some(probe(session, device));
    let no_fabric = CallError { call: FABRIC_CALL, code: ReturnCode::NOT_SUPPORTED };
    let (fabric, has_fabric) =
        if with_fabric { fabric(session, device) } else { (Err(no_fabric), false) };
    let (fabric, remapped_rows) = (Some(fabric), Some(remapped_rows));
    let reading = Reading { recovery_action, remapped_rows, fabric, probe };
    Answers { reading, has_fabric, energy: None }
}

/// What a GPU has consumed. Without persistence mode the driver restarts it when the last process
/// closes the GPU: then it tells nothing of a reset.
fn energy(device: &Device<'_>) -> Option<u64> {
    mark_call("nvmlDeviceGetPersistenceMode");
    let persistent = device.is_in_persistent_mode().unwrap_or(false);
    mark_call("nvmlDeviceGetTotalEnergyConsumption");
    device.total_energy_consumption().ok().filter(|_| persistent)
}

type FieldAnswers = (Option<Result<RecoveryAction, CallError>>, Result<RemappedRows, CallError>);

fn fields(session: &Session, device: &Device<'_>) -> FieldAnswers {
    const CALL: &str = "nvmlDeviceGetFieldValues";
    mark_call(CALL);
    let [action, _, _, pending, failure] = match raw::field_values(session.nvml(), device, FIELDS) {
        Ok(values) => values,
        Err(error) => {
            let error = call_error(CALL, &error);
            return (Some(Err(error.clone())), Err(error));
        }
    };
    let action = action.map(RecoveryAction::from).map_err(|code| {
        let error = CallError { call: CALL, code: ReturnCode(code) };
        NvmlTelemetry::count_failure(&error);
        error
    });
    let rows = match (pending, failure) {
        (Ok(pending), Ok(failure)) => {
            Ok(RemappedRows { pending: pending != 0, failure: failure != 0 })
        }
        (Err(code), _) | (_, Err(code)) => Err(CallError { call: CALL, code: ReturnCode(code) }),
    };
    (Some(action), rows)
}

fn probe(session: &Session, device: &Device<'_>) -> Result<(), CallError> {
    const CALL: &str = "nvmlDeviceGetMemoryInfo";
    mark_call(CALL);
    raw::memory_bytes(session.nvml(), device).map(drop).map_err(|error| call_error(CALL, &error))
}

const FABRIC_CALL: &str = "nvmlDeviceGetGpuFabricInfoV";

/// The fabric of a GPU, and whether it has one.
fn fabric(session: &Session, device: &Device<'_>) -> (Result<Fabric, CallError>, bool) {
    mark_call(FABRIC_CALL);
    let fabric = raw::fabric(session.nvml(), device).map(|(fabric, _)| fabric);
    let has_fabric = fabric.as_ref().err().is_none_or(|error| !is_without_fabric(error));
    let code = |error| match is_without_fabric(&error) {
        true => ReturnCode::NOT_SUPPORTED,
        false => return_code(&error),
    };
    (fabric.map_err(|error| CallError { call: FABRIC_CALL, code: code(error) }), has_fabric)
}

/// Whether an error says that there is no fabric, with this GPU and this driver.
fn is_without_fabric(error: &NvmlError) -> bool {
    is_unsupported(error) || return_code(error).is_unsupported()
}
