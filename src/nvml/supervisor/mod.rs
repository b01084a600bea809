//! Runs NVML, from the first attempt to open it on. The worker pool makes all calls; the supervisor
//! decides which one comes next.
//!
//! A session begins when NVML is initialised: the epoch, an enumeration and one reading of each GPU
//! are sent together, and then that there is no fault. It goes on with polls, readings that health
//! requests, and enumerations, until NVML fails, must be initialised again, or is to be released.
//!
//! ```text
//!            ┌───────────────── back-off ◀── cannot be opened, or lists no GPU
//!            ▼                                   ▲
//!   ────▶ opening ───────────────────────────────┤
//!            │ epoch, enumeration, readings,     │
//!            │ then: no fault                    │
//!            ▼                                   │
//!         serving ── NVML fails, GPU missing ────┤
//!            │                                   │
//!            └── release requested ──▶ released ─┘ after a pause, or at a second request
//! ```

mod enumerate;
mod enumeration;
mod open;
mod poll_timer;
mod read;
mod report;
mod schedule;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use device::health::{Moment, NodeFault, NodeObservation, NvmlError as CallError};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use super::channels::{NvmlChannels, ReadRequests, TimedObservation};
use super::clock::Clock;
use super::error::SupervisorError;
use super::events::EventSignal;
use super::handle::NvmlHandle;
use super::release::Release;
use super::retry_schedule::RetrySchedule;
use super::settings::{NvmlSettings, PollSettings};
use super::telemetry::NvmlTelemetry;
use super::worker_pool::WorkerPool;
use crate::util::backoff::Backoff;
use enumeration::Enumeration;

/// Maximum interval between two initialisations of NVML, in polls, while a GPU is missing. The
/// first interval is one poll.
const MAX_REINIT_INTERVAL: u32 = 6;

/// The end of an NVML session.
enum SessionEnd {
    /// NVML as a whole fails.
    Failed(CallError),
    /// NVML must be initialised again, to list other GPUs.
    Reinitialise,
    /// NVML is to be released.
    Release,
}

/// `Err`: NVML as a whole fails.
type CallResult<T> = Result<T, CallError>;

pub(super) struct Supervisor {
    settings: NvmlSettings,
    poll_settings: PollSettings,
    /// Receives updated settings.
    settings_rx: watch::Receiver<PollSettings>,
    observations_tx: mpsc::Sender<Vec<TimedObservation>>,
    requests_rx: watch::Receiver<ReadRequests>,
    release: Release,
    clock: Clock,
    worker_pool: WorkerPool,
    telemetry: NvmlTelemetry,
    handle: NvmlHandle,
    signals_tx: mpsc::Sender<EventSignal>,
    signals_rx: mpsc::Receiver<EventSignal>,
    /// Dropping it ends the event thread.
    event_thread: Option<std::sync::mpsc::Sender<()>>,
    /// Closed when NVML is shut down.
    shutdown: Option<oneshot::Receiver<Infallible>>,
    /// The number of the NVML session.
    session: u64,
    enumeration: Enumeration,
    /// Whether this session has not been enumerated yet.
    is_new_session: bool,
    /// The GPUs that were bound to the driver when NVML was initialised. NVML does not list those
    /// that are bound later.
    bound_gpus: BTreeSet<String>,
    /// When the last reading of each GPU began.
    last_readings: BTreeMap<Uuid, Moment>,
    /// GPUs that have no NVLink fabric, since the last enumeration.
    without_fabric: BTreeSet<Uuid>,
    reinit_schedule: RetrySchedule,
    enumeration_due: bool,
}

impl Supervisor {
    pub(super) fn new(
        settings: NvmlSettings,
        clock: Clock,
        channels: NvmlChannels,
    ) -> Result<Self, SupervisorError> {
        let NvmlChannels { observations_tx, requests_rx, release, telemetry, mut settings_rx } =
            channels;
        let (signals_tx, signals_rx) = mpsc::channel(2);
        let poll_settings = settings_rx.borrow_and_update().clone();
        Ok(Self {
            worker_pool: WorkerPool::new(poll_settings.deadline, telemetry.clone())?,
            reinit_schedule: reinit_schedule(&poll_settings),
            settings,
            poll_settings,
            settings_rx,
            observations_tx,
            requests_rx,
            release,
            clock,
            telemetry,
            handle: NvmlHandle::default(),
            signals_tx,
            signals_rx,
            event_thread: None,
            shutdown: None,
            session: 0,
            enumeration: Enumeration::default(),
            is_new_session: true,
            bound_gpus: BTreeSet::new(),
            last_readings: BTreeMap::new(),
            without_fabric: BTreeSet::new(),
            enumeration_due: false,
        })
    }

    /// Runs sessions until the future is dropped.
    pub(super) async fn run(mut self) -> Result<Infallible, SupervisorError> {
        let mut retry = !self.settings.fail_on_init_error;
        loop {
            self.open(retry).await?;
            // Once NVML was open, its absence is no reason to exit: the driver may be being
            // upgraded.
            retry = true;
            let end = match self.begin_session().await? {
                Ok(()) => {
                    self.release.set_possible(true);
                    let end = self.serve().await?;
                    self.release.set_possible(false);
                    end
                }
                Err(error) => SessionEnd::Failed(error),
            };
            self.end_session(end).await?;
        }
    }

    async fn end_session(&mut self, end: SessionEnd) -> Result<(), SupervisorError> {
        let release = matches!(end, SessionEnd::Release);
        if let SessionEnd::Failed(error) = end {
            self.telemetry.set_down();
            warn!(%error, "NVML is gone; serving from memory, every GPU Unhealthy, until it is \
                back");
            self.send_fault(self.clock.now(), Some(NodeFault::from_error(error))).await;
        }
        self.close().await?;
        if release {
            self.stay_released().await;
        }
        Ok(())
    }

    /// Adopts the latest settings; returns the previous ones.
    fn adopt_settings(&mut self) -> PollSettings {
        let settings = self.settings_rx.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.poll_settings, settings);
        self.worker_pool.set_deadline(self.poll_settings.deadline);
        if before.poll != self.poll_settings.poll {
            self.reinit_schedule = reinit_schedule(&self.poll_settings);
        }
        before
    }

    /// Sends what is wrong with NVML as a whole, or that nothing is.
    async fn send_fault(&self, at: Moment, fault: Option<NodeFault>) {
        let observation = InventoryEvent::Health(NodeObservation::Fault(fault));
        self.send(vec![TimedObservation { at, observation }]).await;
    }

    /// Sends observations. If nobody receives them, the daemon is stopping.
    async fn send(&self, batch: Vec<TimedObservation>) {
        if !batch.is_empty() {
            let _ = self.observations_tx.send(batch).await;
        }
    }
}

/// When NVML is initialised again while a GPU is missing.
fn reinit_schedule(settings: &PollSettings) -> RetrySchedule {
    let longest = settings.poll.saturating_mul(MAX_REINIT_INTERVAL);
    RetrySchedule::new(Backoff::new(settings.poll, longest))
}
