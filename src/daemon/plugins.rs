//! The resources that are served, a task each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use device::inventory::Inventory;
use device::names::ResourceName;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::kubelet::device_plugin::allocation_events::AllocationEvents;
use crate::kubelet::device_plugin::calls::CallDurations;
use crate::kubelet::device_plugin::socket::PluginPaths;
use crate::kubelet::device_plugin::socket_events::SocketEvents;
use crate::kubelet::device_plugin::telemetry::PluginTelemetry;
use crate::kubelet::device_plugin::{self, PluginError};

/// How long the resources get to end their streams and servers.
const STOPPING_GRACE: Duration = Duration::from_millis(1500);

/// The resources that are served, a task each.
pub(super) struct Plugins {
    paths: PluginPaths,
    socket_events: SocketEvents,
    allocation_events: AllocationEvents,
    stopping: watch::Sender<bool>,
    pub(super) running: JoinSet<Result<(), PluginError>>,
    known: PluginTelemetries,
    calls: CallDurations,
    started: Instant,
    /// Where their tasks run.
    serving: Handle,
}

impl Plugins {
    /// None yet.
    pub(super) fn new(
        paths: PluginPaths,
        socket_events: SocketEvents,
        allocation_events: AllocationEvents,
        started: Instant,
        serving: Handle,
    ) -> Self {
        let (stopping, _) = watch::channel(false);
        let (known, calls) = (PluginTelemetries::default(), CallDurations::default());
        Self {
            paths,
            socket_events,
            allocation_events,
            stopping,
            running: JoinSet::new(),
            known,
            calls,
            started,
            serving,
        }
    }

    /// Starts a task for each resource that has none.
    pub(super) fn serve_all(&mut self, publish: &watch::Sender<Arc<Inventory>>) {
        let inventory = publish.borrow().clone();
        for resource in inventory
            .resources()
            .filter(|resource| self.known.of(resource).is_none())
            .cloned()
            .collect::<Vec<_>>()
        {
            let telemetry =
                PluginTelemetry::new(self.calls.clone(), self.allocation_events.clone());
            self.known.add(&resource, telemetry.clone());
            let task = device_plugin::run(
                resource,
                self.paths.clone(),
                publish.subscribe(),
                self.socket_events.clone(),
                self.started,
                telemetry,
                self.stopping.subscribe(),
            );
            self.running.spawn_on(task, &self.serving);
        }
    }

    /// What the resources tell of themselves.
    pub(super) fn telemetries(&self) -> PluginTelemetries {
        self.known.clone()
    }

    /// How long calls take.
    pub(super) fn calls(&self) -> CallDurations {
        self.calls.clone()
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

/// What the resources tell of themselves, by name. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct PluginTelemetries(Arc<Mutex<BTreeMap<ResourceName, PluginTelemetry>>>);

impl PluginTelemetries {
    /// All of them.
    pub(super) fn all(&self) -> BTreeMap<ResourceName, PluginTelemetry> {
        self.lock().clone()
    }

    fn of(&self, resource: &ResourceName) -> Option<PluginTelemetry> {
        self.lock().get(resource).cloned()
    }

    fn add(&self, resource: &ResourceName, telemetry: PluginTelemetry) {
        self.lock().insert(resource.clone(), telemetry);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ResourceName, PluginTelemetry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
