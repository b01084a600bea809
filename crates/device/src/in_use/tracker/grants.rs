//! Devices that Allocate granted and whose container the kubelet has not listed yet.
//!
//! Such a device may be in use by an init container, which PodResources does not list. It counts as
//! in use until every pod is gone that can have got it: each that was new when it was granted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::health::Moment;
use crate::in_use::holders::Holders;
use crate::names::{DeviceId, ResourceName};

/// A device of a resource.
pub type DeviceKey = (ResourceName, DeviceId);

/// How long after a pod is first listed it may still be granted devices: the Allocate call of
/// another plugin can hang before this plugin's.
const ADMISSION_LIMIT: Duration = Duration::from_secs(60);

/// The grants and the pods they may have gone to.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants {
    /// The pods of the last answer, and when each was first listed. Those of the first answer count
    /// as listed since the start.
    pods: BTreeMap<String, Moment>,
    by_device: BTreeMap<DeviceKey, Grant>,
}

/// A device that Allocate granted.
#[derive(Debug, Clone)]
struct Grant {
    at: Moment,
    /// The pods that may have got it; `None` before the first answer after the grant.
    candidates: Option<BTreeSet<String>>,
}

impl Grants {
    pub(super) fn record(&mut self, now: Moment, device: DeviceKey) {
        self.by_device.insert(device, Grant { at: now, candidates: None });
    }

    /// Whether a device was granted and not listed since.
    pub(super) fn contains(&self, device: &DeviceKey) -> bool {
        self.by_device.contains_key(device)
    }

    /// When a device was granted, if it was not listed since.
    pub(super) fn granted_at(&self, device: &DeviceKey) -> Option<Moment> {
        self.by_device.get(device).map(|grant| grant.at)
    }

    /// Drops the grants that an answer settles: the device is listed with its container, or no pod
    /// is left that may have got it. An answer that is not `credible` can only do the former.
    pub(super) fn update(&mut self, holders: &Holders, credible: bool) {
        self.update_pods(holders);
        let pods = &self.pods;
        self.by_device.retain(|(resource, id), grant| {
            if grant.at >= holders.requested_at() {
                return true;
            }
            if !holders.of(resource, id).is_empty() {
                return false;
            }
            !credible || grant.has_candidates(pods)
        });
    }

    fn update_pods(&mut self, holders: &Holders) {
        let first = if self.pods.is_empty() { Moment::default() } else { holders.requested_at() };
        self.pods.retain(|pod, _| holders.pods().contains(pod));
        for pod in holders.pods() {
            if !self.pods.contains_key(pod) {
                self.pods.insert(pod.clone(), first);
            }
        }
    }
}

impl Grant {
    /// Whether a listed pod may have got the device.
    fn has_candidates(&mut self, pods: &BTreeMap<String, Moment>) -> bool {
        let at = self.at;
        let was_new = |first: &Moment| first.after(ADMISSION_LIMIT) > at;
        let candidates = self.candidates.get_or_insert_with(|| {
            pods.iter().filter(|(_, first)| was_new(first)).map(|(pod, _)| pod.clone()).collect()
        });
        candidates.retain(|pod| pods.contains_key(pod));
        !candidates.is_empty()
    }
}
