//! Looks at the MPS control daemons: a task for each resource that MPS shares, as long as it does.
//! And serves the status to their supervisor.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use device::inventory::Inventory;
use device::mps::MpsDaemon;
use device::names::ResourceName;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::status_provider::StatusProvider;
use crate::host::dir_watch::Watches;
use crate::mps::{MpsPaths, MpsWatcher};
use crate::observe::http;

/// How many reports can wait. A task that finds no room waits too.
const WAITING: usize = 16;

/// The tasks, one for each resource that MPS shares.
pub(super) struct ControlDaemons {
    watcher: MpsWatcher,
    tasks: JoinSet<()>,
    by_resource: BTreeMap<ResourceName, AbortHandle>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
}

type Report = (ResourceName, MpsDaemon);

impl ControlDaemons {
    /// None yet.
    pub(super) fn new(watcher: MpsWatcher) -> Self {
        let reports = mpsc::channel(WAITING);
        Self { watcher, tasks: JoinSet::new(), by_resource: BTreeMap::new(), reports }
    }

    /// Starts a task for every resource that MPS shares, and ends the others.
    pub(super) fn update(&mut self, inventory: &Inventory) {
        if inventory.injector().mps_root.is_none() && self.by_resource.is_empty() {
            return;
        }
        let shared: Vec<&ResourceName> = inventory.shared_by_mps().collect();
        self.by_resource.retain(|resource, task| {
            let wanted = shared.contains(&resource);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for resource in shared {
            if !self.by_resource.contains_key(resource) {
                let follow = self.watcher.clone().follow(resource.clone(), self.reports.0.clone());
                self.by_resource.insert(resource.clone(), self.tasks.spawn(follow));
            }
        }
    }

    /// Waits until something is known of one. Nothing is lost when it is dropped before.
    ///
    /// # Errors
    /// A task has panicked.
    pub(super) async fn changed(&mut self) -> anyhow::Result<Report> {
        loop {
            tokio::select! {
                Some((resource, daemon)) = self.reports.1.recv() => {
                    // What a task that has been ended told is not asked for any more.
                    if self.by_resource.contains_key(&resource) {
                        return Ok((resource, daemon));
                    }
                }
                Some(ended) = self.tasks.join_next() => match ended {
                    Err(error) if !error.is_cancelled() => {
                        return Err(error).context("looking at an MPS control daemon");
                    }
                    _ => {}
                },
                else => return std::future::pending().await,
            }
        }
    }
}

/// Serves the status in the MPS root too, which the plugin and the supervisor of the control
/// daemons have in common wherever they run: from when MPS shares something, or where a supervisor
/// runs, and for good, so that it hears also that nothing is shared any more.
pub(super) async fn serve_status(
    paths: MpsPaths,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    watches: Watches,
    views: Arc<StatusProvider>,
) -> anyhow::Error {
    #[allow(clippy::disallowed_methods, reason = "once, in a directory in memory")]
    let is_supervised = paths.ready().exists();
    let shares = |inventory: &Arc<Inventory>| inventory.injector().mps_root.is_some();
    if !is_supervised && inventory.wait_for(shares).await.is_err() {
        // The sender is gone only while the daemon stops.
        return std::future::pending().await;
    }
    let status_socket = Some(paths.status_socket());
    let served = http::Served { status_socket, ..http::Served::default() };
    match http::serve(served, &watches, views).await {}
}
