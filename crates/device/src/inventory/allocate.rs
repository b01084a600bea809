//! The devices of an Allocate call, and when it is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::Device;
use crate::inventory::Inventory;
use crate::names::{DeviceId, NameError, QuotedText, ResourceName};

/// Why an allocation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// No device of this node has the id.
    #[error(
        "cannot allocate {id} of {resource}: no such device on this node (it has {known} of this \
         resource; a pod that was given an old device has to be recreated)"
    )]
    UnknownDevice {
        /// The id as the kubelet sent it.
        id: QuotedText,
        /// The resource of the call.
        resource: ResourceName,
        /// How many devices the resource has.
        known: usize,
    },
    /// The id is a device of another resource.
    #[error("cannot allocate {id} of {resource}: it is a device of {owner}")]
    OtherResource {
        /// The id as the kubelet sent it.
        id: QuotedText,
        /// The resource of the call.
        resource: ResourceName,
        /// The resource that has the device.
        owner: ResourceName,
    },
    /// The id is empty or not well formed.
    #[error("cannot allocate {id} of {resource}: {why}")]
    MalformedId {
        /// The id as the kubelet sent it.
        id: QuotedText,
        /// The resource of the call.
        resource: ResourceName,
        /// Why it is not an id.
        why: String,
    },
    /// More than one replica, where only one is allowed. The text is that of NVIDIA's plugin
    /// (internal/rm/rm.go:91), on which people have alerts.
    #[error(
        "invalid allocation request for \"{resource}\": invalid request: maximum request size for \
         shared resources is 1; found {found}"
    )]
    TooManyReplicas {
        /// The resource of the call.
        resource: ResourceName,
        /// The number of ids.
        found: usize,
    },
    /// Replicas of several GPUs that MPS shares: their limits would be those of one GPU, and a
    /// container's share would depend on where its replicas lie.
    #[error(
        "cannot allocate {found} replicas of {resource}: they are of {gpus} GPUs, and with MPS the \
         replicas of a container have to be of one; ask for no more than a GPU has, with the \
         allocation policy packed"
    )]
    SeveralGpus {
        /// The resource of the call.
        resource: ResourceName,
        /// The number of ids.
        found: usize,
        /// The number of GPUs that they are of.
        gpus: usize,
    },
    /// A device whose CDI name no container runtime can resolve, so that its container would not
    /// start.
    #[error(
        "cannot allocate {id} of {resource}: it is in no CDI specification of this node{}",
        .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
    )]
    Unresolvable {
        /// The id.
        id: DeviceId,
        /// The resource of the call.
        resource: ResourceName,
        /// Why the specification is not as it should be, if that is known.
        why: Option<String>,
    },
}

impl Inventory {
    /// The devices with these ids, each once, by GPU index and MIG index.
    ///
    /// Unhealthy devices are allocated too: the kubelet only allocates devices that were Healthy in
    /// its last list, or that the pod has already.
    ///
    /// # Errors
    /// An id that is no device of this resource, or whose CDI name cannot be resolved; or several
    /// replicas where one is allowed, or of several GPUs where MPS shares them.
    pub fn allocate(
        &self,
        resource: &ResourceName,
        ids: &[String],
    ) -> Result<Vec<&Device>, AllocateError> {
        let mut devices = Vec::with_capacity(ids.len());
        for id in ids {
            let device = self.device(resource, id)?;
            if !self.is_resolvable(device) {
                return Err(AllocateError::Unresolvable {
                    id: device.id.clone(),
                    resource: resource.clone(),
                    why: self.cdi().and_then(|names| names.problem.clone()),
                });
            }
            devices.push(device);
        }
        let shared = devices.iter().any(|device| device.id.replica_number().is_some());
        if shared && ids.len() > 1 && self.injector().one_replica_only {
            return Err(AllocateError::TooManyReplicas {
                resource: resource.clone(),
                found: ids.len(),
            });
        }
        self.check_one_gpu(resource, &devices)?;
        devices.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        devices.dedup_by(|a, b| a.id == b.id);
        Ok(devices)
    }

    /// With MPS the replicas of a container are of one GPU.
    fn check_one_gpu(
        &self,
        resource: &ResourceName,
        devices: &[&Device],
    ) -> Result<(), AllocateError> {
        let shared = devices.iter().filter(|device| device.id.replica_number().is_some());
        let gpus: BTreeSet<_> = shared.map(|device| &device.gpu).collect();
        if self.injector().mps_root.is_none() || gpus.len() < 2 {
            return Ok(());
        }
        let (resource, found) = (resource.clone(), devices.len());
        Err(AllocateError::SeveralGpus { resource, found, gpus: gpus.len() })
    }

    fn device(&self, resource: &ResourceName, id: &str) -> Result<&Device, AllocateError> {
        let parsed: DeviceId =
            id.parse().map_err(|error: NameError| AllocateError::MalformedId {
                id: QuotedText::new(id),
                resource: resource.clone(),
                why: format!("it {}", error.problem),
            })?;
        let devices = self.devices(resource);
        if let Some(device) = devices.and_then(|devices| devices.get(&parsed)) {
            return Ok(device);
        }
        let owner = self
            .resources()
            .find(|name| self.devices(name).is_some_and(|devices| devices.contains_key(&parsed)));
        Err(match owner {
            Some(owner) => AllocateError::OtherResource {
                id: QuotedText::new(id),
                resource: resource.clone(),
                owner: owner.clone(),
            },
            None => AllocateError::UnknownDevice {
                id: QuotedText::new(id),
                resource: resource.clone(),
                known: devices.map_or(0, BTreeMap::len),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node;

    fn ids(numbers: &[u32]) -> Vec<String> {
        numbers.iter().map(|number| format!("GPU-{number}")).collect()
    }

    #[test]
    fn devices_come_once_each_and_by_index_whatever_the_order_of_ids() {
        let node = node(12);
        let devices = node.allocate(&ResourceName::gpu(), &ids(&[10, 2, 10, 9])).unwrap();
        let ids: Vec<_> = devices.iter().map(|device| device.id.to_string()).collect();
        assert_eq!(ids, ["GPU-2", "GPU-9", "GPU-10"]);
    }

    #[test]
    fn a_bad_id_is_refused_by_name() {
        let node = node(2);
        for bad in ["GPU-7", "", "GPU-0::x", "a b", "GPU-0::1"] {
            let error = node
                .allocate(&ResourceName::gpu(), &["GPU-1".to_owned(), bad.to_owned()])
                .unwrap_err();
            assert!(
                error.to_string().contains(&format!("cannot allocate {bad:?} of nvidia.com/gpu")),
                "{error}"
            );
        }
    }
}
