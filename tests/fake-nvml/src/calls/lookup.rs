//! From a count, an index or a name to a device handle.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::code::{Answer, Code, INVALID_ARGUMENT, NOT_FOUND};
use crate::driver::{Enumerated, Search, Sought, look_up, on_count};
use crate::ffi::{Out, Text, answer};
use crate::pci::BusId;
use crate::state::{Gpu, Rule, State};

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
        sought("nvmlDeviceGetHandleBySerial", device, Search::All, |state, gpus| {
            gpu_where(state, gpus, |gpu| gpu.serial == serial)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: Text,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    answer(|| {
        let uuid = uuid.read()?;
        sought("nvmlDeviceGetHandleByUUID", device, Search::All, |state, gpus| {
            uuid_of_any(state, gpus, &uuid)
        })
    })
}

fn device_count(function: &str, count: Out<c_uint>) -> Answer {
    on_count(function, |gpus, said| count.set(said.number(gpus as c_uint)))
}

fn by_index(function: &str, index: c_uint, device: Out<nvmlDevice_t>) -> Answer {
    sought(function, device, Search::Target, |_, gpus| {
        let gpu = Some(index as usize).filter(|index| *index < gpus.len());
        Ok(Sought { gpu: gpu.ok_or(INVALID_ARGUMENT)?, mig: None })
    })
}

fn by_bus_id(function: &str, bus_id: &Text, device: Out<nvmlDevice_t>) -> Answer {
    let bus_id = BusId::parse(&bus_id.read()?).ok_or(INVALID_ARGUMENT)?;
    sought(function, device, Search::Target, |state, gpus| {
        gpu_where(state, gpus, |gpu| BusId::parse(&gpu.pci_bus_id).as_ref() == Some(&bus_id))
    })
}

fn sought(
    function: &str,
    device: Out<nvmlDevice_t>,
    search: Search,
    find: impl Fn(&State, &[Enumerated]) -> Result<Sought, Code>,
) -> Answer {
    if device.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    device.set(look_up(function, search, find)?)
}

fn gpu_where(
    state: &State,
    gpus: &[Enumerated],
    is_it: impl Fn(&Gpu) -> bool,
) -> Result<Sought, Code> {
    let gpu = gpus.iter().position(|gpu| gpu.place.is_some_and(|place| is_it(&state.gpus[place])));
    Ok(Sought { gpu: gpu.ok_or(NOT_FOUND)?, mig: None })
}

fn uuid_of_any(state: &State, gpus: &[Enumerated], uuid: &str) -> Result<Sought, Code> {
    gpu_where(state, gpus, |gpu| reported(&gpu.uuid, &gpu.rules) == uuid).or_else(|_| {
        let own = |gpu: &Gpu| mig_where(gpu, uuid).is_some();
        let sought = gpu_where(state, gpus, own)?;
        let gpu = gpus[sought.gpu].place.map(|place| &state.gpus[place]);
        Ok(Sought { mig: gpu.and_then(|gpu| mig_where(gpu, uuid)).cloned(), ..sought })
    })
}

/// The UUID in the file of the MIG device that reports this one.
fn mig_where<'a>(gpu: &'a Gpu, uuid: &str) -> Option<&'a String> {
    let mig = gpu.mig.as_ref().filter(|mig| mig.enabled)?;
    let own = mig.devices.iter().find(|device| reported(&device.uuid, &device.rules) == uuid);
    own.map(|device| &device.uuid)
}

/// The UUID that is answered.
fn reported<'a>(uuid: &'a str, rules: &'a [Rule]) -> &'a str {
    let rule = rules.iter().find(|rule| rule.fits("nvmlDeviceGetUUID"));
    rule.and_then(|rule| rule.value.as_deref()).unwrap_or(uuid)
}
