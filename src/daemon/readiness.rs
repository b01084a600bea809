//! Why the plugin is not ready.

use std::collections::BTreeMap;

use device::inventory::Inventory;
use device::names::ResourceName;

use crate::kubelet::device_plugin::telemetry::PluginTelemetry;
use crate::nvml::telemetry::NvmlTelemetry;

/// What readiness depends on.
pub(super) struct Readiness<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) nvml: &'a NvmlTelemetry,
    pub(super) plugins: BTreeMap<ResourceName, PluginTelemetry>,
    /// Whether a node without NVML is served.
    pub(super) tolerates_no_nvml: bool,
    /// Whether there is a kubelet to register with.
    pub(super) registers: bool,
    pub(super) stopping: bool,
}

impl Readiness<'_> {
    /// The reasons; none, if the plugin is ready.
    pub(super) fn reasons(&self) -> Vec<String> {
        let stopping = self.stopping.then(|| "the plugin is stopping".to_owned());
        let resources = self.inventory.resources();
        let unserved = resources.filter_map(|resource| {
            let problem = self.problem(self.plugins.get(resource))?;
            Some(format!("{resource}: {problem}"))
        });
        stopping.into_iter().chain(self.nvml_reason()).chain(unserved).collect()
    }

    fn nvml_reason(&self) -> Option<String> {
        let nvml = self.nvml.state();
        let reason = if !nvml.tried {
            "NVML has not been opened yet"
        } else if nvml.gpus > 0 && self.inventory.gpus().is_empty() {
            "the GPUs have not been read yet"
        } else if !nvml.up && !nvml.released && !self.tolerates_no_nvml {
            "NVML is down, and the configuration requires it"
        } else {
            return None;
        };
        Some(reason.to_owned())
    }

    fn problem(&self, plugin: Option<&PluginTelemetry>) -> Option<String> {
        const NOT_YET: &str = "it is not served yet";
        let Some(status) = plugin.map(PluginTelemetry::status) else {
            return Some(NOT_YET.to_owned());
        };
        if self.registers && !status.registered {
            Some(status.problem.unwrap_or_else(|| NOT_YET.to_owned()))
        } else {
            status.endpoint.is_none().then(|| "no socket is bound".to_owned())
        }
    }
}
