//! Which devices pods may be using: when a withdrawn device can be reclaimed, and when a GPU can be
//! reset.
//!
//! ```text
//!           withdrawn                  not in an answer             nor in a later one
//!   offered ─────────▶ maybe in use ────────────────────▶ absent once ────────▶ reclaimable
//!                         ▲   ▲                               │
//!                         │   └── listed, or kubelet restart ─┤
//!                         └────────── granted again ──────────┘
//! ```
//!
//! A withdrawn device is reclaimed (its id leaves the list) only when everything says that it is
//! not in use: a kubelet up to at least 1.36 can panic when an id that a pod uses is missing from
//! the list, at the end of an allocation and when it admits its pods after a restart
//! (pkg/kubelet/cm/devicemanager/manager.go:923, topology_hints.go:191). So:
//!
//! - Two consecutive PodResources answers have to be without the id, both requested well after the
//!   withdrawal: an admission may have chosen the device just before.
//! - A device that was granted and not listed since counts as in use (`Grants`).
//! - A restarted kubelet knows its pods from its checkpoint, but lists them only when it has got
//!   them from the API server. Its answers count after five minutes, and never while they list no
//!   pod at all.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::health::Moment;
use crate::in_use::holders::{Holder, Holders};
use crate::in_use::usage::InUse;
use crate::inventory::Inventory;
use crate::names::{DeviceId, ResourceName, Uuid};

/// How long an admission that has chosen a device may take until PodResources lists it.
const ADMISSION: Duration = Duration::from_secs(1);
/// How long a granted device counts as in use without being listed, where an error does no harm.
const GRANT_LIFETIME: Duration = Duration::from_secs(60);
/// How long a restarted kubelet may take to learn its pods.
const RESTART_GRACE: Duration = Duration::from_secs(300);
/// How long after a pod is first listed it may still be granted devices: the Allocate call of
/// another plugin can hang before this plugin's.
const ADMISSION_LIMIT: Duration = Duration::from_secs(60);

/// A device of a resource.
pub type DeviceKey = (ResourceName, DeviceId);

/// The last PodResources answer, and what follows from it and its predecessors.
#[derive(Debug, Clone, Default)]
pub struct InUseTracker {
    answer: Option<Arc<Holders>>,
    /// The kubelet process that answered, and since when.
    kubelet: Option<(u64, Moment)>,
    /// Whether that process started while this one was running.
    restarted: bool,
    grants: Grants,
    withdrawn: BTreeMap<DeviceKey, Withdrawn>,
    /// Whether that process has listed any pod.
    has_listed: bool,
    /// The devices that containers use: by the last credible answer, and what later ones add.
    held: BTreeMap<DeviceKey, Holder>,
}

/// A device that is no longer offered.
#[derive(Debug, Clone, Copy)]
struct Withdrawn {
    since: Moment,
    /// When the first of the consecutive answers without it was requested.
    absent_since: Option<Moment>,
}

impl InUseTracker {
    /// Records that Allocate granted these devices to a container.
    pub fn record_grant(
        &mut self,
        now: Moment,
        resource: &ResourceName,
        ids: impl IntoIterator<Item = DeviceId>,
    ) {
        for id in ids {
            let device = (resource.clone(), id);
            if let Some(withdrawn) = self.withdrawn.get_mut(&device) {
                withdrawn.absent_since = None;
            }
            self.grants.by_device.insert(device, Grant { at: now, candidates: None });
        }
    }

    /// Takes in a PodResources answer; `None` if the kubelet no longer answers.
    pub fn update(&mut self, answer: Option<Arc<Holders>>) {
        self.answer = answer;
        let Some(holders) = self.answer.clone() else { return };
        if self.kubelet.is_none_or(|(kubelet, _)| kubelet != holders.kubelet()) {
            self.restarted = self.kubelet.is_some();
            self.has_listed = false;
            self.kubelet = Some((holders.kubelet(), holders.requested_at()));
            self.reset_absences();
        }
        let credible = self.is_credible(&holders);
        self.grants.update(&holders, credible);
        self.update_held(&holders, credible);
        if credible {
            self.update_absences(&holders);
        } else {
            self.reset_absences();
        }
    }

    fn update_held(&mut self, holders: &Holders, credible: bool) {
        self.has_listed |= !holders.pods().is_empty();
        // A kubelet that has listed pods and lists none has none any more.
        if credible || self.has_listed && self.is_settled(holders) {
            self.held.clear();
        }
        for (resource, id, holder) in holders.iter() {
            if let Ok(id) = id.parse() {
                self.held.entry((resource.clone(), id)).or_insert_with(|| holder.clone());
            }
        }
    }

    /// Which devices pods use, those among them that were granted and are not listed yet.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        let mut devices: BTreeMap<DeviceKey, Option<Holder>> =
            self.grants.by_device.keys().map(|device| (device.clone(), None)).collect();
        let held = self.held.iter().map(|(device, holder)| (device.clone(), Some(holder.clone())));
        devices.extend(held);
        InUse { known: self.kubelet.is_some(), devices }
    }

    fn reset_absences(&mut self) {
        self.withdrawn.values_mut().for_each(|withdrawn| withdrawn.absent_since = None);
    }

    fn update_absences(&mut self, holders: &Holders) {
        for ((resource, id), withdrawn) in &mut self.withdrawn {
            if !holders.of(resource, id).is_empty() {
                withdrawn.absent_since = None;
            } else if withdrawn.since.after(ADMISSION) <= holders.requested_at() {
                withdrawn.absent_since.get_or_insert(holders.requested_at());
            }
        }
    }

    /// Takes note of the devices that are withdrawn now. Returns those that can be reclaimed.
    pub fn reclaimable(&mut self, now: Moment, inventory: &Inventory) -> Vec<DeviceKey> {
        let withdrawn = inventory.resources().flat_map(|resource| {
            let devices = inventory.devices(resource).into_iter().flat_map(BTreeMap::values);
            let withdrawn = devices.filter(|device| device.withdrawn);
            withdrawn.map(move |device| (resource.clone(), device.id.clone()))
        });
        let mut before = std::mem::take(&mut self.withdrawn);
        let new = Withdrawn { since: now, absent_since: None };
        self.withdrawn =
            withdrawn.map(|device| before.remove_entry(&device).unwrap_or((device, new))).collect();
        let Some(requested_at) = self.answer.as_ref().map(|answer| answer.requested_at()) else {
            return Vec::new();
        };
        let is_reclaimable = |(device, withdrawn): &(&DeviceKey, &Withdrawn)| {
            withdrawn.absent_since.is_some_and(|first| first < requested_at)
                && !self.grants.by_device.contains_key(device)
        };
        let reclaimable = self.withdrawn.iter().filter(is_reclaimable);
        reclaimable.map(|(device, _)| device.clone()).collect()
    }

    /// Whether any device is withdrawn: only then do answers and the passing of time matter.
    #[must_use]
    pub fn has_withdrawn(&self) -> bool {
        !self.withdrawn.is_empty()
    }

    /// Whether the next answer may make a device reclaimable, so that it is worth requesting soon.
    #[must_use]
    pub fn needs_answer(&self) -> bool {
        let requested_at = self.answer.as_ref().map(|answer| answer.requested_at());
        let waits = |(device, withdrawn): (&DeviceKey, &Withdrawn)| {
            let is_first = withdrawn.absent_since.is_none()
                && requested_at
                    .is_none_or(|requested_at| requested_at < withdrawn.since.after(ADMISSION));
            (is_first || withdrawn.absent_since.is_some())
                && !self.grants.by_device.contains_key(device)
        };
        self.withdrawn.iter().any(waits)
    }

    /// Whether the kubelet lists no container with a device of a GPU. A device granted in the last
    /// minute counts as in use.
    pub(crate) fn is_unused(&self, now: Moment, gpu: &Uuid, inventory: &Inventory) -> bool {
        let Some(holders) = self.answer.as_ref().filter(|holders| self.is_credible(holders)) else {
            return false;
        };
        let is_recent = |grant: &Grant| now.since(grant.at) < GRANT_LIFETIME;
        inventory.resources().all(|resource| {
            let devices = inventory.devices(resource).into_iter().flat_map(BTreeMap::values);
            devices.filter(|device| device.gpu == *gpu).all(|device| {
                let key = (resource.clone(), device.id.clone());
                holders.of(resource, &device.id).is_empty()
                    && !self.grants.by_device.get(&key).is_some_and(is_recent)
            })
        })
    }

    /// Whether a device that is not in this answer is used by no pod.
    fn is_credible(&self, holders: &Holders) -> bool {
        !holders.pods().is_empty() && self.is_settled(holders)
    }

    /// Whether the kubelet has had the time to learn its pods.
    fn is_settled(&self, holders: &Holders) -> bool {
        let since = self.kubelet.map_or(holders.requested_at(), |(_, since)| since);
        !self.restarted || holders.requested_at().since(since) >= RESTART_GRACE
    }
}

/// Devices that Allocate granted and whose container the kubelet has not listed yet.
///
/// Such a device may be in use by an init container, which PodResources does not list. It counts as
/// in use until every pod is gone that can have got it: each that was new when it was granted.
#[derive(Debug, Clone, Default)]
struct Grants {
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
    /// Drops the grants that an answer settles: the device is listed with its container, or no pod
    /// is left that may have got it. An answer that is not `credible` can only do the former.
    fn update(&mut self, holders: &Holders, credible: bool) {
        let first = if self.pods.is_empty() { Moment::default() } else { holders.requested_at() };
        self.pods.retain(|pod, _| holders.pods().contains(pod));
        for pod in holders.pods() {
            if !self.pods.contains_key(pod) {
                self.pods.insert(pod.clone(), first);
            }
        }
        self.by_device.retain(|(resource, id), grant| {
            if grant.at >= holders.requested_at() {
                return true;
            }
            if !holders.of(resource, id).is_empty() {
                return false;
            }
            !credible || grant.has_candidates(&self.pods)
        });
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
