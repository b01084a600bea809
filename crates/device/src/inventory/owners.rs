//! One GPU, one owner: while a pod uses a GPU, or a part of it, under an id that is no longer
//! offered, its present ids are Unhealthy.
//!
//! After a change of sharing, names or partitioning a GPU has other ids, which are other devices
//! to the kubelet: it would give them to a second pod.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Inventory;
use super::observation::InventoryChanges;
use crate::gpu::Placement;
use crate::in_use::claim::Claim;
use crate::in_use::holders::Holder;
use crate::in_use::usage::{InUse, Owner};
use crate::layout::{LayoutFinding, LayoutResult};
use crate::names::{DeviceId, ResourceName, Uuid};

impl Inventory {
    /// Sets which devices pods use.
    pub fn set_in_use(&mut self, in_use: InUse) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        let was_known = std::mem::replace(&mut self.in_use, in_use).known;
        let offers = |resource: &ResourceName, id: &DeviceId| {
            let devices = self.resources.get(resource);
            devices.and_then(|of| of.get(id)).is_some_and(|device| !device.withdrawn)
        };
        if self.claims != self.claims(offers) || was_known != self.in_use.known {
            self.update_devices(&mut changes);
        }
        changes
    }

    /// Which devices pods use, as it was set last.
    #[must_use]
    pub fn in_use(&self) -> &InUse {
        &self.in_use
    }

    /// Marks the devices of a layout whose GPU has another owner.
    pub(super) fn mark_owned(&mut self, result: &mut LayoutResult) {
        let offers = |resource: &ResourceName, id: &DeviceId| {
            result.resources.get(resource).is_some_and(|devices| devices.contains_key(id))
        };
        self.claims = self.claims(offers);
        let mut owned = Vec::new();
        for device in result.resources.values_mut().flat_map(|devices| devices.values_mut()) {
            let claim = self.claims.iter().find(|claim| claim.overlaps(device));
            device.owner = claim.map(|claim| claim.owner.clone());
            owned.extend(claim.map(|claim| (device.gpu.clone(), claim.owner.clone())));
        }
        owned.dedup();
        result.findings.extend(owned.into_iter().filter_map(|(gpu, owner)| {
            let gpu = self.gpus.get(&gpu)?.name(&gpu);
            Some(LayoutFinding::OtherOwner { gpu, owner })
        }));
    }

    /// GPUs that may have two owners, since the kubelet does not say what pods use. To be asked
    /// when the withdrawn devices are in the lists.
    pub(super) fn owners_unknown(&self) -> Option<LayoutFinding> {
        if self.in_use.known {
            return None;
        }
        let mut claims: BTreeMap<(Uuid, Option<Uuid>), Claim> = BTreeMap::new();
        for (resource, devices) in &self.resources {
            let offers = |id: &DeviceId| devices.get(id).is_some_and(|of| !of.withdrawn);
            for device in devices.values().filter(|device| device.withdrawn) {
                let is_replica = device.id.replica_number().is_some();
                if !(is_replica && offers(&DeviceId::replica(device.id.uuid().clone(), 0))) {
                    let claim = Claim::withdrawn(resource, device);
                    let mig = claim.mig.as_ref().map(|(mig, _)| mig.clone());
                    claims.entry((claim.gpu.clone(), mig)).or_insert(claim);
                }
            }
        }
        let mut gpus = BTreeSet::new();
        for device in self.resources.values().flat_map(|devices| devices.values()) {
            if !device.withdrawn && claims.values().any(|claim| claim.overlaps(device)) {
                gpus.insert(&device.gpu);
            }
        }
        let names = gpus.iter().filter_map(|gpu| Some(self.gpus.get(*gpu)?.name(gpu)));
        (!gpus.is_empty()).then(|| LayoutFinding::OwnersUnknown { gpus: names.collect() })
    }

    /// What is used under ids that are not offered.
    fn claims(&self, offers: impl Fn(&ResourceName, &DeviceId) -> bool) -> Vec<Claim> {
        let used = self.in_use.devices.iter();
        used.filter_map(|((of, id), holder)| self.claim(of, id, holder.as_ref(), &offers)).collect()
    }

    fn claim(
        &self,
        resource: &ResourceName,
        id: &DeviceId,
        holder: Option<&Holder>,
        offers: &impl Fn(&ResourceName, &DeviceId) -> bool,
    ) -> Option<Claim> {
        // A replica of a device that is still shared in this resource, only by fewer.
        let first = DeviceId::replica(id.uuid().clone(), 0);
        if offers(resource, id) || id.replica_number().is_some() && offers(resource, &first) {
            return None;
        }
        let (gpu, mig) = self.part(id.uuid())?;
        let (resource, id) = (resource.clone(), id.clone());
        let owner = Arc::new(Owner { resource, id, holder: holder.cloned() });
        Some(Claim { gpu, mig, owner })
    }

    /// The GPU, or the MIG device and its GPU, with this UUID.
    fn part(&self, uuid: &Uuid) -> Option<(Uuid, Option<(Uuid, Placement)>)> {
        if self.gpus.contains_key(uuid) {
            return Some((uuid.clone(), None));
        }
        let mig_devices = self.gpus.iter().flat_map(|(gpu, record)| {
            let facts = record.facts.iter().flat_map(|facts| &facts.mig_devices);
            facts.map(move |mig| (gpu, &mig.uuid, mig.placement))
        });
        let listed = self
            .resources
            .values()
            .flat_map(|devices| devices.values())
            .filter_map(|device| Some((&device.gpu, device.id.uuid(), device.placement?)));
        let (gpu, mig, placement) = mig_devices.chain(listed).find(|(_, mig, _)| *mig == uuid)?;
        Some((gpu.clone(), Some((mig.clone(), placement))))
    }
}
