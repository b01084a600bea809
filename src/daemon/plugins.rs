//! The resources that are served, a task each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::device::inventory::Inventory;
use crate::device::names::ResourceName;
use crate::mps;
use crate::plugin::directory::Changes;
use crate::plugin::socket::Places;
use crate::plugin::{self, PluginError};

/// How long the resources get to end their streams and servers.
const STOPPING_GRACE: Duration = Duration::from_millis(1500);

/// The resources that are served, a task each.
pub(super) struct Plugins {
    places: Places,
    changes: Changes,
    stopping: watch::Sender<bool>,
    pub(super) running: JoinSet<Result<(), PluginError>>,
    known: Vec<ResourceName>,
    started: Instant,
    /// Where their tasks run.
    serving: Handle,
}

impl Plugins {
    /// None yet.
    pub(super) fn new(places: Places, changes: Changes, started: Instant, serving: Handle) -> Self {
        let (stopping, _) = watch::channel(false);
        Self { places, changes, stopping, running: JoinSet::new(), known: Vec::new(), started, serving }
    }

    /// Starts a task for each resource that has none.
    pub(super) fn serve_all(&mut self, publish: &watch::Sender<Arc<Inventory>>) {
        let inventory = publish.borrow().clone();
        for resource in
            inventory.resources().filter(|resource| !self.known.contains(resource)).cloned().collect::<Vec<_>>()
        {
            self.known.push(resource.clone());
            let by_mps = is_by_mps(&inventory, &resource);
            let mut stopping = self.stopping.subscribe();
            let serving = plugin::run(
                resource.clone(),
                self.places.clone(),
                publish.subscribe(),
                self.changes.clone(),
                self.started,
                self.stopping.subscribe(),
            );
            let task = async move {
                if by_mps {
                    tokio::select! {
                        _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                        () = mps::ready(&resource) => {}
                    }
                }
                serving.await
            };
            self.running.spawn_on(task, &self.serving);
        }
    }

    /// Ends the streams and servers and removes the sockets, within the grace.
    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOPPING_GRACE, all).await.is_err() {
            warn!("a resource did not stop in time");
        }
    }
}

/// Whether clients of the resource need an MPS control daemon.
fn is_by_mps(inventory: &Inventory, resource: &ResourceName) -> bool {
    let mut devices = inventory.devices(resource).into_iter().flat_map(|devices| devices.keys());
    inventory.injector().mps_root.is_some() && devices.any(|id| id.replica_number().is_some())
}
