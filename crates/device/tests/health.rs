//! Health against a small model of the truth: random histories of two GPUs, in which no GPU is
//! Healthy while something holds it back, each is Healthy soon after all is over, and none is
//! affected by what happens to another.
#![allow(
    clippy::unwrap_used,
    reason = "in the helpers too, a panic is a failed test with its place"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use device::health::{
    CauseKind, Epoch, Fabric, FabricState, GpuPart, Health, HealthPolicy, HealthRules, Moment,
    NodeHealth, NodeObservation, NvmlError, Observation, Overrides, Reading, RecoveryAction,
    RepairEvidence, ReturnCode, Scope, Xid, XidAction,
};
use device::names::Uuid;
use proptest::prelude::*;

const GPUS: usize = 2;
/// `recoveryPolls`. Polls are ten seconds apart, which is more than the suspicion.
const RECOVERY_POLLS: u32 = 2;

fn uuid(gpu: usize) -> Uuid {
    format!("GPU-{gpu}").parse().unwrap()
}

/// A fatal Xid that is not over.
#[derive(Debug, Clone, Copy, Default)]
struct Fatal {
    clean_polls: u32,
    has_evidence: bool,
}

impl Fatal {
    fn is_over(&self, takes_evidence: bool) -> bool {
        self.clean_polls >= RECOVERY_POLLS && (self.has_evidence || !takes_evidence)
    }
}

/// What is true of one GPU, and what of it has been seen.
#[derive(Debug, Clone, Default)]
struct Gpu {
    // The device.
    asks_for: u32,
    is_joining: bool,
    fails: bool,
    is_gone: bool,
    // What was seen.
    is_listed: bool,
    has_answered: bool,
    seen_asking: bool,
    seen_joining: bool,
    is_quarantined: bool,
    lost_in: Option<u64>,
    absent_from: Option<u64>,
    /// Xid 95; it is fatal by its class.
    fatal: Option<Fatal>,
    /// Xid 94, which the operator made fatal.
    configured: Option<Fatal>,
    /// Xid 54, which only a person or a boot ends.
    sticky: Option<Fatal>,
}

impl Gpu {
    fn reading(&self, has_field: bool) -> Reading {
        let error = |code| NvmlError { call: "x", code: ReturnCode(code) };
        let state = if self.is_joining { FabricState::InProgress } else { FabricState::Completed };
        let fabric = Fabric { state, status: ReturnCode::SUCCESS, health_mask: 0 };
        let action = match has_field {
            true => Ok(RecoveryAction::from(self.asks_for)),
            false => Err(error(3)),
        };
        let fails = |answer| if self.fails { Err(error(999)) } else { answer };
        Reading {
            recovery_action: Some(action),
            fabric: Some(Ok(fabric)),
            probe: Some(fails(Ok(()))),
            remapped_rows: Some(Err(error(3))),
        }
    }

    fn is_polled(&mut self, has_field: bool) {
        self.has_answered |= !self.fails;
        // 5 is a recovery of the IMEX domain, which the GPU itself does not need.
        self.seen_asking = has_field && !matches!(self.asks_for, 0 | 5);
        self.seen_joining = self.is_joining;
        let is_clean = !self.fails && !self.seen_asking;
        for fatal in self.fatals() {
            fatal.clean_polls = if is_clean { fatal.clean_polls + 1 } else { 0 };
        }
        self.fatal.take_if(|fatal| fatal.is_over(!has_field));
        self.configured.take_if(|fatal| fatal.is_over(true));
        self.sticky.take_if(|fatal| fatal.is_over(true));
    }

    fn fatals(&mut self) -> impl Iterator<Item = &mut Fatal> {
        [&mut self.fatal, &mut self.configured, &mut self.sticky].into_iter().flatten()
    }

    /// Why the GPU cannot be Healthy now.
    fn held_back(&self) -> Option<&'static str> {
        [
            (!self.has_answered, "it has not answered"),
            (self.seen_asking, "the driver asks for something"),
            (self.seen_joining, "it has not joined its fabric"),
            (self.is_quarantined, "it is quarantined"),
            (!self.is_listed, "it is not listed"),
            (self.lost_in.is_some(), "it is lost"),
            (self.fatal.is_some(), "a fatal Xid is not over"),
            (self.configured.is_some(), "a configured Xid is not over"),
            (self.sticky.is_some(), "a sticky Xid is not over"),
        ]
        .into_iter()
        .find_map(|(holds, why)| holds.then_some(why))
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Asks(usize, u32),
    Joins(usize, bool),
    Fails(usize, bool),
    Goes(usize, bool),
    Xid(usize, u32),
    Loses(usize),
    TimesOut(usize),
    Quarantines(usize, bool),
    Resets(usize),
    Clears(usize),
    ReloadsDriver,
    Polls(usize, u32),
    /// In a new session; one GPU is perhaps not identified.
    Enumerates {
        new_session: bool,
        unidentified: Option<usize>,
    },
}

impl Step {
    /// The one GPU that it is about.
    fn gpu(self) -> Option<usize> {
        match self {
            Self::Asks(gpu, _)
            | Self::Joins(gpu, _)
            | Self::Fails(gpu, _)
            | Self::Goes(gpu, _)
            | Self::Xid(gpu, _)
            | Self::Loses(gpu)
            | Self::TimesOut(gpu)
            | Self::Quarantines(gpu, _)
            | Self::Resets(gpu)
            | Self::Clears(gpu)
            | Self::Polls(gpu, _) => Some(gpu),
            Self::ReloadsDriver | Self::Enumerates { .. } => None,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let gpu = || 0..GPUS;
    let xid = prop::sample::select(vec![95, 95, 95, 94, 54, 13]);
    prop_oneof![
        1 => (gpu(), prop_oneof![Just(0), 1..9_u32]).prop_map(|(gpu, to)| Step::Asks(gpu, to)),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Joins(gpu, is)),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Fails(gpu, is)),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Goes(gpu, is)),
        3 => (gpu(), xid).prop_map(|(gpu, xid)| Step::Xid(gpu, xid)),
        1 => gpu().prop_map(Step::Loses),
        1 => gpu().prop_map(Step::TimesOut),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Quarantines(gpu, is)),
        1 => gpu().prop_map(Step::Resets),
        1 => gpu().prop_map(Step::Clears),
        1 => Just(Step::ReloadsDriver),
        12 => (gpu(), 1..4_u32).prop_map(|(gpu, times)| Step::Polls(gpu, times)),
        8 => (any::<bool>(), prop::option::weighted(0.4, gpu())).prop_map(
            |(new_session, unidentified)| Step::Enumerates { new_session, unidentified }
        ),
    ]
}

/// The node, and the truth beside it.
struct World {
    health: NodeHealth,
    gpus: Vec<Gpu>,
    has_field: bool,
    now: Moment,
    session: u64,
    loads: u32,
}

impl World {
    fn new(has_field: bool, relapses: bool) -> Self {
        let mut rules = HealthRules {
            actions: [(Xid(94), XidAction::Unhealthy)].into(),
            ..HealthRules::default()
        };
        if !relapses {
            rules.thresholds.relapses = None;
        }
        let health = NodeHealth::new(HealthPolicy::new(rules, Overrides::default()).0, epoch_of(0));
        let gpus = vec![Gpu::default(); GPUS];
        let now = Moment::default();
        let mut world = Self { health, gpus, has_field, now, session: 0, loads: 0 };
        world.take(Step::Enumerates { new_session: true, unidentified: None });
        world
    }

    fn take(&mut self, step: Step) {
        self.now = self.now.after(Duration::from_millis(500));
        match step {
            Step::Asks(gpu, action) => self.gpus[gpu].asks_for = action,
            Step::Joins(gpu, is_joining) => self.gpus[gpu].is_joining = is_joining,
            Step::Fails(gpu, fails) => self.gpus[gpu].fails = fails,
            Step::Goes(gpu, is_gone) => self.gpus[gpu].is_gone = is_gone,
            Step::Xid(gpu, number) => self.xid(gpu, number),
            Step::Loses(gpu) => {
                self.gpus[gpu].lost_in = Some(self.session);
                let code = ReturnCode::GPU_IS_LOST;
                self.observe(gpu, Observation::Failed(NvmlError { call: "x", code }));
            }
            Step::TimesOut(gpu) => {
                self.gpus[gpu].fatals().for_each(|fatal| fatal.clean_polls = 0);
                self.observe(gpu, Observation::TimedOut { call: "x" });
            }
            Step::Quarantines(gpu, is_quarantined) => self.quarantine(gpu, is_quarantined),
            Step::Resets(gpu) => {
                let fatals = [&mut self.gpus[gpu].fatal].into_iter().flatten();
                fatals.for_each(|fatal| fatal.has_evidence = true);
                let fatals = [&mut self.gpus[gpu].configured].into_iter().flatten();
                fatals.for_each(|fatal| fatal.has_evidence = true);
                self.observe(gpu, Observation::Repaired(RepairEvidence::Reset));
            }
            Step::Clears(gpu) => self.clear(gpu),
            Step::ReloadsDriver => self.reload(),
            Step::Polls(gpu, times) => (0..times).for_each(|_| self.poll(gpu)),
            Step::Enumerates { new_session, unidentified } => {
                self.enumerate(new_session, unidentified);
            }
        }
    }

    fn observe(&mut self, gpu: usize, observation: Observation) {
        self.health.apply(self.now, NodeObservation::Gpu(uuid(gpu), observation));
    }

    fn xid(&mut self, gpu: usize, number: u32) {
        let fatal = match number {
            95 => &mut self.gpus[gpu].fatal,
            94 => &mut self.gpus[gpu].configured,
            54 => &mut self.gpus[gpu].sticky,
            _ => &mut None,
        };
        *fatal = Some(Fatal::default());
        if !self.health.gpus().contains_key(&uuid(gpu)) {
            // Nothing is known of a GPU that is forgotten, and it is not Healthy.
            *fatal = None;
        }
        self.observe(gpu, Observation::Xid { xid: Xid(number), scope: Scope::Gpu });
    }

    fn quarantine(&mut self, gpu: usize, is_quarantined: bool) {
        self.gpus[gpu].is_quarantined = is_quarantined;
        let quarantined = (0..GPUS).filter(|gpu| self.gpus[*gpu].is_quarantined);
        let texts = quarantined.map(|gpu| (uuid(gpu), "fan".into())).collect();
        self.health.apply(self.now, NodeObservation::Quarantine(texts));
    }

    fn clear(&mut self, gpu: usize) {
        let of = &mut self.gpus[gpu];
        of.fatals().for_each(|fatal| fatal.has_evidence = true);
        if !of.is_listed {
            let (is_gone, is_quarantined) = (of.is_gone, of.is_quarantined);
            let (asks_for, is_joining, fails) = (of.asks_for, of.is_joining, of.fails);
            *of = Gpu { is_gone, is_quarantined, asks_for, is_joining, fails, ..Gpu::default() };
        }
        of.lost_in = None;
        let clear = NodeObservation::Clear { gpu: uuid(gpu), cause: None };
        self.health.apply(self.now, clear);
    }

    fn reload(&mut self) {
        self.loads += 1;
        for gpu in &mut self.gpus {
            for fatal in [&mut gpu.fatal, &mut gpu.configured].into_iter().flatten() {
                fatal.has_evidence = true;
            }
            // What the last driver said is not known to be so of the next one.
            (gpu.seen_asking, gpu.seen_joining) = (false, false);
        }
        self.health.apply(self.now, NodeObservation::Epoch(epoch_of(self.loads)));
    }

    fn poll(&mut self, gpu: usize) {
        self.now = self.now.after(Duration::from_secs(10));
        // NVML has a handle of what it lists.
        if self.gpus[gpu].is_listed {
            self.gpus[gpu].is_polled(self.has_field);
            let reading = self.gpus[gpu].reading(self.has_field);
            self.observe(gpu, Observation::Poll(reading));
        }
    }

    fn enumerate(&mut self, new_session: bool, unidentified: Option<usize>) {
        self.session += u64::from(new_session);
        let unidentified = unidentified.filter(|gpu| !self.gpus[*gpu].is_gone);
        let mut listed = BTreeSet::new();
        for (index, gpu) in self.gpus.iter_mut().enumerate() {
            gpu.is_listed = !gpu.is_gone && unidentified != Some(index);
            if gpu.is_listed {
                listed.insert(uuid(index));
                gpu.lost_in.take_if(|session| *session != self.session);
                let is_back = gpu.absent_from.take().is_some_and(|from| from != self.session);
                gpu.fatal.iter_mut().for_each(|fatal| fatal.has_evidence |= is_back);
            } else if unidentified.is_none() {
                gpu.absent_from.get_or_insert(self.session);
            }
        }
        let (session, complete) = (self.session, unidentified.is_none());
        self.health
            .apply(self.now, NodeObservation::Enumeration { session, gpus: listed, complete });
    }

    fn healths(&self) -> Vec<Health> {
        (0..GPUS).map(|gpu| self.health.health_of(&uuid(gpu), GpuPart::Whole)).collect()
    }

    /// The kinds of the causes that are left of all GPUs.
    fn left(&self) -> Vec<CauseKind> {
        let healths = self.healths();
        healths.iter().flat_map(Health::reasons).map(|reason| reason.cause.kind()).collect()
    }

    /// Everything is over: the devices are well, nothing is quarantined, and NVML lists them all.
    fn ends(&mut self, by_a_person: bool) {
        for gpu in 0..GPUS {
            self.take(Step::Asks(gpu, 0));
            self.take(Step::Joins(gpu, false));
            self.take(Step::Fails(gpu, false));
            self.take(Step::Goes(gpu, false));
            self.take(Step::Quarantines(gpu, false));
        }
        self.take(Step::Enumerates { new_session: true, unidentified: None });
        for gpu in (0..GPUS).filter(|_| by_a_person) {
            self.take(Step::Clears(gpu));
        }
        (0..GPUS).for_each(|gpu| self.take(Step::Polls(gpu, RECOVERY_POLLS)));
    }
}

fn epoch_of(load: u32) -> Epoch {
    Epoch { boot: "boot".to_owned(), driver: Some(load.to_string()) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_gpu_is_healthy_while_something_holds_it_back_and_each_is_once_all_is_over(
        has_field in any::<bool>(),
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let mut world = World::new(has_field, true);
        for step in steps {
            let before = world.healths();
            world.take(step);
            for (gpu, after) in world.healths().iter().enumerate() {
                let held_back = world.gpus[gpu].held_back();
                let is_wrong = after.is_healthy() && held_back.is_some();
                prop_assert!(!is_wrong, "GPU {gpu} after {step:?}: {held_back:?}");
                if step.gpu().is_some_and(|about| about != gpu) {
                    prop_assert_eq!(after, &before[gpu], "GPU {} after {:?}", gpu, step);
                }
            }
        }
        world.ends(true);
        prop_assert_eq!(world.left(), []);
    }

    #[test]
    fn without_a_person_each_is_healthy_once_all_is_over_that_can_be_over(
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let mut world = World::new(true, false);
        for step in steps {
            // These wait for a person or a repair.
            if !matches!(step, Step::Xid(_, 94 | 54)) {
                world.take(step);
            }
        }
        world.ends(false);
        prop_assert_eq!(world.left(), []);
    }
}
