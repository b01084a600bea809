//! How a GPU is: field values, row remapping, ECC.

use std::ffi::{c_int, c_longlong, c_uint, c_ulonglong};
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper_sys::bindings::{
    field_id, nvmlDevice_t, nvmlFieldValue_t, nvmlReturn_t, nvmlValue_t,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT as UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG as UNSIGNED_LONG_LONG,
};

use crate::code::{Code, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS};
use crate::driver::{Device, on_gpu};
use crate::ffi::{Out, answer};
use crate::state::RemappedRows;

/// `nvmlMemoryErrorType_t`
const UNCORRECTED: c_uint = 1;
/// `nvmlMemoryLocation_t`
const DEVICE_MEMORY: c_uint = 2;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    values: Out<nvmlFieldValue_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetFieldValues", device, |device| {
            let count = usize::try_from(count).map_err(|_| INVALID_ARGUMENT)?;
            if values.is_null() {
                return Err(INVALID_ARGUMENT);
            }
            for index in 0..count {
                let asked = values.get_at(index)?;
                values.set_at(index, filled(device, asked))?;
            }
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRemappedRows(
    device: nvmlDevice_t,
    correctable: Out<c_uint>,
    uncorrectable: Out<c_uint>,
    pending: Out<c_uint>,
    failure: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetRemappedRows", device, |device| {
            let rows = remapped_rows(device)?;
            correctable.set(rows.correctable)?;
            uncorrectable.set(rows.uncorrectable)?;
            pending.set(rows.pending.into())?;
            failure.set(rows.failure.into())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    error_type: c_uint,
    counter_type: c_uint,
    count: Out<c_ulonglong>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetTotalEccErrors", device, |device| {
            let errors = ecc_errors(device, error_type, counter_type)?;
            count.set(errors)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: nvmlDevice_t,
    error_type: c_uint,
    counter_type: c_uint,
    location: c_uint,
    count: Out<c_ulonglong>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetMemoryErrorCounter", device, |device| {
            // All errors are of the device's memory.
            let errors = ecc_errors(device, error_type, counter_type)?;
            count.set(if location == DEVICE_MEMORY { errors } else { 0 })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetEccMode(
    device: nvmlDevice_t,
    current: Out<c_uint>,
    pending: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetEccMode", device, |_| {
            current.set(1)?;
            pending.set(1)
        })
    })
}

/// One value as asked, with its answer: each has a return code of its own.
fn filled(device: &Device, asked: nvmlFieldValue_t) -> nvmlFieldValue_t {
    let (code, value_type, value) = match field(device, asked.fieldId) {
        Ok(Value::Int(value)) => (SUCCESS, UNSIGNED_INT, nvmlValue_t { uiVal: value }),
        Ok(Value::Long(value)) => (SUCCESS, UNSIGNED_LONG_LONG, nvmlValue_t { ullVal: value }),
        Err(code) => (code, asked.valueType, asked.value),
    };
    nvmlFieldValue_t {
        fieldId: asked.fieldId,
        scopeId: asked.scopeId,
        timestamp: now_us(),
        latencyUsec: 0,
        valueType: value_type,
        nvmlReturn: code,
        value,
    }
}

/// A field's value in the type that NVML gives it.
enum Value {
    Int(u32),
    Long(u64),
}

fn field(device: &Device, field: c_uint) -> Result<Value, Code> {
    let gpu = device.gpu();
    if let Some(code) = device.field_code(field) {
        return Err(code);
    }
    if field >= device.state().driver.fields {
        return Err(INVALID_ARGUMENT);
    }
    let rows = remapped_rows(device);
    match field {
        field_id::NVML_FI_DEV_ECC_CURRENT | field_id::NVML_FI_DEV_ECC_PENDING => Ok(Value::Int(1)),
        field_id::NVML_FI_DEV_ECC_SBE_VOL_TOTAL | field_id::NVML_FI_DEV_ECC_SBE_AGG_TOTAL => {
            Ok(Value::Long(0))
        }
        field_id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL | field_id::NVML_FI_DEV_ECC_DBE_AGG_TOTAL => {
            Ok(Value::Long(gpu.ecc_uncorrected))
        }
        field_id::NVML_FI_DEV_REMAPPED_COR => rows.map(|rows| Value::Long(rows.correctable.into())),
        field_id::NVML_FI_DEV_REMAPPED_UNC => {
            rows.map(|rows| Value::Long(rows.uncorrectable.into()))
        }
        field_id::NVML_FI_DEV_REMAPPED_PENDING => rows.map(|rows| Value::Long(rows.pending.into())),
        field_id::NVML_FI_DEV_REMAPPED_FAILURE => rows.map(|rows| Value::Long(rows.failure.into())),
        field_id::NVML_FI_DEV_PERF_POLICY_POWER => Ok(Value::Long(0)),
        field_id::NVML_FI_DEV_PCIE_REPLAY_COUNTER
        | field_id::NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER => Ok(Value::Int(0)),
        field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION => Ok(Value::Int(gpu.recovery_action)),
        _ => Err(NOT_SUPPORTED),
    }
}

fn remapped_rows(device: &Device) -> Result<&RemappedRows, Code> {
    device.gpu().remapped_rows.as_ref().ok_or(NOT_SUPPORTED)
}

/// The aggregate counters show what the volatile ones do: the file knows one number.
fn ecc_errors(device: &Device, error_type: c_uint, counter_type: c_uint) -> Result<u64, Code> {
    match (error_type, counter_type) {
        (0..=1, 2..) | (2.., _) => Err(INVALID_ARGUMENT),
        (UNCORRECTED, _) => Ok(device.gpu().ecc_uncorrected),
        _ => Ok(0),
    }
}

fn now_us() -> c_longlong {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    c_longlong::try_from(since.as_micros()).unwrap_or(c_longlong::MAX)
}
