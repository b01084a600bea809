//! Values of our chart as they come together, and what is different by them.

use serde_json::{Map, Value};

/// One thing that will be different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// The value, variable or object that it is about.
    pub(super) about: String,
    /// What is different, and what to do.
    pub(super) text: String,
}

/// The result of a migration.
#[derive(Debug)]
pub(super) struct Migration {
    /// What it was made of.
    pub(super) source: &'static str,
    /// The values of our chart.
    pub(super) values: Map<String, Value>,
    /// In the order in which they were found, those of every migration last.
    pub(super) differences: Vec<Difference>,
}

impl Migration {
    pub(super) fn new(source: &'static str) -> Self {
        Self { source, values: Map::new(), differences: Vec::new() }
    }

    /// Notes a difference once.
    pub(super) fn note(&mut self, about: impl Into<String>, text: impl Into<String>) {
        let difference = Difference { about: about.into(), text: text.into() };
        if !self.differences.contains(&difference) {
            self.differences.push(difference);
        }
    }

    /// Sets the value at a path such as `image.pullPolicy`.
    pub(super) fn set(&mut self, path: &str, value: impl Into<Value>) {
        let mut names: Vec<&str> = path.split('.').collect();
        let Some(last) = names.pop() else { return };
        let mut map = &mut self.values;
        for name in names {
            let entry = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if !entry.is_object() {
                *entry = Value::Object(Map::new());
            }
            let Value::Object(inner) = entry else { return };
            map = inner;
        }
        map.insert(last.to_owned(), value.into());
    }

    /// Appends to the list at a key.
    pub(super) fn push(&mut self, key: &str, value: Value) {
        match self.values.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(items) => items.push(value),
            other => *other = Value::Array(vec![value]),
        }
    }

    /// Takes over a text by which NVIDIA's plugin looks for a platform.
    pub(super) fn set_discovery(&mut self, strategy: &Value) {
        let text = match strategy.as_str() {
            Some("tegra") => {
                "GPUs are found through NVML alone: a Tegra without NVML is not served"
            }
            _ => "GPUs are found through NVML alone: it has no effect",
        };
        self.note("deviceDiscoveryStrategy", text);
        self.set("deviceDiscoveryStrategy", strategy.clone());
    }

    /// Notes what every migration changes.
    pub(super) fn note_common(&mut self) {
        if !self.values.contains_key("failOnInitError") {
            self.note(
                "failOnInitError",
                "without a driver NVIDIA's plugin ends by default, and this one waits for it and \
                 is not Ready meanwhile; to have it end: failOnInitError: true",
            );
        }
        if !self.values.contains_key("resources") {
            self.note("resources", "10m CPU and 32Mi memory are requested, at most 128Mi allowed");
        }
        for (about, text) in [
            (
                "volumes",
                "of the node, /var/lib/kubelet/pod-resources (read only; who holds which GPU) and \
                 /var/lib/gpu-device-plugin (health over a restart) are mounted too",
            ),
            (
                "port 19400",
                "the pod serves metrics, probes and status, without a password; http.enabled: \
                 false turns it off, networkPolicy.enabled: true closes it to other pods",
            ),
            (
                "permissions",
                "the plugin does not use the API server; the node agent does, with the rights of \
                 its functions alone",
            ),
            (
                "health",
                "a GPU is Unhealthy for more reasons, with all its replicas and MIG devices, and \
                 Healthy again on evidence (docs/health.md)",
            ),
        ] {
            self.note(about, text);
        }
    }
}
