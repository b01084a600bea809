//! What to do about a GPU, in commands. A GPU is named by its UUID or PCI address: NVML's index may
//! be another GPU's by the time somebody resets one.

use crate::doctor::facts::{Condition, Facts, GpuFacts};

/// A GPU as commands name it.
pub(super) struct Target<'a> {
    facts: &'a Facts,
    /// For `nvidia-smi -i`; `None`: it is not known by a name that stays.
    name: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub(super) fn new(facts: &'a Facts, gpu: &'a GpuFacts) -> Self {
        Self { facts, name: gpu.uuid.as_deref().or(gpu.bus.as_deref()) }
    }

    /// The commands that reset it.
    pub(super) fn reset(&self) -> String {
        match self.name {
            Some(gpu) => format!(
                "end the pods that use it; `gpu-device-plugin release` in the plugin's pod; \
                 `nvidia-smi --gpu-reset -i {gpu}` on the node; `gpu-device-plugin take-up`"
            ),
            None => format!(
                "it is not known by a UUID or a PCI address, so that it cannot be reset alone: {}",
                self.reboot()
            ),
        }
    }

    fn reboot(&self) -> String {
        self.facts.platform.restart().to_owned()
    }

    /// What shows more of it.
    pub(super) fn details(&self) -> String {
        let log = self.facts.platform.driver_log();
        match self.name {
            Some(gpu) => format!("`nvidia-smi -q -i {gpu}` and the log of the driver: {log}"),
            None => format!("`nvidia-smi -L` on the node shows which GPU it is; {log}"),
        }
    }

    fn clear(&self) -> String {
        let gpu = self.name.unwrap_or("GPU");
        format!("kubectl -n kube-system exec POD -- gpu-device-plugin clear {gpu}")
    }

    /// What ends a cause or a degradation.
    pub(super) fn fix(&self, of: &Condition) -> String {
        let commands = match of.kind.as_str() {
            "external" => return self.end_of_quarantine(),
            "xid" => return self.after_xid(of),
            "reset_required" | "row_remap_pending" | "contained_error" => self.reset(),
            "recovery_action" => return self.recovery(of.action),
            "relapses" => self.clear(),
            "fabric" | "fabric_bandwidth" => "`systemctl status nvidia-fabricmanager` and \
                                              `journalctl -u nvidia-fabricmanager` on the node"
                .to_owned(),
            "imex_domain" => {
                "`systemctl restart nvidia-imex` on each node of the domain".to_owned()
            }
            "drain_p2p" => "end the pods that use peer-to-peer memory on it".to_owned(),
            "no_events" => {
                "kubectl -n kube-system delete pod POD, the plugin's on this node".into()
            }
            "inforom" | "row_remap_failure" => {
                "no pod gets it until then; `nvidia-bug-report.sh` on the node makes the report \
                 that its vendor asks for"
                    .to_owned()
            }
            "lost" | "not_enumerated" => {
                format!("{}; {}", self.facts.platform.driver_log(), self.reboot())
            }
            _ => format!("{}; if it stays so: {}", self.details(), self.reboot()),
        };
        match of.remedy.as_deref().or(of.text.split_once("; ").map(|(_, remedy)| remedy)) {
            Some(remedy) => format!("{remedy}: {commands}"),
            None => commands,
        }
    }

    fn end_of_quarantine(&self) -> String {
        let directory = match &self.facts.settings.quarantine_dir {
            Some(directory) => directory.display().to_string(),
            None => "the directory of --quarantine-dir".to_owned(),
        };
        let gpu = self.name.unwrap_or("its index");
        format!(
            "do what the reason says; then remove the file in {directory} that is named after \
             this GPU, by {gpu}, its PCI address or its index (--quarantine-dir)"
        )
    }

    fn after_xid(&self, of: &Condition) -> String {
        let explained = of.xid.map(|xid| format!("; `gpu-device-plugin xid {xid}` explains it"));
        let explained = explained.unwrap_or_default();
        let remedy = of.remedy.as_deref().unwrap_or("reset the GPU");
        let commands = match remedy {
            reset if reset.contains("reset") => self.reset(),
            reboot if reboot.contains("reboot") => self.reboot(),
            _ => self.details(),
        };
        format!("{remedy}: {commands}{explained}")
    }

    /// What the driver asks for (`nvmlDeviceGpuRecoveryAction_t`).
    fn recovery(&self, action: Option<u32>) -> String {
        match action {
            Some(1 | 4 | 6) => format!("reset the GPU: {}", self.reset()),
            Some(2 | 7) => self.reboot(),
            Some(3) => "end the pods that use peer-to-peer memory on it".to_owned(),
            Some(5) => "`systemctl restart nvidia-imex` on each node of the domain".to_owned(),
            _ => self.details(),
        }
    }
}
