//! CDI names: an answer of Allocate has none that a container runtime cannot resolve.
//!
//! ```text
//!   new ──▶ Awaited ──── its name is in the files ───▶ Resolvable ◀──┐
//!           (in no list)                                    │        │ its name is in them again
//!              └──── they cannot be written ──▶ Unresolvable ◀───────┘
//!                                                (Unhealthy)
//! ```
//!
//! Rules of injection that give other names are in force when these are in the files, so that a
//! change of the settings makes no device Unhealthy.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Inventory;
use super::observation::InventoryChanges;
use crate::injection::cdi_names::{CdiNames, GPU_CLASS, key};
use crate::injection::{Injection, Injector};
use crate::layout::{LayoutFinding, LayoutResult};
use crate::names::ResourceName;
use crate::{CdiState, Device};

impl Inventory {
    /// No CDI name can be resolved before an event says so. To be called before the first
    /// enumeration.
    pub fn await_cdi(&mut self) {
        self.cdi = Some(Arc::default());
    }

    /// What is known about the CDI names that can be resolved; `None`: nothing, and all count.
    #[must_use]
    pub fn cdi(&self) -> Option<&Arc<CdiNames>> {
        self.cdi.as_ref()
    }

    /// The rules that give CDI names: those in force, and then those to come.
    pub fn cdi_injectors(&self) -> impl Iterator<Item = &Injector> {
        let all = [Some(&self.injector), self.next_injector.as_ref()];
        all.into_iter().flatten().map(Arc::as_ref).filter(|injector| injector.uses_cdi())
    }

    /// Sets the rules of injection. It changes no list. Rules that give CDI names take effect when
    /// all of them can be resolved.
    pub fn set_injector(&mut self, injector: Injector) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        if *self.wanted_injector() == injector {
            return changes;
        }
        if self.can_take_effect(&injector) {
            self.injector = Arc::new(injector);
            self.next_injector = None;
        } else {
            // All but the names.
            let Injector { strategies, ids, .. } = self.injector.as_ref().clone();
            self.injector = Arc::new(Injector { strategies, ids, ..injector.clone() });
            self.next_injector = Some(Arc::new(injector));
        }
        self.update_devices(&mut changes);
        changes.layout = true;
        changes
    }

    /// The rules of injection that were set last, whether or not they are in force.
    #[must_use]
    pub fn wanted_injector(&self) -> &Injector {
        self.next_injector.as_ref().unwrap_or(&self.injector)
    }

    /// What a container gets for these devices of `resource`. `random` returns 16 random bytes.
    #[must_use]
    pub fn inject(
        &self,
        resource: &ResourceName,
        devices: &[&Device],
        random: impl FnOnce() -> [u8; 16],
    ) -> Injection {
        self.injector.inject(resource, devices, self.cdi.as_deref(), random)
    }

    /// Whether the specifications of both are the same, as far as devices and names go. Their
    /// health is no part of them.
    #[must_use]
    pub fn has_same_cdi_devices(&self, other: &Self) -> bool {
        let same_next = match (&self.next_injector, &other.next_injector) {
            (Some(next), Some(other)) => Arc::ptr_eq(next, other),
            (next, other) => next.is_none() && other.is_none(),
        };
        same_next
            && Arc::ptr_eq(&self.injector, &other.injector)
            && self.resources.len() == other.resources.len()
            && self.resources.iter().all(|(name, devices)| {
                other.resources.get(name).is_some_and(|other| Arc::ptr_eq(devices, other))
            })
            && self.in_use == other.in_use
    }

    /// Whether a resource has a device that is in its list.
    #[must_use]
    pub fn lists(&self, resource: &ResourceName) -> bool {
        self.devices(resource).is_some_and(|devices| {
            devices.is_empty() || devices.values().any(|device| device.cdi != CdiState::Awaited)
        })
    }

    /// Whether a container runtime can resolve the name of a device.
    pub(super) fn is_resolvable(&self, device: &Device) -> bool {
        !self.injector.uses_cdi() || self.resolves(&self.injector, device)
    }

    pub(super) fn set_cdi(&mut self, names: Arc<CdiNames>) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        if self.cdi.as_ref() == Some(&names) {
            return changes;
        }
        self.cdi = Some(names);
        let next = self.next_injector.as_deref();
        if next.is_some_and(|next| self.can_take_effect(next))
            && let Some(next) = self.next_injector.take()
        {
            self.injector = next;
        }
        self.update_devices(&mut changes);
        // Whoever has the files written waits to see it.
        changes.layout = true;
        changes
    }

    /// Marks the devices of a layout whose names cannot be resolved.
    pub(super) fn mark_cdi(&self, result: &mut LayoutResult) {
        let Some(names) = self.cdi.as_ref().filter(|_| self.injector.uses_cdi()) else { return };
        for (resource, devices) in &mut result.resources {
            let before = self.resources.get(resource);
            for device in devices.values_mut() {
                let name = self.injector.cdi_name(device);
                let before = before.and_then(|devices| devices.get(&device.id));
                let was_listed = before.is_some_and(|before| before.cdi != CdiState::Awaited);
                let is_left_out = names.left_out.contains(&key(GPU_CLASS, &name));
                device.cdi = if names.has(GPU_CLASS, &name) {
                    CdiState::Resolvable
                } else if was_listed || is_left_out || names.problem.is_some() {
                    CdiState::Unresolvable
                } else {
                    CdiState::Awaited
                };
            }
        }
    }

    pub(super) fn cdi_findings(&self) -> Vec<LayoutFinding> {
        if self.cdi_injectors().next().is_none() {
            return self.limits_without_cdi().into_iter().collect();
        }
        let Some(names) = &self.cdi else { return Vec::new() };
        let problem =
            names.problem.iter().map(|why| LayoutFinding::CdiNotWritten { why: why.clone() });
        let incomplete =
            names.incomplete.iter().map(|what| LayoutFinding::CdiIncomplete { what: what.clone() });
        let not_limited = names.not_limited.iter().cloned();
        let not_limited = not_limited.map(|why| LayoutFinding::MemoryNotLimited { why });
        problem.chain(incomplete).chain(not_limited).collect()
    }

    /// Limits are set by a hook, which only a specification names.
    fn limits_without_cdi(&self) -> Option<LayoutFinding> {
        self.layout.sharing.limits_memory().then(|| LayoutFinding::MemoryNotLimited {
            why: "the device list strategy has neither cdi-cri nor cdi-annotations".to_owned(),
        })
    }

    fn can_take_effect(&self, injector: &Injector) -> bool {
        let devices = self.resources.values().flat_map(|devices| devices.values());
        let mut offered = devices.filter(|device| !device.withdrawn);
        !injector.uses_cdi() || offered.all(|device| self.resolves(injector, device))
    }

    fn resolves(&self, injector: &Injector, device: &Device) -> bool {
        let has = |names: &Arc<CdiNames>| names.has(GPU_CLASS, &injector.cdi_name(device));
        self.cdi.as_ref().is_none_or(has)
    }
}
