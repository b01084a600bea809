//! Which devices may be allocated, and which are preferred.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{Device, Inventory};
use super::names::{DeviceId, NameError, Quoted, ResourceName};

/// Why an allocation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No device has this id.
    #[error(
        "cannot allocate {id} of {resource}: no such device on this node (it has {known} of this resource; a pod \
         that still names an old device has to be created anew)"
    )]
    Unknown {
        /// The id as the kubelet sent it.
        id: Quoted,
        /// The resource that was asked.
        resource: ResourceName,
        /// How many devices the resource has.
        known: usize,
    },
    /// The id is a device of another resource.
    #[error("cannot allocate {id} of {resource}: it is a device of {owner}")]
    OtherResource {
        /// The id as the kubelet sent it.
        id: Quoted,
        /// The resource that was asked.
        resource: ResourceName,
        /// The resource that has it.
        owner: ResourceName,
    },
    /// The id is empty or not well formed.
    #[error("cannot allocate {id} of {resource}: {why}")]
    Malformed {
        /// The id as the kubelet sent it.
        id: Quoted,
        /// The resource that was asked.
        resource: ResourceName,
        /// What is wrong with it.
        why: String,
    },
}

impl Inventory {
    /// The devices with these ids, each once, by the index of their GPU.
    ///
    /// An Unhealthy device is allocated: the kubelet asks only for what it takes as healthy, or for what the pod
    /// already holds.
    ///
    /// # Errors
    /// An id that is not a device of this resource; the error names it.
    pub fn allocate(&self, resource: &ResourceName, ids: &[String]) -> Result<Vec<&Device>, Refused> {
        let mut devices = Vec::with_capacity(ids.len());
        for id in ids {
            devices.push(self.device(resource, id)?);
        }
        devices.sort_by(|a, b| (a.index, &a.id).cmp(&(b.index, &b.id)));
        devices.dedup_by(|a, b| a.id == b.id);
        Ok(devices)
    }

    fn device(&self, resource: &ResourceName, id: &str) -> Result<&Device, Refused> {
        let parsed: DeviceId = id.parse().map_err(|error: NameError| Refused::Malformed {
            id: Quoted::new(id),
            resource: resource.clone(),
            why: error.to_string(),
        })?;
        let devices = self.devices(resource);
        if let Some(device) = devices.and_then(|devices| devices.get(&parsed)) {
            return Ok(device);
        }
        let owner =
            self.resources().find(|name| self.devices(name).is_some_and(|devices| devices.contains_key(&parsed)));
        Err(match owner {
            Some(owner) => {
                Refused::OtherResource { id: Quoted::new(id), resource: resource.clone(), owner: owner.clone() }
            }
            None => Refused::Unknown {
                id: Quoted::new(id),
                resource: resource.clone(),
                known: devices.map_or(0, BTreeMap::len),
            },
        })
    }

    /// The `size` best of the available ids: those that must be included, then those on the NUMA nodes of what is
    /// chosen already, then by index.
    ///
    /// Never fails, since an error here fails the pod: what cannot be met gets the best plain answer, and an id
    /// that is not known comes last.
    #[must_use]
    pub fn preferred(
        &self,
        resource: &ResourceName,
        available: &[String],
        must_include: &[String],
        size: usize,
    ) -> Vec<String> {
        let known = |id: &String| -> Option<&Device> { self.devices(resource)?.get(&id.parse().ok()?) };
        let mut chosen: Vec<String> = Vec::new();
        let mut taken: BTreeSet<&String> = BTreeSet::new();
        for id in must_include {
            if taken.insert(id) {
                chosen.push(id.clone());
            }
        }
        let mut rest: Vec<(Option<&Device>, &String)> =
            available.iter().filter(|id| taken.insert(id)).map(|id| (known(id), id)).collect();
        rest.sort_by_key(|(device, id)| (device.is_none(), device.map(|device| (device.index, &device.id)), *id));

        let nodes: BTreeSet<_> = must_include.iter().filter_map(|id| known(id)?.numa_node).collect();
        let missing = size.saturating_sub(chosen.len());
        let node = match nodes.is_empty() {
            false => None,
            true => roomiest_node(&rest, missing),
        };
        let local = |device: &Option<&Device>| {
            device.and_then(|device| device.numa_node).is_some_and(|at| nodes.contains(&at) || node == Some(at))
        };
        // A stable sort: within local and distant the order by index stays.
        rest.sort_by_key(|(device, _)| !local(device));
        chosen.extend(rest.into_iter().take(missing).map(|(_, id)| id.clone()));
        chosen.truncate(size);
        chosen
    }
}

/// The NUMA node that can serve `size` devices with the fewest left over; without one, the node with the most.
fn roomiest_node(devices: &[(Option<&Device>, &String)], size: usize) -> Option<super::gpu::NumaNode> {
    let mut room: BTreeMap<super::gpu::NumaNode, usize> = BTreeMap::new();
    for node in devices.iter().filter_map(|(device, _)| device.as_ref()?.numa_node) {
        *room.entry(node).or_default() += 1;
    }
    let fits = room.iter().filter(|(_, count)| **count >= size).min_by_key(|(node, count)| (**count, **node));
    fits.or_else(|| room.iter().max_by_key(|(node, count)| (**count, std::cmp::Reverse(**node)))).map(|(node, _)| *node)
}

#[cfg(test)]
mod tests {
    use super::super::inventory::tests::node;
    use super::*;
    use crate::device::injection::Injection;

    fn ids(numbers: &[u32]) -> Vec<String> {
        numbers.iter().map(|number| format!("GPU-{number}")).collect()
    }

    #[test]
    fn devices_come_once_each_and_by_index_whatever_the_order_asked() {
        let node = node(12);
        let devices = node.allocate(&ResourceName::gpu(), &ids(&[10, 2, 10, 9])).unwrap();
        assert_eq!(Injection::of(&devices).envs["NVIDIA_VISIBLE_DEVICES"], "GPU-2,GPU-9,GPU-10");
    }

    #[test]
    fn a_bad_id_is_refused_by_name() {
        let node = node(2);
        for bad in ["GPU-7", "", "GPU-0::x", "a b", "GPU-0::1"] {
            let error = node.allocate(&ResourceName::gpu(), &["GPU-1".to_owned(), bad.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(&format!("cannot allocate {bad:?} of nvidia.com/gpu")), "{error}");
        }
    }

    #[test]
    fn preferred_takes_must_include_then_its_numa_node_then_the_index() {
        let node = node(8);
        let all = ids(&[7, 6, 5, 4, 3, 2, 1, 0]);
        // must include, size, expected
        let table: &[(&[u32], usize, &[u32])] = &[
            (&[], 2, &[0, 1]),
            (&[5], 3, &[5, 4, 6]),
            (&[5], 1, &[5]),
            (&[5], 6, &[5, 4, 6, 7, 0, 1]),
            (&[], 0, &[]),
            (&[], 20, &[0, 1, 2, 3, 4, 5, 6, 7]),
        ];
        for (must_include, size, expected) in table {
            let answer = node.preferred(&ResourceName::gpu(), &all, &ids(must_include), *size);
            assert_eq!(answer, ids(expected), "{must_include:?} {size}");
        }
        // The node that fits most closely keeps the other whole.
        assert_eq!(node.preferred(&ResourceName::gpu(), &ids(&[0, 1, 2, 3, 4, 5]), &[], 2), ids(&[4, 5]));
    }

    #[test]
    fn preferred_answers_whatever_it_is_asked() {
        let node = node(2);
        let odd = ["GPU-9".to_owned(), String::new(), "GPU-1".to_owned(), "GPU-1".to_owned()];
        assert_eq!(node.preferred(&ResourceName::gpu(), &odd, &[], 3), ["GPU-1", "", "GPU-9"]);
        assert_eq!(node.preferred(&ResourceName::gpu(), &[], &odd, 1), ["GPU-9"]);
    }
}
