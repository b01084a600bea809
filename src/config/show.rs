//! The configuration in force as a config file, with the origin of every value beside it. Read
//! again, it gives the same configuration; what a file cannot hold is under `commandLine` and
//! ignored there.

use std::fmt::{Display, Write as _};

use device::layout::NamePattern;
use device::layout::sharing::{Replication, Selection, Sharing};
use device::memory_share::MemoryLimits;

use super::model::Config;
use super::print::{flow, path, quoted};
use super::settings;

/// The column at which origins begin, where the values leave room.
const COLUMN: usize = 56;

/// The keys that nothing sets, as comments: what they hold is no default, but an entry of a list.
const WITHOUT_RESOURCES: &str = "\
# resources:                # needs flags.plugin.customResources
#   gpus: []                # entries: {pattern: \"*H100*\", name: nvidia.com/h100}
#   mig: []                 # entries: {pattern: 1g.10gb, name: nvidia.com/small}
";
const WITHOUT_SHARING: &str = "\
# sharing:
#   timeSlicing:            # or mps
#     renameByDefault: false
#     failRequestsGreaterThanOne: false # with mps: true
#     memoryLimits:         # without it there are none
#       enforce: auto       # off, or auto: where the node can
#       oversubscribe: 1.0  # the shares together, as a multiple of the memory
#       reserve: 4%         # what the driver keeps for itself
#     resources:
#       - name: nvidia.com/gpu
#         replicas: 2       # 2 or more
#         rename: \"\"        # needs flags.plugin.customResources
#         devices: all      # needs flags.plugin.customResources
";
/// Keys that are for another program, which reads the same file.
const OF_FEATURE_DISCOVERY: &str = "\
# Of GPU feature discovery, without effect here: flags.useNodeFeatureAPI, and under flags.gfd
# oneshot, noTimestamp, outputFile, machineTypeFile, sleepInterval.
";

/// `config` as YAML. With `every_key` also what is left out where it is not set.
#[must_use]
pub fn show(config: &Config, every_key: bool) -> String {
    let mut writer = Writer { config, every_key, text: String::new() };
    writer.document();
    writer.text
}

struct Writer<'a> {
    config: &'a Config,
    every_key: bool,
    text: String,
}

impl Writer<'_> {
    fn document(&mut self) {
        self.text.push_str("# The configuration in force, and where each value comes from.\n");
        if let Some(file) = &self.config.process.config_file {
            let from = self.config.origin(settings::CONFIG_FILE.name());
            let _ = writeln!(self.text, "# file: {} (from {from})", path(file));
        }
        self.text.push_str("version: v1\n");
        self.mapping(0, "flags", Some("flags"));
        self.mapping(1, "plugin", Some("flags.plugin"));
        self.mapping(0, "imex", Some("imex"));
        self.settings(0, Some(""));
        self.names();
        self.sharing();
        self.mapping(0, "health", Some("health"));
        if self.every_key {
            self.text.push_str(OF_FEATURE_DISCOVERY);
        }
        self.mapping(0, "commandLine", None);
    }

    /// A mapping that holds settings.
    fn mapping(&mut self, depth: usize, key: &str, path: Option<&str>) {
        self.head(depth, key);
        self.settings(depth + 1, path);
    }

    /// The settings whose key is directly in the mapping at `path`; `None`: those without a key.
    fn settings(&mut self, depth: usize, path: Option<&str>) {
        for setting in settings::all() {
            let parent = setting.key.map(|key| key.rsplit_once('.').map_or("", |(up, _)| up));
            let mut value = (setting.print)(self.config);
            if self.every_key && value.is_empty() {
                value = quoted(setting.default);
            }
            if parent == path && !value.is_empty() {
                let name = setting.name();
                self.value(depth, name.rsplit('.').next().unwrap_or(name), value, name);
            }
        }
    }

    fn names(&mut self) {
        let layout = &self.config.layout;
        let lists = [("gpus", &layout.gpu_names), ("mig", &layout.mig_names)];
        if lists.iter().all(|(_, names)| names.is_empty()) {
            return self.comment(WITHOUT_RESOURCES);
        }
        self.head(0, "resources");
        for (list, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            self.head(1, list);
            for (number, NamePattern { pattern, name }) in names.iter().enumerate() {
                let path = format!("resources.{list}[{number}]");
                self.value(2, "- pattern", quoted(pattern.as_str()), &format!("{path}.pattern"));
                self.value(3, "name", quoted(name.as_str()), &format!("{path}.name"));
            }
        }
    }

    fn sharing(&mut self) {
        let (kind, replication) = match &self.config.layout.sharing {
            Sharing::None => return self.comment(WITHOUT_SHARING),
            Sharing::TimeSlicing(replication) => ("timeSlicing", replication),
            Sharing::Mps { replication, .. } => ("mps", replication),
        };
        let Replication {
            rename_by_default,
            fail_requests_greater_than_one,
            memory_limits,
            resources,
        } = replication;
        let path = format!("sharing.{kind}");
        self.head(0, "sharing");
        self.head(1, kind);
        self.value(2, "renameByDefault", rename_by_default, &format!("{path}.renameByDefault"));
        let key = "failRequestsGreaterThanOne";
        self.value(2, key, fail_requests_greater_than_one, &format!("{path}.{key}"));
        if let Some(limits) = memory_limits {
            self.memory_limits(*limits, &format!("{path}.memoryLimits"));
        }
        self.head(2, "resources");
        for (number, resource) in resources.iter().enumerate() {
            let path = format!("{path}.resources[{number}]");
            let devices = match &resource.devices {
                Selection::All => "all".to_owned(),
                Selection::Count(count) => count.to_string(),
                Selection::List(refs) => flow(refs.iter().map(ToString::to_string)),
            };
            let (name, rename) = (resource.name.as_str(), resource.offered_as.as_str());
            self.value(3, "- name", quoted(name), &format!("{path}.name"));
            self.value(4, "rename", quoted(rename), &format!("{path}.rename"));
            self.value(4, "devices", devices, &format!("{path}.devices"));
            self.value(4, "replicas", resource.replicas, &format!("{path}.replicas"));
        }
    }

    fn memory_limits(&mut self, limits: MemoryLimits, path: &str) {
        let MemoryLimits { oversubscribe_percent, reserve_percent } = limits;
        let factor = format!("{}.{:02}", oversubscribe_percent / 100, oversubscribe_percent % 100);
        self.head(2, "memoryLimits");
        self.value(3, "enforce", "auto", &format!("{path}.enforce"));
        self.value(3, "oversubscribe", factor, &format!("{path}.oversubscribe"));
        self.value(3, "reserve", format!("{reserve_percent}%"), &format!("{path}.reserve"));
    }

    /// Writes what shows keys that are not set.
    fn comment(&mut self, text: &str) {
        if self.every_key {
            self.text.push_str(text);
        }
    }

    fn head(&mut self, depth: usize, key: &str) {
        let _ = writeln!(self.text, "{}{key}:", "  ".repeat(depth));
    }

    fn value(&mut self, depth: usize, key: &str, value: impl Display, path: &str) {
        let origin = self.config.origin(path);
        let line = format!("{}{key}: {value}", "  ".repeat(depth));
        let _ = writeln!(self.text, "{line:<COLUMN$} # {origin}");
    }
}
