//! From the first attempt to open NVML to its release.

use device::health::{Moment, NodeFault, NodeObservation};
use device::inventory::InventoryEvent;
use tracing::{info, warn};

use super::{
    AfterClosing, Enumeration, FIRST_DEADLINE, LinkWatch, OPEN_DEADLINES, Phase, SHUTDOWN_GRACE,
    Supervisor, SupervisorError,
};
use crate::nvml::job::{Opened, Task};
use crate::nvml::library::NvmlOpenError;
use crate::nvml::telemetry::NvmlTelemetry;
use crate::nvml::telemetry::Versions;

impl Supervisor {
    pub(super) fn open(&mut self, now: Moment) {
        self.session += 1;
        self.enumeration = Enumeration::of_session();
        self.events = self.events.of_next_session();
        self.links = LinkWatch::default();
        self.gpus.clear();
        self.poll = None;
        self.phase = Phase::Opening { since: now };
        self.renewal.opens();
        // Beside the initialisation: a GPU that is bound later is noticed by the first poll.
        self.submit(now, Task::Bus);
        self.submit(now, Task::Open);
    }

    /// After this time of opening, every GPU is Unhealthy by it.
    pub(super) fn open_deadline(&self) -> std::time::Duration {
        self.settings.deadline.saturating_mul(OPEN_DEADLINES)
    }

    pub(super) fn check_opening(&mut self, now: Moment, since: Moment) {
        let fault = NodeFault::Unresponsive { call: "nvmlInit_v2" };
        if now >= since.after(self.open_deadline()) && self.logged != fault.as_str() {
            self.logged = fault.as_str().to_owned();
            self.telemetry.set_down();
            self.observe_fault(now, Some(fault));
        }
    }

    pub(super) fn opened(&mut self, now: Moment, result: Result<Opened, NvmlOpenError>) {
        match result {
            Ok(Opened { epoch, count: Ok(count), versions, .. }) => {
                self.open_sessions.insert(self.session);
                (self.epoch, self.opened_at) = (epoch, now);
                report_versions(&self.telemetry, versions);
                self.telemetry.set_up(count);
                self.logged.clear();
                self.retries = true;
                self.phase = Phase::Starting { since: now };
                self.renewal.opened(now);
                self.begin_scan(now, count);
            }
            Ok(Opened { count: Err(error), .. }) => {
                let reason = error.to_string();
                self.not_open(now, NodeFault::from_error(error), &reason);
            }
            Err(error) if !self.retries => self.error = Some(SupervisorError::Open(error)),
            Err(error) => {
                let reason = error.to_string();
                self.not_open(now, fault(error), &reason);
            }
        }
    }

    /// There is no thread to open it on.
    pub(super) fn not_opened(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Opening { .. }) {
            self.phase = Phase::Closed { retry_at: now.after(FIRST_DEADLINE) };
        }
    }

    /// Tries again after a pause; each new reason is logged once.
    fn not_open(&mut self, now: Moment, fault: NodeFault, reason: &str) {
        self.telemetry.set_down();
        self.observe_fault(now, Some(fault));
        self.phase = Phase::Closed { retry_at: now.after(self.attempts.next_delay()) };
        if self.logged != reason {
            let what = if self.telemetry.was_up() {
                "NVML is not back yet"
            } else {
                "no GPUs to serve yet"
            };
            warn!(%reason, "{what}, will retry");
            reason.clone_into(&mut self.logged);
        }
    }

    /// Sends what the first round has found, once nothing is to be waited for.
    pub(super) fn check_first_round(&mut self, now: Moment, since: Moment) {
        if now.since(since) >= FIRST_DEADLINE {
            self.give_up_scan();
        }
        self.finish_scan(now);
        let awaited = self.in_flight.keys().any(|subject| self.is_awaited(now, subject));
        if self.enumeration.is_scanning() || awaited {
            return;
        }
        self.attempts.reset();
        self.phase = Phase::Serving;
        self.poll_at = now.after(self.pause());
        let epoch = InventoryEvent::Health(NodeObservation::Epoch(self.epoch.clone()));
        let later = std::mem::take(&mut self.batch);
        self.observe(since, epoch);
        self.batch.extend(later);
        self.observe_fault(since, None);
        if self.enumeration.count() == 0 {
            warn!("NVML is up and sees no GPU; waiting for one");
        }
        self.renewal_round_done(now);
        self.listen(now);
        self.links.round_done(now);
    }

    /// Finishes the first scan without the GPUs that have not answered.
    fn give_up_scan(&mut self) {
        let late: Vec<Task> = self.in_flight.values().map(|(job, _)| job.task.clone()).collect();
        late.iter().for_each(|task| self.give_up(task, "a call of the enumeration"));
        for index in self.enumeration.waiting() {
            self.enumeration.give_up(index);
        }
    }

    /// When a job of the first round is no longer waited for.
    pub(super) fn next_late(&self, now: Moment) -> Option<Moment> {
        let given = self.in_flight.iter().filter(|(subject, _)| self.is_awaited(now, subject));
        given.map(|(_, (_, given))| given.after(FIRST_DEADLINE)).min()
    }

    /// Shuts NVML down. If a release is pending, that is what follows.
    pub(super) fn close(&mut self, now: Moment, next: AfterClosing) {
        let give_up = now.after(self.settings.deadline).after(SHUTDOWN_GRACE);
        self.phase = Phase::Closing { next, give_up };
        self.submit(now, Task::Close);
        self.advance_release(now);
    }

    pub(super) fn not_shut_down(&mut self, now: Moment, next: AfterClosing) {
        warn!("a call that does not return keeps NVML from being shut down, going on without");
        match next {
            AfterClosing::Release => self.give_up_release(now),
            next => self.closed(now, next),
        }
    }

    pub(super) fn closed(&mut self, now: Moment, next: AfterClosing) {
        match next {
            AfterClosing::Reopen => self.phase = Phase::Closed { retry_at: now },
            AfterClosing::Retry => {
                let retry_at = now.after(self.attempts.next_delay());
                self.phase = Phase::Closed { retry_at };
            }
            AfterClosing::Release => self.released(now),
        }
    }
}

/// What keeps NVML from being open, as health states it.
fn fault(error: NvmlOpenError) -> NodeFault {
    match error {
        NvmlOpenError::NotFound { .. } => NodeFault::LibraryNotFound,
        NvmlOpenError::Init { error, .. } => NodeFault::from_error(error),
    }
}

/// Logs the versions, and publishes them.
fn report_versions(telemetry: &NvmlTelemetry, versions: Versions) {
    let text = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    let Versions { driver, library, cuda } = &versions;
    info!(
        driver.version = text(driver),
        nvml.version = text(library),
        cuda.version = text(cuda),
        "NVML is up"
    );
    telemetry.set_versions(versions);
}
