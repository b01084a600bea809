//! The only room that knows all others: discover, wire, supervise, stop.

mod findings;
mod plugins;
mod reload;
mod settings;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, ConfigSource};
use crate::device::allocation::{Draft, Finished};
use crate::device::health::{Epoch, NodeHealth};
use crate::device::inventory::{Changes, Inventory};
use crate::log;
use crate::nvml::{self, Clock, Seen};
use crate::plugin::directory::{self, Changes as DirectoryChanges};
use crate::plugin::socket;
use plugins::Plugins;
use reload::{Reloader, Wake};

/// How many observations are taken in before the lists are sent: a storm becomes few lists.
const BATCH: usize = 64;

/// Serves the node's GPUs until `stop` comes back, by `config` and what `source` has later. `started` is when the
/// process began.
///
/// # Errors
/// NVML cannot be opened at the start and that is an error by the configuration, the host lacks what the configuration
/// requires, the plugin directory was
/// replaced under our mount, or a part ended that never should.
pub async fn run(
    config: Config,
    source: ConfigSource,
    started: Instant,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut reloader = Reloader::new(source, config.clone())?;
    let injector = settings::injector(&config, reloader.host()?);
    let policy = settings::policy(&config);
    let clock = Clock::from(started);
    let edge = nvml::start(settings::hardware(&config, &policy), clock)?;
    let places = settings::places(&config)?;
    socket::remove_stale(&places.directory);
    let health = NodeHealth::new(policy, Epoch::default());
    let inventory = Inventory::new(settings::layout(&config), injector, health, settings::policies(&config));
    let (publish, _) = watch::channel(Arc::new(inventory));
    let changes = DirectoryChanges::default();
    let mut plugins = Plugins::new(places.clone(), changes.clone(), started);

    let result = tokio::select! {
        () = stop => Ok(()),
        ended = directory::watch(&places.directory, &changes) => {
            let Err(replaced) = ended;
            Err(replaced.into())
        }
        result = attend(edge, &publish, &mut plugins, &mut reloader) => result,
    };
    plugins.stop().await;
    result
}

/// Takes observations into the inventory, publishes it, and sees that every resource is served.
async fn attend(
    mut edge: nvml::Edge,
    publish: &watch::Sender<Arc<Inventory>>,
    plugins: &mut Plugins,
    reloader: &mut Reloader,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    // Catalogues that take too long for this task, which the lists of devices wait for.
    let mut postponed = JoinSet::<Finished>::new();
    loop {
        tokio::select! {
            count = edge.observations.recv_many(&mut batch, BATCH), if !edge.observations.is_closed() => {
                if count > 0 {
                    let mut taken = take_in(batch.drain(..), publish);
                    if taken.layout {
                        taken.postponed.extend(reloader.look_at_host(publish));
                    }
                    for draft in taken.postponed {
                        postponed.spawn_blocking(move || draft.finish());
                    }
                    plugins.serve_all(publish);
                }
            }
            Some(finished) = postponed.join_next(), if !postponed.is_empty() => {
                let finished = finished.context("a preferred allocation could not be prepared")?;
                publish.send_if_modified(|inventory| {
                    Arc::make_mut(inventory).finish(finished);
                    false
                });
            }
            wake = reloader.next() => {
                let left = match wake {
                    Wake::Reload(loaded) => reloader.apply(*loaded, publish),
                    Wake::Look => reloader.look_at_host(publish),
                };
                for draft in left {
                    postponed.spawn_blocking(move || draft.finish());
                }
                plugins.serve_all(publish);
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

/// What an observation leaves to be done elsewhere.
struct Taken {
    /// Whether the layout changed by it.
    layout: bool,
    /// Catalogues to finish.
    postponed: Vec<Arc<Draft>>,
}

/// The one place that takes observations into the inventory.
///
/// The next inventory is made beside the one that is published, so that no reader waits meanwhile.
fn take_in(seen: impl Iterator<Item = Seen>, publish: &watch::Sender<Arc<Inventory>>) -> Taken {
    let mut next = publish.borrow().clone();
    let inventory = Arc::make_mut(&mut next);
    let mut changes: Vec<Changes> = seen.map(|seen| inventory.apply(seen.at, seen.observation)).collect();
    publish.send_if_modified(|inventory| {
        *inventory = next.clone();
        changes.iter().any(|change| *change != Changes::default())
    });
    for changes in &changes {
        log::changes(changes, &next);
        findings::log(changes);
    }
    Taken {
        layout: changes.iter().any(|changes| changes.layout),
        postponed: changes.iter_mut().flat_map(|changes| std::mem::take(&mut changes.postponed)).collect(),
    }
}
