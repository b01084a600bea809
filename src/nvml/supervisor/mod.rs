//! Decides what is done next in NVML: answers, missed deadlines and the time go in, jobs and
//! observations come out. It makes no call and has no clock; threads carry its jobs out.
//!
//! A session begins when NVML is initialised. The epoch, an enumeration and one reading of each GPU
//! are sent together, so that no list shows a GPU before its health was read. It goes on with
//! polls, readings that health requests, and enumerations, until NVML fails, is initialised again,
//! or is released.
//!
//! ```text
//!            ┌────────────── back-off ◀── cannot be opened
//!            ▼                                 ▲
//!   ────▶ Opening ─────────────────────────────┤
//!            │ initialised                     │
//!            ▼                                 │
//!         Starting ── NVML fails ──────────────┤
//!            │ each GPU was read, or missed    │
//!            │ a first deadline                │
//!            ▼                                 │
//!         Serving ── NVML fails, or a child ───┤ (Closing before)
//!            │       process sees more GPUs    │
//!            └── release ──▶ Released ─────────┘ after a time, or at a request to take it up
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod answers;
mod enumeration;
mod event_watch;
mod link_watch;
mod phases;
mod polls;
mod release;
mod renewal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device::health::{
    self, Epoch, Moment, NodeFault, NodeObservation, NvmlError as CallError, ResetSigns,
};
use device::identity::PciFunction;
use device::inventory::InventoryEvent;
use device::names::{PciBusId, Uuid};
use tracing::{info, warn};

use super::bus::BoundFunctions;
use super::channels::{ReadRequests, TimedObservation};
use super::error::SupervisorError;
use super::job::{Job, Subject, Task};
use super::release::{PendingRelease, ReleaseEnd};
use super::settings::PollSettings;
use super::telemetry::NvmlTelemetry;
use super::threads::Overdue;
use crate::util::backoff::Backoff;
use enumeration::Enumeration;
use event_watch::EventWatch;
use link_watch::LinkWatch;
use renewal::Renewal;

/// The first and the longest pause between two attempts to open NVML. The longest is no longer than
/// the poll interval.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How long the first round waits for a GPU that does not answer.
const FIRST_DEADLINE: Duration = Duration::from_secs(3);
/// How long the initialisation of NVML may take until every GPU is Unhealthy by it, in deadlines.
/// Without persistence mode it initialises each GPU, one after the other.
const OPEN_DEADLINES: u32 = 12;
/// How long the shutdown of NVML may take beyond the deadline of a call: longer than a wait for
/// events.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

/// What NVML is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// It is not open, and is tried again at this time.
    Closed { retry_at: Moment },
    /// It is being initialised.
    Opening { since: Moment },
    /// The GPUs are enumerated and read for the first time.
    Starting { since: Moment },
    /// The GPUs are polled.
    Serving,
    /// It is being shut down.
    Closing { next: AfterClosing, give_up: Moment },
    /// It is released, so that a GPU can be reset.
    Released { until: Moment },
}

/// What follows when NVML is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterClosing {
    /// It is opened again, to list other GPUs.
    Reopen,
    /// It has failed, and is tried again after a pause.
    Retry,
    /// It is released.
    Release,
}

/// A GPU that this session has identified.
#[derive(Debug, Clone, Default)]
struct SessionGpu {
    /// When its last reading began.
    last_reading: Option<Moment>,
    /// Whether it has no NVLink fabric, since the last enumeration.
    without_fabric: bool,
    /// Whether its last reading says that it is lost.
    lost: bool,
    /// By which a reset of it can be told.
    signs: ResetSigns,
}

pub(super) struct Supervisor {
    settings: PollSettings,
    requests: ReadRequests,
    telemetry: NvmlTelemetry,
    /// A random number from 0 to 1: the nodes of a cluster do not poll at the same time.
    jitter: fn() -> f64,
    /// Whether it is no error that NVML cannot be opened.
    retries: bool,
    phase: Phase,
    /// The number of the NVML session.
    session: u64,
    /// The sessions that are not shut down: besides this one, those in which a call hangs.
    open_sessions: BTreeSet<u64>,
    /// A release that is not done yet.
    release: Option<PendingRelease>,
    /// What came of one, until it is told.
    release_end: Option<ReleaseEnd>,
    /// Attempts to open NVML and to read its GPUs since that last succeeded.
    attempts: Backoff,
    /// The last reason that was logged for not being open.
    logged: String,
    epoch: Epoch,
    /// When NVML was open.
    opened_at: Moment,
    bus: BoundFunctions,
    /// NVIDIA's functions, as they were last observed.
    functions: Option<Vec<PciFunction>>,
    enumeration: Enumeration,
    scan_due: bool,
    gpus: BTreeMap<Uuid, SessionGpu>,
    /// The GPUs that awaited a reset when NVML was released, until they are read again.
    before_release: BTreeMap<Uuid, ResetSigns>,
    /// Where GPUs are on the bus, those of earlier sessions that are missing included.
    addresses: BTreeMap<Uuid, PciBusId>,
    events: EventWatch,
    links: LinkWatch,
    renewal: Renewal,
    poll_at: Moment,
    polls: u32,
    /// When the poll that is being made began, and the GPUs that have not answered it.
    poll: Option<(Moment, BTreeSet<Uuid>)>,
    /// Jobs that are not done, and when each was given.
    in_flight: BTreeMap<Subject, (Job, Moment)>,
    /// Those with a call that is past its deadline.
    overdue: BTreeSet<Subject>,
    jobs: Vec<Job>,
    batch: Vec<TimedObservation>,
    /// A child process is to look which GPUs answer.
    look_due: bool,
    error: Option<SupervisorError>,
}

impl Supervisor {
    pub(super) fn new(
        settings: PollSettings,
        retries: bool,
        telemetry: NvmlTelemetry,
        jitter: fn() -> f64,
    ) -> Self {
        Self {
            attempts: Backoff::new(FIRST_PAUSE, LAST_PAUSE.min(settings.poll)),
            renewal: Renewal::new(settings.poll),
            settings,
            requests: ReadRequests::default(),
            telemetry,
            jitter,
            retries,
            phase: Phase::Closed { retry_at: Moment::default() },
            session: 0,
            open_sessions: BTreeSet::new(),
            release: None,
            release_end: None,
            logged: String::new(),
            epoch: Epoch::default(),
            opened_at: Moment::default(),
            bus: None,
            functions: None,
            enumeration: Enumeration::default(),
            scan_due: false,
            gpus: BTreeMap::new(),
            before_release: BTreeMap::new(),
            addresses: BTreeMap::new(),
            events: EventWatch::new(),
            links: LinkWatch::default(),
            poll_at: Moment::default(),
            polls: 0,
            poll: None,
            in_flight: BTreeMap::new(),
            overdue: BTreeSet::new(),
            jobs: Vec::new(),
            batch: Vec::new(),
            look_due: false,
            error: None,
        }
    }

    /// Decides what is done now.
    pub(super) fn step(&mut self, now: Moment) {
        match self.phase {
            Phase::Closed { retry_at } if retry_at <= now => self.open(now),
            Phase::Opening { since } => self.check_opening(now, since),
            Phase::Starting { since } => self.check_first_round(now, since),
            Phase::Serving => self.serve(now),
            Phase::Closing { next, give_up } if give_up <= now => self.not_shut_down(now, next),
            Phase::Released { until } if until <= now => self.reopen(now),
            _ => {}
        }
        self.advance_release(now);
    }

    /// When [`Supervisor::step`] has something to do, if nothing happens before.
    pub(super) fn wake_at(&self, now: Moment) -> Option<Moment> {
        match self.phase {
            Phase::Closed { retry_at } => Some(retry_at),
            Phase::Opening { since } => {
                let due = since.after(self.open_deadline());
                (due > now).then_some(due)
            }
            Phase::Starting { .. } => {
                let give_up = self.release.map(|pending| pending.give_up);
                self.next_late(now).into_iter().chain(give_up).min()
            }
            Phase::Serving => Some(self.next_due(now)),
            Phase::Closing { give_up, .. } => Some(give_up),
            Phase::Released { until } => Some(until),
        }
    }

    /// The jobs that were decided on.
    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// The observations to be applied together; none before the first round is done.
    pub(super) fn take_batch(&mut self) -> Vec<TimedObservation> {
        match self.phase {
            Phase::Starting { .. } => Vec::new(),
            _ => std::mem::take(&mut self.batch),
        }
    }

    /// Whether a child process is to look which GPUs answer, from now on.
    pub(super) fn take_look(&mut self) -> bool {
        std::mem::take(&mut self.look_due)
    }

    /// Why the daemon cannot go on.
    pub(super) fn take_error(&mut self) -> Option<SupervisorError> {
        self.error.take()
    }

    /// How long a call may take.
    pub(super) fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Adopts what health wants to be read.
    pub(super) fn set_requests(&mut self, requests: ReadRequests) {
        self.requests = requests;
    }

    /// Adopts settings.
    pub(super) fn set_settings(&mut self, now: Moment, settings: PollSettings) {
        let before = std::mem::replace(&mut self.settings, settings);
        if before.poll != self.settings.poll {
            self.renewal.set_poll(self.settings.poll);
            self.poll_at = self.poll_at.min(now.after(self.pause()));
        }
        if before.events != self.settings.events {
            self.events.renew = true;
            self.register(now);
            info!("waiting for other events of the GPUs, by the new configuration");
        }
    }

    /// A call has missed a deadline. Every further one is told too.
    pub(super) fn overdue(&mut self, now: Moment, overdue: &Overdue) {
        let subject = overdue.job.task.subject();
        let is_first = self.overdue.insert(subject.clone());
        self.give_up(&overdue.job.task, overdue.call);
        if is_first {
            log_overdue(&subject, overdue.call);
        }
        match subject {
            Subject::Gpu(gpu) => {
                self.answered_poll(now, &gpu);
                self.observe_gpu(now, gpu, health::Observation::TimedOut { call: overdue.call });
            }
            Subject::Links(gpu) if is_first => self.links_read(now, &gpu),
            Subject::Links(_) | Subject::Index(_) | Subject::Node(_) => {}
        }
    }

    /// The scan waits no longer for a job that hangs.
    fn give_up(&mut self, task: &Task, call: &'static str) {
        match task {
            Task::Identify { index } => self.enumeration.give_up(*index),
            Task::Describe { index, gpu } => self.enumeration.hangs(*index, gpu, call),
            _ => {}
        }
    }

    /// The last call in a session has returned, and NVML is shut down, unless others are open.
    pub(super) fn shut_down(&mut self, now: Moment, session: u64) {
        self.open_sessions.remove(&session);
        let Phase::Closing { next, .. } = self.phase else { return };
        let is_over = match next {
            AfterClosing::Release => self.open_sessions.is_empty(),
            AfterClosing::Reopen | AfterClosing::Retry => session == self.session,
        };
        if is_over {
            self.closed(now, next);
        }
    }

    /// Has a job done, unless one about the same is not done yet.
    fn submit(&mut self, now: Moment, task: Task) {
        let subject = task.subject();
        if !self.in_flight.contains_key(&subject) {
            let job = Job { session: self.session, task };
            self.in_flight.insert(subject, (job.clone(), now));
            self.jobs.push(job);
        }
    }

    /// Whether the first round and polls still wait for a job.
    fn is_awaited(&self, now: Moment, subject: &Subject) -> bool {
        let Some((job, given)) = self.in_flight.get(subject) else { return false };
        let first = matches!(
            job.task,
            Task::Bus
                | Task::Identify { .. }
                | Task::Describe { .. }
                | Task::Register { .. }
                | Task::Read { .. }
        );
        first
            && job.session == self.session
            && !self.overdue.contains(subject)
            && now.since(*given) < FIRST_DEADLINE
    }

    fn observe(&mut self, at: Moment, observation: InventoryEvent) {
        self.batch.push(TimedObservation { at, observation });
    }

    fn observe_gpu(&mut self, at: Moment, gpu: Uuid, observation: health::Observation) {
        self.observe(at, InventoryEvent::Health(NodeObservation::Gpu(gpu, observation)));
    }

    fn observe_fault(&mut self, at: Moment, fault: Option<NodeFault>) {
        self.observe(at, InventoryEvent::Health(NodeObservation::Fault(fault)));
    }

    /// NVML as a whole fails.
    fn fail(&mut self, now: Moment, error: CallError) {
        self.telemetry.set_down();
        warn!(%error, "NVML is gone; serving from memory, every GPU Unhealthy, until it is back");
        self.close(now, AfterClosing::Retry);
        self.observe_fault(now, Some(NodeFault::from_error(error)));
    }

    /// The pause before the next poll, up to a tenth early.
    fn pause(&self) -> Duration {
        let poll = self.settings.poll;
        poll - (poll / 10).mul_f64((self.jitter)().clamp(0.0, 1.0))
    }
}

fn log_overdue(subject: &Subject, call: &'static str) {
    match subject {
        Subject::Gpu(gpu) => warn!(gpu.uuid = %gpu, call,
            "NVML does not answer about a GPU; the others are not affected"),
        Subject::Index(index) => warn!(
            gpu.uuid = "unknown",
            gpu.index = index,
            call,
            "NVML does not answer about a GPU; the others are not affected"
        ),
        Subject::Links(gpu) => warn!(gpu.uuid = %gpu, call,
            "NVML hangs in a call about the links between GPUs: what is known so far is used"),
        Subject::Node("listen") => warn!(
            call,
            "waiting for NVML's events does not return: Xids are not noticed until it does, and \
             health depends on polls alone"
        ),
        Subject::Node(_) => warn!(call, "NVML does not answer, waiting for it"),
    }
}
