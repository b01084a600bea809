//! The only room that knows all others: discover, wire, supervise, stop.

mod plugins;
mod settings;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use tokio::sync::watch;

use crate::config::Config;
use crate::device::health::{Epoch, NodeHealth};
use crate::device::inventory::{Changes, Inventory};
use crate::device::names::ResourceName;
use crate::device::resource::Offers;
use crate::log;
use crate::nvml::{self, Clock, Seen};
use crate::plugin::directory::{self, Changes as DirectoryChanges};
use crate::plugin::socket;
use plugins::Plugins;

/// How many observations are taken in before the lists are sent: a storm becomes few lists.
const BATCH: usize = 64;

/// Serves the node's GPUs until `stop` comes back. `started` is when the process began.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the configuration, the plugin directory was
/// replaced under our mount, or a part ended that never should.
pub async fn run(config: Config, started: Instant, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let policy = settings::policy(&config);
    let clock = Clock::from(started);
    let edge = nvml::start(settings::hardware(&config, &policy), clock)?;
    let places = settings::places(&config)?;
    socket::remove_stale(&places.directory);
    let health = NodeHealth::new(policy, Epoch::default());
    let inventory = Inventory::new(Offers::whole_gpus(ResourceName::gpu()), health, settings::policies(&config));
    let (publish, _) = watch::channel(Arc::new(inventory));
    let changes = DirectoryChanges::default();
    let mut plugins = Plugins::new(places.clone(), changes.clone(), started);

    let result = tokio::select! {
        () = stop => Ok(()),
        ended = directory::watch(&places.directory, &changes) => {
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
