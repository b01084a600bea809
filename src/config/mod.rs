//! Configuration, in two storeys: what may be written ([`args::Args`]), and what the daemon runs on ([`Config`]).

pub mod args;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::device::health::{Finding, Overrides, Policy, Rules};
use crate::nvml;
use crate::plugin::socket::Places;
use args::Args;

/// Where the kubelet's own sockets live, fixed in its source (k8s.io/kubelet,
/// pkg/apis/deviceplugin/v1beta1/constants.go:30); it does not follow the kubelet's --root-dir.
pub const KUBELET_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// Pause between two enumerations of the GPUs.
const RESCAN: Duration = Duration::from_secs(10);

/// What the daemon runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The plugin directory and the kubelet's socket in it.
    pub places: Places,
    /// The hardware edge.
    pub nvml: nvml::Settings,
    /// Which Xids count.
    pub policy: Policy,
    /// What a person should hear about it.
    pub findings: Vec<Finding>,
}

/// The environment variables of NVIDIA's plugin that say which Xids count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthEnvironment {
    /// `DP_DISABLE_HEALTHCHECKS`.
    pub disable: String,
    /// `DP_ENABLE_HEALTHCHECKS`.
    pub enable: String,
}

impl HealthEnvironment {
    /// From the environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let read = |name| std::env::var(name).unwrap_or_default();
        Self { disable: read("DP_DISABLE_HEALTHCHECKS"), enable: read("DP_ENABLE_HEALTHCHECKS") }
    }
}

/// A value that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A path from which no directory follows.
    #[error("--kubelet-socket {}: not a path to a socket in a directory, e.g. {KUBELET_SOCKET}", .0.display())]
    KubeletSocket(PathBuf),
}

impl Config {
    /// What follows from the arguments and the environment.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub fn new(args: &Args, health: &HealthEnvironment) -> Result<Self, ConfigError> {
        let (overrides, mut findings) = Overrides::parse(&health.disable, &health.enable);
        let (policy, more) = Policy::new(Rules::default(), overrides);
        findings.extend(more);
        Ok(Self {
            places: places(&args.kubelet_socket)?,
            nvml: nvml::Settings {
                library: args.nvml_library.clone(),
                driver_root: args.driver_root_ctr_path.clone(),
                sysfs_root: args.sysfs_root.clone(),
                fail_on_init_error: args.fail_on_init_error,
                events: if policy.is_off() { Default::default() } else { policy.event_types() },
                rescan: RESCAN,
            },
            policy,
            findings,
        })
    }
}

/// The directory of a kubelet socket; without a socket the default directory, and no kubelet.
fn places(kubelet: &Path) -> Result<Places, ConfigError> {
    let (at, kubelet_path) = match kubelet.as_os_str().is_empty() {
        true => (Path::new(KUBELET_SOCKET), None),
        false => (kubelet, Some(kubelet.to_owned())),
    };
    match (at.parent(), at.file_name()) {
        (Some(directory), Some(_)) if directory != Path::new("") => {
            Ok(Places { directory: directory.to_owned(), kubelet: kubelet_path })
        }
        _ => Err(ConfigError::KubeletSocket(kubelet.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_sockets_live_beside_the_kubelets() {
        let at = |text: &str| places(Path::new(text));
        let expected = Places { directory: "/run/k".into(), kubelet: Some("/run/k/kubelet.sock".into()) };
        assert_eq!(at("/run/k/kubelet.sock").unwrap(), expected);
        let unregistered = Places { directory: "/var/lib/kubelet/device-plugins".into(), kubelet: None };
        assert_eq!(at("").unwrap(), unregistered);
        for bad in ["kubelet.sock", "/", "/run/.."] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}
