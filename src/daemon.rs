//! The only room that knows all others: discover, wire, supervise, stop.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::Config;
use crate::device::health::{Epoch, NodeHealth};
use crate::device::inventory::{Changes, Inventory};
use crate::device::names::ResourceName;
use crate::device::resource::Offers;
use crate::log;
use crate::nvml::{self, Clock, Seen};
use crate::plugin::directory::{self, Changes as DirectoryChanges};
use crate::plugin::socket::Places;
use crate::plugin::{self, PluginError, socket};

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
    for finding in &config.findings {
        warn!("{finding}");
    }
    let clock = Clock::from(started);
    let edge = nvml::start(config.nvml.clone(), clock)?;
    socket::remove_stale(&config.places.directory);
    let health = NodeHealth::new(config.policy.clone(), Epoch::default());
    let inventory = Inventory::new(Offers::whole_gpus(ResourceName::gpu()), health);
    let (publish, _) = watch::channel(Arc::new(inventory));
    let changes = DirectoryChanges::default();
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
        result = attend(edge, &publish, &mut plugins) => result,
    };
    plugins.stop().await;
    result
}

/// Takes observations into the inventory, publishes it, and sees that every resource is served.
async fn attend(
    mut edge: nvml::Edge,
    publish: &watch::Sender<Arc<Inventory>>,
    plugins: &mut Plugins,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            count = edge.observations.recv_many(&mut batch, BATCH), if !edge.observations.is_closed() => {
                if count > 0 {
                    take_in(batch.drain(..), publish);
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
fn take_in(seen: impl Iterator<Item = Seen>, publish: &watch::Sender<Arc<Inventory>>) {
    let mut changes = Vec::new();
    publish.send_if_modified(|inventory| {
        let inventory = Arc::make_mut(inventory);
        changes.extend(seen.map(|seen| inventory.apply(seen.at, seen.observation)));
        changes.iter().any(|change| *change != Changes::default())
    });
    let inventory = publish.borrow().clone();
    changes.iter().for_each(|changes| log::changes(changes, &inventory));
}

/// The resources that are served, a task each.
struct Plugins {
    places: Places,
    changes: DirectoryChanges,
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
