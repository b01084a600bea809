//! What the status_provider sees: the state of every room, joined at the moment of the question.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use device::health::Moment;
use device::in_use::holders::Holders;
use device::inventory::Inventory;
use device::names::ResourceName;
use status::{EventKind, Nvml, NvmlState, Registration, Status};
use tokio::sync::{mpsc, oneshot, watch};

use super::plugins::PluginTelemetries;
use super::reload_history::ReloadHistory;
use crate::config::{Config, HttpAddress, KubeletSocket};
use crate::kubelet::device_plugin::calls::CallDurations;
use crate::kubelet::device_plugin::register_error::REGISTER_RESULTS;
use crate::kubelet::device_plugin::telemetry::PluginTelemetry;
use crate::kubelet::pod_resources::RefreshTrigger;
use crate::nvml::telemetry::Telemetry as NvmlTelemetry;
use crate::nvml::{Clock, Release};
use crate::observe::event_log::{EventLog, Happened};
use crate::observe::http::{Address, Views};
use crate::observe::metrics::{MetricsSnapshot, ProcessFigures, ResourceFigures, exposition};
use crate::observe::status::{Facts, build};
use crate::observe::wall::Wall;

/// How long the one writer of the inventory may take to answer before it counts as stuck. It never
/// works for longer than some milliseconds at a time.
const PATIENCE: Duration = Duration::from_secs(3);
/// Questions to the writer that may wait.
const WAITING: usize = 16;

/// A question to the one writer whether it is there; dropped or answered, it is.
pub(super) type Ping = oneshot::Sender<()>;

/// What the status_provider sees.
pub(super) struct StatusProvider {
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
    pub(super) holders: watch::Receiver<Option<Arc<Holders>>>,
    pub(super) nvml: NvmlTelemetry,
    pub(super) release: Release,
    pub(super) refresh: Arc<RefreshTrigger>,
    pub(super) plugins: PluginTelemetries,
    pub(super) calls: CallDurations,
    pub(super) journal: EventLog,
    pub(super) reload_history: ReloadHistory,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) pings: mpsc::Sender<Ping>,
    pub(super) stopping: AtomicBool,
}

/// What it needs of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    file: Option<String>,
    /// Whether a node without NVML is one to serve.
    tolerates_no_nvml: bool,
    /// Whether there is a kubelet to register with.
    registers: bool,
    hostname: Option<String>,
}

impl Settings {
    pub(super) fn of(config: &Config) -> Self {
        let process = &config.process;
        // In a container it is the pod's name.
        let hostname = std::fs::read_to_string(process.proc_root.join("sys/kernel/hostname")).ok();
        Self {
            file: process.config_file.as_ref().map(|file| file.display().to_string()),
            tolerates_no_nvml: !process.fail_on_init_error,
            registers: matches!(process.kubelet_socket, KubeletSocket::At(_)),
            hostname: hostname.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
        }
    }
}

/// Where to serve, if anywhere.
pub(super) fn address(config: &Config) -> Option<Address> {
    match &config.process.http_address {
        HttpAddress::Off => None,
        HttpAddress::AnyAddress(port) => Some(Address::AnyAddress(*port)),
        HttpAddress::Tcp(address) => Some(Address::Tcp(*address)),
        HttpAddress::Unix(path) => Some(Address::Unix(path.clone())),
    }
}

/// The two ends of the question whether the writer is there.
pub(super) fn pings() -> (mpsc::Sender<Ping>, mpsc::Receiver<Ping>) {
    mpsc::channel(WAITING)
}

impl StatusProvider {
    fn wall(&self) -> Wall {
        Wall::new(self.clock.now(), SystemTime::now())
    }

    fn nvml(&self) -> Nvml {
        let standing = self.nvml.standing();
        Nvml {
            state: match (standing.release, standing.up) {
                (true, _) => NvmlState::Released,
                (false, true) => NvmlState::Up,
                (false, false) => NvmlState::Down,
            },
            fault: None,
            driver_version: standing.versions.driver,
            cuda_version: standing.versions.cuda,
            nvml_version: standing.versions.library,
            unanswered_calls: self.nvml.unanswered(),
        }
    }

    fn reasons(&self, inventory: &Inventory) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping.load(Relaxed) {
            reasons.push("the plugin is stopping".to_owned());
        }
        let standing = self.nvml.standing();
        if !standing.tried {
            reasons.push("NVML was not asked yet".to_owned());
        } else if standing.gpus > 0 && inventory.gpus().is_empty() {
            reasons.push("the GPUs were not looked at yet".to_owned());
        } else if !standing.up && !standing.release && !self.settings.tolerates_no_nvml {
            reasons
                .push("NVML is down, and the configuration does not put up with that".to_owned());
        }
        let telemetries = self.plugins.all();
        for resource in inventory.resources() {
            match telemetries.get(resource).map(PluginTelemetry::status) {
                None => reasons.push(format!("{resource}: it is not served yet")),
                Some(standing) if self.settings.registers && !standing.registered => {
                    let problem = standing.problem.as_deref().unwrap_or("it is not served yet");
                    reasons.push(format!("{resource}: {problem}"));
                }
                Some(standing) if standing.endpoint.is_none() => {
                    reasons.push(format!("{resource}: no socket is bound"));
                }
                Some(_) => {}
            }
        }
        reasons
    }

    fn registrations(&self, wall: Wall) -> BTreeMap<ResourceName, Registration> {
        let of = |(resource, telemetry): (ResourceName, PluginTelemetry)| {
            let standing = telemetry.status();
            let registration = Registration {
                registered: standing.registered,
                since: Some(wall.at(Moment(standing.since))),
                problem: standing.problem.filter(|_| self.settings.registers),
                endpoint: standing.endpoint,
                streams: standing.streams,
                registrations: telemetry.registrations().get("ok").copied().unwrap_or(0),
            };
            (resource, registration)
        };
        self.plugins.all().into_iter().map(of).collect()
    }

    fn happened(&self) -> Vec<Happened> {
        let mut happened = Vec::new();
        for (resource, telemetry) in self.plugins.all() {
            happened.extend(telemetry.events().into_iter().map(|of| Happened {
                resource: Some(resource.to_string()),
                ..Happened::new(
                    Moment(of.at),
                    if of.registered { EventKind::Registered } else { EventKind::ServerRestarted },
                    of.message,
                )
            }));
        }
        happened
    }

    fn figures(&self) -> BTreeMap<String, ResourceFigures> {
        let of = |(resource, telemetry): (ResourceName, PluginTelemetry)| {
            let (allocated, refused) = telemetry.allocations();
            let came = telemetry.registrations();
            let figures = ResourceFigures {
                registrations: REGISTER_RESULTS
                    .iter()
                    .map(|result| (*result, came.get(result).copied().unwrap_or(0)))
                    .collect(),
                allocated,
                refused,
                updates: telemetry.lists(),
                notes: telemetry.notes().counts(),
            };
            (resource.to_string(), figures)
        };
        self.plugins.all().into_iter().map(of).collect()
    }
}

impl Views for StatusProvider {
    fn status(&self) -> Status {
        // What is shown is what is known; who looks again sees what is known by then.
        self.refresh.request_if_stale();
        let wall = self.wall();
        let inventory = self.inventory.borrow().clone();
        let holders = self.holders.borrow().clone();
        build(Facts {
            wall,
            version: (env!("CARGO_PKG_VERSION"), env!("GIT_COMMIT")),
            hostname: self.settings.hostname.as_deref(),
            not_ready: self.reasons(&inventory),
            inventory: &inventory,
            nvml: self.nvml(),
            registrations: self.registrations(wall),
            holders: holders.as_deref(),
            configuration: self.reload_history.told(self.settings.file.clone(), wall),
            events: self.journal.told(wall, self.happened()),
            last_events: self.journal.last_events(wall),
        })
    }

    fn metrics(&self) -> String {
        let calls = self.calls.all().into_iter();
        let errors = self.nvml.errors().into_iter();
        exposition(&MetricsSnapshot {
            status: self.status(),
            rustc: env!("RUSTC_VERSION"),
            calls: calls
                .map(|(method, code, distribution)| (method.name(), code, distribution))
                .collect(),
            rounds: self.nvml.rounds(),
            nvml_errors: errors
                .map(|((call, code), count)| (call, code.name().into_owned(), count))
                .collect(),
            resources: self.figures(),
            // Our own process, wherever the host's procfs is mounted.
            process: ProcessFigures::read(Path::new("/proc/self")),
        })
    }

    fn stuck(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>> {
        Box::pin(async {
            if self.stopping.load(Relaxed) { None } else { stuck(&self.pings).await }
        })
    }

    fn not_ready(&self) -> Vec<String> {
        let inventory = self.inventory.borrow().clone();
        self.reasons(&inventory)
    }

    fn release(&self) {
        self.release.ask();
    }
}

/// Asks the writer whether it is there. Whether it answers or ends, it is not stuck: one that ends
/// takes the process with it.
async fn stuck(pings: &mpsc::Sender<Ping>) -> Option<String> {
    let (ping, answered) = oneshot::channel();
    let asked = async {
        if pings.send(ping).await.is_ok() {
            let _ = answered.await;
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(()) => None,
        Err(_) => {
            Some(format!("the inventory's writer has not answered for {} s", PATIENCE.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_does_not_answer_is_stuck_however_many_ask() {
        let (pings, mut pinged) = pings();
        for _ in 0..2 * WAITING {
            assert!(
                stuck(&pings).await.is_some_and(|what| what.contains("has not answered for 3 s"))
            );
        }
        tokio::spawn(async move {
            while let Some(ping) = pinged.recv().await {
                let _ = ping.send(());
            }
        });
        assert_eq!(stuck(&pings).await, None);
    }
}
