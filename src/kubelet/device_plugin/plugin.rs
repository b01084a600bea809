//! Serves one resource: observes, takes the next step of its life cycle, and repeats.

mod register;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use device::inventory::Inventory;
use device::names::ResourceName;
use status::error_chain::ErrorChain;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::connections::StreamLevel;
use super::lifecycle::{KubeletStream, Observed, OwnSocket, PluginState, RestartReason, Step};
use super::registration::{Failures, absent, patience_with_absence, with_advice};
use super::server::{PluginError, ServeError, Server};
use super::socket::PluginPaths;
use super::socket_events::{SocketEvent, SocketEvents};
use super::telemetry::PluginTelemetry;
use crate::host::socket_id::SocketId;
use crate::util::log_rate_limit::LogRateLimit;
use crate::util::random;

/// How long binding may fail before that is a warning: the directory can come late.
const BIND_PATIENCE: Duration = Duration::from_secs(1);
/// A stream that has been open for this long counts as lasting.
const LASTING: Duration = Duration::from_secs(3);

/// Serves one resource and keeps it registered, until `stop` becomes true or its sender is gone.
/// `started` is when the process began, from which the log counts.
///
/// # Errors
/// The server ended by itself, which it never should.
pub async fn run(
    resource: ResourceName,
    paths: PluginPaths,
    inventory: watch::Receiver<Arc<Inventory>>,
    socket_events: SocketEvents,
    started: std::time::Instant,
    telemetry: PluginTelemetry,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PluginError> {
    let mut plugin = Plugin {
        resource,
        paths,
        inventory,
        socket_event: socket_events.subscribe(),
        origin: started.into(),
        state: PluginState::default(),
        server: None,
        own_gone_since: None,
        stream_ended: None,
        seen: (StreamLevel::Never, 0),
        registrations: 0,
        bind_failures: Failures::default(),
        register_failures: Failures::default(),
        absence: None,
        absences: Failures::default(),
        telemetry,
        unreadable: LogRateLimit::new(),
    };
    let result = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        Err(error) = plugin.run() => Err(error),
    };
    // Also one that is being restarted.
    if let Some(server) = &mut plugin.server {
        server.stop(false).await;
    }
    result
}

struct Plugin {
    resource: ResourceName,
    paths: PluginPaths,
    inventory: watch::Receiver<Arc<Inventory>>,
    socket_event: watch::Receiver<SocketEvent>,
    origin: Instant,
    state: PluginState,
    server: Option<Server>,
    /// Since when our socket is not at its path.
    own_gone_since: Option<Duration>,
    /// When the kubelet's stream was seen to have ended.
    stream_ended: Option<Duration>,
    /// The kubelet's stream and the number of all streams, as last observed.
    seen: (StreamLevel, usize),
    registrations: u64,
    bind_failures: Failures,
    register_failures: Failures,
    /// Why the kubelet's socket is not seen, where it should be.
    absence: Option<String>,
    /// For the line that it is not.
    absences: Failures,
    telemetry: PluginTelemetry,
    /// For the line that a socket cannot be read.
    unreadable: LogRateLimit,
}

impl Plugin {
    async fn run(&mut self) -> Result<Infallible, PluginError> {
        loop {
            // Before observing, so that what happens afterwards ends the wait.
            self.socket_event.mark_unchanged();
            let observed = self.observe();
            match self.state.next(&observed) {
                Step::Bind => self.bind(),
                Step::Register(kubelet) => self.register(kubelet).await?,
                Step::Adopt => self.adopt(),
                Step::Restart(reason) => self.restart(reason).await,
                Step::Wait(until) => self.wait(until).await?,
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn observe(&mut self) -> Observed {
        let now = self.now();
        let own = match self.server.as_ref().and_then(|server| self.socket_at(&server.path)) {
            Some(there) => {
                self.own_gone_since = None;
                OwnSocket::There(there)
            }
            None => OwnSocket::Gone { since: *self.own_gone_since.get_or_insert(now) },
        };
        let kubelet = self.kubelet_socket(now);
        self.seen = self.server.as_ref().map_or((StreamLevel::Never, 0), |server| {
            (server.connections.levels().borrow().stream, *server.streams.borrow())
        });
        let (level, streams) = self.seen;
        let stream = match level {
            StreamLevel::Never => KubeletStream::Never,
            StreamLevel::Open => KubeletStream::Open,
            StreamLevel::Ended => {
                KubeletStream::Ended { since: *self.stream_ended.get_or_insert(now) }
            }
        };
        if level != StreamLevel::Ended {
            self.stream_ended = None;
        }
        let observed = Observed { now, own, kubelet, stream };
        let endpoint = self.server.as_ref().map(|server| server.endpoint.as_str());
        let absence = self.absence.as_deref();
        self.telemetry.update(&self.state, &observed, absence, endpoint, streams);
        observed
    }

    /// The kubelet's socket. That it is not there, or not to be seen, is a warning at once, and
    /// then less and less often.
    fn kubelet_socket(&mut self, now: Duration) -> Option<SocketId> {
        let path = self.paths.kubelet.as_ref()?;
        let absence = match SocketId::of(path) {
            Ok(Some(there)) => {
                (self.absence, self.absences) = (None, Failures::default());
                return Some(there);
            }
            Ok(None) => absent(path),
            Err(error) => {
                format!("the kubelet's socket {}: {}", path.display(), with_advice(&error))
            }
        };
        if self.absences.failed(now, patience_with_absence(self.registrations > 0)) {
            warn!(resource = %self.resource, "cannot register, will retry: {absence}");
        }
        self.absence = Some(absence);
        None
    }

    /// The socket at a path. A path that cannot be read counts as empty: the retry that follows
    /// logs why.
    fn socket_at(&self, path: &Path) -> Option<SocketId> {
        SocketId::of(path).unwrap_or_else(|error| {
            if self.unreadable.allow() {
                let (resource, path) = (&self.resource, path.display());
                warn!(%resource, %path, %error, "cannot read the state of a socket");
            }
            None
        })
    }

    fn bind(&mut self) {
        let (directory, inventory) = (&self.paths.directory, self.inventory.clone());
        match Server::start(directory, &self.resource, inventory, &self.telemetry) {
            Ok(server) => {
                info!(resource = %self.resource, socket = %server.path.display(), "serving");
                self.state = self.state.bound(server.id);
                self.bind_failures = Failures::default();
                self.server = Some(server);
            }
            Err(error) => {
                self.state = self.state.bind_failed(self.now(), random::fraction());
                self.bind_failed(&error);
            }
        }
    }

    fn bind_failed(&mut self, error: &ServeError) {
        self.telemetry.failed(error);
        if self.bind_failures.failed(self.now(), BIND_PATIENCE) {
            warn!(
                resource = %self.resource, error = %ErrorChain(error),
                "cannot bind a socket, will retry; {}", error.advice()
            );
        }
    }

    async fn restart(&mut self, reason: RestartReason) {
        info!(resource = %self.resource, %reason, "restarting the server");
        self.telemetry.restarting(self.now(), &reason);
        if let Some(server) = &mut self.server {
            server.stop(reason == RestartReason::KubeletRestarted).await;
        }
        self.server = None;
        (self.own_gone_since, self.stream_ended) = (None, None);
        self.state = self.state.ended(reason);
    }

    /// Waits for any event, or until a time.
    async fn wait(&mut self, until: Option<Duration>) -> Result<(), PluginError> {
        let Some(server) = self.server.as_mut() else {
            tokio::select! {
                _ = self.socket_event.changed() => {}
                () = sleep_until(self.origin, until) => {}
            }
            return Ok(());
        };
        let (level, count) = self.seen;
        let (mut levels, mut streams) = (server.connections.levels(), server.streams.subscribe());
        let lasts = level == StreamLevel::Open && !self.state.is_stable();
        tokio::select! {
            _ = self.socket_event.changed() => {}
            _ = levels.wait_for(|levels| levels.stream != level) => {}
            _ = streams.wait_for(|streams| *streams != count) => {}
            () = sleep_until(self.origin, until) => {}
            () = tokio::time::sleep(LASTING), if lasts => {
                self.state = self.state.stream_lasted();
            }
            error = server.ended() => return Err(error),
        }
        Ok(())
    }
}

/// For the log: milliseconds with three decimals.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Sleeps until `time` after `origin`; for ever without a time.
async fn sleep_until(origin: Instant, time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep_until(origin + time).await,
        None => std::future::pending().await,
    }
}
