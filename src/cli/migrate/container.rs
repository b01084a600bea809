//! The container of NVIDIA's plugin: its flags, variables, volumes and privileges.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::flags::flags;
use super::migration::Migration;
use super::values::{MPS_ROOT, NODE_LABEL, image_note, set_privileged};
use crate::config::settings;

/// The value of the chart that sets a variable.
const VALUES: &[(&str, &str)] = &[
    ("CDI_FEATURE_FLAGS", "cdi.featureFlags"),
    ("DEVICE_ID_STRATEGY", "deviceIDStrategy"),
    ("DEVICE_LIST_STRATEGY", "deviceListStrategy"),
    ("MIG_STRATEGY", "migStrategy"),
    ("MPS_ROOT", "mps.root"),
    ("NVIDIA_CDI_HOOK_PATH", "cdi.nvidiaHookPath"),
    ("NVIDIA_DEV_ROOT", "nvidiaDevRoot"),
    ("NVIDIA_DRIVER_CAPABILITIES", "nvidiaDriverCapabilities"),
    ("NVIDIA_DRIVER_ROOT", "nvidiaDriverRoot"),
];
const SWITCHES: &[(&str, &str)] = &[
    ("FAIL_ON_INIT_ERROR", "failOnInitError"),
    ("GDRCOPY_ENABLED", "gdrcopyEnabled"),
    ("GDS_ENABLED", "gdsEnabled"),
    ("MOFED_ENABLED", "mofedEnabled"),
    ("PASS_DEVICE_SPECS", "compatWithCPUManager"),
];
/// Where the chart mounts these itself.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";
const POD_RESOURCES: &str = "/var/lib/kubelet/pod-resources";
const DRIVER_ROOT: &str = "/driver-root";
const CDI: &str = "/var/run/cdi";

/// Takes over a container of `pod`.
pub(super) fn take(migration: &mut Migration, container: &Value, pod: &Value) {
    image_note(migration);
    if container["resources"].as_object().is_some_and(|resources| !resources.is_empty()) {
        migration.set("resources", container["resources"].clone());
    }
    if container["imagePullPolicy"].is_string() {
        migration.set("image.pullPolicy", container["imagePullPolicy"].clone());
    }
    let mut volumes = Volumes::of(container, pod);
    let texts = texts(migration, container);
    driver_root(migration, container, &texts, &mut volumes);
    for (name, text) in &texts {
        variable(migration, name, text, pod, &volumes);
    }
    for (path, volume) in &volumes.by_path {
        mount(migration, path, volume, container, &volumes);
    }
    context(migration, &container["securityContext"]);
    let others = ["initContainers", "containers"].iter().filter_map(|key| pod[*key].as_array());
    for other in others.flatten().filter(|other| other["name"] != container["name"]) {
        let name = other["name"].as_str().unwrap_or_default();
        let about = format!("container {name}");
        migration.note(about, "left out; the node label for its config has no effect here");
    }
}

/// The volume at each mount path.
struct Volumes {
    by_path: BTreeMap<String, Value>,
}

impl Volumes {
    fn of(container: &Value, pod: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let volumes = list(&pod["volumes"]);
        let by_path = list(&container["volumeMounts"]).into_iter().filter_map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
            let path = mount["mountPath"].as_str()?.trim_end_matches('/').to_owned();
            Some((path, volume.clone()))
        });
        Self { by_path: by_path.collect() }
    }

    fn host_path(&self, path: &str) -> Option<&str> {
        self.by_path.get(path.trim_end_matches('/'))?.pointer("/hostPath/path")?.as_str()
    }

    fn config_map(&self, path: &str) -> Option<&str> {
        self.by_path.get(path.trim_end_matches('/'))?.pointer("/configMap/name")?.as_str()
    }
}

/// The variables that have a text, and the flags as the variables that they stand for.
fn texts(migration: &mut Migration, container: &Value) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        match (variable["name"].as_str(), variable.get("valueFrom")) {
            // The chart has its own.
            (Some("NODE_NAME"), _) | (None, _) => {}
            (Some(_), Some(_)) => migration.push("extraEnv", variable.clone()),
            (Some(name), None) => {
                let text = variable["value"].as_str().unwrap_or_default();
                texts.insert(canonical(name).to_owned(), text.to_owned());
            }
        }
    }
    // A flag takes precedence over the variable.
    texts.append(&mut flags(migration, container));
    texts
}

/// Where the driver is: the chart mounts the node's root, or the driver's, where NVIDIA's mounts
/// the driver's. What a container gets depends on `NVIDIA_DRIVER_ROOT` alone.
fn driver_root(
    migration: &mut Migration,
    container: &Value,
    texts: &BTreeMap<String, String>,
    volumes: &mut Volumes,
) {
    let variable = |name: &str| texts.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let path = variable("DRIVER_ROOT_CTR_PATH").unwrap_or(DRIVER_ROOT).trim_end_matches('/');
    let set = |migration: &mut Migration, text: &str| {
        let entry = json!({"name": "DRIVER_ROOT_CTR_PATH", "value": text});
        migration.push("extraEnv", entry);
    };
    let Some(host) = volumes.host_path(path).map(str::to_owned) else {
        if path != DRIVER_ROOT {
            set(migration, path);
        }
        return;
    };
    if variable("NVIDIA_DRIVER_ROOT") == Some(&host) {
        volumes.by_path.remove(path);
    } else if container["securityContext"]["privileged"] == true {
        volumes.by_path.remove(path);
        let below = host.trim_end_matches('/');
        if !below.is_empty() {
            set(migration, &format!("{DRIVER_ROOT}{below}"));
        }
    } else if path != DRIVER_ROOT {
        set(migration, path);
    }
}

fn variable(migration: &mut Migration, name: &str, text: &str, pod: &Value, volumes: &Volumes) {
    let find = |table: &[(&'static str, &'static str)]| {
        table.iter().find(|(variable, _)| *variable == name).map(|(_, path)| *path)
    };
    if let Some(path) = find(VALUES) {
        let is_default = matches!(
            (name, text),
            (_, "") | ("MPS_ROOT", MPS_ROOT) | ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")
        );
        if !is_default {
            migration.set(path, text);
        }
        return;
    }
    if let Some((path, value)) = find(SWITCHES).zip(boolean(text)) {
        migration.set(path, value);
        return;
    }
    match name {
        "CONFIG_FILE" => config_file(migration, text, pod, volumes),
        "DEVICE_DISCOVERY_STRATEGY" => migration.set_discovery(&text.into()),
        // With its mount.
        "DRIVER_ROOT_CTR_PATH" => {}
        // The chart sets them itself, where they are of use.
        "NVIDIA_VISIBLE_DEVICES" | "NVIDIA_MIG_MONITOR_DEVICES" if text == "all" => {}
        _ => {
            let is_known = settings::all().any(|setting| setting.env.contains(&name));
            if !is_known && !name.starts_with("NVIDIA_") {
                migration.note(name, "this plugin does not read it");
            }
            migration.push("extraEnv", json!({"name": name, "value": text}));
        }
    }
}

/// The first name of a variable that has several.
fn canonical(name: &str) -> &str {
    let setting = settings::all().find(|setting| setting.env.contains(&name));
    setting.and_then(|setting| setting.env.first().copied()).unwrap_or(name)
}

/// A boolean in the words of Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The config file: in a ConfigMap, chosen by the config manager, or somewhere else.
fn config_file(migration: &mut Migration, file: &str, pod: &Value, volumes: &Volumes) {
    let (directory, key) = file.rsplit_once('/').unwrap_or(("", file));
    if let Some(name) = volumes.config_map(directory) {
        migration.set("config.name", name);
        migration.set("config.default", key);
        return;
    }
    let Some(name) = managed_configs(pod) else {
        migration.push("extraEnv", json!({"name": "CONFIG_FILE", "value": file}));
        return;
    };
    migration.set("config.name", name);
    let managers = pod["initContainers"].as_array().into_iter().flatten();
    let default = managers
        .filter_map(|manager| manager["env"].as_array())
        .flatten()
        .find(|variable| variable["name"] == "DEFAULT_CONFIG")
        .and_then(|variable| variable["value"].as_str())
        .unwrap_or_default();
    migration.set("config.default", default);
    migration.note("config", NODE_LABEL);
}

/// The ConfigMap that the config manager chooses a file of.
fn managed_configs(pod: &Value) -> Option<&str> {
    let mut volumes = pod["volumes"].as_array().into_iter().flatten();
    let volume = volumes.find(|volume| volume["name"] == "available-configs")?;
    volume.pointer("/configMap/name")?.as_str()
}

/// What is mounted, unless the chart mounts it itself.
fn mount(
    migration: &mut Migration,
    path: &str,
    volume: &Value,
    container: &Value,
    volumes: &Volumes,
) {
    let host_path = volumes.host_path(path);
    match (path, host_path) {
        (DEVICE_PLUGINS, Some(DEVICE_PLUGINS)) | (POD_RESOURCES, Some(POD_RESOURCES)) => {}
        (DEVICE_PLUGINS, Some(host)) => migration.set("kubelet.devicePluginsDir", host),
        (POD_RESOURCES, Some(host)) => migration.set("kubelet.podResourcesDir", host),
        (CDI, Some(host)) if host == CDI => {}
        ("/mps", Some(MPS_ROOT)) => {}
        ("/mps", Some(host)) => migration.set("mps.root", host),
        ("/dev/shm" | "/dev" | "/available-configs" | "/config", _) => {}
        _ if volumes.config_map(path).is_some() && migration.values.contains_key("config") => {}
        _ => {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            for mount in mounts.filter(|mount| {
                mount["mountPath"].as_str().is_some_and(|at| at.trim_end_matches('/') == path)
            }) {
                migration.push("extraVolumeMounts", mount.clone());
            }
            let is_there = migration.values.get("extraVolumes").and_then(Value::as_array);
            if is_there.is_none_or(|there| !there.contains(volume)) {
                migration.push("extraVolumes", volume.clone());
            }
        }
    }
}

fn context(migration: &mut Migration, context: &Value) {
    set_privileged(migration, context["privileged"] == true);
    if context["privileged"] == true || context.is_null() {
        return;
    }
    let usual = [
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
        json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
    ];
    if !usual.contains(context) {
        migration.set("securityContext", context.clone());
    }
}
