//! PCI bus ids.

use std::fmt;
use std::str::FromStr;

use super::NameError;

/// The PCI address of a device. Displayed in the form of sysfs: "0000:1b:00.0".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciBusId {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciBusId {
    /// The form of NVML and nvidia-smi: "00000000:1B:00.0".
    #[must_use]
    pub fn nvml_form(self) -> String {
        format!("{:08X}:{:02X}:{:02X}.{:X}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciBusId {
    type Err = NameError;

    /// Reads NVML's form (eight digits of domain, upper case), sysfs's (four digits, lower case),
    /// and the short one without a domain that lspci prints.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (address, function) = text.rsplit_once('.')?;
            let mut parts = address.rsplit(':');
            let device = hexadecimal(parts.next()?, 2)?;
            let bus = hexadecimal(parts.next()?, 2)?;
            let domain = parts.next().map_or(Some(0), |domain| hexadecimal(domain, 8))?;
            let function = hexadecimal(function, 1)?;
            let id = Self { domain, bus, device, function };
            (parts.next().is_none() && id.device < 32 && id.function < 8).then_some(id)
        };
        let problem =
            "is not a PCI bus id (domain:bus:device.function in hexadecimal, e.g. 0000:1b:00.0)";
        parse().ok_or_else(|| NameError::new(text, problem))
    }
}

/// A number of 1 to `most` hexadecimal digits and nothing else (no sign, which the standard parser
/// allows).
fn hexadecimal<T: TryFrom<u32>>(text: &str, most: usize) -> Option<T> {
    let digits = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()?.try_into().ok()).flatten()
}

impl fmt::Display for PciBusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_bus_ids_are_equal_in_all_their_forms() {
        for (text, expected) in [
            ("00000000:1B:00.0", "0000:1b:00.0"),
            ("0000:1b:00.0", "0000:1b:00.0"),
            ("1b:00.0", "0000:1b:00.0"),
            ("00010000:E3:1F.7", "10000:e3:1f.7"),
        ] {
            assert_eq!(text.parse::<PciBusId>().unwrap().to_string(), expected);
        }
        for text in [
            "",
            "1b",
            "1b:00",
            "00:1b:00",
            "0:1b:00.8",
            "0:1b:20.0",
            "+0:1b:00.0",
            "0:0:1b:00.0",
            "0000:1b:00.0 ",
        ] {
            assert!(text.parse::<PciBusId>().is_err(), "{text:?}");
        }
    }
}
