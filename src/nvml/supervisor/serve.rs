//! A session, from its first readings to its end.

use std::time::Instant;

use device::health::NodeObservation;
use device::inventory::InventoryEvent;
use tracing::{Instrument, debug_span, info};

use super::poll_timer::PollTimer;
use super::report::{log_returned, missed_deadline};
use super::{CallResult, SessionEnd, Supervisor};
use crate::nvml::channels::TimedObservation;
use crate::nvml::epoch;
use crate::nvml::error::SupervisorError;
use crate::nvml::events::{EventListener, EventSignal};
use crate::nvml::settings::PollSettings;

/// The node is enumerated without a reason at every one of so many polls: events and polls miss
/// little.
const ENUMERATE_EVERY: u32 = 3;

/// Why a wait has ended.
enum Wakeup {
    /// Something may be due.
    Due,
    /// A stuck call has returned.
    CallReturned,
    /// There are new settings; these are the previous ones.
    SettingsChanged(PollSettings),
    ReleaseRequested,
}

impl Supervisor {
    /// Begins a session. Its first observations are sent at once: no list shows a GPU before its
    /// health has been read.
    pub(super) async fn begin_session(&mut self) -> Result<CallResult<()>, SupervisorError> {
        let at = self.clock.now();
        self.session += 1;
        self.is_new_session = true;
        self.enumeration_due = false;
        self.bound_gpus = epoch::bound_gpus(&self.settings.sysfs_root);
        let epoch = NodeObservation::Epoch(epoch::read(&self.settings.sysfs_root));
        let mut batch = vec![TimedObservation { at, observation: InventoryEvent::Health(epoch) }];
        self.adopt_settings();
        self.prepare_events().await?;
        if let Err(error) = self.enumerate(&mut batch).await? {
            return Ok(Err(error));
        }
        if let Err(error) = self.read(self.enumeration.gpus(), true, &mut batch).await? {
            return Ok(Err(error));
        }
        let no_fault = InventoryEvent::Health(NodeObservation::Fault(None));
        batch.push(TimedObservation { at, observation: no_fault });
        self.send(batch).await;
        self.listen().await?;
        self.read_links().await?;
        Ok(Ok(()))
    }

    /// Polls, and reads and enumerates when there is a reason.
    pub(super) async fn serve(&mut self) -> Result<SessionEnd, SupervisorError> {
        let mut timer = PollTimer::new(self.poll_settings.poll);
        loop {
            let mut events_changed = false;
            match self.wait(timer.next()).await? {
                Wakeup::Due => {}
                Wakeup::CallReturned => timer.poll_now(),
                Wakeup::SettingsChanged(before) => {
                    events_changed = self.apply_settings(&before, &mut timer).await?;
                }
                Wakeup::ReleaseRequested => return Ok(SessionEnd::Release),
            }
            let poll = timer.take_due();
            let enumerate = poll && timer.is_every(ENUMERATE_EVERY);
            self.enumeration_due |= enumerate;
            if let Err(error) = self.read_what_is_due(poll).await? {
                return Ok(SessionEnd::Failed(error));
            }
            if events_changed {
                self.listen().await?;
            }
            if enumerate {
                self.read_links().await?;
            }
            if (enumerate && self.has_other_gpus()) || self.take_reinit_due() {
                return Ok(SessionEnd::Reinitialise);
            }
        }
    }

    async fn wait(&mut self, next_poll: Instant) -> Result<Wakeup, SupervisorError> {
        let due = self.next_due(next_poll);
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            // Closed, the daemon is stopping.
            changed = self.requests_rx.changed() => match changed {
                Ok(()) => {}
                Err(_) => std::future::pending().await,
            },
            changed = self.settings_rx.changed() => match changed {
                Ok(()) => return Ok(Wakeup::SettingsChanged(self.adopt_settings())),
                Err(_) => std::future::pending().await,
            },
            stuck = self.worker_pool.returned() => {
                log_returned(&stuck?);
                self.enumeration_due = true;
                return Ok(Wakeup::CallReturned);
            }
            Some(signal) = self.signals_rx.recv() => match signal {
                EventSignal::EnumerateNow => self.enumeration_due = true,
                EventSignal::Panicked(why) => {
                    return Err(SupervisorError::ThreadEnded("nvml-events", why));
                }
            },
            () = self.release.requested() => return Ok(Wakeup::ReleaseRequested),
        }
        Ok(Wakeup::Due)
    }

    /// Prepares for settings that have changed; whether the event thread is to be started again,
    /// after the next readings.
    async fn apply_settings(
        &mut self,
        before: &PollSettings,
        timer: &mut PollTimer,
    ) -> Result<bool, SupervisorError> {
        let poll_changed = before.poll != self.poll_settings.poll;
        let events_changed = before.events != self.poll_settings.events;
        if poll_changed {
            timer.set_interval(self.poll_settings.poll);
        }
        if events_changed {
            // The next enumeration registers the GPUs, and the previous events are dropped only
            // then: an event in between is received twice rather than lost.
            self.prepare_events().await?;
            self.enumeration_due = true;
        }
        Ok(poll_changed || events_changed)
    }

    /// Enumerates if that is due, and reads all GPUs in a `poll`, otherwise those that are due.
    async fn read_what_is_due(&mut self, poll: bool) -> Result<CallResult<()>, SupervisorError> {
        let (at, began) = (self.clock.now(), Instant::now());
        let missed = self.worker_pool.missed_deadlines();
        let mut batch = missed.iter().filter_map(|stuck| missed_deadline(at, stuck)).collect();
        let span = if poll { debug_span!("poll") } else { debug_span!("read") };
        let result = self.enumerate_and_read(poll, &mut batch).instrument(span).await;
        if poll {
            self.telemetry.poll_took(began.elapsed());
        }
        self.send(batch).await;
        result
    }

    async fn enumerate_and_read(
        &mut self,
        poll: bool,
        batch: &mut Vec<TimedObservation>,
    ) -> Result<CallResult<()>, SupervisorError> {
        if std::mem::take(&mut self.enumeration_due)
            && let Err(error) = self.enumerate(batch).await?
        {
            return Ok(Err(error));
        }
        let mut gpus = self.enumeration.gpus();
        gpus.retain(|_, uuid| poll || self.is_read_due(uuid));
        self.read(gpus, poll, batch).await
    }

    async fn prepare_events(&mut self) -> Result<(), SupervisorError> {
        let (handle, events) = (self.handle.clone(), self.poll_settings.events.clone());
        self.run_job(move || handle.prepare_events(&events)).await
    }

    /// Waits for the events that are prepared, and no longer for the previous ones.
    async fn listen(&mut self) -> Result<(), SupervisorError> {
        let listener = EventListener {
            observations_tx: self.observations_tx.clone(),
            signals_tx: self.signals_tx.clone(),
            clock: self.clock,
            poll_interval: self.poll_settings.poll,
        };
        let handle = self.handle.clone();
        self.event_thread = self.run_job(move || handle.listen(listener)).await??;
        Ok(())
    }

    /// Whether other GPUs are bound to the driver than when NVML was initialised. With a stuck call
    /// that does not matter: NVML cannot be shut down.
    fn has_other_gpus(&self) -> bool {
        let other = self.worker_pool.stuck_calls().is_empty()
            && self.bound_gpus != epoch::bound_gpus(&self.settings.sysfs_root);
        if other {
            info!("the driver has other GPUs than before, initialising NVML again to list them");
        }
        other
    }
}
