//! What the device list strategies need, and which container runtimes there are.

use std::collections::BTreeSet;

use device::injection::DeviceListStrategy;

use crate::doctor::facts::{ContainerRuntime, Facts};

/// Whether NVIDIA's container runtime brings devices into containers.
pub(super) fn need_nvidia_runtime(strategies: &BTreeSet<DeviceListStrategy>) -> bool {
    strategies.contains(&DeviceListStrategy::Envvar)
        || strategies.contains(&DeviceListStrategy::VolumeMounts)
}

/// Whether CDI brings devices into containers.
pub(super) fn need_cdi(strategies: &BTreeSet<DeviceListStrategy>) -> bool {
    strategies.contains(&DeviceListStrategy::CdiAnnotations)
        || strategies.contains(&DeviceListStrategy::CdiCri)
}

/// The runtimes whose socket is there; if there is none, all that have a configuration.
pub(super) fn runtimes_in_use(facts: &Facts) -> Vec<&ContainerRuntime> {
    let all = || facts.runtimes.runtimes.iter();
    match all().any(|runtime| runtime.socket) {
        true => all().filter(|runtime| runtime.socket).collect(),
        false => all().collect(),
    }
}

/// The runtimes in use whose configuration could be read.
pub(super) fn readable_runtimes(facts: &Facts) -> impl Iterator<Item = &ContainerRuntime> {
    runtimes_in_use(facts).into_iter().filter(|runtime| runtime.problem.is_none())
}
