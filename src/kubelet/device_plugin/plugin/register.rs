//! The registration of a resource, and what comes of it.

use std::path::Path;
use std::time::Duration;

use status::error_chain::ErrorChain;
use tokio::time::Instant;
use tracing::{Instrument, debug, error_span, info, warn};

use super::{Plugin, milliseconds};
use crate::host::socket_id::SocketId;
use crate::kubelet::device_plugin::connections::StreamLevel;
use crate::kubelet::device_plugin::lifecycle::Stage;
use crate::kubelet::device_plugin::registration::{Failures, RegisterError};
use crate::kubelet::device_plugin::server::PluginError;
use crate::kubelet::device_plugin::wire;
use crate::util::random;

/// How long the kubelet gets to answer Register after it has opened its stream, which shows that it
/// accepted.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

impl Plugin {
    pub(super) async fn register(&mut self, kubelet: SocketId) -> Result<(), PluginError> {
        let Some(server) = &self.server else { return Ok(()) };
        let endpoint = server.endpoint.clone();
        // At the level of errors, so that every line has its fields.
        let span = error_span!("register", resource = %self.resource, socket = endpoint);
        let register = async {
            if let Stage::Serving { last_tried, .. } = self.state.stage
                && last_tried != Some(kubelet)
            {
                self.register_failures = Failures::default();
            }
            let began = Instant::now();
            debug!(uptime_ms = milliseconds(self.now()), "registering");
            let result = self.call_register(kubelet, &endpoint).await?;
            let took = began.elapsed();
            self.telemetry.register_ended(result.as_ref(), took, self.now(), &endpoint);
            let now = self.now();
            let unanswered = match &result {
                Some(Ok(())) => {
                    self.state = self.state.registered(kubelet, now);
                    self.registered(took);
                    return Ok(());
                }
                Some(Err(error)) => error.is_unanswered(),
                None => None,
            };
            self.state = match unanswered {
                Some(broke_off) => self.state.unanswered(kubelet, now, broke_off),
                None => self.state.register_failed(kubelet, now, random::fraction()),
            };
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
        let connections = server.connections.clone();
        connections.registering();
        let mut levels = connections.levels();
        let watches = async {
            let _ = levels.wait_for(|levels| levels.stream == StreamLevel::Open).await;
            tokio::time::sleep(ANSWER_GRACE).await;
        };
        let call = wire::register(path, &self.resource, endpoint);
        tokio::pin!(call, watches);
        let is_at = |path: &Path, id| SocketId::of(path).is_ok_and(|there| there == Some(id));
        let result = loop {
            tokio::select! {
                result = &mut call => break result,
                () = &mut watches => break Ok(()),
                error = server.ended() => return Err(error),
                _ = self.socket_event.changed() => {
                    if !is_at(&server.path, server.id) || !is_at(path, kubelet) {
                        return Ok(None);
                    }
                }
            }
        };
        if result.as_ref().err().and_then(RegisterError::is_unanswered).is_none() {
            connections.register_answered();
        }
        Ok(Some(result))
    }

    fn registered(&mut self, took: Duration) {
        self.registrations += 1;
        self.register_failures = Failures::default();
        info!(
            took_ms = milliseconds(took),
            uptime_ms = milliseconds(self.now()),
            registration = self.registrations,
            "registered with the kubelet"
        );
    }

    /// The kubelet has opened its stream, so the registration that it did not answer has succeeded.
    pub(super) fn adopt(&mut self) {
        let (Stage::Unanswered { kubelet, .. }, Some(server)) = (self.state.stage, &self.server)
        else {
            return;
        };
        self.registrations += 1;
        self.register_failures = Failures::default();
        server.connections.register_answered();
        info!(
            resource = %self.resource, socket = server.endpoint,
            registration = self.registrations,
            "registered with the kubelet: it watches, though it did not answer the registration"
        );
        let now = self.now();
        self.telemetry.adopted(now, &server.endpoint);
        self.state = self.state.registered(kubelet, now);
    }

    /// A kubelet that starts refuses for a moment, so only failures that last are a warning.
    fn register_failed(&mut self, error: &RegisterError) {
        let patience = error.patience(self.registrations > 0);
        let warn = self.register_failures.failed(self.now(), patience);
        let (error, failures) = (ErrorChain(error), self.register_failures.count);
        if warn {
            warn!(%error, failures, "cannot register, will retry");
        } else {
            debug!(%error, failures, "cannot register, will retry");
        }
    }
}
