//! The life of NVML, from the first try to open it: enumerate, watch, poll, open anew, let go. All
//! calls are done by the worker_pool; what is decided here is only which one comes next.
//!
//! ```text
//!            ┌───────────────── back-off ◀── cannot be opened, or lists no GPU
//!            ▼                                   ▲
//!   ────▶ opening ───────────────────────────────┤
//!            │ epoch, enumeration, polls,        │
//!            │ then: no fault                    │
//!            ▼                                   │
//!        attending ── driver gone, GPU awaited ──┤
//!            │                                   │
//!            └── asked to let go ──▶ away ───────┘ after a pause, or asked again
//! ```

mod enumeration;
mod open;
mod poll;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Instant;

use device::health::{Moment, NodeFault, NodeObservation, NvmlError as CallError};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::handle::{Listening, NvmlHandle};
use super::pace::{Polls, RetrySchedule};
use super::telemetry::NvmlTelemetry;
use super::worker_pool::WorkerPool;
use super::{
    EventSignal, NvmlChannels, NvmlSettings, PollSettings, ReadRequests, Release, SupervisorError,
    TimedObservation, epoch,
};
use crate::util::backoff::Backoff;
use crate::util::random;
use enumeration::Enumeration;
use poll::{missed, report_return};

/// A GPU that is awaited is looked for by a new initialisation after one poll interval at first, at
/// last after so many.
const RAREST_RENEWAL: u32 = 6;
/// Every so many polls the node is enumerated again without a reason: events and polls miss little.
const SCAN_EVERY: u32 = 3;
/// Why an NVML session was left.
enum Left {
    /// NVML itself fails.
    Gone(CallError),
    /// A GPU is awaited, which only a new initialisation can show.
    Renew,
    /// Somebody wants NVML to be let go.
    Release,
}

/// What came of a round of questions: `Err`, NVML itself fails.
type Asked<T> = Result<T, CallError>;

pub(super) struct Supervisor {
    settings: NvmlSettings,
    poll_settings: PollSettings,
    /// Receives updated settings.
    settings_rx: watch::Receiver<PollSettings>,
    observations_tx: mpsc::Sender<Vec<TimedObservation>>,
    requests_rx: watch::Receiver<ReadRequests>,
    release: Release,
    clock: super::Clock,
    worker_pool: WorkerPool,
    telemetry: NvmlTelemetry,
    handle: NvmlHandle,
    signals_tx: mpsc::Sender<EventSignal>,
    signals_rx: mpsc::Receiver<EventSignal>,
    /// Its end ends the thread that waits for events.
    listening: Option<std::sync::mpsc::Sender<()>>,
    /// Ends when NVML is shut down.
    ended: Option<oneshot::Receiver<Infallible>>,
    /// Which initialisation of NVML this is.
    session: u64,
    /// What the last enumeration found.
    roll: Enumeration,
    /// Whether this session has not been enumerated yet.
    is_fresh: bool,
    /// The GPUs that the driver had when NVML was initialised: those that come later NVML does not
    /// list.
    bound: BTreeSet<String>,
    /// When the asking of the last reading of each GPU began.
    read: BTreeMap<Uuid, Moment>,
    fabricless: BTreeSet<Uuid>,
    renewal: RetrySchedule,
    wants_scan: bool,
}

impl Supervisor {
    pub(super) fn new(
        settings: NvmlSettings,
        clock: super::Clock,
        channels: NvmlChannels,
    ) -> Result<Self, SupervisorError> {
        let (signals_tx, signals_rx) = mpsc::channel(2);
        let mut settings_rx = channels.settings_rx;
        let poll_settings = settings_rx.borrow_and_update().clone();
        Ok(Self {
            worker_pool: WorkerPool::new(poll_settings.deadline, channels.telemetry.clone())?,
            renewal: renewal(&poll_settings),
            telemetry: channels.telemetry,
            settings,
            poll_settings,
            settings_rx,
            observations_tx: channels.observations_tx,
            requests_rx: channels.requests_rx,
            release: channels.release,
            clock,
            handle: NvmlHandle::default(),
            signals_tx,
            signals_rx,
            listening: None,
            ended: None,
            session: 0,
            roll: Enumeration::default(),
            is_fresh: true,
            bound: BTreeSet::new(),
            read: BTreeMap::new(),
            fabricless: BTreeSet::new(),
            wants_scan: false,
        })
    }

    /// Attends to NVML for ever.
    pub(super) async fn run(mut self) -> Result<Infallible, SupervisorError> {
        let mut patient = !self.settings.fail_on_init_error;
        loop {
            self.open(patient).await?;
            // Once NVML was there, its absence is never an end: the driver is being upgraded,
            // perhaps.
            patient = true;
            let left = match self.begin().await? {
                Ok(()) => {
                    self.release.set_possible(true);
                    let left = self.stay().await?;
                    self.release.set_possible(false);
                    left
                }
                Err(error) => Left::Gone(error),
            };
            match left {
                Left::Gone(error) => {
                    self.telemetry.set_down();
                    warn!(%error, "NVML is gone; serving from memory, every GPU Unhealthy, until \
                        it is back");
                    self.fault(self.clock.now(), Some(NodeFault::from_error(error))).await;
                    self.close().await?;
                }
                Left::Renew => self.close().await?,
                Left::Release => {
                    self.close().await?;
                    self.stay_away().await;
                }
            }
        }
    }

    /// The first round of a session, told all at once: no list shows a GPU before it has been asked
    /// how it is.
    async fn begin(&mut self) -> Result<Asked<()>, SupervisorError> {
        let at = self.clock.now();
        self.session += 1;
        self.is_fresh = true;
        self.wants_scan = false;
        self.bound = epoch::bound_gpus(&self.settings.sysfs_root);
        let epoch = NodeObservation::Epoch(epoch::read(&self.settings.sysfs_root));
        let mut batch = vec![TimedObservation { at, observation: Observation::Health(epoch) }];
        self.adopt_settings();
        self.prepare_events().await?;
        if let Err(error) = self.scan(&mut batch).await? {
            return Ok(Err(error));
        }
        if let Err(error) =
            self.read(self.roll.gpus().into_values().collect(), true, &mut batch).await?
        {
            return Ok(Err(error));
        }
        batch.push(TimedObservation {
            at,
            observation: Observation::Health(NodeObservation::Fault(None)),
        });
        self.tell(batch).await;
        self.listen().await?;
        self.see_links().await?;
        Ok(Ok(()))
    }

    async fn prepare_events(&mut self) -> Result<(), SupervisorError> {
        let (handle, events) = (self.handle.clone(), self.poll_settings.events.clone());
        self.node(move || handle.prepare_events(&events)).await
    }

    /// Waits for the events that are prepared, and for those of before no longer.
    async fn listen(&mut self) -> Result<(), SupervisorError> {
        let to = Listening {
            observe: self.observations_tx.clone(),
            clock: self.clock,
            rhythm: self.poll_settings.poll,
            signals_tx: self.signals_tx.clone(),
        };
        let handle = self.handle.clone();
        self.listening = self.node(move || handle.listen(to)).await??;
        Ok(())
    }

    /// Adopts the latest settings; returns the previous ones.
    fn adopt_settings(&mut self) -> PollSettings {
        let settings = self.settings_rx.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.poll_settings, settings);
        self.worker_pool.allow(self.poll_settings.deadline);
        if before.poll != self.poll_settings.poll {
            self.renewal = renewal(&self.poll_settings);
        }
        before
    }

    /// Polls, and reads and enumerates when there is a reason.
    async fn stay(&mut self) -> Result<Left, SupervisorError> {
        let mut polls = Polls::every(self.poll_settings.poll);
        let mut next_poll = Instant::now() + polls.pause(random::fraction());
        let mut round: u32 = 0;
        loop {
            let due = self.next_due(next_poll);
            let mut before = None;
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                changed = self.requests_rx.changed() => {
                    if changed.is_err() {
                        // Nobody listens: the daemon is stopping.
                        std::future::pending::<()>().await;
                    }
                }
                changed = self.settings_rx.changed() => match changed {
                    Ok(()) => before = Some(self.adopt_settings()),
                    Err(_) => std::future::pending().await,
                },
                held_up = self.worker_pool.returned() => {
                    report_return(&held_up?);
                    self.wants_scan = true;
                    next_poll = Instant::now();
                }
                Some(signal) = self.signals_rx.recv() => match signal {
                    EventSignal::EnumerateNow => self.wants_scan = true,
                    EventSignal::Panicked(why) => return Err(SupervisorError::ThreadEnded("nvml-events", why)),
                },
                () = self.release.requested() => return Ok(Left::Release),
            }
            let other_poll =
                before.as_ref().is_some_and(|before| before.poll != self.poll_settings.poll);
            let other_events =
                before.is_some_and(|before| before.events != self.poll_settings.events);
            if other_poll {
                polls = Polls::every(self.poll_settings.poll);
                next_poll = next_poll.min(Instant::now() + polls.pause(random::fraction()));
            }
            if other_events {
                // The enumeration that follows registers the GPUs, and only then are the events of
                // before let go: one that comes between is heard twice rather than not at all.
                self.prepare_events().await?;
                self.wants_scan = true;
            }
            let polling = next_poll <= Instant::now();
            if polling {
                next_poll = Instant::now() + polls.pause(random::fraction());
                round = round.wrapping_add(1);
            }
            if let Err(error) = self.round(polling, round.is_multiple_of(SCAN_EVERY)).await? {
                return Ok(Left::Gone(error));
            }
            if other_poll || other_events {
                self.listen().await?;
            }
            if polling && round.is_multiple_of(SCAN_EVERY) {
                self.see_links().await?;
                if self.worker_pool.held_up().is_empty()
                    && self.bound != epoch::bound_gpus(&self.settings.sysfs_root)
                {
                    info!(
                        "the driver has other GPUs than before, initialising NVML anew to see them"
                    );
                    return Ok(Left::Renew);
                }
            }
            let now = self.clock.now();
            if self.renewal_due(now).is_some_and(|due| due <= now) {
                self.renewal.tried(now);
                return Ok(Left::Renew);
            }
        }
    }

    /// One turn: what was missed, what is to be enumerated, polled and read.
    async fn round(&mut self, polling: bool, scanning: bool) -> Result<Asked<()>, SupervisorError> {
        let (at, began) = (self.clock.now(), Instant::now());
        let mut batch: Vec<_> =
            self.worker_pool.missed().iter().filter_map(|held_up| missed(at, held_up)).collect();
        let asked = self.ask(polling, scanning, &mut batch).await;
        if polling {
            self.telemetry.poll_took(began.elapsed());
        }
        self.tell(batch).await;
        asked
    }

    async fn ask(
        &mut self,
        polling: bool,
        scanning: bool,
        batch: &mut Vec<TimedObservation>,
    ) -> Result<Asked<()>, SupervisorError> {
        self.wants_scan |= polling && scanning;
        if std::mem::take(&mut self.wants_scan)
            && let Err(error) = self.scan(batch).await?
        {
            return Ok(Err(error));
        }
        let due = self
            .roll
            .gpus()
            .into_values()
            .filter(|uuid| polling || self.is_read_due(uuid))
            .collect();
        self.read(due, polling, batch).await
    }

    /// Tells what is wrong with NVML as a whole, or that nothing is.
    async fn fault(&self, at: Moment, fault: Option<NodeFault>) {
        self.tell(vec![TimedObservation {
            at,
            observation: InventoryEvent::Health(NodeObservation::Fault(fault)),
        }])
        .await;
    }

    /// Nobody listening is nothing to act on: the daemon is stopping.
    async fn tell(&self, batch: Vec<TimedObservation>) {
        if !batch.is_empty() {
            let _ = self.observations_tx.send(batch).await;
        }
    }
}

/// When a GPU that is awaited is looked for.
fn renewal(settings: &PollSettings) -> RetrySchedule {
    RetrySchedule::new(Backoff::new(settings.poll, settings.poll.saturating_mul(RAREST_RENEWAL)))
}
