//! What several settings say together: mistakes and warnings about it, and the fields that follow
//! from other ones.

use std::path::PathBuf;

use device::allocation::SharedPolicy;
use device::health::{CriticalXids, PolicyFinding};
use device::layout::sharing::{Replication, Sharing};
use device::layout::{Layout, MigStrategy};
use device::names::ResourceName;

use super::choice::{Choice, DiscoveryStrategy};
use super::model::Config;
use super::report::{Context, Origin};
use super::settings;

/// What the configuration is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run on it.
    Serve,
    /// To check a file here that will be used elsewhere: what flags and environment have to add
    /// there is a warning.
    Check,
}

/// Completes `config`, and checks it.
pub(super) fn check(config: &mut Config, purpose: Purpose, context: &mut Context) {
    config.process.roots.driver = config.process.nvml.driver_root.clone();
    config.process.nvml.proc_root = config.process.roots.proc.clone();
    if config.injector.dev_root.is_empty() {
        config.injector.dev_root = config.driver_root.clone();
    }
    sharing(config, purpose, context);
    discovery(config, context);
    config.cdi.driver_root = config.driver_root.clone();
    config.cdi.hook_path_is_set = context.origin(settings::CDI_HOOK_PATH.name()) != Origin::Default;
    cdi_features(config, context);
    health(config, context);
}

fn sharing(config: &mut Config, purpose: Purpose, context: &mut Context) {
    let replication = config.layout.sharing.replication();
    config.injector.one_replica_only =
        replication.is_some_and(|replication| replication.fail_requests_greater_than_one);
    if let Some(replication) = replication {
        without_devices(replication, &config.layout, context);
    }
    memory_limits(config, context);
    match &mut config.layout.sharing {
        Sharing::Mps { root, .. } => {
            *root = config.injector.mps_root.as_deref().map(PathBuf::from).unwrap_or_default();
            mps(config, purpose, context);
        }
        _ => config.injector.mps_root = None,
    }
}

/// Only a hook sets them, and only CDI specifications name hooks.
fn memory_limits(config: &Config, context: &mut Context) {
    let limits = config.layout.sharing.replication().and_then(|shared| shared.memory_limits);
    if limits.is_some() && !config.injector.uses_cdi() {
        let key = match config.layout.sharing {
            Sharing::Mps { .. } => "sharing.mps.memoryLimits.enforce",
            _ => "sharing.timeSlicing.memoryLimits.enforce",
        };
        let by = context.origin(settings::DEVICE_LIST_STRATEGY.name());
        let problem = format!(
            "is not enforceable without cdi-cri or cdi-annotations in the device list strategy \
             (from {by}): containers are told their share, and nothing holds them to it"
        );
        context.warning(context.origin(key), key, "auto", problem);
    }
}

fn mps(config: &Config, purpose: Purpose, context: &mut Context) {
    let origin = context.origin("sharing.mps");
    if config.layout.mig_strategy == MigStrategy::Mixed {
        let by = context.origin(settings::MIG_STRATEGY.name());
        let problem = format!(
            "cannot be combined with the MIG strategy mixed (from {by}); use timeSlicing, or the \
             strategy none or single"
        );
        context.mistake(origin.clone(), "sharing.mps", "", problem);
    }
    if !config.injector.one_replica_only && config.allocation.shared != SharedPolicy::Packed {
        let problem = "allows several replicas in a container, which have to be of one GPU; with \
            another allocation policy than packed for shared devices the kubelet spreads them, and \
            such pods fail";
        let key = "sharing.mps.failRequestsGreaterThanOne";
        context.warning(origin.clone(), key, "false", problem);
    }
    if config.injector.mps_root.is_none() {
        let problem = "needs the MPS root, the host's directory of the control daemon: flag \
            --mps-root, environment MPS_ROOT or flags.mpsRoot (usually /run/nvidia/mps)";
        match purpose {
            Purpose::Serve => context.mistake(origin, "sharing.mps", "", problem),
            Purpose::Check => context.warning(origin, "sharing.mps", "", problem),
        }
    }
}

/// Warns of shared resources that no device of any node can be in: NVIDIA's plugin ignores them in
/// silence.
fn without_devices(replication: &Replication, layout: &Layout, context: &mut Context) {
    let kind = if matches!(layout.sharing, Sharing::Mps { .. }) { "mps" } else { "timeSlicing" };
    let custom = |name: &ResourceName| {
        layout.gpu_names.iter().chain(&layout.mig_names).any(|pattern| pattern.name == *name)
    };
    for (number, resource) in replication.resources.iter().enumerate() {
        let name = &resource.name;
        let mig = name.base().starts_with("mig-");
        let problem = match layout.mig_strategy {
            _ if name.base() == "gpu" || custom(name) => continue,
            MigStrategy::Mixed if mig => continue,
            other if mig => format!(
                "has no devices with the MIG strategy {}: only mixed names MIG profiles",
                other.as_str()
            ),
            _ => "has no devices: there are nvidia.com/gpu and, with the MIG strategy mixed, \
                nvidia.com/mig-<profile>"
                .to_owned(),
        };
        let key = format!("sharing.{kind}.resources[{number}].name");
        context.warn_of(&key, name.to_string(), problem);
    }
}

fn discovery(config: &Config, context: &mut Context) {
    if config.process.discovery == DiscoveryStrategy::Tegra {
        let problem = "has no effect: devices are found through NVML, and Tegra systems without it \
            have none";
        context.warn_of(settings::DISCOVERY_STRATEGY.name(), "\"tegra\"", problem);
    }
}

/// The optional behaviours of CDI specifications that NVIDIA's plugin has.
const CDI_FEATURES: [&str; 6] = [
    "enable-explicit-driver-libraries",
    "disable-nvsandboxutils",
    "enable-coherent-annotations",
    "disable-multiple-csv-devices",
    "no-additional-gids-for-device-nodes",
    "disable-ipc-discoverer",
];

fn cdi_features(config: &mut Config, context: &mut Context) {
    config.cdi.features.retain(|feature| {
        let known = CDI_FEATURES.contains(&feature.as_str());
        if !known {
            let problem = format!("is unknown and ignored; known: {}", CDI_FEATURES.join(", "));
            context.warn_of(settings::CDI_FEATURE_FLAGS.name(), format!("{feature:?}"), problem);
        }
        known
    });
}

fn health(config: &Config, context: &mut Context) {
    let rules = &config.health.rules;
    if let (Some(ignored), CriticalXids::Only(critical)) = (&rules.ignored, &rules.critical)
        && !settings::is_every_xid(ignored)
    {
        let key = settings::CRITICAL_XIDS.name();
        let both = ignored.intersection(critical);
        for xid in both.filter(|xid| !rules.actions.contains_key(xid)) {
            let problem = "is in ignoredXIDs and in criticalXIDs; leave it in one of them";
            context.mistake(context.origin(key), key, xid.0.to_string(), problem);
        }
    }
    for finding in config.policy_and_findings().1 {
        match &finding {
            PolicyFinding::Malformed { variable, token } => {
                let problem = "is not an Xid, \"all\" or \"xids\"; it is ignored";
                context.warn_of(variable, format!("{token:?}"), problem);
            }
            finding => context.warn_of(settings::EVENT_TYPES.name(), "", finding.to_string()),
        }
    }
}
