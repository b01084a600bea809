//! Objects of a cluster: the DaemonSet of NVIDIA's plugin, and what stands beside it.

use serde_json::{Value, json};

use super::container;
use super::migration::Migration;
use super::values::host_network;

/// Our values for the one DaemonSet of NVIDIA's plugin among the objects.
pub(super) fn of_objects(objects: &[&Value]) -> Result<Migration, String> {
    let flat: Vec<&Value> = objects.iter().flat_map(|object| items(object)).collect();
    let (plugins, others): (Vec<&Value>, Vec<&Value>) =
        flat.into_iter().partition(|object| plugin_of(object).is_some());
    let [plugin] = plugins[..] else {
        return Err(match plugins.len() {
            0 => "no DaemonSet among the objects runs NVIDIA's device plugin (a container with \
                  the image k8s-device-plugin, or the command nvidia-device-plugin)"
                .to_owned(),
            count => format!(
                "{count} DaemonSets among the objects run NVIDIA's device plugin: give them one \
                 by one"
            ),
        });
    };
    let mut migration = Migration::new("manifests of NVIDIA's plugin");
    daemonset(&mut migration, plugin);
    for other in others {
        if !config_files(&mut migration, other) {
            beside(&mut migration, other);
        }
    }
    if let Some(name) = config_map(&migration) {
        let text = format!("the ConfigMap {name} has to be in the namespace of the release");
        migration.note("config.name", text);
    }
    migration.note_common();
    Ok(migration)
}

/// The objects of a list, or the object.
fn items(object: &Value) -> Vec<&Value> {
    match object.get("items").and_then(Value::as_array) {
        Some(items) => items.iter().collect(),
        None => vec![object],
    }
}

/// The container that is NVIDIA's plugin.
fn plugin_of(object: &Value) -> Option<&Value> {
    if object["kind"] != "DaemonSet" {
        return None;
    }
    let containers = object.pointer("/spec/template/spec/containers")?.as_array()?;
    containers.iter().find(|container| {
        let words = ["command", "args"]
            .iter()
            .filter_map(|key| container[*key].as_array())
            .flatten()
            .filter_map(Value::as_str);
        let program = words.map(|word| word.rsplit('/').next().unwrap_or(word));
        let programs: Vec<&str> = program.collect();
        let is_other = ["gpu-feature-discovery", "mps-control-daemon", "config-manager"]
            .iter()
            .any(|other| programs.contains(other));
        let image = container["image"].as_str().unwrap_or_default();
        let is_named = programs.contains(&"nvidia-device-plugin")
            || (image.contains("k8s-device-plugin") && programs.is_empty());
        let has_flags = image.contains("k8s-device-plugin") && !programs.is_empty();
        !is_other && (is_named || has_flags)
    })
}

fn daemonset(migration: &mut Migration, object: &Value) {
    let (spec, pod) = (&object["spec"], &object["spec"]["template"]["spec"]);
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    migration.note("namespace", format!("install it with --namespace {namespace}"));
    for (path, value) in [
        ("updateStrategy", &spec["updateStrategy"]),
        ("podSecurityContext", &pod["securityContext"]),
        ("imagePullSecrets", &pod["imagePullSecrets"]),
        ("nodeSelector", &pod["nodeSelector"]),
        ("priorityClassName", &pod["priorityClassName"]),
        ("runtimeClassName", &pod["runtimeClassName"]),
    ] {
        if !value.is_null() && value.as_object().is_none_or(|entries| !entries.is_empty()) {
            migration.set(path, value.clone());
        }
    }
    annotations(migration, &spec["template"]["metadata"]["annotations"]);
    // Without them the chart has some of its own.
    migration.set("affinity", pod["affinity"].clone());
    migration.set("tolerations", pod["tolerations"].as_array().cloned().unwrap_or_default());
    if pod["hostNetwork"] == true {
        migration.set("devicePlugin.enableHostNetwork", true);
        host_network(migration, &Value::Bool(true));
    }
    for key in ["serviceAccountName", "serviceAccount"] {
        if let Some(name) = pod[key].as_str() {
            let text = format!("{name} is not used: the chart makes one without permissions");
            migration.note("serviceAccountName", text);
        }
    }
    if let Some(main) = plugin_of(object) {
        container::take(migration, main, pod);
    }
}

/// The ConfigMap that the config file is in.
fn config_map(migration: &Migration) -> Option<String> {
    let config = migration.values.get("config")?;
    config["name"].as_str().map(str::to_owned)
}

/// Takes over the files of the ConfigMap that the plugin uses.
fn config_files(migration: &mut Migration, object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let is_it = object["kind"] == "ConfigMap" && config_map(migration).is_some_and(|it| it == name);
    let (true, Some(files)) = (is_it, object["data"].as_object()) else { return false };
    let default = migration.values["config"]["default"].clone();
    migration.set("config", json!({"map": files, "default": default}));
    migration.note("config.map", format!("the files of the ConfigMap {name}"));
    true
}

/// Those of the pods, but for what says when or with which config they were started.
fn annotations(migration: &mut Migration, annotations: &Value) {
    for (key, value) in annotations.as_object().into_iter().flatten() {
        if !key.starts_with("checksum/") && key != "kubectl.kubernetes.io/restartedAt" {
            // A key has dots, which `set` takes for steps of a path.
            let entry = migration.values.entry("podAnnotations").or_insert_with(|| json!({}));
            entry[key] = value.clone();
        }
    }
}

/// What stands beside the plugin, and what becomes of it.
fn beside(migration: &mut Migration, object: &Value) {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let about = format!("{} {name}", text("kind"));
    let parts = object.to_string();
    migration.note(
        about,
        match text("kind") {
            "DaemonSet" | "Job" if parts.contains("gpu-feature-discovery") => {
                "keep it, or have the node agent set its labels: gfd.enabled, and docs/migrate.md"
            }
            "DaemonSet" if parts.contains("mps-control-daemon") => {
                "not taken over: the chart has its own (mps.enabled); only one of them can run"
            }
            "ConfigMap" => "not taken over; it stays as it is",
            "ServiceAccount" | "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => {
                "not needed, unless GPU Feature Discovery uses it"
            }
            "Namespace" => "not taken over; where it admits the pods of NVIDIA's, it admits these",
            _ => "not taken over",
        },
    );
}
