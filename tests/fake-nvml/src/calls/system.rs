//! The library and the driver: init and shutdown, versions, error texts.

use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::code::Code;
use crate::driver::{init, on_node, shutdown};
use crate::ffi::{Out, answer};
use crate::state::State;

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    answer(|| init("nvmlInit_v2"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit() -> nvmlReturn_t {
    answer(|| init("nvmlInit"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    answer(|| init("nvmlInitWithFlags"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    answer(|| shutdown("nvmlShutdown"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(
    version: Out<c_char>,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        on_node("nvmlSystemGetDriverVersion", |state, said| {
            version.string(said.text(&state.driver.version), length)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetNVMLVersion(
    version: Out<c_char>,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        on_node("nvmlSystemGetNVMLVersion", |state, said| {
            version.string(said.text(&nvml_version(state)), length)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetCudaDriverVersion(version: Out<c_int>) -> nvmlReturn_t {
    answer(|| {
        on_node("nvmlSystemGetCudaDriverVersion", |state, said| {
            version.set(said.number(state.driver.cuda_version))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) -> nvmlReturn_t {
    answer(|| {
        on_node("nvmlSystemGetCudaDriverVersion_v2", |state, said| {
            version.set(said.number(state.driver.cuda_version))
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    error_text(result).map_or(ptr::null(), <[u8]>::as_ptr).cast()
}

/// CUDA's major version before the driver's, as NVML counts itself.
fn nvml_version(state: &State) -> String {
    format!("{}.{}", state.driver.cuda_version / 1000, state.driver.version)
}

fn error_text(code: Code) -> Option<&'static [u8]> {
    Some(match code {
        0 => b"Success\0",
        1 => b"Uninitialized\0",
        2 => b"Invalid Argument\0",
        3 => b"Not Supported\0",
        4 => b"Insufficient Permissions\0",
        5 => b"Already Initialized\0",
        6 => b"Not Found\0",
        7 => b"Insufficient Size\0",
        8 => b"Insufficient External Power\0",
        9 => b"Driver Not Loaded\0",
        10 => b"Timeout\0",
        11 => b"Interrupt Request Issue\0",
        12 => b"NVML Shared Library Not Found\0",
        13 => b"Function Not Found\0",
        14 => b"Corrupted infoROM\0",
        15 => b"GPU is lost\0",
        16 => b"GPU requires reset\0",
        17 => b"GPU access blocked by the operating system\0",
        18 => b"Driver/library version mismatch\0",
        19 => b"GPU in use\0",
        20 => b"Insufficient Memory\0",
        21 => b"No data\0",
        22 => b"vGPU ECC not supported\0",
        23 => b"Insufficient Resources\0",
        24 => b"Frequency Not Supported\0",
        25 => b"Argument Version Mismatch\0",
        26 => b"Deprecated\0",
        27 => b"Not Ready\0",
        28 => b"GPU Not Found\0",
        29 => b"Invalid State\0",
        _ => b"Unknown Error\0",
    })
}
