//! A device plugin for each resource, on a task of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use device::inventory::Inventory;
use device::names::ResourceName;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::warn;

use super::kubelet_runtime::KubeletRuntime;
use super::liveness::{self, Ping};
use crate::host::identity;
use crate::kubelet::device_plugin::allocated::{OutcomePublisher, OutcomeSender};
use crate::kubelet::device_plugin::calls::CallDurations;
use crate::kubelet::device_plugin::socket::PluginPaths;
use crate::kubelet::device_plugin::socket_events::SocketEvents;
use crate::kubelet::device_plugin::telemetry::PluginTelemetry;
use crate::kubelet::device_plugin::{self, PluginError};
use crate::util::change_signal::ChangeSignal;

/// How long the plugins get to end their streams and servers.
const STOP_DEADLINE: Duration = Duration::from_millis(1500);

/// The plugins that run.
pub(super) struct Plugins {
    runtime: KubeletRuntime,
    paths: PluginPaths,
    socket_events: SocketEvents,
    outcomes: OutcomeSender,
    started: Instant,
    stopping: watch::Sender<bool>,
    running: JoinSet<Result<(), PluginError>>,
    telemetry: TelemetryByResource,
    calls: CallDurations,
    changes: ChangeSignal,
}

/// How long the first list waits for what pods hold.
const HOLDERS_DEADLINE: Duration = Duration::from_secs(2);

impl Plugins {
    /// None yet. Their thread answers `pings`, and logs what comes of Allocate calls. `changes` is
    /// told how each stands with the kubelet.
    ///
    /// # Errors
    /// The thread that they run on cannot be started.
    pub(super) fn new(
        paths: PluginPaths,
        socket_events: SocketEvents,
        (outcomes, publisher): (OutcomeSender, OutcomePublisher),
        pings: mpsc::Receiver<Ping>,
        started: Instant,
        changes: ChangeSignal,
    ) -> anyhow::Result<Self> {
        // A file, which the kubelet's thread never waits for.
        let _ = identity::of_process();
        let runtime = KubeletRuntime::start("kubelet").context("serving the kubelet")?;
        let stopping = watch::Sender::new(false);
        runtime.handle().spawn(liveness::answer(pings));
        runtime.handle().spawn(publisher.run(stopping.subscribe()));
        Ok(Self {
            runtime,
            paths,
            socket_events,
            outcomes,
            started,
            stopping,
            running: JoinSet::new(),
            telemetry: TelemetryByResource::default(),
            calls: CallDurations::default(),
            changes,
        })
    }

    /// Runs a plugin for each resource of the inventory, until one fails. Nothing is lost when it
    /// is dropped before.
    ///
    /// It waits for a moment until the inventory `knows_holders`: a kubelet up to 1.36 can panic
    /// when a list is without an id that a pod holds (pkg/kubelet/cm/devicemanager/manager.go:923).
    pub(super) async fn run(
        &mut self,
        mut inventory: watch::Receiver<Arc<Inventory>>,
        mut knows_holders: watch::Receiver<bool>,
    ) -> anyhow::Error {
        let known = knows_holders.wait_for(|known| *known);
        let _ = tokio::time::timeout(HOLDERS_DEADLINE, known).await;
        loop {
            self.start_missing(&mut inventory);
            tokio::select! {
                Ok(()) = inventory.changed() => {}
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                    return plugin_ended(ended);
                }
                error = self.runtime.ended() => return error,
            }
        }
    }

    fn start_missing(&mut self, inventory: &mut watch::Receiver<Arc<Inventory>>) {
        let snapshot = inventory.borrow_and_update().clone();
        for resource in snapshot.resources() {
            // One whose devices are all new is not served before they can be in its list.
            if self.telemetry.has(resource) || !snapshot.lists(resource) {
                continue;
            }
            let (calls, outcomes) = (self.calls.clone(), Some(self.outcomes.clone()));
            let telemetry = PluginTelemetry::new(calls, outcomes, self.changes.clone());
            self.telemetry.add(resource, telemetry.clone());
            let plugin = device_plugin::run(
                resource.clone(),
                self.paths.clone(),
                inventory.clone(),
                self.socket_events.clone(),
                self.started,
                telemetry,
                self.stopping.subscribe(),
            );
            self.running.spawn_on(plugin, self.runtime.handle());
        }
    }

    /// The telemetry of each resource.
    pub(super) fn telemetry(&self) -> TelemetryByResource {
        self.telemetry.clone()
    }

    /// How long calls take.
    pub(super) fn calls(&self) -> CallDurations {
        self.calls.clone()
    }

    /// Ends the streams and servers and removes the sockets, within the deadline.
    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_DEADLINE, all).await.is_err() {
            warn!("a resource did not stop in time");
        }
    }
}

fn plugin_ended(ended: Result<Result<(), PluginError>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the task of a resource ended by itself"),
        Ok(Err(error)) => error.into(),
        Err(panicked) => anyhow!(panicked).context("the task of a resource panicked"),
    }
}

/// The telemetry of each resource that has a plugin. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct TelemetryByResource(Arc<Mutex<BTreeMap<ResourceName, PluginTelemetry>>>);

impl TelemetryByResource {
    /// All of it.
    pub(super) fn all(&self) -> BTreeMap<ResourceName, PluginTelemetry> {
        self.lock().clone()
    }

    fn has(&self, resource: &ResourceName) -> bool {
        self.lock().contains_key(resource)
    }

    fn add(&self, resource: &ResourceName, telemetry: PluginTelemetry) {
        self.lock().insert(resource.clone(), telemetry);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ResourceName, PluginTelemetry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
