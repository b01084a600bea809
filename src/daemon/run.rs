//! The only room that knows all others: discover, wire, supervise, stop.

mod findings;
mod mps;
mod plugins;
mod reclaim;
mod reload;
mod reload_history;
mod serving;
mod status_provider;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, anyhow};
use device::health::{Moment, NodeHealth, NodeObservation, PersistedHealth};
use device::in_use::holders::Holders;
use device::inventory::{Inventory, InventoryChanges, InventoryEvent};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::translate;
use crate::config::{Config, ConfigSource, LogFormat};
use crate::host::dir_watch::Watches;
use crate::host::quarantine_dir::{self, QuarantineDir};
use crate::host::state_file::StateFile;
use crate::kubelet::device_plugin::allocation_events::AllocationEvents;
use crate::kubelet::device_plugin::socket;
use crate::kubelet::device_plugin::socket_events::{self, SocketEvents};
use crate::kubelet::pod_resources::{self, RefreshTrigger};
use crate::nvml::{self, Clock, Links, PollSettings, Release, Seen, Wants};
use crate::observe::event_log::EventLog;
use crate::observe::http;
use crate::observe::log;
use mps::ControlDaemons;
use plugins::Plugins;
use reclaim::ReclaimController;
use reload::{Reloader, Wake};
use reload_history::ReloadHistory;
use serving::Serving;
use status_provider::{Ping, StatusProvider};

/// How many observations are taken in before the lists are sent: a storm becomes few lists.
const BATCH: usize = 64;

/// Serves the node's GPUs until `stop` comes back, by `config` and what `source` has later.
/// `started` is when the process began.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the configuration, the host lacks
/// what the configuration requires, the plugin directory was replaced under our mount, or a part
/// ended that never should.
pub async fn run(
    config: Config,
    source: ConfigSource,
    started: Instant,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    // Before anything else: without them the signals would end the process.
    let watches = Watches::default();
    let (clock, journal) = (Clock::from(started), EventLog::default());
    let reload_history = ReloadHistory::new(clock, journal.clone());
    let mut reloader =
        Reloader::new(source, config.clone(), watches.clone(), reload_history.clone())?;
    let release = Release::default();
    let mut release_signal = signal(SignalKind::user_defined1()).context("waiting for SIGUSR1")?;
    let injector = translate::injector(&config, reloader.host()?);
    let policy = translate::policy(&config);
    let state_file = StateFile::open(config.process.state_dir.as_deref());
    let quarantine_dir = QuarantineDir::new(config.process.quarantine_dir.as_deref());
    let places = translate::places(&config)?;
    socket::remove_stale(&places.directory);
    let hardware = translate::hardware(&config);
    let (settings_tx, poll_settings) = watch::channel(translate::poll_settings(&config, &policy));
    let mut health = NodeHealth::new(policy, nvml::epoch::read(&config.process.sysfs_root));
    if let Some(remembered) = state_file.load() {
        health.restore(clock.now(), &remembered).iter().for_each(|finding| warn!("{finding}"));
    }
    let (remember, remembered) = watch::channel(health.persist());
    let inventory =
        Inventory::new(translate::layout(&config), injector, health, translate::policies(&config));
    let (publish, _) = watch::channel(Arc::new(inventory));
    let socket_events = SocketEvents::default();
    let (links, observations, want) = Links::new(release.clone(), poll_settings);
    let observe = links.observe.clone();
    let say = async |quarantine| {
        let observation = InventoryEvent::Health(NodeObservation::Quarantine(quarantine));
        let _ = observe.send(vec![Seen { at: clock.now(), observation }]).await;
    };
    let inventories = publish.subscribe();
    let (allocation_events, allocated) = AllocationEvents::channel();
    let (holders, holders_now) = watch::channel(None);
    let refresh = Arc::new(RefreshTrigger::default());
    let release_for = translate::release_for_reset(&config);
    let mut reclaim = ReclaimController::new(
        clock,
        release_for,
        release.clone(),
        allocated,
        holders_now,
        refresh.clone(),
    );
    let pod_resources = config.process.pod_resources_socket.as_deref();
    let mut serving = Serving::start().context("serving the kubelet")?;
    let mut plugins = Plugins::new(
        places.clone(),
        socket_events.clone(),
        allocation_events,
        started,
        serving.handle().clone(),
    );
    let (pings, pinged) = status_provider::pings();
    let status_provider = Arc::new(StatusProvider {
        inventory: publish.subscribe(),
        holders: holders.subscribe(),
        nvml: links.telemetry.clone(),
        release: release.clone(),
        refresh: refresh.clone(),
        plugins: plugins.telemetries(),
        calls: plugins.calls(),
        journal: journal.clone(),
        reload_history,
        clock,
        settings: status_provider::Settings::of(&config),
        pings,
        stopping: AtomicBool::new(false),
    });
    let mut http = JoinSet::new();
    if let Some(address) = status_provider::address(&config) {
        http.spawn(http::serve(address, status_provider.clone()));
    }
    let mut writer = InventoryWriter {
        journal,
        holders: holders.subscribe(),
        shows_table: config.process.log_format == LogFormat::Text,
        publish,
        want,
        remember,
        settings_tx,
        clock,
        quarantine_dir: quarantine_dir.clone(),
    };

    let result = tokio::select! {
        () = stop => Ok(()),
        ended = socket_events::watch(&places.directory, &socket_events, &watches) => {
            let Err(replaced) = ended;
            Err(replaced.into())
        }
        ended = nvml::run(hardware, clock, links) => {
            let Err(error) = ended;
            Err(error.into())
        }
        ended = serving.ended() => Err(ended),
        never = quarantine_dir::follow(&quarantine_dir, &watches, inventories, say) => match never {},
        never = pod_resources::run(pod_resources, &refresh, || clock.now(), &holders) => match never {},
        never = state_file.run(remembered) => match never {},
        () = async { while release_signal.recv().await.is_some() { release.ask(); } } => {
            Err(anyhow!("no signal can come any more"))
        }
        Some(ended) = http.join_next(), if !http.is_empty() => {
            let Err(panicked) = ended;
            Err(anyhow!(panicked).context("the HTTP edge ended by itself"))
        }
        result = attend(observations, pinged, &mut writer, &mut plugins, &mut reloader, &mut reclaim) => result,
    };
    status_provider.stopping.store(true, Relaxed);
    let remembered = writer.remember.borrow().clone();
    tokio::join!(plugins.stop(), state_file.flush(remembered));
    // The last to go: until then it says that the plugin is stopping.
    http.shutdown().await;
    result
}

/// Takes observations into the inventory, publishes it, and sees that every resource is served.
async fn attend(
    mut observations: mpsc::Receiver<Vec<Seen>>,
    mut pinged: mpsc::Receiver<Ping>,
    writer: &mut InventoryWriter,
    plugins: &mut Plugins,
    reloader: &mut Reloader,
    reclaim: &mut ReclaimController,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut daemons = ControlDaemons::default();
    loop {
        daemons.ask(&writer.publish.borrow());
        tokio::select! {
            count = observations.recv_many(&mut batch, BATCH), if !observations.is_closed() => {
                if count > 0 {
                    let taken = writer.apply_batch(batch.drain(..).flatten());
                    if taken.layout {
                        reloader.look_at_host(&writer.publish);
                        reclaim.settle(&writer.publish);
                    }
                    if taken.health {
                        reclaim.release(&writer.publish.borrow());
                    }
                    plugins.serve_all(&writer.publish);
                }
            }
            Some(ping) = pinged.recv() => drop(ping.send(())),
            () = reclaim.answered() => {
                reclaim.settle(&writer.publish);
                reclaim.release(&writer.publish.borrow());
            }
            answered = daemons.answered() => {
                let observation = InventoryEvent::MpsAnswers(answered?);
                let seen = Seen { at: writer.clock.now(), observation };
                writer.apply_batch([seen].into_iter());
            }
            wake = reloader.next() => {
                match wake {
                    Wake::Reload(loaded) => {
                        reloader.apply(*loaded, writer.clock.now(), &writer.publish);
                        writer.settle(reloader.running());
                        reclaim.release_for(translate::release_for_reset(reloader.running()));
                    }
                    Wake::Look => reloader.look_at_host(&writer.publish),
                }
                reclaim.settle(&writer.publish);
                plugins.serve_all(&writer.publish);
            }
            Some(ended) = plugins.running.join_next(), if !plugins.running.is_empty() => {
                ended.context("the task of a resource panicked")??;
                return Err(anyhow!("the task of a resource ended by itself"));
            }
        }
    }
}

/// What a batch of observations changed.
struct Applied {
    /// Whether the layout changed by it.
    layout: bool,
    /// Whether the health of a GPU changed by it.
    health: bool,
}

/// The inventory, and who has to hear of its changes.
struct InventoryWriter {
    journal: EventLog,
    holders: watch::Receiver<Option<Arc<Holders>>>,
    /// Whether the GPUs are still to be shown as a table: once, and not to a program.
    shows_table: bool,
    publish: watch::Sender<Arc<Inventory>>,
    want: watch::Sender<Wants>,
    remember: watch::Sender<PersistedHealth>,
    settings_tx: watch::Sender<PollSettings>,
    clock: Clock,
    quarantine_dir: QuarantineDir,
}

impl InventoryWriter {
    /// The one place that takes observations into the inventory.
    ///
    /// The next inventory is made beside the one that is published, so that no reader waits
    /// meanwhile.
    fn apply_batch(&mut self, seen: impl Iterator<Item = Seen>) -> Applied {
        let mut next = self.publish.borrow().clone();
        let inventory = Arc::make_mut(&mut next);
        let taken = seen.map(|Seen { at, observation }| (at, inventory.apply(at, observation)));
        let mut taken: Vec<(Moment, InventoryChanges)> = taken.collect();
        if taken.iter().any(|(_, change)| !change.new_gpus.is_empty()) {
            // A GPU that is spoken against is never shown Healthy.
            let quarantine = NodeObservation::Quarantine(self.quarantine_dir.entries(inventory));
            let now = self.clock.now();
            taken.push((now, inventory.apply(now, InventoryEvent::Health(quarantine))));
        }
        self.publish.send_if_modified(|inventory| {
            *inventory = next.clone();
            taken.iter().any(|(_, change)| *change != InventoryChanges::default())
        });
        let holders = self.holders.borrow().clone();
        for (at, changes) in &taken {
            log::changes(changes, &next, holders.as_deref());
            findings::log(changes);
            self.journal.take(*at, changes, &next);
        }
        if self.shows_table && !next.gpus().is_empty() {
            self.shows_table = false;
            info!(gpus = next.gpus().len(), "the GPUs of this node\n{}", log::table(&next));
        }
        self.tell(&next);
        Applied {
            layout: taken.iter().any(|(_, changes)| changes.layout),
            health: taken.iter().any(|(_, changes)| !changes.health.is_empty()),
        }
    }

    /// Tells those that follow the verdict.
    fn tell(&self, inventory: &Inventory) {
        let health = inventory.node_health();
        set(&self.want, Wants::of(health));
        set(&self.remember, health.persist());
    }

    /// Tells those that follow the configuration, when another one is in force.
    fn settle(&self, config: &Config) {
        let inventory = self.publish.borrow().clone();
        self.tell(&inventory);
        set(&self.settings_tx, translate::poll_settings(config, inventory.node_health().policy()));
    }
}

/// Sends a value if it is another one.
fn set<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let differs = *current != value;
        *current = value;
        differs
    });
}
