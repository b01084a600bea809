//! PCI bus ids in the forms that NVML takes and gives.

use std::fmt;

use nvml_wrapper_sys::bindings::nvmlPciInfo_t;

use crate::ffi::c_array;

/// domain:bus:device.function
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusId {
    domain: u32,
    bus: u32,
    device: u32,
    function: u32,
}

impl BusId {
    /// Reads "00000000:1B:00.0", with a shorter domain or none, in any case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let (place, function) = text.split_once('.').unwrap_or((text, "0"));
        let mut parts = place.rsplit(':');
        let device = hex(parts.next()?)?;
        let bus = hex(parts.next()?)?;
        let domain = parts.next().map_or(Some(0), hex)?;
        match parts.next() {
            None => Some(Self { domain, bus, device, function: hex(function)? }),
            Some(_) => None,
        }
    }

    /// What NVML tells of the device here.
    pub(crate) fn info(&self, pci_device_id: u32) -> nvmlPciInfo_t {
        let Self { domain, bus, device, function } = *self;
        // The older form has room for four digits of the domain.
        let legacy = format!("{:04X}:{bus:02X}:{device:02X}.{function:X}", domain & 0xFFFF);
        nvmlPciInfo_t {
            busIdLegacy: c_array(&legacy),
            domain,
            bus,
            device,
            pciDeviceId: pci_device_id,
            pciSubSystemId: pci_device_id,
            busId: c_array(&self.to_string()),
        }
    }
}

/// The form of `nvmlPciInfo_t.busId`.
impl fmt::Display for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}:{:02X}:{:02X}.{:X}", self.domain, self.bus, self.device, self.function)
    }
}
