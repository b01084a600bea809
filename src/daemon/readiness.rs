//! Why the plugin is not ready.

use std::collections::BTreeMap;

use device::identity::OtherFunction;
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
        if !nvml.tried {
            return Some("NVML has not been opened yet".to_owned());
        }
        if nvml.gpus > 0 && self.inventory.gpus().is_empty() {
            return Some("the GPUs have not been read yet".to_owned());
        }
        if nvml.up || nvml.released_until.is_some() {
            return None;
        }
        let fault = self.inventory.node_health().fault();
        let why = fault.map(|(fault, _)| format!(": {fault}")).unwrap_or_default();
        match self.gpus() {
            0 if self.tolerates_no_nvml => None,
            0 => Some(format!("NVML is down, and the configuration requires it{why}")),
            1 => Some(format!("NVML is down, and the node has 1 GPU for it{why}")),
            gpus => Some(format!("NVML is down, and the node has {gpus} GPUs for it{why}")),
        }
    }

    /// The GPUs on the PCI bus that are the driver's, or nobody's as long as it is not loaded. One
    /// that another driver has is not for pods. Those that NVML had listed count where they are on
    /// no bus (Tegra, WSL).
    fn gpus(&self) -> usize {
        let of_driver = self.inventory.gpu_counts().bus.unwrap_or(0) as usize;
        let others = self.inventory.other_functions();
        let on_bus = of_driver + others.filter(|(_, why)| *why == OtherFunction::NoDriver).count();
        on_bus.max(self.inventory.gpus().len())
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
