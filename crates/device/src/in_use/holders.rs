//! Which container uses which device, from one PodResources answer of the kubelet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::health::Moment;
use crate::names::{DeviceId, ResourceName};

/// A container that uses a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name. Successive pods of one name cannot be told apart.
    pub pod: String,
    /// The container's name in the pod.
    pub container: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.container)
    }
}

/// A device and a container that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAssignment {
    /// Its resource.
    pub resource: ResourceName,
    /// Its id as the kubelet states it, which need not be one of this plugin's.
    pub id: String,
    /// The container.
    pub holder: Holder,
}

/// One PodResources `List` answer: every device that a container uses, of all plugins.
///
/// The devices of an init container that ends before the others start are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    requested_at: Moment,
    kubelet: u64,
    pods: BTreeSet<String>,
    assignments: BTreeMap<ResourceName, BTreeMap<String, Vec<Holder>>>,
}

impl Holders {
    /// The answer of the `kubelet`-th kubelet process seen, requested at `requested_at`, with these
    /// pods (`namespace/name`).
    #[must_use]
    pub fn new(
        requested_at: Moment,
        kubelet: u64,
        pods: BTreeSet<String>,
        assignments: impl IntoIterator<Item = DeviceAssignment>,
    ) -> Self {
        let mut holders = Self { requested_at, kubelet, pods, assignments: BTreeMap::new() };
        for DeviceAssignment { resource, id, holder } in assignments {
            let of_device = holders.assignments.entry(resource).or_default().entry(id).or_default();
            // A device of several NUMA nodes can be listed under each.
            if let Err(position) = of_device.binary_search(&holder) {
                of_device.insert(position, holder);
            }
        }
        holders
    }

    /// When the answer was requested: what happened later is not in it.
    #[must_use]
    pub fn requested_at(&self) -> Moment {
        self.requested_at
    }

    /// Which kubelet process answered: 1 for the first seen.
    #[must_use]
    pub fn kubelet(&self) -> u64 {
        self.kubelet
    }

    /// All pods that the kubelet lists, with or without devices. A kubelet that has just started
    /// lists none until it has got them from the API server.
    #[must_use]
    pub fn pods(&self) -> &BTreeSet<String> {
        &self.pods
    }

    /// The containers that use a device: none, one, or several of one pod.
    #[must_use]
    pub fn of(&self, resource: &ResourceName, id: &DeviceId) -> &[Holder] {
        let of_resource = self.assignments.get(resource);
        of_resource.and_then(|assigned| assigned.get(&id.text())).map_or(&[], Vec::as_slice)
    }

    /// Every device in use with each of its containers: by resource, then by id.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, &str, &Holder)> {
        self.assignments.iter().flat_map(|(resource, assignments)| {
            let of_each = assignments
                .iter()
                .flat_map(|(id, holders)| holders.iter().map(move |holder| (id.as_str(), holder)));
            of_each.map(move |(id, holder)| (resource, id, holder))
        })
    }

    /// Whether both answers have the same content, whenever they were requested.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        (self.kubelet, &self.pods, &self.assignments)
            == (other.kubelet, &other.pods, &other.assignments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(resource: &str, id: &str, pod: &str, container: &str) -> DeviceAssignment {
        let holder = Holder {
            namespace: "default".to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
        };
        DeviceAssignment { resource: resource.parse().unwrap(), id: id.to_owned(), holder }
    }

    #[test]
    fn each_device_has_its_holders_once() {
        let gpu = ResourceName::gpu();
        let id = |text: &str| text.parse::<DeviceId>().unwrap();
        let assignments = [
            assignment("nvidia.com/gpu", "GPU-1", "b", "main"),
            assignment("nvidia.com/gpu", "GPU-1", "b", "main"),
            assignment("nvidia.com/gpu", "GPU-1", "b", "a-sidecar"),
            assignment("nvidia.com/gpu", "GPU-0::3", "a", "main"),
            assignment("example.com/nic", "not one of ours", "a", "main"),
        ];
        let holders = Holders::new(Moment::default(), 1, ["a/b".to_owned()].into(), assignments);
        let names = |id: &str| {
            holders
                .of(&gpu, &id.parse().unwrap())
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("GPU-1"), ["default/b/a-sidecar", "default/b/main"]);
        assert_eq!(names("GPU-0::3"), ["default/a/main"]);
        assert!(holders.of(&gpu, &id("GPU-0")).is_empty());
        assert!(holders.of(&"nvidia.com/gpu.shared".parse().unwrap(), &id("GPU-1")).is_empty());
        let all: Vec<_> = holders.iter().map(|(resource, id, _)| (resource.as_str(), id)).collect();
        let (gpu, nic) = ("nvidia.com/gpu", "example.com/nic");
        assert_eq!(
            all,
            [(nic, "not one of ours"), (gpu, "GPU-0::3"), (gpu, "GPU-1"), (gpu, "GPU-1")]
        );
        assert_eq!(holders.pods().len(), 1);
    }

    #[test]
    fn answers_agree_whenever_they_were_requested() {
        let assignments = || [assignment("nvidia.com/gpu", "GPU-1", "b", "main")];
        let later = Moment(std::time::Duration::from_secs(10));
        let first = Holders::new(Moment::default(), 1, BTreeSet::new(), assignments());
        assert!(first.agrees_with(&Holders::new(later, 1, BTreeSet::new(), assignments())));
        for other in [
            Holders::new(later, 2, BTreeSet::new(), assignments()),
            Holders::new(later, 1, ["a/b".to_owned()].into(), assignments()),
            Holders::new(later, 1, BTreeSet::new(), []),
        ] {
            assert!(!first.agrees_with(&other), "{other:?}");
        }
    }
}
