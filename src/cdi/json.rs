//! A specification as runtimes read it: JSON with the fields of CDI 0.7 and no others, since a
//! runtime refuses a file with a field that it does not know. Unless a setting asks for more, those
//! of CDI 0.5 alone are written.

mod convert;

use std::borrow::Cow;
use std::collections::BTreeMap;

use device::injection::cdi_names::VENDOR;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest file that is read, in bytes. One of 1,024 devices has less than one MiB.
pub const MOST_BYTES: usize = 16 << 20;
/// With this the files of this program begin. Those of NVIDIA's programs begin with the version.
pub(super) const OWN_START: &[u8] = b"{\n  \"kind\":";

/// The name of the file of a class, as NVIDIA's plugin names it.
#[must_use]
pub fn file_name(class: &str) -> String {
    format!("{VENDOR}-{class}.json")
}

/// A specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// `vendor/class`.
    pub kind: String,
    /// The version of CDI that a runtime needs for it.
    pub cdi_version: String,
    /// What other programs have noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The devices.
    pub devices: Vec<Device>,
    /// What each container with one of them gets.
    #[serde(default, skip_serializing_if = "Edits::is_empty")]
    pub container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What other programs have noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What a container with it gets.
    pub container_edits: Edits,
}

/// Additions to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    /// Environment variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<Node>,
    /// Programs that the runtime runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Bind>,
    /// Groups of the container's process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// Intel's resource director, which other programs set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<Value>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Node {
    /// Its path in the container.
    pub path: String,
    /// Its path on the host, if that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// `c`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The major number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// The minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// The permissions of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// What the container may do with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
    /// The owner of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A program that the runtime runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// When it is run.
    pub hook_name: String,
    /// Its path on the host.
    pub path: String,
    /// Its arguments, its own name first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// How many seconds it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bind {
    /// The path on the host.
    pub host_path: String,
    /// The path in the container.
    pub container_path: String,
    /// The options of the mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Cow<'static, str>>,
    /// The type of the mount.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl Document {
    /// The bytes of its file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        // Nothing in it can fail to be written: there are no maps with other keys than texts.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The lowest version of CDI that has all that is in it: additional groups came with 0.7.0,
    /// annotations and dots in a class with 0.6.0, names that begin with a digit, and paths of
    /// nodes on the host, with 0.5.0, the type of a mount with 0.4.0.
    #[must_use]
    pub fn needed_version(&self) -> &'static str {
        let edits = || {
            let devices = self.devices.iter().map(|device| &device.container_edits);
            devices.chain([&self.container_edits])
        };
        let begins_with_digit =
            |device: &Device| device.name.starts_with(|c: char| c.is_ascii_digit());
        let of_0_7 = |edits: &Edits| !edits.additional_gids.is_empty() || edits.intel_rdt.is_some();
        let is_annotated = !self.annotations.is_empty()
            || self.devices.iter().any(|device| !device.annotations.is_empty());
        let mut nodes = edits().flat_map(|edits| &edits.device_nodes);
        let mut mounts = edits().flat_map(|edits| &edits.mounts);
        if edits().any(of_0_7) {
            "0.7.0"
        } else if is_annotated || self.kind.rsplit('/').next().is_some_and(|c| c.contains('.')) {
            "0.6.0"
        } else if self.devices.iter().any(begins_with_digit) || nodes.any(|n| n.host_path.is_some())
        {
            "0.5.0"
        } else if mounts.any(|mount| mount.kind.is_some()) {
            "0.4.0"
        } else {
            "0.3.0"
        }
    }
}

impl Edits {
    /// Whether they add nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
