//! The kubelet edge: one resource from bind to unlink.
//!
//! [`run`] looks, asks [`lifecycle::State::next`] and does the step, again and again. Everything
//! that happens (a socket comes or goes, a stream opens or ends, time passes) only wakes it.

pub mod allocations;
pub mod count;
pub mod directory;
pub mod lifecycle;
pub mod notes;
pub mod server;
pub mod service;
pub mod socket;
pub mod telemetry;
pub mod wire;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use device::inventory::Inventory;
use device::names::ResourceName;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::util::error_chain::ErrorChain;
use crate::util::log_rate_limit::LogRateLimit;
use crate::util::random;
use directory::Changes;
use lifecycle::{Seen, State, Step, Why};
use server::Server;
use socket::{PluginPaths, SocketId};
use telemetry::Telemetry;
use wire::RegisterError;

/// From how many failures in a row on a failure is worth a warning: the first few are the kubelet
/// starting.
const WORTH_A_WARNING: u32 = 8;
/// A stream that has been open for this long counts as lasting.
const LASTING: Duration = Duration::from_secs(3);

/// Why a resource is no longer served.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The server ended by itself.
    #[error("the gRPC server of {resource} ended by itself: {why}")]
    ServerEnded {
        /// Its resource.
        resource: ResourceName,
        /// What it said.
        why: String,
    },
}

/// Serves one resource and keeps it registered, until `stop` changes or its sender is gone.
/// `started` is when the process began, from which the log counts.
///
/// # Errors
/// The server ended by itself, which it never should.
pub async fn run(
    resource: ResourceName,
    places: PluginPaths,
    inventory: watch::Receiver<Arc<Inventory>>,
    changes: Changes,
    started: std::time::Instant,
    telemetry: Telemetry,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PluginError> {
    let mut plugin = Plugin {
        resource,
        places,
        inventory,
        changed: changes.subscribe(),
        origin: started.into(),
        state: State::default(),
        server: None,
        no_stream_since: None,
        registrations: 0,
        telemetry,
        unreadable: LogRateLimit::new(),
    };
    let result = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        Err(error) = plugin.keep() => Err(error),
    };
    if let Some(server) = plugin.server.take() {
        server.stop().await;
    }
    result
}

struct Plugin {
    resource: ResourceName,
    places: PluginPaths,
    inventory: watch::Receiver<Arc<Inventory>>,
    changed: watch::Receiver<u64>,
    origin: Instant,
    state: State,
    server: Option<Server>,
    /// Since when no stream is open; `None` while one is.
    no_stream_since: Option<Duration>,
    registrations: u64,
    telemetry: Telemetry,
    /// For the line that a socket cannot be looked at.
    unreadable: LogRateLimit,
}

impl Plugin {
    async fn keep(&mut self) -> Result<Infallible, PluginError> {
        loop {
            // Before the look, so that what happens after it wakes the wait.
            self.changed.mark_unchanged();
            let seen = self.look();
            match self.state.next(&seen) {
                Step::Bind => self.bind(),
                Step::Register(kubelet) => self.register(kubelet).await?,
                Step::Restart(why) => self.restart(why).await,
                Step::Wait(until) => self.wait(until).await?,
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn look(&mut self) -> Seen {
        let own = self.server.as_ref().and_then(|server| self.identity(server.path()));
        let kubelet = self.places.kubelet.as_ref().and_then(|path| self.identity(path));
        let now = self.now();
        let streams = self.server.as_ref().map_or(0, |server| *server.streams().borrow());
        self.no_stream_since = if streams > 0 { None } else { self.no_stream_since.or(Some(now)) };
        let seen = Seen { now, own, kubelet, no_stream_since: self.no_stream_since };
        self.telemetry.looked(
            &self.state,
            &seen,
            self.server.as_ref().map(Server::endpoint),
            streams,
        );
        seen
    }

    /// What is at a path. A path that cannot be read counts as empty: the retry that follows says
    /// why.
    fn identity(&self, path: &std::path::Path) -> Option<SocketId> {
        SocketId::of(path).unwrap_or_else(|error| {
            if self.unreadable.allow() {
                warn!(resource = %self.resource, path = %path.display(), %error, "cannot look at a \
                    socket");
            }
            None
        })
    }

    fn bind(&mut self) {
        let state = std::mem::take(&mut self.state);
        match Server::start(
            &self.places.directory,
            &self.resource,
            self.inventory.clone(),
            &self.telemetry,
        ) {
            Ok(server) => {
                info!(resource = %self.resource, socket = %server.path().display(), "serving");
                self.state = state.bound(server.id());
                self.no_stream_since = Some(self.now());
                self.server = Some(server);
            }
            Err(error) => {
                self.telemetry.failed(&error);
                self.state = state.bind_failed(self.now(), random::fraction());
                if let State::Down { retry, .. } = &self.state
                    && retry.failures() == WORTH_A_WARNING
                {
                    let error = ErrorChain(&error);
                    warn!(
                        resource = %self.resource, %error,
                        "cannot bind a socket, trying on; is the plugin directory mounted and \
                            writable?"
                    );
                }
            }
        }
    }

    async fn register(&mut self, kubelet: SocketId) -> Result<(), PluginError> {
        let now = self.now();
        let (Some(path), Some(server)) = (self.places.kubelet.clone(), self.server.as_mut()) else {
            return Ok(());
        };
        let endpoint = server.endpoint().to_owned();
        let before = Instant::now();
        debug!(resource = %self.resource, %endpoint, uptime_ms = milliseconds(now), "registering");
        let call = wire::register(&path, &self.resource, &endpoint);
        tokio::pin!(call);
        let result = loop {
            tokio::select! {
                result = &mut call => break Some(result),
                why = server.ended() => {
                    return Err(PluginError::ServerEnded { resource: self.resource.clone(), why });
                }
                _ = self.changed.changed() => {
                    let same = |path, id| SocketId::of(path).is_ok_and(|there| there == Some(id));
                    if !same(server.path(), server.id()) || !same(&path, kubelet) {
                        break None;
                    }
                }
            }
        };
        self.telemetry.called(result.as_ref(), before.elapsed(), self.now(), &endpoint);
        let state = std::mem::take(&mut self.state);
        match result {
            Some(Ok(())) => {
                self.registrations += 1;
                info!(
                    resource = %self.resource, %endpoint, took_ms = milliseconds(before.elapsed()),
                    uptime_ms = milliseconds(self.now()), registration = self.registrations, "registered with the kubelet"
                );
                self.state = state.registered(kubelet);
                // The grace for the first stream begins with the kubelet's answer.
                self.no_stream_since = self.no_stream_since.map(|_| self.now());
            }
            Some(Err(error)) => {
                self.state = state.register_failed(kubelet, self.now(), random::fraction());
                self.report_failure(&error);
            }
            // One of the two sockets is not what it was: whatever the answer would be, it is void.
            None => self.state = state.register_failed(kubelet, self.now(), random::fraction()),
        }
        Ok(())
    }

    /// A kubelet that is starting refuses for a moment, so only what lasts is a warning, and each
    /// doubling of the count of failures says it once more.
    fn report_failure(&self, error: &RegisterError) {
        let State::Serving { retry, .. } = &self.state else { return };
        let failures = retry.failures();
        if failures >= WORTH_A_WARNING && failures.is_power_of_two() {
            warn!(resource = %self.resource, error = %ErrorChain(error), failures, "cannot \
                register, trying on");
        } else {
            debug!(resource = %self.resource, error = %ErrorChain(error), failures, "cannot \
                register, trying on");
        }
    }

    async fn restart(&mut self, why: Why) {
        info!(resource = %self.resource, why = %why, "starting the server anew");
        self.telemetry.restarts(self.now(), &why);
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.state = std::mem::take(&mut self.state).ended(why);
    }

    async fn wait(&mut self, until: Option<Duration>) -> Result<(), PluginError> {
        let Some(server) = self.server.as_mut() else {
            tokio::select! {
                _ = self.changed.changed() => {}
                () = sleep_until(self.origin, until) => {}
            }
            return Ok(());
        };
        let mut streams = server.streams();
        let open = *streams.borrow_and_update() > 0;
        if open != self.no_stream_since.is_none() {
            // A stream came or went since the look.
            return Ok(());
        }
        let settled = self.state.is_settled();
        tokio::select! {
            _ = self.changed.changed() => {}
            _ = streams.changed() => {}
            () = sleep_until(self.origin, until) => {}
            () = tokio::time::sleep(LASTING), if open && !settled => {
                self.state = std::mem::take(&mut self.state).settled();
            }
            why = server.ended() => return Err(PluginError::ServerEnded { resource: self.resource.clone(), why }),
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
