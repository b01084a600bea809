//! Which devices are preferred.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{Device, Inventory};
use super::names::ResourceName;

impl Inventory {
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

    fn ids(numbers: &[u32]) -> Vec<String> {
        numbers.iter().map(|number| format!("GPU-{number}")).collect()
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
