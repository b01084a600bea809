//! The only room that knows all others: discover, wire, supervise, stop.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::Config;
use crate::device::health::Policy;
use crate::device::inventory::{Change, Inventory, Observation};
use crate::device::names::{ResourceName, Uuid};
use crate::device::resource::Offers;
use crate::plugin::directory::{self, Changes};
use crate::plugin::{self, PluginError, socket};
use crate::{nvml, plugin::socket::Places};

/// How long the resources get to end their streams and servers.
const STOPPING_GRACE: Duration = Duration::from_millis(1500);
/// How many observations are taken in before the lists are sent: a storm becomes few lists.
const BATCH: usize = 64;

/// Serves the node's GPUs until `stop` comes back. `started` is when the process began.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the configuration, the plugin directory was
/// replaced under our mount, or a part ended that never should.
pub async fn run(config: Config, started: Instant, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    for word in &config.unknown_health_words {
        warn!(
            word,
            "DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS: neither a number of an Xid nor 'all', passed over"
        );
    }
    let edge = nvml::start(config.nvml.clone())?;
    socket::remove_stale(&config.places.directory);
    let inventory = Inventory::new(Offers::whole_gpus(ResourceName::gpu()), config.policy.clone());
    let (publish, _) = watch::channel(Arc::new(inventory));
    let changes = Changes::default();
    let (stopping, _) = watch::channel(false);
    let mut plugins = Plugins {
        places: config.places.clone(),
        changes: changes.clone(),
        stopping,
        running: JoinSet::new(),
        known: Vec::new(),
        started,
    };

    let result = tokio::select! {
        () = stop => Ok(()),
        ended = directory::watch(&config.places.directory, &changes) => {
            let Err(replaced) = ended;
            Err(replaced.into())
        }
        result = attend(edge, &publish, &mut plugins, &config.policy) => result,
    };
    plugins.stop().await;
    result
}

/// Takes observations into the inventory, publishes it, and sees that every resource is served.
async fn attend(
    mut edge: nvml::Edge,
    publish: &watch::Sender<Arc<Inventory>>,
    plugins: &mut Plugins,
    policy: &Policy,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            count = edge.observations.recv_many(&mut batch, BATCH), if !edge.observations.is_closed() => {
                if count > 0 {
                    take_in(&batch, publish, policy);
                    batch.clear();
                    plugins.serve_all(publish);
                }
            }
            ended = &mut edge.ended => {
                return Err(ended.map_or_else(|_| anyhow!("the thread nvml ended without a word"), Into::into));
            }
            Some(ended) = plugins.running.join_next(), if !plugins.running.is_empty() => {
                ended.context("the task of a resource panicked")??;
                return Err(anyhow!("the task of a resource ended by itself"));
            }
        }
    }
}

/// The one place that changes the inventory.
fn take_in(batch: &[Observation], publish: &watch::Sender<Arc<Inventory>>, policy: &Policy) {
    let mut changes = Vec::new();
    publish.send_if_modified(|inventory| {
        let mut next = (**inventory).clone();
        for observation in batch {
            log_passed_over(observation, policy);
            changes.extend(next.apply(observation));
        }
        let changed = next != **inventory;
        if changed {
            *inventory = Arc::new(next);
        }
        changed
    });
    log_changes(&changes, &publish.borrow());
}

fn log_passed_over(observation: &Observation, policy: &Policy) {
    if let Observation::Xid { gpu, xid, .. } = observation
        && !policy.is_fatal(*xid)
    {
        info!(gpu.uuid = %gpu, xid = xid.0, "an Xid that leaves the GPU Healthy");
    }
}

fn log_changes(changes: &[Change], inventory: &Inventory) {
    let mut said = BTreeMap::new();
    for change in changes {
        let (Change::Appeared(uuid) | Change::Health(uuid)) = change;
        let appeared: &mut bool = said.entry(uuid).or_default();
        *appeared |= matches!(change, Change::Appeared(_));
    }
    for (uuid, appeared) in said {
        log_gpu(uuid, appeared, inventory);
    }
}

fn log_gpu(uuid: &Uuid, appeared: bool, inventory: &Inventory) {
    let Some(gpu) = inventory.gpus().get(uuid) else { return };
    let index = gpu.index;
    let causes: Vec<String> = gpu.health.causes(None).map(ToString::to_string).collect();
    if appeared {
        let facts = gpu.facts.as_ref();
        let name = facts.and_then(|gpu| gpu.name.as_deref()).unwrap_or("unknown");
        let numa =
            facts.and_then(|gpu| gpu.numa_node).map_or_else(|| "none".to_owned(), |node| node.number().to_string());
        let bus = facts.and_then(|gpu| gpu.pci_bus_id).map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        info!(gpu.index = index, gpu.uuid = %uuid, model = name, pci = bus, numa, "GPU found");
    }
    match causes.is_empty() {
        false => warn!(gpu.index = index, gpu.uuid = %uuid, cause = causes.join("; "), "GPU is Unhealthy"),
        true if !appeared => info!(gpu.index = index, gpu.uuid = %uuid, "GPU is Healthy again"),
        true => {}
    }
}

/// The resources that are served, a task each.
struct Plugins {
    places: Places,
    changes: Changes,
    stopping: watch::Sender<bool>,
    running: JoinSet<Result<(), PluginError>>,
    known: Vec<ResourceName>,
    started: Instant,
}

impl Plugins {
    /// Starts a task for each resource that has none.
    fn serve_all(&mut self, publish: &watch::Sender<Arc<Inventory>>) {
        let inventory = publish.borrow().clone();
        for resource in
            inventory.resources().filter(|resource| !self.known.contains(resource)).cloned().collect::<Vec<_>>()
        {
            self.known.push(resource.clone());
            self.running.spawn(plugin::run(
                resource,
                self.places.clone(),
                publish.subscribe(),
                self.changes.clone(),
                self.started,
                self.stopping.subscribe(),
            ));
        }
    }

    /// Ends the streams and servers and removes the sockets, within the grace.
    async fn stop(mut self) {
        self.stopping.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOPPING_GRACE, all).await.is_err() {
            warn!("a resource did not stop in time");
        }
    }
}
