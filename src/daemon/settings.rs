//! What each room needs of the configuration, in that room's words.

use std::collections::BTreeSet;

use anyhow::Context;
use tracing::warn;

use crate::config::{Config, Imex, KubeletSocket, Sharing};
use crate::device::allocation::Policies;
use crate::device::health::{Overrides, Policy, Rules};
use crate::device::injection::{HostNodes, Injector};
use crate::device::layout::Layout;
use crate::host::Roots;
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

/// Where the host is to be seen.
pub(super) fn roots(config: &Config) -> Roots {
    Roots { driver: config.process.driver_root_ctr_path.clone(), proc: config.process.proc_root.clone() }
}

/// Which resources there are.
pub(super) fn layout(config: &Config) -> Layout {
    let layout = &config.layout;
    Layout {
        mig_strategy: layout.mig_strategy,
        devices: layout.devices.clone(),
        gpu_names: layout.gpu_names.clone(),
        mig_names: layout.mig_names.clone(),
        sharing: config.sharing.clone(),
    }
}

/// What a container gets, on a host that has this.
pub(super) fn injector(config: &Config, host: HostNodes) -> Injector {
    let injection = &config.injection;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    Injector {
        strategies: injection.list_strategies.clone(),
        ids: injection.id_strategy,
        pass_device_specs: injection.pass_device_specs,
        dev_root: text(&injection.dev_root),
        gds: injection.gds,
        mofed: injection.mofed,
        gdrcopy: injection.gdrcopy,
        imex: injection.imex != Imex::Off,
        annotation_prefix: injection.cdi.annotation_prefix.clone(),
        mps_root: match &config.sharing {
            Sharing::Mps { root, .. } => Some(text(root)),
            Sharing::None | Sharing::TimeSlicing(_) => None,
        },
        one_replica_only: config.sharing.replication().is_some_and(|shared| shared.fail_requests_greater_than_one),
        host,
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
