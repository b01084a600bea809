//! What a device is: names, numbers, memory, generation.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::{
    self as nvml, nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t,
};

use crate::code::{ARGUMENT_VERSION_MISMATCH, Answer, NO_PERMISSION, NOT_SUPPORTED, UNKNOWN};
use crate::driver::{Device, on_device, on_gpu};
use crate::ffi::{Out, answer, struct_version};
use crate::pci::BusId;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    uuid: Out<c_char>,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetUUID", device, |device| {
            let text = device.mig().map_or(&device.gpu().uuid, |mig| &mig.uuid);
            uuid.string(device.said.text(text), length)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    name: Out<c_char>,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetName", device, |device| {
            let own = device.mig().and_then(|mig| mig.name.as_ref());
            name.string(device.said.text(own.unwrap_or(&device.gpu().name)), length)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetIndex(device: nvmlDevice_t, index: Out<c_uint>) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetIndex", device, |device| {
            index.set(device.said.number(device.index() as c_uint))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMinorNumber(
    device: nvmlDevice_t,
    minor: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetMinorNumber", device, |device| {
            minor.set(device.said.number(device.gpu().minor))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSerial(
    device: nvmlDevice_t,
    serial: Out<c_char>,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetSerial", device, |device| {
            match device.said.text(&device.gpu().serial) {
                "" => Err(NOT_SUPPORTED),
                text => serial.string(text, length),
            }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nvmlDevice_t,
    pci: Out<nvmlPciInfo_t>,
) -> nvmlReturn_t {
    answer(|| pci_info("nvmlDeviceGetPciInfo_v3", device, pci))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo_v2(
    device: nvmlDevice_t,
    pci: Out<nvmlPciInfo_t>,
) -> nvmlReturn_t {
    answer(|| pci_info("nvmlDeviceGetPciInfo_v2", device, pci))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo(
    device: nvmlDevice_t,
    pci: Out<nvmlPciInfo_t>,
) -> nvmlReturn_t {
    answer(|| pci_info("nvmlDeviceGetPciInfo", device, pci))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo(
    device: nvmlDevice_t,
    memory: Out<nvmlMemory_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetMemoryInfo", device, |device| {
            may_see_memory(device)?;
            let Memory { total, reserved } = Memory::of(device);
            memory.set(nvmlMemory_t { total, free: total - reserved, used: reserved })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    memory: Out<nvmlMemory_v2_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetMemoryInfo_v2", device, |device| {
            may_see_memory(device)?;
            let version = memory.cast::<c_uint>().get()?;
            if version != struct_version::<nvmlMemory_v2_t>(2) {
                return Err(ARGUMENT_VERSION_MISMATCH);
            }
            let Memory { total, reserved } = Memory::of(device);
            memory.set(nvmlMemory_v2_t {
                version,
                total,
                reserved,
                free: total - reserved,
                used: 0,
            })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: Out<c_int>,
    minor: Out<c_int>,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetCudaComputeCapability", device, |device| {
            major.set(device.gpu().compute_capability.0)?;
            minor.set(device.gpu().compute_capability.1)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetBrand(device: nvmlDevice_t, brand: Out<c_uint>) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetBrand", device, |device| {
            let name = &device.gpu().name;
            brand.set(if name.starts_with("Tesla") {
                nvml::nvmlBrandType_enum_NVML_BRAND_TESLA
            } else if name.contains("GeForce RTX") {
                nvml::nvmlBrandType_enum_NVML_BRAND_GEFORCE_RTX
            } else {
                nvml::nvmlBrandType_enum_NVML_BRAND_NVIDIA
            })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetArchitecture(
    device: nvmlDevice_t,
    architecture: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_device("nvmlDeviceGetArchitecture", device, |device| {
            architecture.set(match device.gpu().compute_capability {
                (3, _) => nvml::NVML_DEVICE_ARCH_KEPLER,
                (5, _) => nvml::NVML_DEVICE_ARCH_MAXWELL,
                (6, _) => nvml::NVML_DEVICE_ARCH_PASCAL,
                (7, 0..5) => nvml::NVML_DEVICE_ARCH_VOLTA,
                (7, _) => nvml::NVML_DEVICE_ARCH_TURING,
                (8, 0..9) => nvml::NVML_DEVICE_ARCH_AMPERE,
                (8, _) => nvml::NVML_DEVICE_ARCH_ADA,
                (9, _) => nvml::NVML_DEVICE_ARCH_HOPPER,
                (10..=12, _) => nvml::NVML_DEVICE_ARCH_BLACKWELL,
                _ => nvml::NVML_DEVICE_ARCH_UNKNOWN,
            })
        })
    })
}

/// What all instances of a GPU have together is not for every caller (nvml.h).
fn may_see_memory(device: &Device) -> Answer {
    let cut = device.mig().is_none() && device.gpu().mig.as_ref().is_some_and(|mig| mig.enabled);
    if cut && !device.state().driver.privileged { Err(NO_PERMISSION) } else { Ok(()) }
}

fn pci_info(function: &str, device: nvmlDevice_t, pci: Out<nvmlPciInfo_t>) -> Answer {
    on_gpu(function, device, |device| {
        let gpu = device.gpu();
        let bus_id = BusId::parse(&gpu.pci_bus_id).ok_or(UNKNOWN)?;
        pci.set(bus_id.info(gpu.pci_device_id))
    })
}

/// A device's memory in bytes.
struct Memory {
    total: u64,
    /// What the driver keeps for itself.
    reserved: u64,
}

impl Memory {
    fn of(device: &Device) -> Self {
        let mib = device.mig().map_or(device.gpu().memory_mib, |mig| mig.memory_mib);
        Self { total: mib << 20, reserved: (mib << 20) / 128 }
    }
}
