//! The thread that waits for NVML's events.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use device::health::{self, EventType, NodeObservation, NvmlError as CallError};
use device::inventory::InventoryEvent;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::channels::TimedObservation;
use super::clock::Clock;
use super::event_registry::EventRegistry;
use crate::util::backoff::Backoff;
use crate::util::log_rate_limit::LogRateLimit;

/// The longest wait for one event. NVML is released at the earliest when a wait ends.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Pauses after a wait that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after a wait that ended early without an event: such a library is polled for
/// its events.
const LAST_EARLY_PAUSE: Duration = Duration::from_secs(1);

/// What the event thread tells the supervisor.
pub(super) enum EventSignal {
    /// Waiting failed, or the MIG devices changed: enumerate now.
    EnumerateNow,
    /// The thread has panicked, with this text.
    Panicked(String),
}

/// What the event thread needs.
pub(super) struct EventListener {
    pub(super) observations_tx: mpsc::Sender<Vec<TimedObservation>>,
    pub(super) signals_tx: mpsc::Sender<EventSignal>,
    pub(super) clock: Clock,
    /// A wait is no longer than this.
    pub(super) poll_interval: Duration,
}

impl EventListener {
    /// Waits for events until `stop` is disconnected, or nobody receives observations any more.
    ///
    /// After an error it pauses, so that it never spins, and asks for an enumeration. It does not
    /// spin either with a library that returns from waits at once, as simulated ones do.
    pub(super) fn run(&self, registry: &EventRegistry, stop: &Receiver<()>) {
        let wait = LONGEST_WAIT.min(self.poll_interval);
        let mut failures = Failures::new();
        let mut early = Backoff::new(FIRST_PAUSE, LAST_EARLY_PAUSE);
        loop {
            let began = self.clock.now();
            let mut pause = Duration::ZERO;
            match registry.wait(wait) {
                Ok(event) => {
                    failures.end();
                    let is_early = event.is_none() && self.clock.now().since(began) < wait / 2;
                    if event.is_some_and(|event| !self.report(event)) {
                        return;
                    }
                    if is_early {
                        pause = early.next_delay();
                    } else {
                        early.reset();
                    }
                }
                Err(error) => {
                    pause = failures.add(&error);
                    self.request_enumeration();
                }
            }
            if stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Sends an observation; `false` if nobody receives it.
    fn report(&self, observation: NodeObservation) -> bool {
        let mig_changed = health::Observation::Event(EventType::MigConfigChange);
        if let NodeObservation::Gpu(_, of_gpu) | NodeObservation::EveryGpu(of_gpu) = &observation
            && *of_gpu == mig_changed
        {
            self.request_enumeration();
        }
        let observation = InventoryEvent::Health(observation);
        let observation = TimedObservation { at: self.clock.now(), observation };
        self.observations_tx.blocking_send(vec![observation]).is_ok()
    }

    fn request_enumeration(&self) {
        // If the channel is full, a signal is waiting already.
        let _ = self.signals_tx.try_send(EventSignal::EnumerateNow);
    }
}

/// Failed waits in a row. The same error is logged at most once a minute.
struct Failures {
    backoff: Backoff,
    limit: LogRateLimit<u32>,
    logged: bool,
}

impl Failures {
    fn new() -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        Self { backoff, limit: LogRateLimit::new(), logged: false }
    }

    /// Counts a failure; how long to pause after it.
    fn add(&mut self, error: &CallError) -> Duration {
        if self.limit.allow_key(error.code.0).is_some() {
            warn!(%error, "cannot wait for NVML's events, will retry");
            self.logged = true;
        }
        self.backoff.next_delay()
    }

    /// A wait did not fail.
    fn end(&mut self) {
        if std::mem::take(&mut self.logged) {
            let failures = self.backoff.attempts();
            info!(failures, "waiting for NVML's events works again");
        }
        self.backoff.reset();
    }
}
