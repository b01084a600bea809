//! What monitoring programs read: plausible constants, since few tests turn on them.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use nvml_wrapper_sys::bindings::{
    nvmlBAR1Memory_t, nvmlDevice_t, nvmlReturn_t, nvmlTemperature_v1_t, nvmlUtilization_t,
};

use crate::code::{ARGUMENT_VERSION_MISMATCH, Answer};
use crate::driver::{on_device, on_gpu};
use crate::ffi::{Out, answer, struct_version};

const CELSIUS: c_uint = 34;
const MILLIWATTS: c_uint = 71_000;
const MILLIWATT_LIMIT: c_uint = 700_000;

/// Functions of a GPU that answer one number: a constant, or what a rule of the GPU says.
macro_rules! constants {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(device: nvmlDevice_t, value: Out<$type>) -> nvmlReturn_t {
                answer(|| {
                    on_gpu(stringify!($name), device, |gpu| value.set(gpu.said.number($value)))
                })
            }
        )*
    };
}

constants! {
    nvmlDeviceGetPersistenceMode: c_uint = 1;
    nvmlDeviceGetComputeMode: c_uint = 0;
    nvmlDeviceGetPerformanceState: c_uint = 0;
    nvmlDeviceGetPowerState: c_uint = 0;
    nvmlDeviceGetPowerUsage: c_uint = MILLIWATTS;
    nvmlDeviceGetPowerManagementLimit: c_uint = MILLIWATT_LIMIT;
    nvmlDeviceGetPowerManagementDefaultLimit: c_uint = MILLIWATT_LIMIT;
    nvmlDeviceGetEnforcedPowerLimit: c_uint = MILLIWATT_LIMIT;
    nvmlDeviceGetTotalEnergyConsumption: c_ulonglong = 1_000_000;
    nvmlDeviceGetCurrPcieLinkGeneration: c_uint = 5;
    nvmlDeviceGetMaxPcieLinkGeneration: c_uint = 5;
    nvmlDeviceGetCurrPcieLinkWidth: c_uint = 16;
    nvmlDeviceGetMaxPcieLinkWidth: c_uint = 16;
    nvmlDeviceGetPcieReplayCounter: c_uint = 0;
    nvmlDeviceGetDisplayMode: c_uint = 0;
    nvmlDeviceGetDisplayActive: c_uint = 0;
    nvmlDeviceGetCurrentClocksEventReasons: c_ulonglong = 1;
    nvmlDeviceGetCurrentClocksThrottleReasons: c_ulonglong = 1;
}

/// Functions that list processes: there are none.
macro_rules! no_processes {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(
                device: nvmlDevice_t,
                count: Out<c_uint>,
                _processes: *mut c_void,
            ) -> nvmlReturn_t {
                answer(|| on_device(stringify!($name), device, |_| count.set(0)))
            }
        )*
    };
}

no_processes! {
    nvmlDeviceGetComputeRunningProcesses
    nvmlDeviceGetComputeRunningProcesses_v2
    nvmlDeviceGetComputeRunningProcesses_v3
    nvmlDeviceGetGraphicsRunningProcesses
    nvmlDeviceGetGraphicsRunningProcesses_v2
    nvmlDeviceGetGraphicsRunningProcesses_v3
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: c_uint,
    temperature: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| on_gpu("nvmlDeviceGetTemperature", device, |_| temperature.set(CELSIUS)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperatureV(
    device: nvmlDevice_t,
    temperature: Out<nvmlTemperature_v1_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetTemperatureV", device, |_| {
            let asked = temperature.get()?;
            if asked.version != struct_version::<nvmlTemperature_v1_t>(1) {
                return Err(ARGUMENT_VERSION_MISMATCH);
            }
            temperature.set(nvmlTemperature_v1_t { temperature: CELSIUS as c_int, ..asked })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    utilization: Out<nvmlUtilization_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetUtilizationRates", device, |_| {
            utilization.set(nvmlUtilization_t { gpu: 0, memory: 0 })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device: nvmlDevice_t,
    _clock: c_uint,
    mhz: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| on_gpu("nvmlDeviceGetClockInfo", device, |_| mhz.set(345)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxClockInfo(
    device: nvmlDevice_t,
    _clock: c_uint,
    mhz: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| on_gpu("nvmlDeviceGetMaxClockInfo", device, |_| mhz.set(1980)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetBAR1MemoryInfo(
    device: nvmlDevice_t,
    memory: Out<nvmlBAR1Memory_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetBAR1MemoryInfo", device, |_| {
            memory.set(nvmlBAR1Memory_t { bar1Total: 128 << 30, bar1Free: 128 << 30, bar1Used: 0 })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetVbiosVersion(
    device: nvmlDevice_t,
    version: Out<c_char>,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| fixed_text("nvmlDeviceGetVbiosVersion", device, "96.00.89.00.01", version, length))
}

fn fixed_text(
    function: &str,
    device: nvmlDevice_t,
    text: &str,
    out: Out<c_char>,
    length: c_uint,
) -> Answer {
    on_gpu(function, device, |_| out.string(text, length))
}
