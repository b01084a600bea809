//! UUIDs of GPUs and MIG devices, and the ids under which devices are advertised.

use std::borrow::Borrow;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use super::NameError;

/// The separator between the UUID and the replica number in the id of a shared device.
const REPLICA: &str = "::";

/// Longest device id in bytes: the kubelet's API states 63 characters (api.proto, Device.ID).
const LONGEST_ID: usize = 63;

/// UUID of a physical GPU ("GPU-…") or of a MIG device ("MIG-…"), as NVML gives it.
///
/// Cheap to clone: lists and snapshots have many of them.
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

    /// The UUID with this text, or what is wrong with it.
    fn checked(text: &str) -> Result<Self, &'static str> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// What is wrong with a text that is to be a UUID.
    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.len() > LONGEST_ID {
            return Err("it is longer than 63 characters");
        }
        let Some((is_mig, rest)) = split_kind(text) else {
            return Err("it does not begin with GPU- or MIG-");
        };
        // Drivers before 470 have slashes in MIG UUIDs: MIG-GPU-<uuid>/<gi>/<ci>. Anything else
        // could be a path or another word of NVIDIA_VISIBLE_DEVICES.
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || is_mig && byte == b'/';
        if rest.is_empty() || !rest.bytes().all(is_allowed) {
            return Err(
                "after GPU- or MIG- it needs letters, digits and '-', in a MIG device's also '/'",
            );
        }
        Ok(())
    }
}

/// Whether it is of a MIG device, and what follows the prefix; `None` without one.
fn split_kind(text: &str) -> Option<(bool, &str)> {
    let gpu = text.strip_prefix("GPU-").map(|rest| (false, rest));
    gpu.or_else(|| text.strip_prefix("MIG-").map(|rest| (true, rest)))
}

impl Borrow<str> for Uuid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uuid {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::checked(text)
            .map_err(|why| NameError::new(text, format!("is not a device UUID: {why}")))
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

    /// Whether a text has the form of an id, without memory for the id or for an error.
    #[must_use]
    pub fn is_well_formed(text: &str) -> bool {
        match text.split_once(REPLICA) {
            None => Uuid::check(text).is_ok(),
            Some((uuid, number)) => replica_number(number).is_some() && Uuid::check(uuid).is_ok(),
        }
    }

    /// The id of one replica of a shared device.
    #[must_use]
    pub fn replica(uuid: Uuid, replica: u32) -> Self {
        Self { uuid, replica: Some(replica) }
    }

    /// The id as text, in one allocation: device lists have thousands of ids.
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
        let parse = || {
            let Some((uuid, number)) = text.split_once(REPLICA) else {
                return Ok(Self::whole(Uuid::checked(text)?));
            };
            let number =
                replica_number(number).ok_or("what follows '::' is not a replica number")?;
            Ok(Self::replica(Uuid::checked(uuid)?, number))
        };
        parse().map_err(|why: &str| NameError::new(text, format!("is not a device id: {why}")))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Splits the text of an id into UUID and replica number, without a check of the UUID. `None` if
/// what follows the last `::` is no replica number.
pub(crate) fn split(id: &str) -> Option<(&str, Option<u32>)> {
    // The search for one character is a good deal quicker than that for two.
    let marked = id.rfind(':').and_then(|at| Some((id[..at].strip_suffix(':')?, &id[at + 1..])));
    match marked {
        None => Some((id, None)),
        Some((uuid, number)) => Some((uuid, Some(replica_number(number)?))),
    }
}

/// A number without sign and leading zeros.
fn replica_number(text: &str) -> Option<u32> {
    let canonical =
        text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nvml_gives_a_device_is_a_uuid() {
        let longest = format!("GPU-{}", "0".repeat(LONGEST_ID - 4));
        for text in [
            "GPU-8dc1f1c9-28a3-4b2c-9d05-1e4f0a8b7c01",
            "MIG-8dc1f1c9-28a3-4b2c-9d05-1e4f0a8b7c01",
            "MIG-GPU-8dc1f1c9-28a3-4b2c-9d05-1e4f0a8b7c01/13/0",
            longest.as_str(),
        ] {
            assert_eq!(text.parse::<Uuid>().map(|uuid| uuid.to_string()), Ok(text.to_owned()));
        }
        let too_long = format!("{longest}0");
        for text in [
            "",
            "all",
            "none",
            "void",
            "N/A",
            "0",
            "0:1",
            "../../etc/0",
            "GPU-",
            "MIG-",
            "gpu-1",
            "GPU-../../etc",
            "GPU-1/../../etc",
            "MIG-../etc",
            "GPU-1,GPU-2",
            "GPU-1 ",
            "GPU-1\n",
            "GPU-\u{fc}",
            "GPU-1::0",
            "GPU-1=all",
            too_long.as_str(),
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn device_ids_read_back_as_written() {
        for text in
            ["GPU-8dc1f1c9-28a3-4b2c-9d05-1e4f0a8b7c01", "GPU-1::0", "MIG-GPU-8dc1f1c9/3/0::12"]
        {
            let id = text.parse::<DeviceId>().unwrap();
            assert_eq!((id.to_string().as_str(), id.text().as_str()), (text, text));
            assert!(DeviceId::is_well_formed(text));
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
            assert!(!DeviceId::is_well_formed(text), "{text:?}");
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
}
