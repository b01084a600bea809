//! From a count, an index or a name to a device handle.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::code::{Answer, Code, INVALID_ARGUMENT, NOT_FOUND};
use crate::driver::{Sought, enumerated, look_up, on_node};
use crate::ffi::{Out, Text, answer};
use crate::pci::BusId;
use crate::state::{Gpu, State};

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: Out<c_uint>) -> nvmlReturn_t {
    answer(|| device_count("nvmlDeviceGetCount_v2", count))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount(count: Out<c_uint>) -> nvmlReturn_t {
    answer(|| device_count("nvmlDeviceGetCount", count))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| by_index("nvmlDeviceGetHandleByIndex_v2", index, device))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex(
    index: c_uint,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| by_index("nvmlDeviceGetHandleByIndex", index, device))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    bus_id: Text,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| by_bus_id("nvmlDeviceGetHandleByPciBusId_v2", &bus_id, device))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId(
    bus_id: Text,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| by_bus_id("nvmlDeviceGetHandleByPciBusId", &bus_id, device))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleBySerial(
    serial: Text,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| {
        let serial = serial.read()?;
        let find = |state: &State| gpu_where(state, |gpu| gpu.serial == serial);
        sought("nvmlDeviceGetHandleBySerial", device, find)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: Text,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| {
        let uuid = uuid.read()?;
        sought("nvmlDeviceGetHandleByUUID", device, |state| uuid_of_any(state, &uuid))
    })
}

fn device_count(function: &str, count: Out<c_uint>) -> Answer {
    on_node(function, |state| count.set(enumerated(state).count() as c_uint))
}

fn by_index(function: &str, index: c_uint, device: Out<nvmlDevice_t>) -> Answer {
    sought(function, device, |state| {
        let (gpu, _) = enumerated(state).nth(index as usize).ok_or(INVALID_ARGUMENT)?;
        Ok(Sought { gpu, mig: None, by_index: true })
    })
}

fn by_bus_id(function: &str, bus_id: &Text, device: Out<nvmlDevice_t>) -> Answer {
    let bus_id = BusId::parse(&bus_id.read()?).ok_or(INVALID_ARGUMENT)?;
    sought(function, device, |state| {
        gpu_where(state, |gpu| BusId::parse(&gpu.pci_bus_id).as_ref() == Some(&bus_id))
    })
}

fn sought(
    function: &str,
    device: Out<nvmlDevice_t>,
    find: impl Fn(&State) -> Result<Sought, Code>,
) -> Answer {
    let handle = look_up(function, find)?;
    device.set(handle)
}

fn gpu_where(state: &State, is_it: impl Fn(&Gpu) -> bool) -> Result<Sought, Code> {
    let (gpu, _) = enumerated(state).find(|(_, gpu)| is_it(gpu)).ok_or(NOT_FOUND)?;
    Ok(Sought { gpu, mig: None, by_index: false })
}

fn uuid_of_any(state: &State, uuid: &str) -> Result<Sought, Code> {
    gpu_where(state, |gpu| gpu.uuid == uuid).or_else(|_| {
        let on = |gpu: &Gpu| {
            let mig = gpu.mig.as_ref().filter(|mig| mig.enabled);
            mig.is_some_and(|mig| mig.devices.iter().any(|device| device.uuid == uuid))
        };
        Ok(Sought { mig: Some(uuid.to_owned()), ..gpu_where(state, on)? })
    })
}
