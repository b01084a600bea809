//! The resources that are served, a task each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::device::inventory::Inventory;
use crate::device::names::ResourceName;
use crate::plugin::allocations::Allocations;
use crate::plugin::directory::Changes;
use crate::plugin::socket::Places;
use crate::plugin::{self, PluginError};

/// How long the resources get to end their streams and servers.
const STOPPING_GRACE: Duration = Duration::from_millis(1500);

/// The resources that are served, a task each.
pub(super) struct Plugins {
    places: Places,
    changes: Changes,
    allocations: Allocations,
    stopping: watch::Sender<bool>,
    pub(super) running: JoinSet<Result<(), PluginError>>,
    known: Vec<ResourceName>,
    started: Instant,
    /// Where their tasks run.
    serving: Handle,
}

impl Plugins {
    /// None yet.
    pub(super) fn new(
        places: Places,
        changes: Changes,
        allocations: Allocations,
        started: Instant,
        serving: Handle,
    ) -> Self {
        let (stopping, _) = watch::channel(false);
        Self { places, changes, allocations, stopping, running: JoinSet::new(), known: Vec::new(), started, serving }
    }

    /// Starts a task for each resource that has none.
    pub(super) fn serve_all(&mut self, publish: &watch::Sender<Arc<Inventory>>) {
        let inventory = publish.borrow().clone();
        for resource in
            inventory.resources().filter(|resource| !self.known.contains(resource)).cloned().collect::<Vec<_>>()
        {
            self.known.push(resource.clone());
            let task = plugin::run(
                resource,
                self.places.clone(),
                publish.subscribe(),
                self.changes.clone(),
                self.allocations.clone(),
                self.started,
                self.stopping.subscribe(),
            );
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
