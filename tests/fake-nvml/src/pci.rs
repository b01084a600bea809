//! PCI bus ids in the forms that NVML takes and gives.

use std::fmt;

/// domain:bus:device.function
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusId {
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
    pub(crate) function: u32,
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
            None => Some(Self {
                domain,
                bus,
                device,
                function: hex(function)?,
            }),
            Some(_) => None,
        }
    }

    /// The form of `nvmlPciInfo_t.busIdLegacy`, with a domain of four digits.
    pub(crate) fn legacy(&self) -> String {
        format!(
            "{:04X}:{:02X}:{:02X}.{:X}",
            self.domain & 0xFFFF,
            self.bus,
            self.device,
            self.function
        )
    }
}

/// The form of `nvmlPciInfo_t.busId`.
impl fmt::Display for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:08X}:{:02X}:{:02X}.{:X}",
            self.domain, self.bus, self.device, self.function
        )
    }
}
