//! What differs between two configurations, in terms of what the daemon has to do about it.

use std::collections::BTreeSet;

use device::layout::sharing::{SharedResource, Sharing};
use device::names::ResourceName;

use super::model::{Config, Process};
use super::settings::{self, Setting};

/// What has to be done to go from one configuration to another. Where a value comes from is no
/// difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings that wait for the next start of the process, by name.
    pub at_next_start: Vec<&'static str>,
    /// Names or membership of any resource may have changed: all have to be worked out again.
    pub layout: bool,
    /// Resources whose sharing changed, by the names on both sides; the others keep their devices.
    pub resources: BTreeSet<ResourceName>,
    /// What containers get has changed, for every resource. No list changes by it.
    pub injection: bool,
    /// What is preferred has changed. No list changes by it.
    pub allocation: bool,
    /// The health policy has changed.
    pub health: bool,
}

impl Changes {
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
    pub fn changes(&self, new: &Self) -> Changes {
        let mps = |config: &Self| matches!(config.sharing, Sharing::Mps { .. });
        let mps_root = |config: &Self| match &config.sharing {
            Sharing::Mps { root, .. } => Some(root.clone()),
            _ => None,
        };
        Changes {
            at_next_start: at_next_start(&self.process, &new.process),
            layout: self.layout != new.layout,
            resources: shared_differently(&self.sharing, &new.sharing),
            injection: self.injection != new.injection
                || mps(self) != mps(new)
                || mps_root(self) != mps_root(new),
            allocation: self.allocation != new.allocation,
            health: self.health != new.health,
        }
    }

    /// Takes over what is fixed while the process lives, so that this configuration says what is in
    /// force.
    pub fn keep_process_of(&mut self, running: &Self) {
        self.process = running.process.clone();
        for (setting, _) in process_settings(&self.process, &running.process) {
            let origin = running.origin(setting.name()).clone();
            self.origins.insert(setting.name().to_owned(), origin);
        }
    }
}

fn at_next_start(old: &Process, new: &Process) -> Vec<&'static str> {
    process_settings(old, new)
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(setting, _)| setting.name())
        .collect()
}

/// The settings that are read once, and whether both sides agree on them.
fn process_settings(old: &Process, new: &Process) -> [(Setting, bool); 13] {
    [
        (settings::CONFIG_FILE, old.config_file == new.config_file),
        (settings::KUBELET_SOCKET, old.kubelet_socket == new.kubelet_socket),
        (settings::POD_RESOURCES_SOCKET, old.pod_resources_socket == new.pod_resources_socket),
        (settings::HTTP_ADDRESS, old.http_address == new.http_address),
        (settings::LOG_FORMAT, old.log_format == new.log_format),
        (settings::LOG_LEVEL, old.log_filter == new.log_filter),
        (settings::NVML_LIBRARY, old.nvml_library == new.nvml_library),
        (settings::DRIVER_ROOT_CTR_PATH, old.driver_root_ctr_path == new.driver_root_ctr_path),
        (settings::SYSFS_ROOT, old.sysfs_root == new.sysfs_root),
        (settings::PROC_ROOT, old.proc_root == new.proc_root),
        (settings::FAIL_ON_INIT_ERROR, old.fail_on_init_error == new.fail_on_init_error),
        (settings::STATE_DIR, old.state_dir == new.state_dir),
        (settings::QUARANTINE_DIR, old.quarantine_dir == new.quarantine_dir),
    ]
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
