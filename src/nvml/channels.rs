//! What the module receives and sends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use device::health::{Moment, NodeHealth};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use tokio::sync::{mpsc, watch};

use super::release::ReleaseRequests;
use super::settings::PollSettings;
use super::telemetry::NvmlTelemetry;

/// Capacity of the channel of observations, in batches. While it is full the supervisor waits, and
/// NVML drops the events that do not fit its own queue.
const OBSERVATIONS: usize = 256;

/// The channels between [`run`](super::run) and the rest of the daemon.
#[derive(Debug)]
pub struct NvmlChannels {
    /// Observations; those of one message are to be applied together.
    pub observations_tx: mpsc::Sender<Vec<TimedObservation>>,
    /// What health wants to be read.
    pub requests_rx: watch::Receiver<ReadRequests>,
    /// Requests to release NVML, and to take it up again.
    pub release: ReleaseRequests,
    /// Counters and the state of the session.
    pub telemetry: NvmlTelemetry,
    /// Receives updated settings.
    pub settings_rx: watch::Receiver<PollSettings>,
}

impl NvmlChannels {
    /// New channels, with the other ends of the first two.
    #[must_use]
    pub fn new(
        release: ReleaseRequests,
        settings_rx: watch::Receiver<PollSettings>,
    ) -> (Self, mpsc::Receiver<Vec<TimedObservation>>, watch::Sender<ReadRequests>) {
        let (observations_tx, observations_rx) = mpsc::channel(OBSERVATIONS);
        let (requests_tx, requests_rx) = watch::channel(ReadRequests::default());
        let telemetry = NvmlTelemetry::default();
        let channels = Self { observations_tx, requests_rx, release, telemetry, settings_rx };
        (channels, observations_rx, requests_tx)
    }
}

/// What health wants to be read beside the polls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadRequests {
    /// When to read which GPUs.
    pub readings: BTreeMap<Uuid, Moment>,
    /// GPUs that only a new initialisation of NVML can list.
    pub missing: BTreeSet<Uuid>,
    /// GPUs that a reset may have repaired.
    pub awaiting_reset: BTreeSet<Uuid>,
}

impl ReadRequests {
    /// What this health wants to be read.
    #[must_use]
    pub fn of(health: &NodeHealth) -> Self {
        let awaiting = health.gpus().iter().filter(|(_, gpu)| gpu.awaits_reset());
        Self {
            readings: health.next_readings(),
            missing: health.missing(),
            awaiting_reset: awaiting.map(|(uuid, _)| uuid.clone()).collect(),
        }
    }
}

/// An observation with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedObservation {
    /// When the event was received, or when the first call for the answer began.
    pub at: Moment,
    /// The observation.
    pub observation: InventoryEvent,
}

/// The clock of observations: the time since the daemon started.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that counts from this time on.
    #[must_use]
    pub fn from(origin: Instant) -> Self {
        Self(origin)
    }

    /// The time now.
    #[must_use]
    pub fn now(self) -> Moment {
        Moment(self.0.elapsed())
    }

    pub(super) fn instant(self, moment: Moment) -> Instant {
        self.0.checked_add(moment.0).unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }
}
