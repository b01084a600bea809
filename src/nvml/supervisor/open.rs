//! Opens, closes and releases NVML.

use std::time::Duration;

use device::health::{Moment, NodeFault, NodeObservation};
use device::inventory::InventoryEvent;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Supervisor;
use super::enumeration::Enumeration;
use crate::nvml::channels::TimedObservation;
use crate::nvml::error::SupervisorError;
use crate::nvml::handle::NotOpen;
use crate::nvml::library::NvmlOpenError;
use crate::util::backoff::Backoff;

/// The first and the longest pause between two attempts to open NVML. The longest is no longer than
/// the poll interval.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How long the shutdown of NVML may take beyond the deadline of a call: longer than a wait for
/// events.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

impl Supervisor {
    /// Opens NVML with at least one GPU. Without `retry` it fails at the first error; otherwise it
    /// tries again for ever, and logs each new reason once.
    pub(super) async fn open(&mut self, retry: bool) -> Result<(), SupervisorError> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE.min(self.poll_settings.poll));
        let mut logged = String::new();
        loop {
            let Some(reason) = self.try_open(retry).await? else { return Ok(()) };
            if logged != reason {
                let what =
                    if self.session > 0 { "NVML is not back yet" } else { "no GPUs to serve yet" };
                warn!(%reason, "{what}, will retry");
                logged = reason;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Why NVML is not open with at least one GPU; `None`: it is.
    async fn try_open(&mut self, retry: bool) -> Result<Option<String>, SupervisorError> {
        self.adopt_settings();
        let at = self.clock.now();
        let (shutdown_tx, shutdown) = oneshot::channel();
        self.shutdown = Some(shutdown);
        let (handle, settings) = (self.handle.clone(), self.settings.clone());
        match self.run_job(move || handle.open(&settings, shutdown_tx)).await? {
            Ok(0) => {
                self.telemetry.set_up(0);
                self.send_no_gpus(at).await;
                self.close().await?;
                Ok(Some("NVML is up and sees no GPU".to_owned()))
            }
            Ok(gpus) => {
                self.telemetry.set_up(gpus);
                Ok(None)
            }
            Err(NotOpen::Library(error)) if !retry => Err(SupervisorError::Open(error)),
            Err(error) => {
                self.telemetry.set_down();
                self.send_fault(at, Some(fault(&error))).await;
                Ok(Some(error.to_string()))
            }
        }
    }

    /// Sends that there are no GPUs any more, and that NVML works.
    async fn send_no_gpus(&mut self, at: Moment) {
        if self.session > 0 {
            self.session += 1;
            self.enumeration = Enumeration::default();
            let enumeration =
                InventoryEvent::Enumeration { session: self.session, entries: Vec::new() };
            let no_fault = InventoryEvent::Health(NodeObservation::Fault(None));
            let batch =
                [enumeration, no_fault].map(|observation| TimedObservation { at, observation });
            self.send(batch.into()).await;
        }
    }

    /// Shuts NVML down and waits until it is: it is initialised again only after every user has
    /// shut it down.
    pub(super) async fn close(&mut self) -> Result<(), SupervisorError> {
        self.event_thread = None;
        let handle = self.handle.clone();
        self.run_job(move || handle.close()).await?;
        let Some(shutdown) = self.shutdown.take() else { return Ok(()) };
        let timeout = self.poll_settings.deadline + SHUTDOWN_GRACE;
        if tokio::time::timeout(timeout, shutdown).await.is_err() {
            warn!("a call that does not return keeps NVML from being shut down, going on without");
        }
        Ok(())
    }

    /// Leaves NVML released, for a while or until it is requested again.
    pub(super) async fn stay_released(&mut self) {
        self.adopt_settings();
        let pause = self.poll_settings.release_for;
        info!(
            seconds = pause.as_secs(),
            "NVML is released, so that a GPU can be reset; serving from memory until it is taken \
             up again, by itself or at a second SIGUSR1"
        );
        self.telemetry.set_released(true);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.release.requested() => {}
        }
        self.telemetry.set_released(false);
        info!("taking up NVML again");
    }
}

/// What keeps NVML from being open, as health states it.
fn fault(error: &NotOpen) -> NodeFault {
    match error {
        NotOpen::Library(NvmlOpenError::NotFound { .. }) => NodeFault::LibraryNotFound,
        NotOpen::Library(NvmlOpenError::Init { error, .. }) | NotOpen::Count(error) => {
            NodeFault::from_error(error.clone())
        }
    }
}
