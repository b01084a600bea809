//! UUIDs of GPUs and MIG devices.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::error::{NameError, QuotedText};

/// The separator between the UUID and the replica number in the id of a shared device.
pub(super) const REPLICA: &str = "::";

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
}

impl Borrow<str> for Uuid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uuid {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::Uuid { text: QuotedText::new(text), why });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > LONGEST_ID {
            return refuse("it is longer than 63 characters");
        }
        // A comma would split NVIDIA_VISIBLE_DEVICES, "::" marks a replica. Drivers before 470 have
        // slashes in MIG UUIDs: MIG-GPU-<uuid>/<gi>/<ci>.
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
