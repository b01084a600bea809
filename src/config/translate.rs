//! From the configuration to what each room needs of it, in that room's words.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context;
use device::allocation::AllocationPolicy;
use device::health::{
    CriticalXids, HealthPolicy, HealthRules, Overrides, RelapseLimit, Thresholds, Xid,
};
use device::injection::{HostNodes, Injector};
use device::layout::Layout;
use tracing::warn;

use crate::config::{Config, Health, HttpAddress, Imex, KubeletSocket, Sharing, Xids};
use crate::host::device_nodes::Roots;
use crate::kubelet::device_plugin::socket::PluginPaths;
use crate::nvml;
use crate::observe::client::Endpoint;

/// The plugin directory, and the kubelet's socket in it.
pub fn places(config: &Config) -> anyhow::Result<PluginPaths> {
    match &config.process.kubelet_socket {
        KubeletSocket::NeverRegister(directory) => {
            Ok(PluginPaths { directory: directory.clone(), kubelet: None })
        }
        KubeletSocket::At(socket) => {
            let directory = socket.parent().filter(|directory| !directory.as_os_str().is_empty());
            let directory =
                directory.with_context(|| format!("{} is in no directory", socket.display()))?;
            Ok(PluginPaths { directory: directory.to_owned(), kubelet: Some(socket.clone()) })
        }
    }
}

/// What the hardware edge needs of the configuration.
pub fn hardware(config: &Config) -> nvml::NvmlSettings {
    nvml::NvmlSettings {
        library: config.process.nvml_library.clone(),
        driver_root: config.process.driver_root_ctr_path.clone(),
        sysfs_root: config.process.sysfs_root.clone(),
        fail_on_init_error: config.process.fail_on_init_error,
    }
}

/// How the hardware edge goes about it, under this policy.
pub fn poll_settings(config: &Config, policy: &HealthPolicy) -> nvml::PollSettings {
    nvml::PollSettings {
        events: if policy.is_off() { BTreeSet::new() } else { policy.event_types() },
        poll: config.health.poll_interval,
        deadline: config.health.call_deadline,
        release_for: config.health.release_for,
    }
}

/// Where a daemon with this configuration is asked over HTTP from the same host: nowhere, if it
/// does not listen.
pub fn asked_at(config: &Config) -> Vec<Endpoint> {
    let here = |port: u16| {
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        [v4, v6].map(|address: IpAddr| Endpoint::Tcp(SocketAddr::new(address, port))).into()
    };
    match &config.process.http_address {
        HttpAddress::Off => Vec::new(),
        HttpAddress::AnyAddress(port) => here(*port),
        HttpAddress::Tcp(address) if address.ip().is_unspecified() => here(address.port()),
        HttpAddress::Tcp(address) => vec![Endpoint::Tcp(*address)],
        HttpAddress::Unix(path) => vec![Endpoint::Unix(path.clone())],
    }
}

/// Where the host is to be seen.
pub fn roots(config: &Config) -> Roots {
    Roots {
        driver: config.process.driver_root_ctr_path.clone(),
        proc: config.process.proc_root.clone(),
    }
}

/// Which resources there are.
pub fn layout(config: &Config) -> Layout {
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
pub fn injector(config: &Config, host: HostNodes) -> Injector {
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
        one_replica_only: config
            .sharing
            .replication()
            .is_some_and(|shared| shared.fail_requests_greater_than_one),
        host,
    }
}

/// What each Xid does, and what a person should hear about it.
pub fn policy(config: &Config) -> HealthPolicy {
    let (overrides, mut findings) =
        Overrides::parse(&config.health.disable_healthchecks, &config.health.enable_healthchecks);
    let (policy, more) = HealthPolicy::new(rules(&config.health), overrides);
    findings.extend(more);
    for finding in findings {
        warn!("{finding}");
    }
    policy
}

/// For how long NVML is let go by itself when a GPU wants a reset and nothing holds it; `None`:
/// never.
pub fn release_for_reset(config: &Config) -> Option<Duration> {
    config.health.release_for_reset.then_some(config.health.release_for)
}

/// Which devices are preferred.
pub fn policies(config: &Config) -> AllocationPolicy {
    AllocationPolicy { whole: config.allocation.whole, shared: config.allocation.shared }
}

/// Numbers of Xids that `ignoredXIDs: all` covers: more than NVIDIA's catalogue has.
const EVERY_XID: std::ops::Range<u32> = 0..1024;

fn rules(health: &Health) -> HealthRules {
    let xids = |xids: &BTreeSet<u32>| xids.iter().copied().map(Xid).collect::<BTreeSet<_>>();
    HealthRules {
        disabled: !health.enabled,
        event_types: health.event_types.clone(),
        // An empty list says nothing: it is what holds where the key is not written.
        ignored: match &health.ignored_xids {
            Xids::All => Some(EVERY_XID.map(Xid).collect()),
            Xids::These(ignored) => Some(xids(ignored)).filter(|ignored| !ignored.is_empty()),
        },
        critical: match &health.critical_xids {
            Xids::All => CriticalXids::All,
            Xids::These(critical) if critical.is_empty() => CriticalXids::ByClass,
            Xids::These(critical) => CriticalXids::Only(xids(critical)),
        },
        actions: health.xids.iter().map(|(xid, action)| (Xid(*xid), *action)).collect(),
        thresholds: thresholds(health),
    }
}

fn thresholds(health: &Health) -> Thresholds {
    // The configuration has refused zero already.
    let count = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Thresholds {
        recovery_polls: count(health.recovery_polls),
        relapses: Some(RelapseLimit {
            count: count(health.relapses),
            window: health.relapse_window,
        }),
        missed_calls: count(health.missed_calls),
        suspicion: health.suspicion,
        quiet_period: health.quiet_period,
        row_remap_pending: health.row_remap_pending,
        drain_p2p: health.drain_p2p,
        fabric: health.fabric,
    }
}
