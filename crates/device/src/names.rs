//! Names that cross a wall: UUIDs, device ids, PCI bus ids and resource names. Holding one is the
//! proof that it is well formed.

use std::borrow::Borrow;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

/// What a text is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a UUID as NVML gives it.
    #[error("{text} is not a device UUID: {why}")]
    Uuid {
        /// The text.
        text: Quoted,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a device id as the plugin advertises it.
    #[error("{text} is not a device id: {why}")]
    DeviceId {
        /// The text.
        text: Quoted,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a PCI bus id.
    #[error(
        "{0} is not a PCI bus id (domain:bus:device.function in hexadecimal, e.g. 0000:1b:00.0)"
    )]
    PciBusId(Quoted),
    /// Not a name for an extended resource.
    #[error("{text} is not a resource name: {why}")]
    ResourceName {
        /// The text.
        text: Quoted,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A text from outside as an error shows it: quoted, escaped, and cut where it is too long to be a
/// name. A gRPC error travels in a header, and one that is too long arrives as another error.
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// Most characters that are shown.
    const SHOWN: usize = 80;

    /// Keeps as much of a text as is shown.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.char_indices().nth(Self::SHOWN) {
            None => Self(format!("{text:?}")),
            Some((end, _)) => Self(format!("{:?}… ({} bytes)", &text[..end], text.len())),
        }
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The separator between the UUID and the replica number in the id of a shared device.
const REPLICA: &str = "::";

/// Longest device id: the kubelet's API states 63 characters (api.proto, Device.ID).
const LONGEST_ID: usize = 63;

/// UUID of a physical GPU ("GPU-…") or of a MIG device ("MIG-…"), as NVML gives it.
///
/// Cheap to clone: it stands in every list, snapshot and log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(Arc<str>);

impl Uuid {
    /// The text as NVML gives it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names a MIG device, not a whole GPU.
    #[must_use]
    pub fn is_mig(&self) -> bool {
        self.0.starts_with("MIG-")
    }
}

impl Borrow<str> for Uuid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uuid {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::Uuid { text: Quoted::new(text), why });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > LONGEST_ID {
            return refuse("it is longer than 63 characters");
        }
        // A comma would split NVIDIA_VISIBLE_DEVICES, "::" marks a replica. A slash stands in the
        // MIG form of drivers before 470, MIG-GPU-<uuid>/<gi>/<ci>.
        if text.contains(REPLICA)
            || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b))
        {
            return refuse(
                "it has a character other than letters, digits, '-', '_', '.', ':' and '/'",
            );
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id under which a device is advertised to the kubelet: a UUID, and `::<n>` for the n-th
/// replica of a shared device. The kubelet's checkpoint keeps it, so its form never changes.
///
/// Ordered by UUID, then by replica number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    uuid: Uuid,
    replica: Option<u32>,
}

impl DeviceId {
    /// The id of a device that is not shared.
    #[must_use]
    pub fn whole(uuid: Uuid) -> Self {
        Self { uuid, replica: None }
    }

    /// The id of one replica of a shared device.
    #[must_use]
    pub fn replica(uuid: Uuid, replica: u32) -> Self {
        Self { uuid, replica: Some(replica) }
    }

    /// The text that it is displayed as. Lists of thousands are made of it, so it has its room at
    /// once.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.uuid.as_str().len() + REPLICA.len() + 10);
        text.push_str(self.uuid.as_str());
        if let Some(replica) = self.replica {
            let _ = write!(text, "{REPLICA}{replica}");
        }
        text
    }

    /// The UUID of the GPU or MIG device behind it.
    #[must_use]
    pub fn uuid(&self) -> &Uuid {
        &self.uuid
    }

    /// The replica number, where the device is shared.
    #[must_use]
    pub fn replica_number(&self) -> Option<u32> {
        self.replica
    }
}

impl FromStr for DeviceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| NameError::DeviceId { text: Quoted::new(text), why };
        let (uuid, replica) = match text.split_once(REPLICA) {
            None => (text, None),
            Some((uuid, number)) => {
                let canonical = number.bytes().all(|b| b.is_ascii_digit())
                    && (number == "0" || !number.starts_with('0'));
                let number = number.parse().ok().filter(|_| canonical);
                (
                    uuid,
                    Some(
                        number
                            .ok_or_else(|| refuse("what follows '::' is not a replica number"))?,
                    ),
                )
            }
        };
        let uuid = uuid.parse().map_err(|error| match error {
            NameError::Uuid { why, .. } => refuse(why),
            other => other,
        })?;
        Ok(Self { uuid, replica })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replica {
            None => write!(f, "{}", self.uuid),
            Some(replica) => write!(f, "{}{REPLICA}{replica}", self.uuid),
        }
    }
}

/// Where a device sits on the PCI bus. Displayed as sysfs writes it: "0000:1b:00.0".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciBusId {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciBusId {
    /// As NVML and its tools write it: "00000000:1B:00.0".
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
            let (place, function) = text.rsplit_once('.')?;
            let mut parts = place.rsplit(':');
            let device = hexadecimal(parts.next()?, 2)?;
            let bus = hexadecimal(parts.next()?, 2)?;
            let domain = parts.next().map_or(Some(0), |domain| hexadecimal(domain, 8))?;
            let function = hexadecimal(function, 1)?;
            let whole = parts.next().is_none() && device < 32 && function < 8;
            let byte = |number| u8::try_from(number).ok();
            whole.then_some(Self {
                domain,
                bus: byte(bus)?,
                device: byte(device)?,
                function: byte(function)?,
            })
        };
        parse().ok_or_else(|| NameError::PciBusId(Quoted::new(text)))
    }
}

/// A number of 1 to `most` hexadecimal digits and nothing else (no sign, which the standard parser
/// allows).
fn hexadecimal(text: &str, most: usize) -> Option<u32> {
    let digits = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for PciBusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// Name of an extended resource, e.g. `nvidia.com/gpu`.
///
/// Well formed by the kubelet's rule (`IsExtendedResourceName`,
/// pkg/apis/core/v1/helper/helpers.go:39): a name with a domain, not under `kubernetes.io/`, whose
/// domain is a DNS subdomain of at most 253 characters with `requests.` before it, and whose name
/// part is at most 63 characters of `[A-Za-z0-9_.-]` that begin and end with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(Arc<str>);

impl ResourceName {
    /// `nvidia.com/gpu`.
    #[must_use]
    pub fn gpu() -> Self {
        Self("nvidia.com/gpu".into())
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the slash: `gpu` of `nvidia.com/gpu`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl FromStr for ResourceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::ResourceName { text: Quoted::new(text), why });
        let Some((domain, base)) = text.split_once('/') else {
            return refuse("it has no domain (domain/name is asked for)");
        };
        if text.contains("kubernetes.io/") {
            return refuse("kubernetes.io is reserved for Kubernetes itself");
        }
        if text.starts_with("requests.") {
            return refuse("it begins with \"requests.\", which resource quotas use");
        }
        if "requests.".len() + domain.len() > 253 || !is_dns_subdomain(domain) {
            return refuse("its domain is not a DNS subdomain of at most 244 characters");
        }
        if base.len() > 63 || !is_qualified(base) {
            return refuse(
                "its name part is not 1 to 63 letters, digits, '-', '_' and '.' with a letter or \
                    digit at both ends",
            );
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_dns_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn is_qualified(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_read_back_as_written() {
        for text in
            ["GPU-8dc1f1c9-28a3-4b2c-9d05-1e4f0a8b7c01", "GPU-1::0", "MIG-GPU-8dc1f1c9/3/0::12"]
        {
            let id = text.parse::<DeviceId>().unwrap();
            assert_eq!((id.to_string().as_str(), id.text().as_str()), (text, text));
        }
    }

    #[test]
    fn malformed_device_ids_are_refused_by_name() {
        for text in [
            "",
            "::1",
            "GPU-1::",
            "GPU-1::01",
            "GPU-1::+1",
            "GPU-1::x",
            "GPU-1::1::2",
            "GPU 1",
            "a,b",
            "ü",
        ] {
            let error = text.parse::<DeviceId>().unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{text:?} is not a device id")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_text_of_any_length_is_quoted_in_a_short_error() {
        let error = "ü".repeat(100_000).parse::<DeviceId>().unwrap_err().to_string();
        assert!(
            error.contains("… (200000 bytes) is not a device id") && error.len() < 400,
            "{error}"
        );
    }

    #[test]
    fn replicas_are_ordered_by_number() {
        let id = |text: &str| text.parse::<DeviceId>().unwrap();
        assert!(id("GPU-1::9") < id("GPU-1::10"));
        assert!(id("GPU-1::10") < id("GPU-2::0"));
    }

    #[test]
    fn pci_bus_ids_are_one_form_whoever_wrote_them() {
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

    #[test]
    fn resource_names_follow_the_kubelets_rule() {
        let long = format!("nvidia.com/{}", "a".repeat(63));
        for text in [
            "nvidia.com/gpu",
            "nvidia.com/gpu.shared",
            "nvidia.com/mig-1g.10gb.me",
            "nvidia.com/A_1",
            &long,
        ] {
            assert_eq!(text.parse::<ResourceName>().unwrap().as_str(), text);
        }
        let long = format!("nvidia.com/{}", "a".repeat(64));
        let wide = format!("{}.com/gpu", ["a"; 122].join("."));
        for text in [
            "gpu",
            "/gpu",
            "nvidia.com/",
            "kubernetes.io/gpu",
            "x.kubernetes.io/gpu",
            "requests.nvidia.com/gpu",
            "Nvidia.com/gpu",
            "nvidia..com/gpu",
            "-nvidia.com/gpu",
            "nvidia.com/-gpu",
            "nvidia.com/gpu.",
            "nvidia.com/mig-1g.10gb+me",
            "a/b/c",
            &long,
            &wide,
        ] {
            assert!(text.parse::<ResourceName>().is_err(), "{text:?}");
        }
    }
}
