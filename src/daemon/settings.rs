//! What each room needs of the configuration, in that room's words.

use std::collections::BTreeSet;

use anyhow::Context;
use tracing::warn;

use crate::config::{Config, KubeletSocket};
use crate::device::allocation::Policies;
use crate::device::health::{Overrides, Policy, Rules};
use crate::nvml;
use crate::plugin::socket::Places;

/// The plugin directory, and the kubelet's socket in it.
pub(super) fn places(config: &Config) -> anyhow::Result<Places> {
    match &config.process.kubelet_socket {
        KubeletSocket::NeverRegister(directory) => Ok(Places { directory: directory.clone(), kubelet: None }),
        KubeletSocket::At(socket) => {
            let directory = socket.parent().filter(|directory| !directory.as_os_str().is_empty());
            let directory = directory.with_context(|| format!("{} is in no directory", socket.display()))?;
            Ok(Places { directory: directory.to_owned(), kubelet: Some(socket.clone()) })
        }
    }
}

/// What the hardware edge needs of the configuration.
pub(super) fn hardware(config: &Config, policy: &Policy) -> nvml::Settings {
    nvml::Settings {
        library: config.process.nvml_library.clone(),
        driver_root: config.process.driver_root_ctr_path.clone(),
        sysfs_root: config.process.sysfs_root.clone(),
        fail_on_init_error: config.process.fail_on_init_error,
        events: if policy.is_off() { BTreeSet::new() } else { policy.event_types() },
        rescan: config.health.poll_interval,
    }
}

/// What each Xid does, and what a person should hear about it.
pub(super) fn policy(config: &Config) -> Policy {
    let (overrides, mut findings) =
        Overrides::parse(&config.health.disable_healthchecks, &config.health.enable_healthchecks);
    let (policy, more) = Policy::new(Rules::default(), overrides);
    findings.extend(more);
    for finding in findings {
        warn!("{finding}");
    }
    policy
}

/// Which devices are preferred.
pub(super) fn policies(config: &Config) -> Policies {
    Policies { whole: config.allocation.whole, shared: config.allocation.shared }
}
