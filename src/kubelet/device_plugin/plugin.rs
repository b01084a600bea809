//! Serves one resource: observes, takes the next step of its life cycle, and repeats.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use device::inventory::Inventory;
use device::names::ResourceName;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Instrument, debug, error_span, info, warn};

use super::lifecycle::{Observed, PluginState, RestartReason, Stage, Step};
use super::registration::RegisterError;
use super::server::{PluginError, ServeError, Server};
use super::socket::PluginPaths;
use super::socket_events::SocketEvents;
use super::telemetry::PluginTelemetry;
use super::wire;
use crate::host::socket_id::SocketId;
use crate::util::error_chain::ErrorChain;
use crate::util::log_rate_limit::LogRateLimit;
use crate::util::random;

/// From how many failures in a row on a warning is due: the first few are a kubelet that starts.
const WARN_FROM: u32 = 8;
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
        no_stream_since: None,
        registrations: 0,
        telemetry,
        unreadable: LogRateLimit::new(),
    };
    let result = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        Err(error) = plugin.run() => Err(error),
    };
    if let Some(server) = plugin.server.take() {
        server.stop().await;
    }
    result
}

struct Plugin {
    resource: ResourceName,
    paths: PluginPaths,
    inventory: watch::Receiver<Arc<Inventory>>,
    socket_event: watch::Receiver<()>,
    origin: Instant,
    state: PluginState,
    server: Option<Server>,
    /// Since when no stream is open; `None` while one is.
    no_stream_since: Option<Duration>,
    registrations: u64,
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
                Step::Restart(reason) => self.restart(reason).await,
                Step::Wait(until) => self.wait(until).await?,
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn observe(&mut self) -> Observed {
        let own = self.server.as_ref().and_then(|server| self.socket_at(&server.path));
        let kubelet = self.paths.kubelet.as_ref().and_then(|path| self.socket_at(path));
        let now = self.now();
        let streams = self.server.as_ref().map_or(0, |server| *server.streams.borrow());
        self.no_stream_since = if streams > 0 { None } else { self.no_stream_since.or(Some(now)) };
        let observed = Observed { now, own, kubelet, no_stream_since: self.no_stream_since };
        let endpoint = self.server.as_ref().map(|server| server.endpoint.as_str());
        self.telemetry.update(&self.state, &observed, endpoint, streams);
        observed
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
                self.no_stream_since = Some(self.now());
                self.server = Some(server);
            }
            Err(error) => {
                self.state = self.state.bind_failed(self.now(), random::fraction());
                self.bind_failed(&error);
            }
        }
    }

    fn bind_failed(&self, error: &ServeError) {
        self.telemetry.failed(error);
        if let Stage::Down { retry } = self.state.stage
            && retry.failures() == WARN_FROM
        {
            warn!(
                resource = %self.resource, error = %ErrorChain(error),
                "cannot bind a socket, will retry; is the plugin directory mounted and writable?"
            );
        }
    }

    async fn register(&mut self, kubelet: SocketId) -> Result<(), PluginError> {
        let Some(server) = &self.server else { return Ok(()) };
        let endpoint = server.endpoint.clone();
        // At the level of errors, so that every line has its fields.
        let span = error_span!("register", resource = %self.resource, socket = endpoint);
        let register = async {
            let began = Instant::now();
            debug!(uptime_ms = milliseconds(self.now()), "registering");
            let result = self.call_register(kubelet, &endpoint).await?;
            let took = began.elapsed();
            self.telemetry.register_ended(result.as_ref(), took, self.now(), &endpoint);
            if let Some(Ok(())) = result {
                self.state = self.state.registered(kubelet);
                self.registered(took);
                return Ok(());
            }
            self.state = self.state.register_failed(kubelet, self.now(), random::fraction());
            if let Some(Err(error)) = result {
                self.register_failed(&error);
            }
            Ok(())
        };
        register.instrument(span).await
    }

    /// Calls Register. `None`: our socket or the kubelet's was replaced meanwhile, so that the
    /// answer would mean nothing.
    async fn call_register(
        &mut self,
        kubelet: SocketId,
        endpoint: &str,
    ) -> Result<Option<Result<(), RegisterError>>, PluginError> {
        let (Some(path), Some(server)) = (&self.paths.kubelet, &mut self.server) else {
            return Ok(None);
        };
        let call = wire::register(path, &self.resource, endpoint);
        tokio::pin!(call);
        let is_at = |path: &Path, id| SocketId::of(path).is_ok_and(|there| there == Some(id));
        loop {
            tokio::select! {
                result = &mut call => return Ok(Some(result)),
                error = server.ended() => return Err(error),
                _ = self.socket_event.changed() => {
                    if !is_at(&server.path, server.id) || !is_at(path, kubelet) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn registered(&mut self, took: Duration) {
        self.registrations += 1;
        info!(
            took_ms = milliseconds(took),
            uptime_ms = milliseconds(self.now()),
            registration = self.registrations,
            "registered with the kubelet"
        );
        // The grace for the first stream begins with the kubelet's answer.
        self.no_stream_since = self.no_stream_since.map(|_| self.now());
    }

    /// A kubelet that starts refuses for a moment, so only failures that last are a warning, once
    /// for each doubling of their number.
    fn register_failed(&self, error: &RegisterError) {
        let Stage::Serving { retry, .. } = self.state.stage else { return };
        let (error, failures) = (ErrorChain(error), retry.failures());
        if failures >= WARN_FROM && failures.is_power_of_two() {
            warn!(%error, failures, "cannot register, will retry");
        } else {
            debug!(%error, failures, "cannot register, will retry");
        }
    }

    async fn restart(&mut self, reason: RestartReason) {
        info!(resource = %self.resource, %reason, "restarting the server");
        self.telemetry.restarting(self.now(), &reason);
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
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
        let mut streams = server.streams.subscribe();
        let open = *streams.borrow_and_update() > 0;
        if open != self.no_stream_since.is_none() {
            // A stream opened or ended since the observation.
            return Ok(());
        }
        let stable = self.state.is_stable();
        tokio::select! {
            _ = self.socket_event.changed() => {}
            _ = streams.changed() => {}
            () = sleep_until(self.origin, until) => {}
            () = tokio::time::sleep(LASTING), if open && !stable => {
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
