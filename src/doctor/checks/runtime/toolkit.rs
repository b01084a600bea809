//! The settings of NVIDIA's container runtime that the strategies need.

use device::injection::DeviceListStrategy;

use super::strategies::{need_nvidia_runtime, runtimes_in_use};
use crate::doctor::facts::{Facts, ToolkitConfig};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Runtime;
const ID: &str = "runtime.toolkit";
const CHECKED: &str = "the settings of NVIDIA's container runtime";
const TURN_MOUNTS_ON: &str = "nvidia-ctk config --in-place --set \
    accept-nvidia-visible-devices-as-volume-mounts=true on the node";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let strategies = &facts.settings.strategies;
    if !need_nvidia_runtime(strategies) || runtimes_in_use(facts).is_empty() {
        return Vec::new();
    }
    let mounts = strategies.contains(&DeviceListStrategy::VolumeMounts);
    let envvar = strategies.contains(&DeviceListStrategy::Envvar);
    match &facts.runtimes.toolkit {
        Some(toolkit) => vec![of_file(toolkit, mounts, envvar)],
        // Without a file the defaults apply: variables are accepted, mounts are not.
        None if mounts => vec![no_file()],
        None => Vec::new(),
    }
}

fn no_file() -> Finding {
    let seen = "there is no /etc/nvidia-container-runtime/config.toml";
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why("the strategy volume-mounts needs a setting there that is off by default")
        .fix(TURN_MOUNTS_ON)
}

fn of_file(toolkit: &ToolkitConfig, mounts: bool, envvar: bool) -> Finding {
    let file = toolkit.file.display();
    if let Some(error) = &toolkit.problem {
        return Finding::unknown(GROUP, ID, CHECKED, format!("{file}: {error}"))
            .why("NVIDIA's runtime does not start containers if it cannot read its configuration")
            .fix("correct the file, or create it again: nvidia-ctk config > FILE");
    }
    if mounts && toolkit.volume_mounts != Some(true) {
        let seen = format!("{file}: accept-nvidia-visible-devices-as-volume-mounts is off");
        return Finding::problem(GROUP, ID, CHECKED, seen)
            .why(
                "NVIDIA's runtime then ignores the mounts with which the strategy volume-mounts \
                 names GPUs",
            )
            .fix(TURN_MOUNTS_ON);
    }
    if envvar && !mounts && toolkit.envvar == Some(false) {
        return variables_off(toolkit);
    }
    Finding::ok(GROUP, ID, CHECKED, format!("{file} lets the strategy work"))
}

fn variables_off(toolkit: &ToolkitConfig) -> Finding {
    let seen = format!(
        "{}: accept-nvidia-visible-devices-envvar-when-unprivileged is off",
        toolkit.file.display()
    );
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why("NVIDIA's runtime then ignores NVIDIA_VISIBLE_DEVICES of pods that are not privileged")
        .fix(
            "use --device-list-strategy=volume-mounts (with \
             accept-nvidia-visible-devices-as-volume-mounts = true), or turn the setting on",
        )
}
