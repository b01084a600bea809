//! The status and the metrics: the state of every module, joined at the moment of a request.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use device::health::Moment;
use device::in_use::holders::Holders;
use device::inventory::Inventory;
use device::names::ResourceName;
use status::{EventKind, Nvml, NvmlState, Registration, Status};
use tokio::sync::watch;

use super::liveness::Liveness;
use super::plugins::TelemetryByResource;
use super::readiness::Readiness;
use super::reload_history::ReloadHistory;
use super::rival_watch;
use crate::config::Config;
use crate::kubelet::device_plugin::calls::CallDurations;
use crate::kubelet::device_plugin::registration::REGISTER_RESULTS;
use crate::kubelet::device_plugin::rivals::Rivals;
use crate::kubelet::device_plugin::telemetry::{PluginTelemetry, RegistrationEvent};
use crate::kubelet::pod_resources::RefreshTrigger;
use crate::nvml::Clock;
use crate::nvml::telemetry::NvmlTelemetry;
use crate::observe::event_log::{Event, EventLog};
use crate::observe::http::Views;
use crate::observe::log;
use crate::observe::metrics::{MetricsSnapshot, ProcessMetrics, ResourceCounters, exposition};
use crate::observe::status::{StatusInputs, build};
use crate::observe::wall_clock::WallClock;
use crate::util::change_signal::ChangeSignal;

/// The parts that the status is made of.
pub(super) struct StatusProvider {
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
    pub(super) holders: watch::Receiver<Option<Arc<Holders>>>,
    pub(super) nvml: NvmlTelemetry,
    pub(super) refresh: Arc<RefreshTrigger>,
    pub(super) plugins: TelemetryByResource,
    pub(super) calls: CallDurations,
    pub(super) event_log: EventLog,
    pub(super) rivals: watch::Receiver<Rivals>,
    pub(super) reload_history: ReloadHistory,
    /// Of reloads and registrations.
    pub(super) changes: ChangeSignal,
    pub(super) clock: Clock,
    pub(super) settings: StatusSettings,
    pub(super) liveness: Liveness,
    pub(super) stopping: AtomicBool,
}

/// What the status needs of the configuration.
#[derive(Debug, Clone)]
pub(super) struct StatusSettings {
    /// Whether a node without NVML is served.
    tolerates_no_nvml: bool,
    /// Whether there is a kubelet to register with.
    registers: bool,
    node: Option<String>,
    hostname: Option<String>,
    machine_type: Option<String>,
}

impl StatusSettings {
    pub(super) fn of(config: &Config) -> Self {
        let process = &config.process;
        // gethostname would give the pod's name.
        let hostname = first_line(&process.roots.proc.join("sys/kernel/hostname"));
        let machine_type = first_line(&process.nvml.sysfs_root.join("class/dmi/id/product_name"));
        Self {
            tolerates_no_nvml: !process.nvml.fail_on_init_error,
            registers: process.plugin.kubelet.is_some(),
            node: process.node_name.clone(),
            hostname,
            machine_type,
        }
    }
}

/// The first line of a file of the kernel's, if it has one that is not empty.
#[allow(
    clippy::disallowed_methods,
    reason = "at the start; what the kernel's own file systems say is there at once"
)]
fn first_line(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

impl StatusProvider {
    fn wall(&self) -> WallClock {
        WallClock::new(self.clock.now(), SystemTime::now())
    }

    fn nvml(&self, wall: WallClock) -> Nvml {
        let state = self.nvml.state();
        Nvml {
            state: match (state.released_until, state.up) {
                (Some(_), _) => NvmlState::Released,
                (None, true) => NvmlState::Up,
                (None, false) => NvmlState::Down,
            },
            released_until: state.released_until.map(|until| wall.at(until)),
            fault: None,
            driver_version: state.versions.driver,
            cuda_version: state.versions.cuda,
            nvml_version: state.versions.library,
            unanswered_calls: self.nvml.unanswered(),
        }
    }

    fn reasons(&self, inventory: &Inventory) -> Vec<String> {
        let readiness = Readiness {
            inventory,
            nvml: &self.nvml,
            plugins: self.plugins.all(),
            tolerates_no_nvml: self.settings.tolerates_no_nvml,
            registers: self.settings.registers,
            stopping: self.stopping.load(Relaxed),
        };
        readiness.reasons()
    }

    fn registrations(&self, wall: WallClock) -> BTreeMap<ResourceName, Registration> {
        let registration = |telemetry: PluginTelemetry| {
            let status = telemetry.status();
            Registration {
                registered: status.registered,
                since: Some(wall.at(Moment(status.since))),
                problem: if self.settings.registers {
                    status.problem
                } else {
                    Some("there is no kubelet to register with: --kubelet-socket is empty".into())
                },
                endpoint: status.endpoint,
                streams: status.streams,
                registrations: telemetry.registrations().get("ok").copied().unwrap_or(0),
            }
        };
        let plugins = self.plugins.all().into_iter();
        plugins.map(|(resource, telemetry)| (resource, registration(telemetry))).collect()
    }

    fn registration_events(&self) -> Vec<Event> {
        let event = |resource: &ResourceName, event: RegistrationEvent| {
            let kind = match event.registered {
                true => EventKind::Registered,
                false => EventKind::ServerRestarted,
            };
            let resource = Some(resource.to_string());
            Event { resource, ..Event::new(Moment(event.at), kind, event.message) }
        };
        let plugins = self.plugins.all();
        let of = |(resource, telemetry): (&ResourceName, &PluginTelemetry)| {
            telemetry.events().into_iter().map(|each| event(resource, each)).collect::<Vec<_>>()
        };
        plugins.iter().flat_map(of).collect()
    }
}

fn figures(telemetry: &PluginTelemetry) -> ResourceCounters {
    let (allocated, refused) = telemetry.allocations();
    let registrations = telemetry.registrations();
    let count = |result| registrations.get(result).copied().unwrap_or(0);
    ResourceCounters {
        registrations: REGISTER_RESULTS.iter().map(|result| (*result, count(*result))).collect(),
        allocated,
        refused,
        updates: telemetry.lists(),
        notes: telemetry.notes(),
    }
}

impl Views for StatusProvider {
    fn status(&self) -> Status {
        // This request is answered from what is known; a later one finds what the kubelet answers.
        self.refresh.request_if_stale();
        self.peek()
    }

    fn peek(&self) -> Status {
        let wall = self.wall();
        let inventory = self.inventory.borrow().clone();
        let holders = self.holders.borrow().clone();
        build(StatusInputs {
            wall,
            version: (env!("CARGO_PKG_VERSION"), env!("GIT_COMMIT")),
            node: self.settings.node.as_deref(),
            hostname: self.settings.hostname.as_deref(),
            machine_type: self.settings.machine_type.as_deref(),
            not_ready: self.reasons(&inventory),
            inventory: &inventory,
            nvml: self.nvml(wall),
            registrations: self.registrations(wall),
            holders: holders.as_deref(),
            findings: rival_watch::findings(&self.rivals.borrow()),
            configuration: self.reload_history.status(wall),
            events: self.event_log.events(wall, self.registration_events()),
            last_events: self.event_log.last_events(wall),
        })
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (mut inventory, mut holders) = (self.inventory.clone(), self.holders.clone());
        inventory.mark_unchanged();
        holders.mark_unchanged();
        let mut nvml = self.nvml.changes().subscribe();
        let mut others = self.changes.subscribe();
        Box::pin(async move {
            // What sends no more is stopping.
            let _ = tokio::select! {
                changed = inventory.changed() => changed,
                changed = holders.changed() => changed,
                changed = nvml.changed() => changed,
                changed = others.changed() => changed,
            };
        })
    }

    fn metrics(&self) -> String {
        let errors = self.nvml.errors().into_iter();
        exposition(&MetricsSnapshot {
            status: self.status(),
            rustc: env!("RUSTC_VERSION"),
            calls: self.calls.all(),
            rounds: self.nvml.poll_durations(),
            nvml_errors: errors
                .map(|((call, code), count)| (call, code.name().into_owned(), count))
                .collect(),
            resources: self
                .plugins
                .all()
                .iter()
                .map(|(resource, telemetry)| (resource.to_string(), figures(telemetry)))
                .collect(),
            dropped_log_lines: log::dropped_lines(),
            // Our own process, wherever the host's procfs is mounted.
            process: ProcessMetrics::read(Path::new("/proc/self")),
        })
    }

    fn stuck(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>> {
        Box::pin(async {
            if self.stopping.load(Relaxed) { None } else { self.liveness.stuck().await }
        })
    }

    fn not_ready(&self) -> Vec<String> {
        let inventory = self.inventory.borrow().clone();
        self.reasons(&inventory)
    }
}
