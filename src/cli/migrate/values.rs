//! Values of NVIDIA's chart, which ours has under the same names.

use serde_json::{Map, Value};

use super::migration::Migration;

/// What is taken over as it is.
const SAME: &[&str] = &[
    "allowDefaultNamespace",
    "cdi",
    "compatWithCPUManager",
    "componentSelectorLabels",
    "deviceIDStrategy",
    "deviceListStrategy",
    "failOnInitError",
    "fullnameOverride",
    "gdrcopyEnabled",
    "gdsEnabled",
    "global",
    "imagePullSecrets",
    "migStrategy",
    "mofedEnabled",
    "nameOverride",
    "namespaceOverride",
    "nodeSelector",
    "nvidiaDevRoot",
    "nvidiaDriverCapabilities",
    "nvidiaDriverRoot",
    "podAnnotations",
    "podSecurityContext",
    "priorityClassName",
    "resources",
    "runtimeClassName",
    "tolerations",
];

const GFD: &str = "the labels come from the node agent, a second container; those that NVIDIA's \
                   GPU Feature Discovery owns are left to it for as long as it is there";
const MPS: &str = "the chart installs a supervisor of control daemons where config.map shares by \
                   MPS; NVIDIA's ends with devicePlugin.enabled=false, and with it its clients";

/// The default of both charts.
pub(super) const MPS_ROOT: &str = "/run/nvidia/mps";
pub(super) const NODE_LABEL: &str = "the node label nvidia.com/device-plugin.config is followed by \
                                     the node agent, a second container with a token that may \
                                     watch nodes";

/// Our values for those of NVIDIA's chart, of several files the later ones over the earlier ones.
pub(super) fn of_values(documents: &[Value]) -> Result<Migration, String> {
    let mut merged = Map::new();
    for document in documents {
        match document {
            Value::Object(values) => merge(&mut merged, values),
            _ => return Err("the values are not a mapping (key: value)".to_owned()),
        }
    }
    if merged.is_empty() {
        return Err("there are no values".to_owned());
    }
    let mut migration = Migration::new("values of NVIDIA's chart");
    let has_labels = merged.get("gfd").is_some_and(is_on);
    for (key, value) in &merged {
        // NVIDIA's chart reads them here, and not under `gfd`, where its values have them.
        if has_labels && matches!(key.as_str(), "noTimestamp" | "sleepInterval") {
            migration.set(&format!("gfd.{key}"), value.clone());
        } else {
            take(&mut migration, key, value);
        }
    }
    privileges(&mut migration, &merged);
    migration.note_common();
    Ok(migration)
}

/// As Helm lays values over each other: mappings are merged, all else is replaced.
fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn take(migration: &mut Migration, key: &str, value: &Value) {
    match key {
        // For Helm it removes a default, and both charts have this one.
        "affinity" => migration.set(key, value.clone()),
        _ if is_unset(key, value) => {}
        _ if SAME.contains(&key) => migration.set(key, value.clone()),
        "updateStrategy" => migration.set(key, value.clone()),
        "securityContext" => {}
        "config" => config(migration, value),
        "image" => image(migration, value),
        "devicePlugin" => device_plugin(migration, value),
        "deviceDiscoveryStrategy" => migration.set_discovery(value),
        "selectorLabelsOverride" => migration.note(
            key,
            "left out: of two DaemonSets with the same labels neither knows its own pods",
        ),
        "gfd" if is_on(value) => {
            migration.set("gfd.enabled", true);
            migration.note(key, GFD);
        }
        "gfd" => {}
        "nfd" => migration.note(
            key,
            "there is no Node Feature Discovery here, and the labels of GPUs do not need it; keep \
             NVIDIA's for others",
        ),
        "mps" => mps(migration, value),
        "noTimestamp" | "sleepInterval" => {
            migration.note(key, "left out: it is about GPU Feature Discovery; see gfd");
        }
        "logVerbosity" => migration.note(key, "left out; LOG_LEVEL in extraEnv is the nearest"),
        "configManager" => migration.note(key, "left out: see nodeAgent.resources"),
        "namespace" | "legacyDaemonsetAPI" => {
            migration.note(key, "left out, as NVIDIA's chart refuses it");
        }
        _ => migration.note(key, "left out: it is not known as a value of NVIDIA's chart"),
    }
}

fn is_on(value: &Value) -> bool {
    value.get("enabled") == Some(&Value::Bool(true))
}

/// Whether a value says nothing: the defaults of NVIDIA's chart have many of them.
fn is_unset(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && key.ends_with("Override"),
        Value::Array(items) => items.is_empty() && key == "imagePullSecrets",
        Value::Object(entries) => entries.iter().all(|(key, value)| is_unset(key, value)),
        _ => false,
    }
}

fn config(migration: &mut Migration, value: &Value) {
    let files = value.get("map").and_then(Value::as_object);
    let count = files.map_or(0, Map::len);
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
    if count == 0 && name.is_empty() {
        return;
    }
    migration.set("config", value.clone());
    migration.note("config", "the file is read again when it changes, without a restart");
    migration.note("config", NODE_LABEL);
    if !name.is_empty() && value.get("default").and_then(Value::as_str).unwrap_or_default() == "" {
        migration.note(
            "config.default",
            "set it: without it a new node has no config file until the node agent has chosen one",
        );
    }
    let mut texts = files.into_iter().flatten().filter_map(|(_, text)| text.as_str());
    if texts.any(|text| text.contains("mps:")) {
        migration.note("mps", MPS);
    }
}

fn image(migration: &mut Migration, value: &Value) {
    if let Some(policy) = value.get("pullPolicy").filter(|policy| policy.is_string()) {
        migration.set("image.pullPolicy", policy.clone());
    }
    if value.get("repository").is_some() || value.get("tag").is_some() {
        image_note(migration);
    }
}

/// Notes that the image has to be named.
pub(super) fn image_note(migration: &mut Migration) {
    migration.note("image", "it is another program: set image.repository to your image of it");
}

fn device_plugin(migration: &mut Migration, value: &Value) {
    for (key, value) in value.as_object().into_iter().flatten() {
        match key.as_str() {
            "enabled" if value == &Value::Bool(false) => migration.note(
                "devicePlugin.enabled",
                "left out: it was false, so that NVIDIA's plugin did not run",
            ),
            "enabled" => {}
            "containers" => containers(migration, value),
            "enableHostNetwork" => {
                migration.set("devicePlugin.enableHostNetwork", value.clone());
                host_network(migration, value);
            }
            _ => migration.set(&format!("devicePlugin.{key}"), value.clone()),
        }
    }
}

/// Notes what the network of the node means for the port.
pub(super) fn host_network(migration: &mut Migration, value: &Value) {
    if value == &Value::Bool(true) {
        migration.note("port 19400", "it is the node's, where every user of the node reaches it");
    }
}

fn containers(migration: &mut Migration, value: &Value) {
    let env = value.pointer("/main/env").and_then(Value::as_array);
    for variable in env.into_iter().flatten() {
        let is_default = matches!(
            (variable["name"].as_str(), variable["value"].as_str()),
            (Some("NVIDIA_VISIBLE_DEVICES"), Some("all"))
                | (Some("NVIDIA_DRIVER_CAPABILITIES"), Some("compute,utility"))
        );
        if !is_default {
            migration.push("extraEnv", variable.clone());
        }
    }
}

fn mps(migration: &mut Migration, value: &Value) {
    for key in ["enableHostPID", "enableHostNetwork", "resources"] {
        let known = value.get(key).filter(|value| !value.is_null() && **value != Value::Bool(true));
        if let Some(value) = known {
            migration.set(&format!("mps.{key}"), value.clone());
        }
    }
    let root = value.get("root").and_then(Value::as_str);
    if let Some(root) = root.filter(|root| *root != MPS_ROOT) {
        migration.set("mps.root", root);
    }
}

/// NVIDIA's pod is privileged only where it is asked for, ours unless it is not.
fn privileges(migration: &mut Migration, values: &Map<String, Value>) {
    let for_cpu_manager = values.get("compatWithCPUManager") == Some(&Value::Bool(true));
    match values.get("securityContext").filter(|context| !is_unset("securityContext", context)) {
        Some(context) if context["privileged"] == Value::Bool(true) => {
            set_privileged(migration, true);
        }
        Some(context) => {
            migration.set("securityContext", context.clone());
            set_privileged(migration, false);
        }
        None => set_privileged(migration, for_cpu_manager),
    }
}

/// Sets whether the pod is privileged, as before.
pub(super) fn set_privileged(migration: &mut Migration, privileged: bool) {
    migration.set("privileged", privileged);
    migration.note(
        "privileged",
        match privileged {
            true => {
                "as before; it mounts the node's root read only, and /dev, and finds the driver \
                 there without the NVIDIA runtime"
            }
            false => {
                "as before, false: the NVIDIA runtime brings the driver in. With true, the \
                 chart's default, it finds the driver on the node by itself"
            }
        },
    );
}
