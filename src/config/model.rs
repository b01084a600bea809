//! The configuration in force: the settings of the other modules, in their own types.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use device::allocation::AllocationPolicy;
use device::health::{HealthPolicy, HealthRules, Overrides, PolicyFinding, RelapseLimit};
use device::injection::{HostNodes, Injector};
use device::layout::Layout;

use super::choice::DiscoveryStrategy;
use super::report::{Origin, Origins};
use crate::cdi::{CdiPaths, CdiSettings};
use crate::host::device_nodes::Roots;
use crate::host::hook_install::HookPaths;
use crate::kubelet::device_plugin::socket::PluginPaths;
use crate::nvml;
use crate::observe::client::Endpoint;
use crate::observe::http::{self, Address};
use crate::observe::log::LogConfig;

/// The configuration in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// What is fixed while the process lives.
    pub process: ProcessConfig,
    /// Which resources there are, which devices they have, and how they are shared.
    pub layout: Layout,
    /// Whether the keys `resources`, `rename` and `devices` take effect.
    pub custom_resources: bool,
    /// What a container gets; what the host has is added by [`Config::injector_on`].
    pub injector: Injector,
    /// The driver root on the host.
    pub driver_root: String,
    /// Whether a host without IMEX channel 0 is an error, where containers are to get it.
    pub imex_required: bool,
    /// What CDI specifications hold.
    pub cdi: CdiSettings,
    /// Which devices are preferred.
    pub allocation: AllocationPolicy,
    /// What makes a GPU Unhealthy, and how NVML is polled.
    pub health: HealthConfig,
    /// Where each value comes from. No part of the comparison of two configurations: see
    /// [`Config::changes`].
    pub origins: Origins,
}

/// What is read once, at the start: a change waits for the next start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessConfig {
    /// The config file.
    pub config_file: Option<PathBuf>,
    /// The directory of config files of which one may take its place.
    pub config_dir: Option<PathBuf>,
    /// The file with the name of that one.
    pub config_name_file: Option<PathBuf>,
    /// The file by which NVML is released; `None`: by none.
    pub release_file: Option<PathBuf>,
    /// Where to register, and where our sockets are.
    pub plugin: PluginPaths,
    /// The kubelet's podresources socket; `None`: it is not asked.
    pub pod_resources_socket: Option<PathBuf>,
    /// Where HTTP is served; `None`: nowhere.
    pub http_address: Option<Address>,
    /// The group, by number, whose members may open the status socket too.
    pub status_socket_gid: Option<u32>,
    /// The name of the Kubernetes node, if it is given.
    pub node_name: Option<String>,
    /// How log lines are written, and which.
    pub log: LogConfig,
    /// Where NVML is.
    pub nvml: nvml::NvmlSettings,
    /// Where device nodes and the driver's capability numbers are.
    pub roots: Roots,
    /// How devices are found. No effect.
    pub discovery: DiscoveryStrategy,
    /// Where verdicts are kept over a restart; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The directory whose files make GPUs Unhealthy, if any.
    pub quarantine_dir: Option<PathBuf>,
    /// The directory of CDI specifications.
    pub cdi_spec_dir: PathBuf,
    /// Where the directory of the MPS control daemons is mounted.
    pub mps_dir: PathBuf,
    /// Where the host's tree of cgroups is.
    pub cgroup_root: PathBuf,
    /// Where our own hook program is, and where it is installed.
    pub hook: HookPaths,
}

/// The health policy, and how NVML is polled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthConfig {
    /// The file's rules, without the number of relapses.
    pub rules: HealthRules,
    /// How many relapses in how long a time are too many.
    pub relapses: RelapseLimit,
    /// The text of `DP_DISABLE_HEALTHCHECKS`.
    pub disable_healthchecks: String,
    /// The text of `DP_ENABLE_HEALTHCHECKS`.
    pub enable_healthchecks: String,
    /// How NVML is polled; the events are added by [`Config::poll_settings`].
    pub poll: nvml::PollSettings,
    /// Whether NVML is released by itself for a GPU that needs a reset and that no pod holds.
    pub release_for_reset: bool,
}

impl ProcessConfig {
    /// Where a client on the same host asks for the status; nowhere if it is not served.
    #[must_use]
    pub fn status_endpoints(&self) -> Vec<Endpoint> {
        http::local_endpoints(self.state_dir.as_deref(), self.http_address.as_ref())
    }

    /// Where CDI specifications are, and what they are made from.
    #[must_use]
    pub fn cdi_paths(&self) -> CdiPaths {
        CdiPaths {
            spec_dir: self.cdi_spec_dir.clone(),
            roots: self.roots.clone(),
            sysfs: self.nvml.sysfs_root.clone(),
            cgroup_root: self.cgroup_root.clone(),
            hook: self.hook.clone(),
        }
    }
}

impl Config {
    /// Where the value of `key` comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// What a container gets on a host that has this.
    #[must_use]
    pub fn injector_on(&self, host: HostNodes) -> Injector {
        Injector { host, ..self.injector.clone() }
    }

    /// Whether a host without IMEX channel 0 is an error.
    #[must_use]
    pub fn requires_imex_channel(&self) -> bool {
        self.injector.imex && self.imex_required
    }

    /// What each Xid does.
    #[must_use]
    pub fn policy(&self) -> HealthPolicy {
        self.policy_and_findings().0
    }

    /// What each Xid does, and what is odd about it: warnings of the report.
    pub(super) fn policy_and_findings(&self) -> (HealthPolicy, Vec<PolicyFinding>) {
        let HealthConfig { disable_healthchecks, enable_healthchecks, .. } = &self.health;
        let (overrides, mut findings) = Overrides::parse(disable_healthchecks, enable_healthchecks);
        let mut rules = self.health.rules.clone();
        rules.thresholds.relapses = Some(self.health.relapses);
        let (policy, more) = HealthPolicy::new(rules, overrides);
        findings.extend(more);
        (policy, findings)
    }

    /// How NVML is polled under `policy`.
    #[must_use]
    pub fn poll_settings(&self, policy: &HealthPolicy) -> nvml::PollSettings {
        let events = if policy.is_off() { BTreeSet::new() } else { policy.event_types() };
        nvml::PollSettings { events, ..self.health.poll.clone() }
    }

    /// For how long NVML is released by itself when a GPU needs a reset and no pod holds it;
    /// `None`: never.
    #[must_use]
    pub fn release_for_reset(&self) -> Option<Duration> {
        self.health.release_for_reset.then_some(self.health.poll.release_for)
    }
}
