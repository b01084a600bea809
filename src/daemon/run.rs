//! The daemon from start to stop.

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, anyhow};
use device::health::{NodeHealth, NodeObservation};
use device::injection::HostNodes;
use device::inventory::{Inventory, InventoryEvent};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tracing::warn;

use super::clear::{Clearing, NotClearable};
use super::control_daemons::{self, ControlDaemons};
use super::control_requests::{ControlRequests, release_on, take_up_on};
use super::head_start::HeadStart;
use super::host_files::{self, HostFiles};
use super::inventory_task::InventoryTask;
use super::inventory_writer::{self, InventoryWriter};
use super::kubelet_runtime::KubeletRuntime;
use super::liveness::Liveness;
use super::nvml_task::NvmlTask;
use super::plugins::Plugins;
use super::reclaim_controller::ReclaimController;
use super::release_file;
use super::reload::Reloader;
use super::reload_history::ReloadHistory;
use super::rival_watch::RivalWatch;
use super::status_provider::{StatusProvider, StatusSettings};
use super::tasks::Tasks;
use crate::cdi::{self, DriverState};
use crate::config::{Config, ConfigSource};
use crate::control;
use crate::host::boot_clock;
use crate::host::dir_watch::Watches;
use crate::host::quarantine_dir::{self, ClearFile};
use crate::host::state_file::{PersistedState, StateFile};
use crate::kubelet::device_plugin::allocated;
use crate::kubelet::device_plugin::rivals::Rivals;
use crate::kubelet::device_plugin::socket::{self, PluginPaths};
use crate::kubelet::device_plugin::socket_events::{self, SocketEvents};
use crate::kubelet::pod_resources::{self, RefreshTrigger};
use crate::mps::{DriverPrograms, MpsPaths, MpsWatcher};
use crate::nvml::{self, Clock, TimedObservation};
use crate::observe::event_log::EventLog;
use crate::observe::http;
use crate::util::change_signal::ChangeSignal;

/// Serves the node's GPUs until `stop` returns, with `config` and later versions of it from
/// `source`. `started` is when the process began.
///
/// # Errors
/// NVML cannot be opened at the start and the configuration makes that an error, the host lacks
/// what the configuration requires, the plugin directory was replaced under our mount, or a task
/// ended that never should.
pub async fn run(
    config: Config,
    source: ConfigSource,
    started: Instant,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    // All tasks are on this thread. None has to be Send, which the compiler cannot show for those
    // that take async closures.
    let daemon = async {
        let mut stop = pin!(stop);
        let clock = Clock::from(started);
        let mut tasks = Tasks::default();
        // NVML first: its initialisation takes longest, and goes on while the rest is prepared.
        let nvml = NvmlTask::start(&config, clock, &mut tasks);
        // Its task takes its first step here.
        tokio::task::yield_now().await;
        let host_files = HostFiles::begin(&config.process);
        let daemon = tokio::select! {
            daemon = Daemon::start(config, source, host_files, nvml, tasks, started) => daemon?,
            () = &mut stop => return Ok(()),
        };
        daemon.serve(stop).await
    };
    LocalSet::new().run_until(daemon).await
}

struct Daemon {
    inventory: watch::Receiver<Arc<Inventory>>,
    /// Whether what pods hold is in it.
    knows_holders: watch::Receiver<bool>,
    /// What is written to the state file.
    state: watch::Receiver<PersistedState>,
    state_file: StateFile,
    plugins: Plugins,
    tasks: Tasks,
    status_provider: Arc<StatusProvider>,
    /// Apart from the other tasks, since it is the last to stop.
    http: Tasks,
}

impl Daemon {
    /// Starts everything but NVML, which has begun, in the order of the flow: health of before,
    /// inventory, the kubelet, HTTP, which is not ready yet. The first observations come from NVML;
    /// the first resource in the inventory starts the first plugin. While files are read, all that
    /// does not depend on them is prepared.
    async fn start(
        config: Config,
        source: ConfigSource,
        host_files: HostFiles,
        nvml: NvmlTask,
        mut tasks: Tasks,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let HostFiles { watches, state_file, quarantine_dir, persisted } = host_files;
        let NvmlTask { observe, observations, wants, poll_settings, release, telemetry } = nvml;
        let (clock, event_log) = (Clock::from(started), EventLog::default());
        let changes = ChangeSignal::default();
        let reload_history = ReloadHistory::new(clock, event_log.clone(), changes.clone());
        let reloader =
            Reloader::new(source, config.clone(), watches.clone(), reload_history.clone())?;
        let sigusr1 = signal(SignalKind::user_defined1()).context("waiting for SIGUSR1")?;
        let sigusr2 = signal(SignalKind::user_defined2()).context("waiting for SIGUSR2")?;

        let paths = config.process.plugin.clone();
        socket::remove_stale(&paths.directory);
        let host = reloader.host()?;
        let (cdi_settings, cdi_settings_rx) = watch::channel(config.cdi.clone());

        let (holders, holders_rx) = watch::channel(None);
        let refresh = Arc::new(RefreshTrigger::default());
        let (outcomes, publisher, allocated) = allocated::channel();
        let (liveness, pings) = Liveness::channel();
        let socket_events = SocketEvents::default();
        let plugins = Plugins::new(
            paths.clone(),
            socket_events.clone(),
            (outcomes, publisher),
            pings.kubelet,
            started,
            changes.clone(),
        )?;

        let asking = KubeletRuntime::start("pod-resources")?;

        let inventory = empty_inventory(&config, host, persisted.await, clock);
        let (state, state_rx) = watch::channel(inventory_writer::state(&inventory));
        let (inventory, inventory_rx) = watch::channel(Arc::new(inventory));
        let head_start = HeadStart::until_change(inventory_rx.clone());
        let (rivals, rivals_rx) = watch::channel(Rivals::default());
        let (clearing, clears) = Clearing::channel();
        let status_provider = Arc::new(StatusProvider {
            inventory: inventory_rx.clone(),
            holders: holders_rx.clone(),
            nvml: telemetry.clone(),
            refresh: refresh.clone(),
            plugins: plugins.telemetry(),
            calls: plugins.calls(),
            event_log: event_log.clone(),
            rivals: rivals_rx,
            reload_history,
            changes,
            clock,
            settings: StatusSettings::of(&config),
            liveness,
            stopping: AtomicBool::new(false),
        });
        let served = http::Served {
            address: config.process.http_address.clone(),
            status_socket: config.process.state_dir.as_deref().map(http::status_socket_path),
            status_group: config.process.status_socket_gid,
        };
        let mut http = Tasks::default();
        http.spawn_after(
            &head_start,
            "HTTP",
            serve_http(served, watches.clone(), status_provider.clone()),
        );
        http.spawn_after(&head_start, "status for MPS", {
            let paths = MpsPaths::new(&config.process.mps_dir);
            control_daemons::serve_status(
                paths,
                inventory_rx.clone(),
                watches.clone(),
                status_provider.clone(),
            )
        });

        // Where there is nobody to ask, nothing is to be waited for.
        #[allow(
            clippy::disallowed_methods,
            reason = "at the start, of a directory of the kubelet's"
        )]
        let has_pod_resources =
            config.process.pod_resources_socket.as_ref().is_some_and(|socket| socket.exists());
        let (knows_holders, knows_holders_rx) = watch::channel(!has_pod_resources);
        let rival_watch = RivalWatch {
            paths: paths.clone(),
            socket_events: socket_events.clone(),
            telemetry: plugins.telemetry(),
            clock,
            event_log: event_log.clone(),
            rivals,
        };
        let inventory_task = InventoryTask {
            observations,
            pings: pings.inventory,
            clears,
            writer: InventoryWriter {
                clock,
                inventory,
                quarantine_dir: quarantine_dir.clone(),
                holders: holders_rx.clone(),
                event_log,
                wants,
                poll_settings,
                cdi_settings,
                state,
            },
            reloader,
            reclaim: ReclaimController::new(
                clock,
                config.release_for_reset(),
                release.clone(),
                allocated,
                holders_rx,
                refresh.clone(),
            ),
            control_daemons: ControlDaemons::new(mps_watcher(&config, watches.clone())),
            knows_holders,
        };

        tasks.spawn("SIGUSR1", release_on(sigusr1, release.clone()));
        tasks.spawn("SIGUSR2", take_up_on(sigusr2, release.clone()));
        tasks.spawn("inventory", inventory_task.run());
        tasks.spawn_after(&head_start, "state file", {
            let (file, state, observe) = (state_file.clone(), state_rx.clone(), observe.clone());
            async move {
                let restore = async |PersistedState { health, known_gpus: gpus }| {
                    send(&observe, clock, InventoryEvent::Persisted { health, gpus }).await;
                };
                match file.run(state, restore).await {}
            }
        });
        tasks.spawn("CDI", {
            let (paths, watches) = (config.process.cdi_paths(), watches.clone());
            let inventory = inventory_rx.clone();
            let driver_changes = telemetry.changes().subscribe();
            let driver = move || {
                let state = telemetry.state();
                DriverState { is_up: state.up, version: state.versions.driver }
            };
            let observe = observe.clone();
            let publish = async move |names| {
                send(&observe, clock, InventoryEvent::Cdi(names)).await;
            };
            async move {
                let settings = cdi_settings_rx;
                let run =
                    cdi::run(paths, watches, settings, inventory, driver, driver_changes, publish);
                match run.await {}
            }
        });
        tasks.spawn("plugin directory", watch_sockets(paths, socket_events, watches.clone()));
        tasks.spawn_after(&head_start, "other plugins", rival_watch.run());
        tasks.spawn("pod resources", {
            let socket = config.process.pod_resources_socket;
            ask_pod_resources(asking, async move {
                let now = || clock.now();
                match pod_resources::run(socket.as_deref(), &refresh, now, &holders).await {}
            })
        });
        let state_dir = config.process.state_dir;
        tasks.spawn_after(&head_start, "release file", {
            let (file, watches) = (config.process.release_file, watches.clone());
            let release = release.clone();
            async move { match release_file::follow(file, watches, release).await {} }
        });
        let requests = ControlRequests { clearing: clearing.clone(), release };
        tasks.spawn_after(
            &head_start,
            "control socket",
            serve_control(state_dir, watches.clone(), requests),
        );
        tasks.spawn_after(&head_start, "quarantine directory", {
            let inventory = inventory_rx.clone();
            async move {
                let send = async |quarantine| {
                    let quarantine = NodeObservation::Quarantine(quarantine);
                    send(&observe, clock, InventoryEvent::Health(quarantine)).await;
                };
                let clear = async |file: &ClearFile| take_clear_file(&clearing, file).await;
                let (directory, watches) = (&quarantine_dir, &watches);
                match quarantine_dir::follow(directory, watches, inventory, send, clear).await {}
            }
        });
        let (inventory, state) = (inventory_rx, state_rx);
        let knows_holders = knows_holders_rx;
        Ok(Self {
            inventory,
            knows_holders,
            state,
            state_file,
            plugins,
            tasks,
            status_provider,
            http,
        })
    }

    /// Serves until `stop` returns or a task ends, and stops.
    async fn serve(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let result = tokio::select! {
            () = stop => Ok(()),
            error = self.tasks.ended() => Err(error),
            error = self.http.ended() => Err(error),
            error = self.plugins.run(self.inventory.clone(), self.knows_holders.clone()) => {
                Err(error)
            }
        };
        self.stop().await;
        result
    }

    /// Stops everything: first the tasks, so that nothing changes any more, then the streams and
    /// servers while the state file is written, and last HTTP, which says until then that the
    /// plugin is stopping. Nothing waits for NVML, which can hang.
    async fn stop(self) {
        self.status_provider.stopping.store(true, Relaxed);
        self.tasks.abort().await;
        let state = self.state.borrow().clone();
        tokio::join!(self.plugins.stop(), self.state_file.flush(state));
        self.http.abort().await;
    }
}

/// An inventory without GPUs, in which the health of before is restored.
fn empty_inventory(
    config: &Config,
    host: HostNodes,
    persisted: Option<PersistedState>,
    clock: Clock,
) -> Inventory {
    let epoch = nvml::epoch::read(&config.process.nvml.sysfs_root);
    let boot = epoch.boot.clone();
    let mut health = NodeHealth::new(config.policy(), epoch);
    // Without the time since the boot a fault is as old as this process.
    if let Some(origin) = boot_clock::since_boot().checked_sub(clock.now().0) {
        health = health.with_origin(origin);
    }
    if let Some(persisted) = &persisted {
        host_files::log_findings(&health.restore(clock.now(), &persisted.health));
    }
    let (layout, injector) = (config.layout.clone(), config.injector_on(host));
    let mut inventory = Inventory::new(layout, injector, health, config.allocation);
    inventory.await_cdi();
    inventory.restore_gpus(&boot, persisted.unwrap_or_default().known_gpus);
    inventory
}

/// Looks at MPS control daemons with the driver's own program, or the one on the path.
fn mps_watcher(config: &Config, watches: Watches) -> MpsWatcher {
    let programs = DriverPrograms::at(&config.process.nvml.driver_root);
    MpsWatcher { programs, paths: MpsPaths::new(&config.process.mps_dir), watches }
}

async fn serve_http(
    served: http::Served,
    watches: Watches,
    views: Arc<StatusProvider>,
) -> anyhow::Error {
    match http::serve(served, &watches, views).await {}
}

async fn watch_sockets(
    paths: PluginPaths,
    events: SocketEvents,
    watches: Watches,
) -> anyhow::Error {
    let Err(error) = socket_events::watch(&paths.directory, &events, &watches).await;
    error.into()
}

/// Asks the kubelet what pods hold on a thread of its own, where a long answer delays nothing.
async fn ask_pod_resources(
    mut runtime: KubeletRuntime,
    ask: impl Future<Output = Infallible> + Send + 'static,
) -> anyhow::Error {
    let asking = runtime.handle().spawn(ask);
    tokio::select! {
        Err(panicked) = asking => anyhow!(panicked),
        error = runtime.ended() => error,
    }
}

/// Sends what the host says to the inventory.
async fn send(
    observe: &mpsc::Sender<Vec<TimedObservation>>,
    clock: Clock,
    observation: InventoryEvent,
) {
    // The receiver is gone only while the daemon stops.
    let _ = observe.send(vec![TimedObservation { at: clock.now(), observation }]).await;
}

/// Takes a file that clears, unless it is to be tried again later. Returns whether it did.
async fn take_clear_file(clearing: &Clearing, file: &ClearFile) -> bool {
    match clearing.clear(file.gpu.clone(), file.cause.clone()).await {
        Ok(_) => true,
        Err(NotClearable::NotYet | NotClearable::Late) => false,
        Err(NotClearable::Refused(reason)) => {
            warn!(gpu = file.gpu, reason, "a file that clears a GPU has no effect");
            true
        }
    }
}

async fn serve_control(
    state_dir: Option<PathBuf>,
    watches: Watches,
    requests: ControlRequests,
) -> anyhow::Error {
    let handle = async move |request| requests.handle(request).await;
    match control::serve(state_dir.as_deref(), &watches, handle).await {}
}
