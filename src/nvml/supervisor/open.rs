//! NVML is opened, let go of, and kept away from.

use std::time::Duration;

use device::health::{Moment, NodeFault, NodeObservation};
use device::inventory::InventoryEvent;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Supervisor;
use super::enumeration::Enumeration;
use crate::nvml::handle::NotOpen;
use crate::nvml::library::NvmlOpenError;
use crate::nvml::{SupervisorError, TimedObservation};
use crate::util::backoff::Backoff;

/// The first pause between two tries to open NVML, and the longest unless polls are rarer still.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How long the last owner of NVML may take beyond the deadline of a call: longer than a wait for
/// events.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

impl Supervisor {
    /// Opens NVML with at least one GPU. Impatient, the first error is the answer; patient, it
    /// tries on, and says each new reason once.
    pub(super) async fn open(&mut self, patient: bool) -> Result<(), SupervisorError> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE.min(self.poll_settings.poll));
        let mut said = String::new();
        loop {
            self.adopt_settings();
            let at = self.clock.now();
            let (ending, ended) = oneshot::channel();
            self.ended = Some(ended);
            let (handle, settings) = (self.handle.clone(), self.settings.clone());
            let reason = match self.node(move || handle.open(&settings, ending)).await? {
                Ok(0) => {
                    self.telemetry.set_up(0);
                    self.empty(at).await;
                    self.close().await?;
                    "NVML is up and sees no GPU".to_owned()
                }
                Ok(gpus) => {
                    self.telemetry.set_up(gpus);
                    return Ok(());
                }
                Err(NotOpen::Library(error)) if !patient => {
                    return Err(SupervisorError::Open(error));
                }
                Err(error) => {
                    self.telemetry.set_down();
                    self.fault(at, Some(fault(&error))).await;
                    error.to_string()
                }
            };
            if said != reason {
                let what =
                    if self.session > 0 { "NVML is not back yet" } else { "no GPUs to serve yet" };
                warn!(%reason, "{what}, trying on");
                said = reason;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Tells that the GPUs of before are gone, with NVML as such in order.
    async fn empty(&mut self, at: Moment) {
        if self.session > 0 {
            self.session += 1;
            self.roll = Enumeration::default();
            let scan = Observation::Scan { session: self.session, found: Vec::new() };
            let fault = Observation::Health(NodeObservation::Fault(None));
            self.tell(vec![
                TimedObservation { at, observation: scan },
                TimedObservation { at, observation: fault },
            ])
            .await;
        }
    }

    /// Shuts NVML down and waits until it is: what is not shut down everywhere is not initialised
    /// anew.
    pub(super) async fn close(&mut self) -> Result<(), SupervisorError> {
        self.listening = None;
        let handle = self.handle.clone();
        self.node(move || handle.close()).await?;
        let Some(ended) = self.ended.take() else { return Ok(()) };
        let patience = self.poll_settings.deadline + SHUTDOWN_GRACE;
        if tokio::time::timeout(patience, ended).await.is_err() {
            warn!("a call that does not return keeps NVML from being shut down, going on without");
        }
        Ok(())
    }

    /// Keeps away from NVML for a while.
    pub(super) async fn stay_away(&mut self) {
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

/// What keeps NVML from being open, for the verdict.
fn fault(error: &NotOpen) -> NodeFault {
    match error {
        NotOpen::Library(NvmlOpenError::NotFound { .. }) => NodeFault::LibraryNotFound,
        NotOpen::Library(NvmlOpenError::Init { error, .. }) | NotOpen::Count(error) => {
            NodeFault::from_error(error.clone())
        }
    }
}
