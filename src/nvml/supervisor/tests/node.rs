//! A simulated driver behind the supervisor: what is true of each GPU, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device::allocation::AllocationPolicy;
use device::gpu::{Gpu, MigMode};
use device::health::{
    Degradation, Epoch, EventType, GpuHealth, HealthPolicy, HealthRules, Moment, NodeHealth,
    NodeObservation, NvmlError as CallError, Observation, Overrides, Reading, RecoveryAction,
    ReturnCode, Scope, Thresholds, Xid,
};
use device::identity::PciFunction;
use device::injection::Injector;
use device::inventory::{EnumerationEntry, Inventory, InventoryEvent};
use device::names::{PciBusId, Uuid};

use super::pods::{self, Pods, mig_devices};
use crate::nvml::bus::BusScan;
use crate::nvml::channels::ReadRequests;
use crate::nvml::event_set::Registration;
use crate::nvml::inspection::Inspection;
use crate::nvml::job::{Answer, Job, Opened, Outcome, Task};
use crate::nvml::library::NvmlOpenError;
use crate::nvml::links::GpuLinks;
use crate::nvml::reading::Answers;
use crate::nvml::release::{ReleaseEnd, Usage};
use crate::nvml::session::NoUuid;
use crate::nvml::settings::PollSettings;
use crate::nvml::supervisor::{Phase, Supervisor};
use crate::nvml::telemetry::NvmlTelemetry;
use crate::nvml::threads::Overdue;

pub(super) const POLL: Duration = Duration::from_secs(10);
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// A cause that stands for longer than this is found: three failed polls in a row, or twelve
/// deadlines of an initialisation, and a little.
const DETECTION: Duration = Duration::from_secs(90);
/// After this time without a cause a GPU is Healthy: a look, a new initialisation, clean polls.
const RECOVERY: Duration = Duration::from_secs(150);

/// What is true of a GPU.
#[derive(Debug, Clone)]
pub(super) struct SimGpu {
    pub(super) uuid: Uuid,
    address: PciBusId,
    /// On the bus and bound to the driver.
    pub(super) bound: bool,
    /// Fallen off the bus: every call about it answers 15, and a new initialisation has it not.
    pub(super) lost: bool,
    /// A child process has it although it is lost.
    pub(super) seen_by_child_alone: bool,
    /// Calls about it do not return.
    pub(super) hangs: bool,
    /// It is cut into MIG devices.
    pub(super) partitioned: bool,
    /// Its health cannot be read: this code.
    pub(super) fails: Option<u32>,
    /// It cannot be registered for events.
    pub(super) deaf: bool,
    pub(super) action: RecoveryAction,
    pub(super) quarantined: bool,
    /// An Xid stands that no reading states again, on a driver without recovery actions.
    pub(super) latched: bool,
    /// Whether there may be evidence of repair, which the model does not decide on.
    pub(super) uncertain: bool,
    /// What it has consumed, as far as it says.
    pub(super) energy: Option<u64>,
    /// Whether it has answered this process.
    answered: bool,
    /// Since when it has a cause, or none.
    since: Moment,
    had_cause: bool,
}

/// A simulated node.
pub(super) struct Node {
    pub(super) gpus: Vec<SimGpu>,
    /// The driver has no recovery actions.
    pub(super) old_driver: bool,
    epoch: Epoch,
    pub(super) init_takes: Duration,
    /// How long reading the bus takes.
    pub(super) bus_takes: Duration,
    /// There is no thread to be had on which NVML could be initialised.
    pub(super) out_of_threads: bool,
    /// NVML cannot be initialised: this code.
    pub(super) init_fails: Option<u32>,
    /// The number of GPUs can be read only by the initialisation.
    pub(super) counts_once: bool,
    now: Moment,
    supervisor: Supervisor,
    pub(super) inventory: Inventory,
    pub(super) pods: Pods,
    /// The GPUs of the present NVML session by its indices; `None`: it is not open, or is void.
    listed: Option<Vec<usize>>,
    registered: BTreeSet<Uuid>,
    /// The sessions that are not shut down.
    open_sessions: BTreeSet<u64>,
    /// Jobs that have not returned: when each began, and the deadlines that it has missed.
    hung: Vec<(Job, Moment, u32)>,
    /// Answers that come later: when, when each began, and what the job has found, where that was
    /// then.
    later: Vec<(Moment, Moment, Job, Option<Outcome>)>,
    listening: Option<Job>,
    looks: u32,
    /// When links were asked for.
    links_asked: Vec<Moment>,
}

impl SimGpu {
    /// What was latched is over, but for a code 16 that the GPU still answers with.
    fn is_reset(&mut self) {
        (self.lost, self.latched) = (false, false);
        self.uncertain = self.fails == Some(16);
    }
}

impl Node {
    pub(super) fn new(gpus: u32, old_driver: bool) -> Self {
        let epoch = Epoch { boot: "1".to_owned(), driver: Some("1".to_owned()) };
        let gpu = |n| SimGpu {
            uuid: format!("GPU-{n:08}").parse().unwrap(),
            address: format!("0000:{:02x}:00.0", n + 1).parse().unwrap(),
            bound: true,
            lost: false,
            seen_by_child_alone: false,
            hangs: false,
            partitioned: false,
            fails: None,
            deaf: false,
            action: RecoveryAction::None,
            quarantined: false,
            latched: false,
            uncertain: false,
            energy: None,
            answered: false,
            since: Moment::default(),
            had_cause: false,
        };
        Self {
            gpus: (0..gpus).map(gpu).collect(),
            old_driver,
            supervisor: supervisor(),
            inventory: inventory(epoch.clone()),
            pods: Pods::default(),
            epoch,
            init_takes: Duration::from_millis(1),
            bus_takes: Duration::ZERO,
            out_of_threads: false,
            init_fails: None,
            counts_once: false,
            now: Moment::default(),
            listed: None,
            registered: BTreeSet::new(),
            open_sessions: BTreeSet::new(),
            hung: Vec::new(),
            later: Vec::new(),
            listening: None,
            looks: 0,
            links_asked: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.now
    }

    pub(super) fn gpu(&mut self, n: usize) -> &mut SimGpu {
        &mut self.gpus[n]
    }

    /// How many devices the kubelet would be told are Healthy.
    pub(super) fn healthy(&self) -> usize {
        self.listed_devices().filter(|(_, device)| self.inventory.is_healthy(device)).count()
    }

    /// How many GPUs are said to have no events.
    pub(super) fn deaf(&self) -> usize {
        let gpus = self.inventory.node_health().gpus().values();
        let is_deaf = |gpu: &&GpuHealth| gpu.degradations().contains_key(&Degradation::NoEvents);
        gpus.filter(is_deaf).count()
    }

    pub(super) fn sessions(&self) -> u64 {
        self.supervisor.session
    }

    pub(super) fn looks(&self) -> u32 {
        self.looks
    }

    pub(super) fn links_asked(&self) -> &[Moment] {
        &self.links_asked
    }

    pub(super) fn hung(&self) -> usize {
        self.hung.len()
    }

    /// The driver is loaded again: NVML as it was opened fails, and no GPU is lost any more.
    pub(super) fn reload_driver(&mut self) {
        let driver = self.epoch.driver.take().map_or(1, |text| text.parse::<u32>().unwrap() + 1);
        self.epoch.driver = Some(driver.to_string());
        self.listed = None;
        self.gpus.iter_mut().for_each(SimGpu::is_reset);
    }

    /// The plugin ends and is started again, with the state file, on the same boot or a new one.
    pub(super) fn restart(&mut self, new_boot: bool) {
        let persisted = self.inventory.node_health().persist();
        let known = self.inventory.known_gpus(&self.epoch.boot);
        if new_boot {
            self.epoch.boot.push('1');
            self.gpus.iter_mut().for_each(SimGpu::is_reset);
        }
        let mut health = NodeHealth::new(policy(), self.epoch.clone());
        health.restore(self.now, &persisted);
        let layout = self.inventory.layout().clone();
        self.inventory = inventory_of(health);
        self.inventory.set_layout(layout);
        self.inventory.restore_gpus(&self.epoch.boot, known);
        self.supervisor = supervisor();
        self.listed = None;
        (self.hung, self.later, self.listening) = (Vec::new(), Vec::new(), None);
        self.open_sessions.clear();
        let now = self.now;
        for gpu in &mut self.gpus {
            (gpu.answered, gpu.since) = (false, now);
        }
        self.restart_pods();
        self.send_quarantine();
    }

    /// NVML is to be released for this time, or for as long as is configured.
    pub(super) fn release(&mut self, time: Option<Duration>) {
        self.supervisor.release(self.now, time);
        self.settle();
    }

    pub(super) fn take_up(&mut self) {
        self.supervisor.take_up(self.now);
        self.settle();
    }

    /// What came of releases since this was last called.
    pub(super) fn release_end(&mut self) -> Option<ReleaseEnd> {
        self.supervisor.take_release_end()
    }

    pub(super) fn usage(&self) -> Usage {
        self.supervisor.usage()
    }

    pub(super) fn send_quarantine(&mut self) {
        let quarantined = self.gpus.iter().filter(|gpu| gpu.quarantined);
        let entries = quarantined.map(|gpu| (gpu.uuid.clone(), "by hand".into())).collect();
        self.apply(NodeObservation::Quarantine(entries));
    }

    /// An operator says that a GPU is repaired.
    pub(super) fn clear(&mut self, n: usize) {
        let gpu = self.gpus[n].uuid.clone();
        let lost = self.gpus[n].lost;
        self.gpus[n].is_reset();
        self.gpus[n].lost = lost;
        self.apply(NodeObservation::Clear { gpu, cause: None });
    }

    /// NVML fails in the moment in which the driver reports an Xid.
    pub(super) fn xid_and_failure(&mut self, n: usize, xid: u32) {
        let job = Job { session: self.supervisor.session, task: Task::Count };
        self.report_xid(n, xid);
        let call = "nvmlDeviceGetCount_v2";
        let outcome = Outcome::Counted(Err(CallError { call, code: ReturnCode::UNKNOWN }));
        self.supervisor.answered(self.now, Answer { job, began: self.now, outcome });
        self.settle();
    }

    /// The driver reports an Xid.
    pub(super) fn xid(&mut self, n: usize, xid: u32) {
        self.report_xid(n, xid);
        self.settle();
    }

    fn report_xid(&mut self, n: usize, xid: u32) {
        let uuid = self.gpus[n].uuid.clone();
        let Some(job) = self.listening.clone() else { return };
        if self.listed.is_none() || !self.registered.contains(&uuid) {
            return;
        }
        let now = self.now;
        let gpu = &mut self.gpus[n];
        gpu.latched |= self.old_driver;
        // Elsewhere the Xid is over when the driver asks for nothing: from now on it takes a while.
        gpu.since = now;
        let observation = Observation::Xid { xid: Xid(xid), scope: Scope::Gpu };
        let event = Some(NodeObservation::Gpu(uuid, observation));
        let answer = Answer { job, began: self.now, outcome: Outcome::Event(event) };
        self.supervisor.answered(self.now, answer);
    }

    /// Something about a GPU, or about all of them, is different from now on.
    pub(super) fn changed(&mut self, gpu: Option<usize>) {
        let now = self.now;
        let concerned = |n: &usize| gpu.is_none_or(|gpu| gpu == *n);
        (0..self.gpus.len()).filter(concerned).for_each(|n| self.gpus[n].since = now);
    }

    /// Lets time pass; what must always be true is checked whenever something happens.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.return_calls();
            self.settle();
            self.check();
            let due = self.next_event().unwrap_or(end);
            if due > end || self.now == end {
                break;
            }
            self.now = due.max(self.now.after(Duration::from_millis(1))).min(end);
            self.miss_deadlines();
        }
        self.now = end;
        self.settle();
        self.check();
    }

    fn next_event(&self) -> Option<Moment> {
        let missed =
            self.hung.iter().map(|(_, since, missed)| since.after(DEADLINE * (missed + 1)));
        let later = self.later.iter().map(|(at, ..)| *at);
        missed.chain(later).chain(self.supervisor.wake_at(self.now)).min()
    }

    fn miss_deadlines(&mut self) {
        for at in 0..self.hung.len() {
            let (job, since, missed) = &mut self.hung[at];
            if since.after(DEADLINE * (*missed + 1)) <= self.now {
                *missed += 1;
                let overdue = Overdue { job: job.clone(), call: "nvmlHangs", missed: *missed };
                self.supervisor.overdue(self.now, &overdue);
            }
        }
    }

    /// The calls that hang no longer return.
    fn return_calls(&mut self) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, ..)| *at <= self.now);
        self.later = later;
        let hung = std::mem::take(&mut self.hung);
        let (still, returned): (Vec<_>, Vec<_>) =
            hung.into_iter().partition(|(job, ..)| self.is_held_up(job));
        self.hung = still;
        let returned = returned.into_iter().map(|(job, since, _)| (since, job, None));
        let due = due.into_iter().map(|(_, began, job, found)| (began, job, found));
        for (began, job, found) in due.chain(returned) {
            let outcome = found.unwrap_or_else(|| self.outcome(&job));
            self.supervisor.answered(self.now, Answer { job, began, outcome });
        }
        self.end_closed_session();
    }

    fn is_held_up(&self, job: &Job) -> bool {
        match &job.task {
            Task::Identify { index } => {
                let gpu = self.listed.as_ref().and_then(|listed| listed.get(*index as usize));
                gpu.is_some_and(|n| self.gpus[*n].hangs)
            }
            Task::Describe { gpu, .. } | Task::Read { gpu, .. } => {
                self.gpus.iter().any(|known| known.uuid == *gpu && known.hangs)
            }
            _ => false,
        }
    }

    /// Does jobs and applies observations until there are none.
    fn settle(&mut self) {
        loop {
            self.supervisor.step(self.now);
            let jobs = self.supervisor.take_jobs();
            let batch = self.supervisor.take_batch();
            let look = self.supervisor.take_look();
            if jobs.is_empty() && batch.is_empty() && !look {
                return;
            }
            jobs.into_iter().for_each(|job| self.begin(job));
            for timed in batch {
                self.inventory.apply(timed.at, timed.observation);
            }
            self.review_pods();
            self.supervisor.set_requests(ReadRequests::of(self.inventory.node_health()));
            if look {
                self.looks += 1;
                let there = |gpu: &&SimGpu| {
                    gpu.bound && !gpu.hangs && (!gpu.lost || gpu.seen_by_child_alone)
                };
                let seen = self.gpus.iter().filter(there).map(|gpu| gpu.uuid.clone()).collect();
                self.supervisor.looked(self.now, Ok(seen));
            }
        }
    }

    fn apply(&mut self, observation: NodeObservation) {
        self.inventory.apply(self.now, InventoryEvent::Health(observation));
        self.supervisor.set_requests(ReadRequests::of(self.inventory.node_health()));
        self.settle();
    }

    fn begin(&mut self, job: Job) {
        if matches!(job.task, Task::Links { .. }) {
            self.links_asked.push(self.now);
        }
        if matches!(job.task, Task::Listen { .. }) {
            self.listening = Some(job);
        } else if matches!(job.task, Task::Open) && self.out_of_threads {
            self.supervisor.answered(self.now, Answer::not_started(job, self.now));
        } else if matches!(job.task, Task::Open) && !self.init_takes.is_zero() {
            self.later.push((self.now.after(self.init_takes), self.now, job, None));
        } else if matches!(job.task, Task::Bus) && !self.bus_takes.is_zero() {
            let found = self.outcome(&job);
            self.later.push((self.now.after(self.bus_takes), self.now, job, Some(found)));
        } else if self.is_held_up(&job) {
            self.hung.push((job, self.now, 0));
        } else {
            let (began, outcome) = (self.now, self.outcome(&job));
            self.supervisor.answered(self.now, Answer { job, began, outcome });
            self.end_closed_session();
        }
    }

    /// NVML is shut down when no thread is in it.
    fn end_closed_session(&mut self) {
        let closing = matches!(self.supervisor.phase, Phase::Closing { .. });
        let (current, closed) = (self.supervisor.session, closing && self.listed.is_none());
        let is_over = |session: &u64| {
            let in_it = self.hung.iter().any(|(job, ..)| job.session == *session);
            !in_it && (*session < current || closed)
        };
        let over: Vec<u64> = self.open_sessions.iter().copied().filter(is_over).collect();
        for session in over {
            self.open_sessions.remove(&session);
            self.supervisor.shut_down(self.now, session);
        }
    }

    fn outcome(&mut self, job: &Job) -> Outcome {
        const VOID: u32 = 9;
        let void = |call| CallError { call, code: ReturnCode(VOID) };
        match &job.task {
            Task::Bus => {
                let bound = self.gpus.iter().filter(|gpu| gpu.bound).map(|gpu| gpu.address);
                let bound = Some(bound.collect());
                Outcome::Bus(self.epoch.clone(), BusScan { bound, functions: Ok(self.functions()) })
            }
            Task::Open => {
                let opened = self.open();
                if opened.is_ok() {
                    self.open_sessions.insert(job.session);
                }
                Outcome::Opened(opened)
            }
            Task::Count => Outcome::Counted(match &self.listed {
                Some(listed) if !self.counts_once => Ok(u32::try_from(listed.len()).unwrap()),
                _ => Err(void("nvmlDeviceGetCount_v2")),
            }),
            Task::Identify { index } => {
                Outcome::Identified(self.handle(*index).map_err(NoUuid::Failed))
            }
            Task::Describe { index, gpu } => Outcome::Described(match self.handle(*index) {
                Ok(uuid) => EnumerationEntry::Gpu(self.facts(*index, uuid)),
                Err(error) => {
                    EnumerationEntry::Failed { index: *index, uuid: Some(gpu.clone()), error }
                }
            }),
            Task::Register { gpus, .. } => Outcome::Registered(Ok(self.register(gpus))),
            Task::Read { gpu, .. } => Outcome::Read(self.read(gpu)),
            Task::Inspect { .. } => Outcome::Inspected(Ok(Inspection::default())),
            Task::Links { .. } => Outcome::Links(GpuLinks::default()),
            Task::Listen { .. } => Outcome::Listened(Ok(())),
            Task::Close => {
                (self.listed, self.listening) = (None, None);
                Outcome::Closed
            }
        }
    }

    fn functions(&self) -> Vec<PciFunction> {
        let function = |gpu: &SimGpu| PciFunction {
            id: gpu.address,
            driver: gpu.bound.then(|| "nvidia".to_owned()),
            class: 0x03_02_00,
            virtual_function: false,
            given: true,
        };
        self.gpus.iter().map(function).collect()
    }

    fn open(&mut self) -> Result<Opened, NvmlOpenError> {
        if let Some(code) = self.init_fails {
            let error = CallError { call: "nvmlInit_v2", code: ReturnCode(code) };
            return Err(NvmlOpenError::Init { library: "simulated".to_owned(), error });
        }
        let there = |n: &usize| self.gpus[*n].bound && !self.gpus[*n].lost;
        let listed: Vec<usize> = (0..self.gpus.len()).filter(there).collect();
        let count = Ok(u32::try_from(listed.len()).unwrap());
        self.listed = Some(listed);
        self.registered.clear();
        let library = "simulated".to_owned();
        let (epoch, versions) = (self.epoch.clone(), Default::default());
        Ok(Opened { epoch, library, tried: Vec::new(), versions, count })
    }

    fn handle(&self, index: u32) -> Result<Uuid, CallError> {
        let call = "nvmlDeviceGetHandleByIndex_v2";
        let listed = self.listed.as_ref().ok_or(CallError { call, code: ReturnCode(9) })?;
        match listed.get(index as usize).map(|n| &self.gpus[*n]) {
            Some(gpu) if gpu.bound && !gpu.lost => Ok(gpu.uuid.clone()),
            _ => Err(CallError { call, code: ReturnCode::GPU_IS_LOST }),
        }
    }

    fn facts(&self, index: u32, uuid: Uuid) -> Gpu {
        let gpu = self.gpus.iter().find(|gpu| gpu.uuid == uuid).unwrap();
        let pci_bus_id = Some(gpu.address);
        let (mig_mode, mig_devices) = match gpu.partitioned {
            true => (MigMode::On, mig_devices(&gpu.uuid)),
            false => (MigMode::Off, Vec::new()),
        };
        Gpu { pci_bus_id, mig_mode, mig_devices, ..Gpu::unknown(uuid, index) }
    }

    fn register(&mut self, gpus: &BTreeSet<Uuid>) -> BTreeMap<Uuid, Registration> {
        for gpu in gpus {
            let deaf = self.gpus.iter().any(|known| known.uuid == *gpu && known.deaf);
            if !deaf {
                self.registered.insert(gpu.clone());
            }
        }
        let call = "nvmlDeviceRegisterEvents";
        let failed = Registration::Failed(CallError { call, code: ReturnCode::UNKNOWN });
        let all = gpus.union(&self.registered).cloned().collect::<Vec<_>>().into_iter();
        all.map(|gpu| match self.registered.contains(&gpu) {
            true => (gpu, Registration::Registered),
            false => (gpu, failed.clone()),
        })
        .collect()
    }

    fn read(&mut self, uuid: &Uuid) -> Answers {
        let (call, void) = ("nvmlDeviceGetMemoryInfo", self.listed.is_none());
        let gpu = self.gpus.iter_mut().find(|gpu| gpu.uuid == *uuid).unwrap();
        let code = match gpu.fails {
            _ if void => Some(9),
            _ if gpu.lost || !gpu.bound => Some(15),
            code => code,
        };
        let failed = code.map(|code| CallError { call, code: ReturnCode(code) });
        let unsupported = CallError { call, code: ReturnCode::NOT_SUPPORTED };
        gpu.answered |= failed.is_none();
        let action = if self.old_driver { Err(unsupported.clone()) } else { Ok(gpu.action) };
        let reading = Reading {
            recovery_action: Some(failed.clone().map_or(action, Err)),
            remapped_rows: Some(Err(unsupported.clone())),
            fabric: Some(Err(unsupported)),
            probe: Some(failed.map_or(Ok(()), Err)),
        };
        Answers { reading, has_fabric: false, energy: gpu.energy }
    }

    /// What must always be true.
    fn check(&mut self) {
        let missing_wait = self.supervisor.renewal.next.after(RECOVERY);
        let blocked = !self.hung.is_empty() || self.supervisor.phase != Phase::Serving;
        let released = matches!(self.supervisor.phase, Phase::Released { .. });
        let node_cause = self.listed.is_none();
        for gpu in &mut self.gpus {
            gpu.uncertain |= self.counts_once;
            let cause = node_cause
                || !gpu.bound
                || gpu.lost
                || gpu.hangs
                || gpu.fails.is_some()
                || gpu.quarantined
                || gpu.latched
                || (!self.old_driver && gpu.action != RecoveryAction::None);
            // While NVML is released nothing is noticed.
            if cause != gpu.had_cause || (blocked && !cause) || released {
                (gpu.had_cause, gpu.since) = (cause, self.now);
            }
            let Some(healthy) = pods::health_of(&self.inventory, &gpu.uuid) else { continue };
            let stands = self.now.since(gpu.since);
            let health = || {
                self.inventory.node_health().health_of(&gpu.uuid, device::health::GpuPart::Whole)
            };
            if healthy {
                assert!(gpu.answered, "{} is Healthy before it answered", gpu.uuid);
                let hidden = cause && stands > DETECTION && !gpu.uncertain;
                assert!(!hidden, "{} is Healthy while its cause stands: {gpu:?}", gpu.uuid);
            } else {
                let late = !cause && stands > RECOVERY && self.now > missing_wait && !gpu.uncertain;
                assert!(!late, "{} is {} without a cause: {gpu:?}", gpu.uuid, health());
            }
        }
        self.check_owners();
    }
}

fn policy() -> HealthPolicy {
    let thresholds = Thresholds { relapses: None, ..Thresholds::default() };
    let rules = HealthRules { thresholds, ..HealthRules::default() };
    HealthPolicy::new(rules, Overrides::default()).0
}

fn inventory(epoch: Epoch) -> Inventory {
    inventory_of(NodeHealth::new(policy(), epoch))
}

fn inventory_of(health: NodeHealth) -> Inventory {
    let policy = AllocationPolicy::default();
    Inventory::new(pods::layout(1, false), Injector::default(), health, policy)
}

fn supervisor() -> Supervisor {
    let settings = PollSettings {
        events: EventType::ALL.into_iter().collect(),
        poll: POLL,
        deadline: DEADLINE,
        release_for: Duration::from_secs(30),
    };
    Supervisor::new(settings, true, NvmlTelemetry::default(), || 0.0)
}
