//! The difference of two configurations, as what the daemon has to do about it.

use std::collections::BTreeSet;

use device::layout::sharing::{SharedResource, Sharing};
use device::names::ResourceName;

use super::model::Config;
use super::settings::{self, Effect};

/// What has to be done to go from one configuration to another. Where a value comes from is no
/// difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Settings that wait for the next start of the process, by name.
    pub at_next_start: Vec<&'static str>,
    /// Names or devices of any resource may have changed.
    pub layout: bool,
    /// Resources whose sharing changed, by the names on both sides; the others keep their devices.
    pub resources: BTreeSet<ResourceName>,
    /// What containers get has changed, for every resource. No list of devices changes.
    pub injection: bool,
    /// What is preferred has changed. No list of devices changes.
    pub allocation: bool,
    /// The health policy has changed.
    pub health: bool,
}

impl ConfigChanges {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the devices or the rules of `resource` may have changed.
    #[must_use]
    pub fn affect(&self, resource: &ResourceName) -> bool {
        self.layout || self.resources.contains(resource)
    }
}

impl Config {
    /// What has to be done to go from this configuration to `new`.
    #[must_use]
    pub fn changes(&self, new: &Self) -> ConfigChanges {
        let (old, layout) = (&self.layout, &new.layout);
        let mut changes = ConfigChanges {
            layout: old.gpu_names != layout.gpu_names || old.mig_names != layout.mig_names,
            resources: shared_differently(&old.sharing, &layout.sharing),
            ..ConfigChanges::default()
        };
        for setting in settings::all().filter(|setting| !(setting.same)(self, new)) {
            match setting.effect {
                Effect::NextStart => changes.at_next_start.push(setting.name()),
                Effect::Layout => changes.layout = true,
                Effect::Injection => changes.injection = true,
                Effect::Allocation => changes.allocation = true,
                Effect::Health => changes.health = true,
                Effect::Ignored => {}
            }
        }
        changes
    }

    /// Keeps what is fixed while the process lives, so that this configuration is the one in force.
    pub fn keep_process_of(&mut self, running: &Self) {
        self.process = running.process.clone();
        for setting in settings::all().filter(|setting| setting.effect == Effect::NextStart) {
            let origin = running.origin(setting.name()).clone();
            self.origins.insert(setting.name().to_owned(), origin);
        }
    }
}

/// The names, on both sides, of every entry that has no equal on the other.
fn shared_differently(old: &Sharing, new: &Sharing) -> BTreeSet<ResourceName> {
    let (from, to) = (entries(old), entries(new));
    let lost = from.iter().filter(|entry| !to.contains(entry));
    let gained = to.iter().filter(|entry| !from.contains(entry));
    lost.chain(gained)
        .flat_map(|(entry, ..)| [entry.name.clone(), entry.offered_as.clone()])
        .collect()
}

/// Each shared resource with the rules that hold for it.
fn entries(sharing: &Sharing) -> Vec<(&SharedResource, bool, bool)> {
    let mps = matches!(sharing, Sharing::Mps { .. });
    let entries = sharing.replication().map(|replication| {
        let one_only = replication.fail_requests_greater_than_one;
        replication.resources.iter().map(move |resource| (resource, mps, one_only))
    });
    entries.into_iter().flatten().collect()
}
