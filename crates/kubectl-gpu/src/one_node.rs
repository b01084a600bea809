//! One node: what its plugin says, through the API server's proxy.

use serde_json::{Value, json};
use status::{problems_text, table};

use crate::api::ApiServer;
use crate::args::{AccessFlags, PluginFlags};
use crate::output::{Output, Stop, print};
use crate::plugin_pod::PluginPod;

/// Prints the status of a node.
pub(crate) fn show(
    api: &ApiServer,
    node: &str,
    (plugin, access): (&PluginFlags, &AccessFlags),
    output: &Output,
) -> Result<(), Stop> {
    let pod = PluginPod::find(api, node, plugin)?;
    let text = pod.status_text(api, access)?;
    // JSON and YAML also have fields of a newer plugin that this program does not know.
    if output.is_data() {
        let no_plugin = |error| format!("what answers is no gpu-device-plugin: {error}");
        let status: Value = serde_json::from_str(&text).map_err(no_plugin)?;
        return output.print_data(&status);
    }
    print(&table(&status::read(&text)?, output.style))
}

/// Prints what the plugin of a node finds wrong, and the command by which it looks again.
pub(crate) fn doctor(
    api: &ApiServer,
    node: &str,
    (plugin, access): (&PluginFlags, &AccessFlags),
    output: &Output,
) -> Result<(), Stop> {
    let pod = PluginPod::find(api, node, plugin)?;
    let status = status::read(&pod.status_text(api, access)?)?;
    let command = pod.exec(access, "doctor");
    if output.is_data() {
        let (name, namespace) = (&pod.name, &pod.namespace);
        return output.print_data(&json!({
            "version": 1, "node": node, "namespace": namespace, "pod": name,
            "problems": status.find_problems(), "findings": status.findings, "exec": command,
        }));
    }
    let problems = problems_text(&status, output.style);
    let problems = match problems.is_empty() {
        true => "The plugin finds nothing wrong.\n",
        false => &problems,
    };
    print(&format!(
        "{problems}\nThis is what the running plugin knows. For a look at the node as it is now, \
         also at what keeps pods from GPUs:\n\n  {command}\n"
    ))
}
