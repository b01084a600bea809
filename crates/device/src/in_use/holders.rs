//! Which container holds which device, as the kubelet has said at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::health::Moment;
use crate::names::{DeviceId, ResourceName};

/// A container that holds a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name. A pod that follows another of its name cannot be told from it.
    pub pod: String,
    /// The container's name in the pod.
    pub container: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.container)
    }
}

/// A device that a container holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAssignment {
    /// Its resource.
    pub resource: ResourceName,
    /// Its id as the kubelet has it: not always one that this plugin has given it.
    pub id: String,
    /// Who holds it.
    pub holder: Holder,
}

/// One answer of the kubelet: every device that a container holds, of all plugins.
///
/// A device that only an init container holds, one that ends before the others start, is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    asked: Moment,
    kubelet: u64,
    pods: BTreeSet<String>,
    held: BTreeMap<ResourceName, BTreeMap<String, Vec<Holder>>>,
}

impl Holders {
    /// An answer that names these pods, each as namespace and name with a slash between, of the
    /// `kubelet`-th kubelet process that was met, to a question of this moment.
    #[must_use]
    pub fn new(
        asked: Moment,
        kubelet: u64,
        pods: BTreeSet<String>,
        held: impl IntoIterator<Item = DeviceAssignment>,
    ) -> Self {
        let mut holders = Self { asked, kubelet, pods, held: BTreeMap::new() };
        for DeviceAssignment { resource, id, holder } in held {
            let of_device = holders.held.entry(resource).or_default().entry(id).or_default();
            // A device of several NUMA nodes can stand under each.
            if let Err(place) = of_device.binary_search(&holder) {
                of_device.insert(place, holder);
            }
        }
        holders
    }

    /// When the question was asked: what happened later is not in it.
    #[must_use]
    pub fn asked(&self) -> Moment {
        self.asked
    }

    /// Which kubelet process has answered: 1 for the first that was met.
    #[must_use]
    pub fn kubelet(&self) -> u64 {
        self.kubelet
    }

    /// The pods that the kubelet knows, those that hold nothing included. A kubelet that has just
    /// started knows none until it has heard from the API server.
    #[must_use]
    pub fn pods(&self) -> &BTreeSet<String> {
        &self.pods
    }

    /// Who holds a device: nobody, one container, or several of one pod.
    #[must_use]
    pub fn of(&self, resource: &ResourceName, id: &DeviceId) -> &[Holder] {
        let of_device = self.held.get(resource).and_then(|held| held.get(id.to_string().as_str()));
        of_device.map_or(&[], Vec::as_slice)
    }

    /// Every device that is held, with each of its holders: by resource, then by id.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, &str, &Holder)> {
        self.held.iter().flat_map(|(resource, held)| {
            let of_each = held
                .iter()
                .flat_map(|(id, holders)| holders.iter().map(move |holder| (id.as_str(), holder)));
            of_each.map(move |(id, holder)| (resource, id, holder))
        })
    }

    /// Whether both answers say the same, whenever they were given.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        (self.kubelet, &self.pods, &self.held) == (other.kubelet, &other.pods, &other.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(resource: &str, id: &str, pod: &str, container: &str) -> DeviceAssignment {
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
        let told = [
            held("nvidia.com/gpu", "GPU-1", "b", "main"),
            held("nvidia.com/gpu", "GPU-1", "b", "main"),
            held("nvidia.com/gpu", "GPU-1", "b", "a-sidecar"),
            held("nvidia.com/gpu", "GPU-0::3", "a", "main"),
            held("example.com/nic", "not one of ours", "a", "main"),
        ];
        let holders = Holders::new(Moment::default(), 1, ["a/b".to_owned()].into(), told);
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
    fn answers_agree_whenever_they_were_given() {
        let told = || [held("nvidia.com/gpu", "GPU-1", "b", "main")];
        let later = Moment(std::time::Duration::from_secs(10));
        let first = Holders::new(Moment::default(), 1, BTreeSet::new(), told());
        assert!(first.agrees_with(&Holders::new(later, 1, BTreeSet::new(), told())));
        for other in [
            Holders::new(later, 2, BTreeSet::new(), told()),
            Holders::new(later, 1, ["a/b".to_owned()].into(), told()),
            Holders::new(later, 1, BTreeSet::new(), []),
        ] {
            assert!(!first.agrees_with(&other), "{other:?}");
        }
    }
}
