//! One node: what its plugin says, through the API server's proxy.

use serde_json::{Value, json};
use status::{problems_text, table};

use crate::api::ApiServer;
use crate::args::{AccessFlags, PluginFlags};
use crate::output::{Output, Stop, print};
use crate::plugin_pod::PluginPod;

/// A node whose plugin was found.
pub(crate) struct OneNode<'a> {
    api: &'a ApiServer,
    name: &'a str,
    pod: PluginPod,
    access: &'a AccessFlags,
    output: &'a Output,
}

impl<'a> OneNode<'a> {
    /// Finds the plugin of a node.
    pub(crate) fn find(
        api: &'a ApiServer,
        name: &'a str,
        (plugin, access): (&PluginFlags, &'a AccessFlags),
        output: &'a Output,
    ) -> Result<Self, Stop> {
        let pod = PluginPod::find(api, name, plugin)?;
        Ok(Self { api, name, pod, access, output })
    }

    /// Prints the status of the node.
    pub(crate) fn show(&self) -> Result<(), Stop> {
        let text = self.pod.status_text(self.api, self.access)?;
        // JSON and YAML also have fields of a newer plugin that this program does not know.
        if self.output.is_data() {
            let no_plugin = |error| format!("what answers is no gpu-device-plugin: {error}");
            let status: Value = serde_json::from_str(&text).map_err(no_plugin)?;
            return self.output.print_data(&status);
        }
        print(&table(&status::read(&text)?, self.output.style))
    }

    /// Prints what the plugin of the node finds wrong, and the command by which it looks again.
    pub(crate) fn doctor(&self) -> Result<(), Stop> {
        let status = status::read(&self.pod.status_text(self.api, self.access)?)?;
        let command = self.pod.exec(self.access, "doctor");
        if self.output.is_data() {
            let (name, namespace) = (&self.pod.name, &self.pod.namespace);
            return self.output.print_data(&json!({
                "version": 1, "node": self.name, "namespace": namespace, "pod": name,
                "problems": status.find_problems(), "findings": status.findings, "exec": command,
            }));
        }
        let problems = problems_text(&status, self.output.style);
        let problems = match problems.is_empty() {
            true => "The plugin finds nothing wrong.\n",
            false => &problems,
        };
        print(&format!(
            "{problems}\nThis is what the running plugin knows. For a look at the node as it is \
             now, also at what keeps pods from GPUs:\n\n  {command}\n"
        ))
    }
}
