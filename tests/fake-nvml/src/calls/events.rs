//! Events: which there are, sets, registration, and the wait.

use std::ffi::{c_uint, c_ulonglong};
use std::ptr;
use std::time::Duration;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlReturn_t};

use crate::code::{Answer, INVALID_ARGUMENT};
use crate::driver::{create_set, free_set, on_gpu, register, wait};
use crate::ffi::{Out, answer};
use crate::journal;

/// In place of an instance id: the event is of the whole GPU.
const WHOLE_GPU: c_uint = c_uint::MAX;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: nvmlDevice_t,
    types: Out<c_ulonglong>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetSupportedEventTypes", device, |device| {
            types.set(device.said.number(device.gpu().supported_events))
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    types: c_ulonglong,
    set: nvmlEventSet_t,
) -> nvmlReturn_t {
    answer(|| register("nvmlDeviceRegisterEvents", device, types, set))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: Out<nvmlEventSet_t>) -> nvmlReturn_t {
    answer(|| {
        if set.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        set.set(create_set("nvmlEventSetCreate")?)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: Out<nvmlEventData_t>,
    timeout_ms: c_uint,
) -> nvmlReturn_t {
    answer(|| next_event("nvmlEventSetWait_v2", set, data, timeout_ms))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait(
    set: nvmlEventSet_t,
    data: Out<nvmlEventData_t>,
    timeout_ms: c_uint,
) -> nvmlReturn_t {
    answer(|| next_event("nvmlEventSetWait", set, data, timeout_ms))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    answer(|| free_set("nvmlEventSetFree", set))
}

fn next_event(
    function: &str,
    set: nvmlEventSet_t,
    data: Out<nvmlEventData_t>,
    timeout_ms: c_uint,
) -> Answer {
    if data.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    let delivery = wait(function, set, Duration::from_millis(timeout_ms.into()))?;
    journal::event(&delivery);
    let event = &delivery.event;
    data.set(nvmlEventData_t {
        device: ptr::without_provenance_mut(delivery.device),
        eventType: event.event_type,
        eventData: event.data,
        gpuInstanceId: event.gpu_instance.unwrap_or(WHOLE_GPU),
        computeInstanceId: event.compute_instance.unwrap_or(WHOLE_GPU),
    })
}
