//! The only room that knows all others: discover, wire, supervise, stop.

mod findings;
mod holding;
mod mps;
mod operator;
mod outcomes;
mod plugins;
mod reload;
mod serving;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, anyhow};
use device::allocation::{Draft, Finished};
use device::health::{Moment, NodeHealth, NodeObservation, Remembered};
use device::in_use::holders::Holders;
use device::inventory::{Changes, Inventory, Observation};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::translate;
use crate::config::{Config, ConfigSource, LogFormat};
use crate::host::memory::Memory;
use crate::host::quarantine::{self, Doorkeeper};
use crate::host::watch::Watches;
use crate::kubelet::device_plugin::allocations::Allocations;
use crate::kubelet::device_plugin::directory::{self, Changes as DirectoryChanges};
use crate::kubelet::device_plugin::socket;
use crate::kubelet::pod_resources::{self, Bell};
use crate::nvml::{self, Clock, Habits, LetGo, Links, Seen, Wants};
use crate::observe::http;
use crate::observe::journal::Journal;
use crate::observe::log;
use holding::Holding;
use mps::ControlDaemons;
use operator::{Operator, Ping};
use outcomes::Outcomes;
use plugins::Plugins;
use reload::{Reloader, Wake};
use serving::Serving;

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
    let (clock, journal) = (Clock::from(started), Journal::default());
    let outcomes = Outcomes::new(clock, journal.clone());
    let mut reloader = Reloader::new(source, config.clone(), watches.clone(), outcomes.clone())?;
    let let_go = LetGo::default();
    let mut asked_to_let_go = signal(SignalKind::user_defined1()).context("waiting for SIGUSR1")?;
    let injector = translate::injector(&config, reloader.host()?);
    let policy = translate::policy(&config);
    let memory = Memory::open(config.process.state_dir.as_deref());
    let doorkeeper = Doorkeeper::new(config.process.quarantine_dir.as_deref());
    let places = translate::places(&config)?;
    socket::remove_stale(&places.directory);
    let hardware = translate::hardware(&config);
    let (accustom, habits) = watch::channel(translate::habits(&config, &policy));
    let mut health = NodeHealth::new(policy, nvml::epoch::read(&config.process.sysfs_root));
    if let Some(remembered) = memory.recall() {
        health.recall(clock.now(), &remembered).iter().for_each(|finding| warn!("{finding}"));
    }
    let (remember, remembered) = watch::channel(health.remember());
    let inventory =
        Inventory::new(translate::layout(&config), injector, health, translate::policies(&config));
    let (publish, _) = watch::channel(Arc::new(inventory));
    let changes = DirectoryChanges::default();
    let (links, observations, want) = Links::new(let_go.clone(), habits);
    let observe = links.observe.clone();
    let say = async |quarantine| {
        let observation = Observation::Health(NodeObservation::Quarantine(quarantine));
        let _ = observe.send(vec![Seen { at: clock.now(), observation }]).await;
    };
    let inventories = publish.subscribe();
    let (allocations, allocated) = Allocations::channel();
    let (holders, holders_now) = watch::channel(None);
    let bell = Arc::new(Bell::default());
    let release = translate::release_for_reset(&config);
    let mut holding =
        Holding::new(clock, release, let_go.clone(), allocated, holders_now, bell.clone());
    let pod_resources = config.process.pod_resources_socket.as_deref();
    let mut serving = Serving::start().context("serving the kubelet")?;
    let mut plugins = Plugins::new(
        places.clone(),
        changes.clone(),
        allocations,
        started,
        serving.handle().clone(),
    );
    let (pings, pinged) = operator::pings();
    let operator = Arc::new(Operator {
        inventory: publish.subscribe(),
        holders: holders.subscribe(),
        nvml: links.telemetry.clone(),
        let_go: let_go.clone(),
        bell: bell.clone(),
        plugins: plugins.telemetries(),
        calls: plugins.calls(),
        journal: journal.clone(),
        outcomes,
        clock,
        settings: operator::Settings::of(&config),
        pings,
        stopping: AtomicBool::new(false),
    });
    let mut http = JoinSet::new();
    if let Some(address) = operator::address(&config) {
        http.spawn(http::serve(address, operator.clone()));
    }
    let mut wiring = Wiring {
        journal,
        holders: holders.subscribe(),
        shows_table: config.process.log_format == LogFormat::Text,
        publish,
        want,
        remember,
        accustom,
        clock,
        doorkeeper: doorkeeper.clone(),
    };

    let result = tokio::select! {
        () = stop => Ok(()),
        ended = directory::watch(&places.directory, &changes, &watches) => {
            let Err(replaced) = ended;
            Err(replaced.into())
        }
        ended = nvml::attend(hardware, clock, links) => {
            let Err(error) = ended;
            Err(error.into())
        }
        ended = serving.ended() => Err(ended),
        never = quarantine::follow(&doorkeeper, &watches, inventories, say) => match never {},
        never = pod_resources::follow(pod_resources, &bell, || clock.now(), &holders) => match never {},
        never = memory.keep(remembered) => match never {},
        () = async { while asked_to_let_go.recv().await.is_some() { let_go.ask(); } } => {
            Err(anyhow!("no signal can come any more"))
        }
        Some(ended) = http.join_next(), if !http.is_empty() => {
            let Err(panicked) = ended;
            Err(anyhow!(panicked).context("the HTTP edge ended by itself"))
        }
        result = attend(observations, pinged, &mut wiring, &mut plugins, &mut reloader, &mut holding) => result,
    };
    operator.stopping.store(true, Relaxed);
    let remembered = wiring.remember.borrow().clone();
    tokio::join!(plugins.stop(), memory.settle(remembered));
    // The last to go: until then it says that the plugin is stopping.
    http.shutdown().await;
    result
}

/// Takes observations into the inventory, publishes it, and sees that every resource is served.
async fn attend(
    mut observations: mpsc::Receiver<Vec<Seen>>,
    mut pinged: mpsc::Receiver<Ping>,
    wiring: &mut Wiring,
    plugins: &mut Plugins,
    reloader: &mut Reloader,
    holding: &mut Holding,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    // Catalogues that take too long for this task, which the lists of devices wait for.
    let mut postponed = JoinSet::<Finished>::new();
    let mut daemons = ControlDaemons::default();
    loop {
        daemons.ask(&wiring.publish.borrow());
        tokio::select! {
            count = observations.recv_many(&mut batch, BATCH), if !observations.is_closed() => {
                if count > 0 {
                    let mut taken = wiring.take_in(batch.drain(..).flatten());
                    if taken.layout {
                        taken.postponed.extend(reloader.look_at_host(&wiring.publish));
                        holding.settle(&wiring.publish);
                    }
                    if taken.health {
                        holding.release(&wiring.publish.borrow());
                    }
                    finish_elsewhere(&mut postponed, taken.postponed);
                    plugins.serve_all(&wiring.publish);
                }
            }
            Some(ping) = pinged.recv() => drop(ping.send(())),
            Some(finished) = postponed.join_next(), if !postponed.is_empty() => {
                let finished = finished.context("a preferred allocation could not be prepared")?;
                wiring.publish.send_if_modified(|inventory| {
                    Arc::make_mut(inventory).finish(finished);
                    false
                });
            }
            () = holding.answered() => {
                holding.settle(&wiring.publish);
                holding.release(&wiring.publish.borrow());
            }
            answered = daemons.answered() => {
                let observation = Observation::MpsAnswers(answered?);
                let taken = wiring.take_in([Seen { at: wiring.clock.now(), observation }].into_iter());
                finish_elsewhere(&mut postponed, taken.postponed);
            }
            wake = reloader.next() => {
                let left = match wake {
                    Wake::Reload(loaded) => {
                        let left = reloader.apply(*loaded, wiring.clock.now(), &wiring.publish);
                        wiring.settle(reloader.running());
                        holding.release_for(translate::release_for_reset(reloader.running()));
                        left
                    }
                    Wake::Look => reloader.look_at_host(&wiring.publish),
                };
                finish_elsewhere(&mut postponed, left);
                holding.settle(&wiring.publish);
                plugins.serve_all(&wiring.publish);
            }
            Some(ended) = plugins.running.join_next(), if !plugins.running.is_empty() => {
                ended.context("the task of a resource panicked")??;
                return Err(anyhow!("the task of a resource ended by itself"));
            }
        }
    }
}

/// Has catalogues finished on threads that nobody waits for.
fn finish_elsewhere(postponed: &mut JoinSet<Finished>, drafts: Vec<Arc<Draft>>) {
    for draft in drafts {
        postponed.spawn_blocking(move || draft.finish());
    }
}

/// What an observation leaves to be done elsewhere.
struct Taken {
    /// Whether the layout changed by it.
    layout: bool,
    /// Whether the health of a GPU changed by it.
    health: bool,
    /// Catalogues to finish.
    postponed: Vec<Arc<Draft>>,
}

/// The inventory, and who has to hear of its changes.
struct Wiring {
    journal: Journal,
    holders: watch::Receiver<Option<Arc<Holders>>>,
    /// Whether the GPUs are still to be shown as a table: once, and not to a program.
    shows_table: bool,
    publish: watch::Sender<Arc<Inventory>>,
    want: watch::Sender<Wants>,
    remember: watch::Sender<Remembered>,
    accustom: watch::Sender<Habits>,
    clock: Clock,
    doorkeeper: Doorkeeper,
}

impl Wiring {
    /// The one place that takes observations into the inventory.
    ///
    /// The next inventory is made beside the one that is published, so that no reader waits
    /// meanwhile.
    fn take_in(&mut self, seen: impl Iterator<Item = Seen>) -> Taken {
        let mut next = self.publish.borrow().clone();
        let inventory = Arc::make_mut(&mut next);
        let taken = seen.map(|Seen { at, observation }| (at, inventory.apply(at, observation)));
        let mut taken: Vec<(Moment, Changes)> = taken.collect();
        if taken.iter().any(|(_, change)| !change.appeared.is_empty()) {
            // A GPU that is spoken against is never shown Healthy.
            let quarantine = NodeObservation::Quarantine(self.doorkeeper.says(inventory));
            let now = self.clock.now();
            taken.push((now, inventory.apply(now, Observation::Health(quarantine))));
        }
        self.publish.send_if_modified(|inventory| {
            *inventory = next.clone();
            taken.iter().any(|(_, change)| *change != Changes::default())
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
        Taken {
            layout: taken.iter().any(|(_, changes)| changes.layout),
            health: taken.iter().any(|(_, changes)| !changes.health.is_empty()),
            postponed: taken.into_iter().flat_map(|(_, changes)| changes.postponed).collect(),
        }
    }

    /// Tells those that follow the verdict.
    fn tell(&self, inventory: &Inventory) {
        let health = inventory.node_health();
        set(&self.want, Wants::of(health));
        set(&self.remember, health.remember());
    }

    /// Tells those that follow the configuration, when another one is in force.
    fn settle(&self, config: &Config) {
        let inventory = self.publish.borrow().clone();
        self.tell(&inventory);
        set(&self.accustom, translate::habits(config, inventory.node_health().policy()));
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
