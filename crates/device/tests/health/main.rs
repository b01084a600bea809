//! Health against a small model of the truth: random histories of two GPUs, in which no GPU is
//! Healthy while something holds it back, each is Healthy soon after all is over, and none is
//! affected by what happens to another.
#![allow(
    clippy::unwrap_used,
    reason = "in the helpers too, a panic is a failed test with its place"
)]

mod gpu;
mod step;

use std::collections::BTreeSet;
use std::time::Duration;

use device::health::{
    CauseKind, Epoch, GpuPart, Health, HealthPolicy, HealthRules, Moment, NodeHealth,
    NodeObservation, NvmlError, Observation, Overrides, RepairEvidence, ReturnCode, Scope, Xid,
    XidAction,
};
use device::names::Uuid;
use proptest::prelude::*;

use gpu::{Fatal, Gpu};
use step::{Step, step};

const GPUS: usize = 2;
/// `recoveryPolls`. Polls are ten seconds apart, which is more than the suspicion.
const RECOVERY_POLLS: u32 = 2;

fn uuid(gpu: usize) -> Uuid {
    format!("GPU-{gpu}").parse().unwrap()
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
                // Nothing is known of a GPU that is forgotten.
                let is_known = self.health.gpus().contains_key(&uuid(gpu));
                self.gpus[gpu].lost_in = is_known.then_some(self.session);
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

#[test]
fn a_quarantined_gpu_that_an_xid_makes_known_again_is_quarantined_at_once() {
    let mut world = World::new(false, true);
    world.take(Step::Quarantines(1, true));
    world.take(Step::Enumerates { new_session: false, unidentified: Some(1) });
    world.take(Step::Clears(1));
    world.take(Step::Xid(1, 95));
    let left = world.left();
    assert!(left.contains(&CauseKind::Quarantined), "{left:?}");
}

#[test]
fn a_gpu_that_an_xid_made_known_and_that_is_lost_stays_so_in_the_same_session() {
    let mut world = World::new(false, true);
    world.take(Step::Enumerates { new_session: false, unidentified: Some(1) });
    world.take(Step::Clears(1));
    world.take(Step::Xid(1, 95));
    world.take(Step::Loses(1));
    world.take(Step::Enumerates { new_session: false, unidentified: None });
    let left = world.left();
    assert!(left.contains(&CauseKind::Lost), "{left:?}");
}
