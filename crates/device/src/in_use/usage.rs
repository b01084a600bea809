//! Which devices pods use: what the inventory needs to know of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::in_use::holders::Holder;
use crate::names::{DeviceId, ResourceName};

/// The devices that pods use, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// Whether the kubelet says what pods use.
    pub known: bool,
    /// Each device with a container that uses it; `None`: it was granted, and no container is
    /// listed with it yet.
    pub devices: BTreeMap<(ResourceName, DeviceId), Option<Holder>>,
}

/// The owner of a GPU that has it, or a part of it, under an id that is no longer offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The resource of the id.
    pub resource: ResourceName,
    /// The id.
    pub id: DeviceId,
    /// A container that uses it, if one is listed.
    pub holder: Option<Holder>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => write!(f, "the pod {holder} uses it")?,
            None => f.write_str("a pod that was just admitted uses it")?,
        }
        write!(f, " as {} of {}", self.id, self.resource)
    }
}
