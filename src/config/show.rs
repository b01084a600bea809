//! The configuration in force as a config file, with the origin of every value beside it. Read
//! again, it gives the same configuration; what a file cannot hold stands under `commandLine` and
//! is ignored there.

use std::fmt::{Display, Write as _};
use std::path::Path;

use device::layout::NamePattern;
use device::layout::filter::{DeviceFilter, Term};
use device::layout::sharing::{Replication, Selection, Sharing};

use super::choice::Choice;
use super::duration;
use super::model::{Config, DisabledHooks, Health, Imex, KubeletSocket, Xids};
use super::report::Origin;
use super::scalar::{Meaning, resolve};
use super::settings::{self, Setting};

/// The column at which origins begin, where the values leave room.
const COLUMN: usize = 56;

/// `config` as YAML.
#[must_use]
pub fn show(config: &Config) -> String {
    let mut writer = Writer { config, text: String::new() };
    writer.document();
    writer.text
}

struct Writer<'a> {
    config: &'a Config,
    text: String,
}

impl Writer<'_> {
    fn document(&mut self) {
        self.text.push_str("# The configuration in force, and where each value comes from.\n");
        if let Some(file) = &self.config.process.config_file {
            let from = self.config.origin(settings::CONFIG_FILE.name()).to_string();
            let _ = writeln!(self.text, "# file: {} (from {from})", text_of(file));
        }
        self.text.push_str("version: v1\n");
        self.flags();
        self.imex();
        self.devices();
        self.names();
        self.sharing();
        self.health();
        self.command_line();
    }

    fn flags(&mut self) {
        let Config { process, layout, injection, allocation, .. } = self.config;
        self.head(0, "flags");
        self.setting(1, &settings::MIG_STRATEGY, layout.mig_strategy.as_str());
        self.setting(1, &settings::FAIL_ON_INIT_ERROR, process.fail_on_init_error);
        self.setting(1, &settings::DRIVER_ROOT, text_of(&injection.driver_root));
        self.setting(1, &settings::DEV_ROOT, text_of(&injection.dev_root));
        self.setting(1, &settings::GDRCOPY_ENABLED, injection.gdrcopy);
        self.setting(1, &settings::GDS_ENABLED, injection.gds);
        self.setting(1, &settings::MOFED_ENABLED, injection.mofed);
        if let Sharing::Mps { root, .. } = &self.config.sharing {
            self.setting(1, &settings::MPS_ROOT, text_of(root));
        }
        self.head(1, "plugin");
        self.setting(2, &settings::PASS_DEVICE_SPECS, injection.pass_device_specs);
        let strategies: Vec<_> =
            injection.list_strategies.iter().map(|strategy| strategy.as_str()).collect();
        self.setting(2, &settings::DEVICE_LIST_STRATEGY, flow(strategies));
        self.setting(2, &settings::DEVICE_ID_STRATEGY, injection.id_strategy.as_str());
        self.setting(2, &settings::CDI_ANNOTATION_PREFIX, quoted(&injection.cdi.annotation_prefix));
        self.setting(2, &settings::CDI_HOOK_PATH, text_of(&injection.cdi.hook_path));
        self.setting(2, &settings::DRIVER_ROOT_CTR_PATH, text_of(&process.driver_root_ctr_path));
        self.setting(2, &settings::ALLOCATION_POLICY, allocation.whole);
        self.setting(2, &settings::SHARED_POLICY, allocation.shared);
        self.setting(2, &settings::CUSTOM_RESOURCES, layout.custom_resources);
    }

    fn imex(&mut self) {
        let imex = self.config.injection.imex;
        self.head(0, "imex");
        self.setting(1, &settings::IMEX_CHANNEL_IDS, if imex == Imex::Off { "[]" } else { "[0]" });
        self.setting(1, &settings::IMEX_REQUIRED, imex == Imex::Required);
    }

    fn devices(&mut self) {
        let DeviceFilter { include, exclude } = &self.config.layout.devices;
        let taken = exclude.iter().map(|term| format!("!{term}"));
        let terms: Vec<_> = include.iter().map(Term::to_string).chain(taken).collect();
        self.setting(0, &settings::DEVICES, flow(terms.iter().map(String::as_str)));
    }

    fn names(&mut self) {
        let layout = &self.config.layout;
        let lists = [("gpus", &layout.gpu_names), ("mig", &layout.mig_names)];
        if lists.iter().all(|(_, names)| names.is_empty()) {
            return;
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
        let (kind, replication) = match &self.config.sharing {
            Sharing::None => return,
            Sharing::TimeSlicing(replication) => ("timeSlicing", replication),
            Sharing::Mps { replication, .. } => ("mps", replication),
        };
        let Replication { rename_by_default, fail_requests_greater_than_one, resources } =
            replication;
        let path = format!("sharing.{kind}");
        self.head(0, "sharing");
        self.head(1, kind);
        self.value(2, "renameByDefault", rename_by_default, &format!("{path}.renameByDefault"));
        let key = "failRequestsGreaterThanOne";
        self.value(2, key, fail_requests_greater_than_one, &format!("{path}.{key}"));
        self.head(2, "resources");
        for (number, resource) in resources.iter().enumerate() {
            let path = format!("{path}.resources[{number}]");
            self.value(3, "- name", quoted(resource.name.as_str()), &format!("{path}.name"));
            self.value(
                4,
                "rename",
                quoted(resource.offered_as.as_str()),
                &format!("{path}.rename"),
            );
            let devices = match &resource.devices {
                Selection::All => "all".to_owned(),
                Selection::Count(count) => count.to_string(),
                Selection::List(refs) => flow(
                    refs.iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .iter()
                        .map(String::as_str),
                ),
            };
            self.value(4, "devices", devices, &format!("{path}.devices"));
            self.value(4, "replicas", resource.replicas, &format!("{path}.replicas"));
        }
    }

    fn health(&mut self) {
        let health = &self.config.health;
        let Health { event_types, ignored_xids, critical_xids, .. } = health;
        self.head(0, "health");
        self.value(1, "disabled", !health.enabled, "health.disabled");
        let events = event_types.iter().map(|event| event.as_str());
        self.value(1, "eventTypes", flow(events), "health.eventTypes");
        self.value(1, "ignoredXIDs", xids(ignored_xids), "health.ignoredXIDs");
        self.value(1, "criticalXIDs", xids(critical_xids), "health.criticalXIDs");
        if !health.xids.is_empty() {
            self.head(1, "xids");
            for (xid, action) in &health.xids {
                self.value(2, &xid.to_string(), action, &format!("health.xids.{xid}"));
            }
        }
        self.setting(1, &settings::HEALTH_POLL_INTERVAL, duration::written(health.poll_interval));
        self.value(1, "recoveryPolls", health.recovery_polls, "health.recoveryPolls");
        self.value(1, "relapses", health.relapses, "health.relapses");
        self.value(
            1,
            "relapseWindow",
            duration::written(health.relapse_window),
            "health.relapseWindow",
        );
        self.value(1, "missedCalls", health.missed_calls, "health.missedCalls");
        self.value(
            1,
            "callDeadline",
            duration::written(health.call_deadline),
            "health.callDeadline",
        );
        self.value(1, "suspicion", duration::written(health.suspicion), "health.suspicion");
        let quiet = duration::written(health.quiet_period.unwrap_or_default());
        self.value(1, "quietPeriod", quiet, "health.quietPeriod");
        self.value(
            1,
            "rowRemapPending",
            health.row_remap_pending.as_str(),
            "health.rowRemapPending",
        );
        self.value(1, "drainP2P", health.drain_p2p.as_str(), "health.drainP2P");
        self.value(1, "fabric", health.fabric.as_str(), "health.fabric");
        self.value(1, "releaseForReset", health.release_for_reset, "health.releaseForReset");
        self.value(1, "releaseFor", duration::written(health.release_for), "health.releaseFor");
    }

    fn command_line(&mut self) {
        let Config { process, injection, health, .. } = self.config;
        self.head(0, "commandLine");
        let socket = match &process.kubelet_socket {
            KubeletSocket::At(path) => text_of(path),
            KubeletSocket::NeverRegister(_) => quoted(""),
        };
        self.setting(1, &settings::KUBELET_SOCKET, socket);
        self.setting(
            1,
            &settings::POD_RESOURCES_SOCKET,
            optional(process.pod_resources_socket.as_deref()),
        );
        self.setting(1, &settings::HTTP_ADDRESS, quoted(&process.http_address.to_string()));
        self.setting(1, &settings::NVML_LIBRARY, optional(process.nvml_library.as_deref()));
        self.setting(1, &settings::SYSFS_ROOT, text_of(&process.sysfs_root));
        self.setting(1, &settings::PROC_ROOT, text_of(&process.proc_root));
        self.setting(1, &settings::STATE_DIR, optional(process.state_dir.as_deref()));
        self.setting(1, &settings::QUARANTINE_DIR, optional(process.quarantine_dir.as_deref()));
        self.setting(
            1,
            &settings::CDI_FEATURE_FLAGS,
            flow(injection.cdi.features.iter().map(|feature| feature.as_str())),
        );
        let hooks = match &injection.cdi.disabled_hooks {
            DisabledHooks::All => flow(["all"]),
            DisabledHooks::These(hooks) => flow(hooks.iter().map(String::as_str)),
        };
        self.setting(1, &settings::CDI_DISABLE_HOOKS, hooks);
        self.setting(1, &settings::DISABLE_HEALTHCHECKS, quoted(&health.disable_healthchecks));
        self.setting(1, &settings::ENABLE_HEALTHCHECKS, quoted(&health.enable_healthchecks));
        self.setting(1, &settings::LOG_FORMAT, process.log_format.as_str());
        self.setting(1, &settings::LOG_LEVEL, quoted(&process.log_filter));
    }

    fn head(&mut self, depth: usize, key: &str) {
        let _ = writeln!(self.text, "{}{key}:", "  ".repeat(depth));
    }

    fn setting(&mut self, depth: usize, setting: &Setting, value: impl Display) {
        let key = setting.name();
        self.value(depth, key.rsplit('.').next().unwrap_or(key), value, key);
    }

    fn value(&mut self, depth: usize, key: &str, value: impl Display, path: &str) {
        let origin: &Origin = self.config.origin(path);
        let line = format!("{}{key}: {value}", "  ".repeat(depth));
        let _ = writeln!(self.text, "{line:<COLUMN$} # {origin}");
    }
}

fn xids(xids: &Xids) -> String {
    match xids {
        Xids::All => "all".to_owned(),
        Xids::These(xids) => {
            flow(xids.iter().map(u32::to_string).collect::<Vec<_>>().iter().map(String::as_str))
        }
    }
}

fn text_of(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn optional(path: Option<&Path>) -> String {
    path.map_or_else(|| quoted(""), text_of)
}

/// A list on one line.
fn flow<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

/// `text` as a YAML scalar that reads back as this text: plain where that is safe, in double quotes
/// elsewhere. Numbers stay plain, since every place that takes a text takes them.
fn quoted(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'/');
    if starts
        && text.bytes().all(safe)
        && !matches!(resolve(text), Meaning::Null | Meaning::Bool(_))
    {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
