//! The life of NVML, from the first try to open it: enumerate, watch, poll, open anew, let go. All calls are done by
//! the crew; what is decided here is only which one comes next.
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

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::crew::{Crew, HeldUp, Subject};
use super::desk::{Desk, Listening, NotOpen};
use super::library::OpenError;
use super::pace::{Backoff, Polls, random};
use super::reading::Answers;
use super::{EdgeError, LetGo, Links, Nudge, Seen, Settings, Wants, epoch};
use crate::device::health::{self, Moment, NodeFault, NodeObservation, NvmlError as CallError, ReturnCode};
use crate::device::inventory::{Found, Observation};
use crate::device::names::Uuid;

/// The first pause between two tries to open NVML, and the longest unless polls are rarer still.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A GPU that is awaited is looked for by a new initialisation after one poll interval at first, at last after so
/// many.
const RAREST_RENEWAL: u32 = 6;
/// Every so many polls the node is enumerated again without a reason: events and polls miss little.
const SCAN_EVERY: u32 = 3;
/// How long the last owner of NVML may take beyond the deadline of a call: longer than a wait for events.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Why an NVML session was left.
enum Left {
    /// NVML itself fails.
    Gone(CallError),
    /// A GPU is awaited, which only a new initialisation can show.
    Renew,
    /// Somebody wants NVML to be let go.
    LetGo,
}

/// What came of a round of questions: `Err`, NVML itself fails.
type Asked<T> = Result<T, CallError>;

pub(super) struct Attendant {
    settings: Settings,
    observe: mpsc::Sender<Vec<Seen>>,
    wants: watch::Receiver<Wants>,
    let_go: LetGo,
    clock: super::Clock,
    crew: Crew,
    desk: Desk,
    nudge: mpsc::Sender<Nudge>,
    nudged: mpsc::Receiver<Nudge>,
    /// Its end ends the thread that waits for events.
    listening: Option<std::sync::mpsc::Sender<()>>,
    /// Ends when NVML is shut down.
    ended: Option<oneshot::Receiver<Infallible>>,
    /// Which initialisation of NVML this is.
    session: u64,
    /// What the last enumeration found.
    found: Vec<Found>,
    /// Whether this session has not been enumerated yet.
    is_fresh: bool,
    /// When the asking of the last reading of each GPU began.
    read: BTreeMap<Uuid, Moment>,
    fabricless: BTreeSet<Uuid>,
    renewal: Backoff,
    wants_scan: bool,
}

impl Attendant {
    pub(super) fn new(settings: Settings, clock: super::Clock, links: Links) -> Result<Self, EdgeError> {
        let (nudge, nudged) = mpsc::channel(2);
        let poll = settings.poll;
        Ok(Self {
            crew: Crew::new(settings.deadline)?,
            settings,
            observe: links.observe,
            wants: links.wants,
            let_go: links.let_go,
            clock,
            desk: Desk::default(),
            nudge,
            nudged,
            listening: None,
            ended: None,
            session: 0,
            found: Vec::new(),
            is_fresh: true,
            read: BTreeMap::new(),
            fabricless: BTreeSet::new(),
            renewal: Backoff::new(poll, poll.saturating_mul(RAREST_RENEWAL)),
            wants_scan: false,
        })
    }

    /// Attends to NVML for ever.
    pub(super) async fn run(mut self) -> Result<Infallible, EdgeError> {
        let mut patient = !self.settings.fail_on_init_error;
        loop {
            self.open(patient).await?;
            // Once NVML was there, its absence is never an end: the driver is being upgraded, perhaps.
            patient = true;
            let left = match self.begin().await? {
                Ok(()) => self.stay().await?,
                Err(error) => Left::Gone(error),
            };
            match left {
                Left::Gone(error) => {
                    warn!(%error, "NVML is gone; serving from memory, every GPU Unhealthy, until it is back");
                    self.fault(self.clock.now(), Some(NodeFault::from_error(error))).await;
                    self.close().await?;
                }
                Left::Renew => self.close().await?,
                Left::LetGo => {
                    self.close().await?;
                    self.stay_away().await;
                }
            }
        }
    }

    /// Opens NVML with at least one GPU. Impatient, the first error is the answer; patient, it tries on, and says
    /// each new reason once.
    async fn open(&mut self, patient: bool) -> Result<(), EdgeError> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE.min(self.settings.poll));
        let mut said = String::new();
        loop {
            let at = self.clock.now();
            let (ending, ended) = oneshot::channel();
            self.ended = Some(ended);
            let (desk, settings) = (self.desk.clone(), self.settings.clone());
            let reason = match self.node(move || desk.open(&settings, ending)).await? {
                Ok(0) => {
                    if self.session > 0 {
                        self.session += 1;
                        self.found.clear();
                        let scan = Observation::Scan { session: self.session, found: Vec::new() };
                        let fault = Observation::Health(NodeObservation::Fault(None));
                        self.tell(vec![Seen { at, observation: scan }, Seen { at, observation: fault }]).await;
                    }
                    self.close().await?;
                    "NVML is up and sees no GPU".to_owned()
                }
                Ok(_) => return Ok(()),
                Err(NotOpen::Library(error)) if !patient => return Err(EdgeError::Open(error)),
                Err(NotOpen::Library(error)) => {
                    let fault = match &error {
                        OpenError::NotFound { .. } => NodeFault::LibraryNotFound,
                        OpenError::Init { error, .. } => NodeFault::from_error(error.clone()),
                    };
                    self.fault(at, Some(fault)).await;
                    error.to_string()
                }
                Err(NotOpen::Count(error)) => {
                    self.fault(at, Some(NodeFault::from_error(error.clone()))).await;
                    error.to_string()
                }
            };
            if said != reason {
                let what = if self.session > 0 { "NVML is not back yet" } else { "no GPUs to serve yet" };
                warn!(%reason, "{what}, trying on");
                said = reason;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// The first round of a session, told all at once: no list shows a GPU before it has been asked how it is.
    async fn begin(&mut self) -> Result<Asked<()>, EdgeError> {
        let at = self.clock.now();
        self.session += 1;
        self.is_fresh = true;
        self.wants_scan = false;
        let epoch = NodeObservation::Epoch(epoch::read(&self.settings.sysfs_root));
        let mut batch = vec![Seen { at, observation: Observation::Health(epoch) }];
        let (desk, events) = (self.desk.clone(), self.settings.events.clone());
        self.node(move || desk.prepare_events(&events)).await?;
        if let Err(error) = self.scan(&mut batch).await? {
            return Ok(Err(error));
        }
        if let Err(error) = self.read(self.listed(), true, &mut batch).await? {
            return Ok(Err(error));
        }
        batch.push(Seen { at, observation: Observation::Health(NodeObservation::Fault(None)) });
        self.tell(batch).await;
        let to = Listening {
            observe: self.observe.clone(),
            clock: self.clock,
            rhythm: self.settings.poll,
            nudge: self.nudge.clone(),
        };
        let desk = self.desk.clone();
        self.listening = self.node(move || desk.listen(to)).await??;
        self.see_links().await?;
        Ok(Ok(()))
    }

    /// How the GPUs are linked is read beside all this; nothing waits for it.
    async fn see_links(&mut self) -> Result<(), EdgeError> {
        let (desk, gpus) = (self.desk.clone(), places(&self.found));
        let (clock, observe) = (self.clock, self.observe.clone());
        self.node(move || desk.see_links(&gpus, clock, &observe)).await
    }

    /// Polls, and reads and enumerates when there is a reason.
    async fn stay(&mut self) -> Result<Left, EdgeError> {
        let polls = Polls::every(self.settings.poll);
        let mut next_poll = Instant::now() + polls.pause(random());
        let mut round: u32 = 0;
        loop {
            let due = self.next_due(next_poll);
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                changed = self.wants.changed() => {
                    if changed.is_err() {
                        // Nobody listens: the daemon is stopping.
                        std::future::pending::<()>().await;
                    }
                }
                held_up = self.crew.returned() => {
                    report_return(&held_up?);
                    self.wants_scan = true;
                    next_poll = Instant::now();
                }
                Some(nudge) = self.nudged.recv() => match nudge {
                    Nudge::Enumerate => self.wants_scan = true,
                    Nudge::Died(why) => return Err(EdgeError::Ended("nvml-events", why)),
                },
                () = self.let_go.asked() => return Ok(Left::LetGo),
            }
            let polling = next_poll <= Instant::now();
            if polling {
                next_poll = Instant::now() + polls.pause(random());
                round = round.wrapping_add(1);
            }
            if let Err(error) = self.round(polling, round.is_multiple_of(SCAN_EVERY)).await? {
                return Ok(Left::Gone(error));
            }
            if polling && round.is_multiple_of(SCAN_EVERY) {
                self.see_links().await?;
            }
            let now = self.clock.now();
            if self.renewal_due(now).is_some_and(|due| due <= now) {
                self.renewal.tried(now);
                return Ok(Left::Renew);
            }
        }
    }

    /// One turn: what was missed, what is to be enumerated, polled and read.
    async fn round(&mut self, polling: bool, scanning: bool) -> Result<Asked<()>, EdgeError> {
        let at = self.clock.now();
        let mut batch: Vec<_> = self.crew.missed().iter().filter_map(|held_up| missed(at, held_up)).collect();
        let asked = self.ask(polling, scanning, &mut batch).await;
        self.tell(batch).await;
        asked
    }

    async fn ask(&mut self, polling: bool, scanning: bool, batch: &mut Vec<Seen>) -> Result<Asked<()>, EdgeError> {
        if polling {
            match self.count().await? {
                Ok(count) => self.wants_scan |= scanning || count as usize != self.found.len(),
                Err(error) => return Ok(Err(error)),
            }
        }
        if std::mem::take(&mut self.wants_scan)
            && let Err(error) = self.scan(batch).await?
        {
            return Ok(Err(error));
        }
        let due = self.listed().into_iter().filter(|uuid| polling || self.is_read_due(uuid)).collect();
        self.read(due, polling, batch).await
    }

    /// Enumerates the GPUs, each by a job of its own. Told is what differs from the last time.
    async fn scan(&mut self, batch: &mut Vec<Seen>) -> Result<Asked<()>, EdgeError> {
        let at = self.clock.now();
        let count = match self.count().await? {
            Ok(count) => count,
            Err(error) => return Ok(Err(error)),
        };
        let before = std::mem::take(&mut self.found);
        let places = places(&before);
        let same_length = before.len() == count as usize;
        let known = |index| places.get(&index).filter(|_| same_length).cloned();
        let subject = |index| known(index).map_or(Subject::Place(index), Subject::Gpu);
        let free = (0..count).filter(|index| !self.crew.is_held_up(&subject(*index)));
        let asked: Vec<_> = free.map(|index| (subject(index), (index, known(index)))).collect();
        let indices: Vec<u32> = asked.iter().map(|(_, (index, _))| *index).collect();
        let (desk, sysfs) = (self.desk.clone(), self.settings.sysfs_root.clone());
        let answers = self.crew.each(asked, move |(index, known)| desk.identify(index, known, &sysfs)).await?;
        let mut answers: BTreeMap<u32, Found> = indices
            .into_iter()
            .zip(answers)
            .filter_map(|(index, (subject, answer))| {
                if answer.is_none() {
                    self.report_held_up(&subject, batch);
                }
                Some((index, answer?))
            })
            .collect();
        // What does not answer now is what it was.
        let before_at = |index| before.iter().find(|found| place(found) == index).filter(|_| same_length);
        let found: Vec<_> =
            (0..count).filter_map(|index| answers.remove(&index).or_else(|| before_at(index).cloned())).collect();
        report_failed(&found, &before);
        if found != before || std::mem::take(&mut self.is_fresh) {
            // Before what was missed: a GPU has to be listed for anything to be known of it.
            let scan = Observation::Scan { session: self.session, found: found.clone() };
            let first = batch.iter().position(|seen| !is_epoch(&seen.observation)).unwrap_or(batch.len());
            batch.insert(first, Seen { at, observation: scan });
        }
        self.fabricless.clear();
        self.found = found;
        Ok(Ok(()))
    }

    /// Asks GPUs how they are.
    async fn read(&mut self, gpus: Vec<Uuid>, polling: bool, batch: &mut Vec<Seen>) -> Result<Asked<()>, EdgeError> {
        let subjects = gpus.into_iter().map(|uuid| (Subject::Gpu(uuid.clone()), uuid));
        let free = subjects.filter(|(subject, _)| !self.crew.is_held_up(subject));
        let asked = free.map(|(subject, uuid)| {
            let with_fabric = !self.fabricless.contains(&uuid);
            (subject, (uuid, with_fabric))
        });
        let asked: Vec<_> = asked.collect();
        let (desk, clock) = (self.desk.clone(), self.clock);
        let job = move |(uuid, with_fabric): (Uuid, bool)| desk.read(clock, &uuid, with_fabric);
        let mut outcome = Ok(());
        for (subject, answer) in self.crew.each(asked, job).await? {
            let Some(answer) = answer else {
                self.report_held_up(&subject, batch);
                continue;
            };
            match (subject, answer) {
                (Subject::Gpu(uuid), Ok((at, answers))) => batch.push(self.taken(uuid, at, answers, polling)),
                (_, Ok(_)) => {}
                (_, Err(error)) => outcome = Err(error),
            }
        }
        Ok(outcome)
    }

    /// What a GPU has answered, as it is told.
    fn taken(&mut self, uuid: Uuid, at: Moment, answers: Answers, polling: bool) -> Seen {
        if !answers.has_fabric {
            self.fabricless.insert(uuid.clone());
        }
        self.read.insert(uuid.clone(), at);
        let mut reading = answers.reading;
        self.wants_scan |= self.is_news(&uuid, reading.probe.as_ref());
        // A GPU that cannot even be enumerated passes no probe.
        if let (Some(Ok(())), Some(error)) = (&reading.probe, self.failure(&uuid)) {
            reading.probe = Some(Err(error.clone()));
        }
        let observation = match polling {
            true => health::Observation::Poll(reading),
            false => health::Observation::Reading(reading),
        };
        about(at, uuid, observation)
    }

    /// Says that a call about a GPU does not return.
    fn report_held_up(&self, subject: &Subject, batch: &mut Vec<Seen>) {
        let Some(held_up) = self.crew.held_up().iter().find(|held_up| held_up.subject == *subject) else { return };
        warn!(
            gpu.uuid = held_up.gpu().map_or("unknown", Uuid::as_str),
            call = held_up.call,
            "NVML does not answer about a GPU; the others are not concerned"
        );
        batch.extend(missed(self.clock.now(), held_up));
    }

    /// With what a GPU answered the last enumeration, if not with its facts.
    fn failure(&self, uuid: &Uuid) -> Option<&CallError> {
        self.found.iter().find_map(|found| match found {
            Found::Failed { uuid: Some(failed), error, .. } if failed == uuid => Some(error),
            _ => None,
        })
    }

    /// Whether what a GPU answers speaks against the last enumeration: it is gone, or back.
    fn is_news(&self, uuid: &Uuid, probe: Option<&Result<(), CallError>>) -> bool {
        const NOT_FOUND: ReturnCode = ReturnCode(6);
        let listed = |found: &Found| matches!(found, Found::Gpu(gpu) if gpu.uuid == *uuid);
        let was_well = self.found.iter().any(listed);
        match probe {
            Some(Ok(())) => !was_well,
            Some(Err(error)) => was_well && matches!(error.code, NOT_FOUND | ReturnCode::GPU_IS_LOST),
            None => false,
        }
    }

    /// Shuts NVML down and waits until it is: what is not shut down everywhere is not initialised anew.
    async fn close(&mut self) -> Result<(), EdgeError> {
        self.listening = None;
        let desk = self.desk.clone();
        self.node(move || desk.close()).await?;
        let Some(ended) = self.ended.take() else { return Ok(()) };
        let patience = self.settings.deadline + SHUTDOWN_GRACE;
        if tokio::time::timeout(patience, ended).await.is_err() {
            warn!("a call that does not return keeps NVML from being shut down, going on without");
        }
        Ok(())
    }

    /// Keeps away from NVML for a while.
    async fn stay_away(&mut self) {
        let pause = self.settings.release_for;
        info!(
            seconds = pause.as_secs(),
            "NVML is let go, so that a GPU can be reset; serving from memory until it is taken up again, by itself or \
             at a second SIGUSR1"
        );
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.let_go.asked() => {}
        }
        info!("taking up NVML again");
    }

    async fn count(&mut self) -> Result<Asked<u32>, EdgeError> {
        let desk = self.desk.clone();
        self.node(move || desk.count()).await
    }

    /// Has a job done that is about no GPU in particular; what it misses, every GPU misses.
    async fn node<T: Send + 'static>(&mut self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, EdgeError> {
        let (observe, clock) = (&self.observe, self.clock);
        let missed = async |call| {
            warn!(call, "NVML does not answer, waiting for it");
            let observation = NodeObservation::EveryGpu(health::Observation::Missed { call });
            let _ = observe.send(vec![Seen { at: clock.now(), observation: Observation::Health(observation) }]).await;
        };
        self.crew.node(job, missed).await
    }

    async fn fault(&self, at: Moment, fault: Option<NodeFault>) {
        self.tell(vec![Seen { at, observation: Observation::Health(NodeObservation::Fault(fault)) }]).await;
    }

    /// Nobody listening is nothing to act on: the daemon is stopping.
    async fn tell(&self, batch: Vec<Seen>) {
        if !batch.is_empty() {
            let _ = self.observe.send(batch).await;
        }
    }

    fn listed(&self) -> Vec<Uuid> {
        places(&self.found).into_values().collect()
    }

    fn is_read_due(&self, uuid: &Uuid) -> bool {
        let now = self.clock.now();
        self.due_reading(uuid).is_some_and(|due| due <= now)
    }

    /// When a GPU is to be read beside the polls, unless that has been done and not been taken in yet.
    fn due_reading(&self, uuid: &Uuid) -> Option<Moment> {
        let due = *self.wants.borrow().readings.get(uuid)?;
        self.read.get(uuid).is_none_or(|read| *read < due).then_some(due)
    }

    fn renewal_due(&mut self, now: Moment) -> Option<Moment> {
        // With a call that does not return NVML cannot be shut down.
        let wanted = self.wants.borrow().enumeration && self.crew.held_up().is_empty();
        self.renewal.due(now, wanted)
    }

    fn next_due(&mut self, next_poll: Instant) -> Instant {
        let now = self.clock.now();
        let readable = self.listed().into_iter().filter(|uuid| !self.crew.is_held_up(&Subject::Gpu(uuid.clone())));
        let reading = readable.filter_map(|uuid| self.due_reading(&uuid)).min();
        let moments = reading.into_iter().chain(self.renewal_due(now)).map(|moment| self.clock.instant(moment));
        let scan = self.wants_scan.then(Instant::now);
        moments.chain(self.crew.next_deadline()).chain(scan).fold(next_poll, Instant::min)
    }
}

fn about(at: Moment, uuid: Uuid, observation: health::Observation) -> Seen {
    Seen { at, observation: Observation::Health(NodeObservation::Gpu(uuid, observation)) }
}

fn missed(at: Moment, held_up: &HeldUp) -> Option<Seen> {
    Some(about(at, held_up.gpu()?.clone(), health::Observation::Missed { call: held_up.call }))
}

fn is_epoch(observation: &Observation) -> bool {
    matches!(observation, Observation::Health(NodeObservation::Epoch(_)))
}

fn place(found: &Found) -> u32 {
    match found {
        Found::Gpu(gpu) => gpu.index,
        Found::Failed { index, .. } => *index,
    }
}

fn places(found: &[Found]) -> BTreeMap<u32, Uuid> {
    let places = found.iter().filter_map(|found| match found {
        Found::Gpu(gpu) => Some((gpu.index, gpu.uuid.clone())),
        Found::Failed { index, uuid, .. } => Some((*index, uuid.clone()?)),
    });
    places.collect()
}

fn report_return(held_up: &HeldUp) {
    info!(
        gpu.uuid = held_up.gpu().map_or("unknown", Uuid::as_str),
        call = held_up.call,
        seconds = held_up.lasted().as_secs(),
        "NVML answers about the GPU again"
    );
}

/// Says which GPUs answer with errors that did not before.
fn report_failed(found: &[Found], last: &[Found]) {
    for failed in found.iter().filter(|found| !last.contains(found)) {
        if let Found::Failed { index, uuid, error } = failed {
            let served = if uuid.is_some() { "it is served Unhealthy" } else { "without a UUID it cannot be served" };
            let uuid = uuid.as_ref().map_or("unknown", Uuid::as_str);
            warn!(
                gpu.index = index,
                gpu.uuid = uuid,
                %error,
                "a GPU answers with an error; {served}, the others are not concerned"
            );
        }
    }
}
