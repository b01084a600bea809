//! The life of a control daemon, by tables and against a model of the world.

use std::collections::BTreeSet;
use std::time::Duration;

use device::names::Uuid;
use proptest::prelude::*;

use super::goal::{Goal, GoalGpu};
use super::machine::{CHECK_INTERVAL, DaemonAction, DaemonStep, Machine, Moment, Outcome};

fn uuid(number: u32) -> Uuid {
    format!("GPU-{number}").parse().unwrap()
}

fn goal(gpus: &[u32], memory: u64) -> Goal {
    let gpu = |number: &u32| GoalGpu { uuid: uuid(*number), memory: Some(memory), usable: true };
    Goal { gpus: gpus.iter().map(gpu).collect(), threads: Some(25), multi_user: false }
}

/// Does every step until there is nothing to do; `outcome` says what comes of each.
fn steps(
    machine: &mut Machine,
    now: Moment,
    mut outcome: impl FnMut(&DaemonStep) -> Outcome,
) -> Vec<DaemonStep> {
    let mut done = Vec::new();
    while let DaemonAction::Do(step) = machine.next(now) {
        machine.done(outcome(&step), now);
        done.push(step);
        assert!(done.len() < 100, "{done:?}");
    }
    done
}

fn well(_: &DaemonStep) -> Outcome {
    Outcome::Done(0)
}

fn started(gpus: &[u32]) -> Machine {
    let mut machine = Machine::default();
    machine.want(Some(goal(gpus, 1000)));
    steps(&mut machine, Moment::ZERO, well);
    assert!(machine.is_announced());
    machine
}

#[test]
fn a_start_does_each_step_in_order_and_a_stop_undoes_them() {
    let mut machine = Machine::default();
    machine.want(Some(goal(&[3, 1], 1000)));
    let gpus = vec![uuid(3), uuid(1)];
    let done = steps(&mut machine, Moment::ZERO, well);
    let expected = [
        DaemonStep::Prepare,
        DaemonStep::EndLeftover,
        DaemonStep::Exclusive(uuid(3)),
        DaemonStep::Exclusive(uuid(1)),
        DaemonStep::Start { gpus: gpus.clone(), multi_user: false },
        DaemonStep::AwaitAnswer,
        DaemonStep::LimitMemory(0, 1000),
        DaemonStep::LimitMemory(1, 1000),
        DaemonStep::LimitThreads(25),
        DaemonStep::Announce(gpus),
    ];
    assert_eq!(done, expected);
    machine.stop();
    let done = steps(&mut machine, Moment::ZERO, well);
    let stopped = DaemonStep::Withdraw("it is stopped".to_owned());
    assert_eq!(
        done,
        [stopped, DaemonStep::Quit, DaemonStep::Restore(uuid(1)), DaemonStep::Restore(uuid(3))]
    );
    assert_eq!(machine.next(Moment::ZERO), DaemonAction::Finished);
}

#[test]
fn one_that_dies_is_withdrawn_at_once_and_started_again_after_a_pause() {
    let mut machine = started(&[0]);
    let now = Duration::from_secs(1);
    machine.exited("signal: 9", now);
    let done = steps(&mut machine, now, well);
    assert_eq!(done, [DaemonStep::Withdraw("it has ended (signal: 9)".to_owned())]);
    let DaemonAction::Wait(Some(until)) = machine.next(now) else { panic!("no pause") };
    assert!(until > now);
    let done = steps(&mut machine, until, well);
    assert!(done.contains(&DaemonStep::Announce(vec![uuid(0)])) && machine.is_announced());
}

#[test]
fn other_limits_are_set_at_once_and_end_no_client() {
    let mut machine = started(&[0, 1]);
    machine.want(Some(goal(&[0, 1], 500)));
    let done = steps(&mut machine, Moment::ZERO, |_| Outcome::Done(7));
    let servers = DaemonStep::LimitServers { memory: vec![(0, 500), (1, 500)], threads: 25 };
    let expected = [
        DaemonStep::LimitMemory(0, 500),
        DaemonStep::LimitMemory(1, 500),
        DaemonStep::LimitThreads(25),
        servers,
    ];
    assert_eq!(done, expected);
    // Refused, they are tried again later, and the daemon goes on.
    machine.want(Some(goal(&[0, 1], 400)));
    let done = steps(&mut machine, Moment::ZERO, |_| Outcome::Failed("no".to_owned()));
    assert_eq!(done, [DaemonStep::LimitMemory(0, 400)]);
    let done = steps(&mut machine, CHECK_INTERVAL, well);
    assert_eq!(done[..2], [DaemonStep::Check, DaemonStep::LimitMemory(0, 400)]);
    assert!(machine.is_announced());
}

#[test]
fn another_set_of_gpus_waits_until_no_client_runs() {
    let mut machine = started(&[0]);
    machine.want(Some(goal(&[0, 1], 1000)));
    let mut now = CHECK_INTERVAL;
    assert_eq!(
        steps(&mut machine, now, |_| Outcome::Done(2)),
        [DaemonStep::Check, DaemonStep::CountClients]
    );
    assert!(machine.is_announced() && machine.waits_for_clients());
    now += CHECK_INTERVAL;
    let done = steps(&mut machine, now, well);
    assert!(done.contains(&DaemonStep::Quit), "{done:?}");
    assert!(done.contains(&DaemonStep::Announce(vec![uuid(0), uuid(1)])), "{done:?}");
    // A GPU that fails meanwhile ends nobody's client on the others.
    let mut sick = goal(&[0, 1], 1000);
    sick.gpus[0].usable = false;
    machine.want(Some(sick));
    now += CHECK_INTERVAL;
    assert_eq!(steps(&mut machine, now, well), [DaemonStep::Check]);
}

#[test]
fn one_that_does_not_answer_is_withdrawn_at_once_and_ended_if_that_stays_so() {
    let mut machine = started(&[0]);
    let mut now = CHECK_INTERVAL;
    let mute = |step: &DaemonStep| match step {
        DaemonStep::Check => Outcome::Failed("it is mute".to_owned()),
        _ => Outcome::Done(0),
    };
    let withdrawn = DaemonStep::Withdraw("it is mute".to_owned());
    assert_eq!(steps(&mut machine, now, mute), [DaemonStep::Check, withdrawn]);
    now += Duration::from_millis(250);
    assert_eq!(
        steps(&mut machine, now, well),
        [DaemonStep::Check, DaemonStep::Announce(vec![uuid(0)])]
    );
    for (look, ends) in [(1, false), (2, false), (3, true)] {
        now += CHECK_INTERVAL;
        let done = steps(&mut machine, now, mute);
        assert_eq!(done.contains(&DaemonStep::Quit), ends, "{look}: {done:?}");
    }
}

#[test]
fn gpus_that_do_not_work_are_left_out_of_a_start_and_without_any_it_waits() {
    let mut some = goal(&[0, 1], 1000);
    some.gpus[0].usable = false;
    let mut machine = Machine::default();
    machine.want(Some(some.clone()));
    assert_eq!(
        steps(&mut machine, Moment::ZERO, well),
        [DaemonStep::Prepare],
        "it may be Healthy soon"
    );
    let done = steps(&mut machine, Duration::from_secs(2), well);
    assert!(
        done.contains(&DaemonStep::Start { gpus: vec![uuid(1)], multi_user: false }),
        "{done:?}"
    );
    some.gpus[1].usable = false;
    let mut machine = Machine::default();
    machine.want(Some(some));
    let done = steps(&mut machine, Moment::ZERO, well);
    let withdrawn = DaemonStep::Withdraw("none of its GPUs is Healthy".to_owned());
    assert_eq!(done, [DaemonStep::Prepare, withdrawn]);
    assert_eq!(machine.next(Moment::ZERO), DaemonAction::Wait(None));
}

/// What the steps do, and what must hold of them.
#[derive(Debug, Default)]
struct World {
    alive: bool,
    prepared: bool,
    leftover_ended: bool,
    exclusive: BTreeSet<Uuid>,
    limited: BTreeSet<usize>,
    threads: bool,
    answered: bool,
    announced: bool,
    started_on: Vec<Uuid>,
    clients: usize,
}

impl World {
    /// A step that succeeds.
    fn apply(&mut self, step: &DaemonStep, must_end: bool) -> Result<(), TestCaseError> {
        match step {
            DaemonStep::Prepare => self.prepared = true,
            DaemonStep::EndLeftover => self.leftover_ended = true,
            DaemonStep::Exclusive(gpu) => drop(self.exclusive.insert(gpu.clone())),
            DaemonStep::Restore(gpu) => drop(self.exclusive.remove(gpu)),
            DaemonStep::Start { gpus, .. } => {
                prop_assert!(self.prepared && self.leftover_ended && !self.alive);
                prop_assert!(gpus.iter().all(|gpu| self.exclusive.contains(gpu)));
                prop_assert!(!gpus.is_empty());
                let exclusive = std::mem::take(&mut self.exclusive);
                *self = Self {
                    alive: true,
                    prepared: true,
                    exclusive,
                    started_on: gpus.clone(),
                    ..Self::default()
                };
            }
            DaemonStep::AwaitAnswer => self.answered = true,
            DaemonStep::LimitMemory(ordinal, _) => drop(self.limited.insert(*ordinal)),
            DaemonStep::LimitThreads(_) => self.threads = true,
            DaemonStep::Announce(gpus) => {
                prop_assert!(self.alive && self.answered && self.threads);
                prop_assert!(self.limited.iter().all(|ordinal| *ordinal < gpus.len()));
                prop_assert_eq!(gpus, &self.started_on);
                self.announced = true;
            }
            DaemonStep::Withdraw(_) => self.announced = false,
            DaemonStep::Quit | DaemonStep::Kill => {
                prop_assert!(self.alive && !self.announced);
                prop_assert!(self.clients == 0 || must_end, "clients are ended");
                self.died();
            }
            DaemonStep::Check | DaemonStep::CountClients | DaemonStep::LimitServers { .. } => {
                prop_assert!(self.alive);
            }
        }
        Ok(())
    }

    fn died(&mut self) {
        (self.alive, self.clients, self.leftover_ended) = (false, 0, false);
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Wanted(Vec<u32>, u64, bool),
    NotWanted,
    Passes(u64),
    Dies,
    Clients(usize),
    Succeeds,
    Fails,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => (proptest::sample::subsequence(vec![0, 1, 2], 0..=3), 1_u64..3, any::<bool>())
            .prop_map(|(gpus, memory, multi)| Happens::Wanted(gpus, memory, multi)),
        1 => Just(Happens::NotWanted),
        4 => (1_u64..20_000).prop_map(Happens::Passes),
        1 => Just(Happens::Dies),
        2 => (0_usize..3).prop_map(Happens::Clients),
        20 => Just(Happens::Succeeds),
        3 => Just(Happens::Fails),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_no_step_is_out_of_order_and_in_the_end_all_is_undone(
        history in proptest::collection::vec(happens(), 0..200),
    ) {
        let (mut machine, mut world) = (Machine::default(), World::default());
        let mut now = Moment::ZERO;
        // Whether the last check failed, after which a daemon may be ended under its clients.
        let mut mute = false;
        for event in history {
            match event {
                Happens::Wanted(gpus, memory, multi_user) => {
                    machine.want(Some(Goal { multi_user, ..goal(&gpus, memory) }));
                }
                Happens::NotWanted => machine.want(None),
                Happens::Passes(millis) => now += Duration::from_millis(millis),
                Happens::Clients(count) => {
                    world.clients = if world.alive && world.announced { count } else { 0 };
                }
                Happens::Dies if world.alive => {
                    world.died();
                    machine.exited("killed", now);
                    // Told by the machine, when it is its turn.
                }
                Happens::Dies => {}
                Happens::Succeeds => if let DaemonAction::Do(step) = machine.next(now) {
                    let count = if step == DaemonStep::CountClients { world.clients } else { 0 };
                    world.apply(&step, mute)?;
                    let ends = matches!(step, DaemonStep::Quit | DaemonStep::Kill);
                    mute &= !ends && step != DaemonStep::Check;
                    mute |= step == DaemonStep::CountClients && count == 0;
                    machine.done(Outcome::Done(count), now);
                },
                Happens::Fails => if let DaemonAction::Do(step) = machine.next(now) {
                    mute |= matches!(step, DaemonStep::Check | DaemonStep::Quit);
                    if step == DaemonStep::Kill { world.died(); }
                    if let DaemonStep::Restore(gpu) = &step { world.exclusive.remove(gpu); }
                    if matches!(step, DaemonStep::Withdraw(_)) { world.announced = false; }
                    machine.done(Outcome::Failed("it failed".to_owned()), now);
                },
            }
        }
        // Left alone it comes up, if it is wanted at all.
        machine.want(Some(goal(&[0, 2], 9)));
        world.clients = 0;
        for _ in 0..300 {
            now += Duration::from_secs(1);
            while let DaemonAction::Do(step) = machine.next(now) {
                world.apply(&step, true)?;
                machine.done(Outcome::Done(0), now);
            }
        }
        prop_assert!(machine.is_announced() && world.announced);
        prop_assert_eq!(&world.started_on, &[uuid(0), uuid(2)]);
        // And it ends whatever was before.
        machine.stop();
        let mut count = 0;
        while let DaemonAction::Do(step) = machine.next(now) {
            world.apply(&step, true)?;
            machine.done(Outcome::Done(0), now);
            count += 1;
            prop_assert!(count < 20);
        }
        prop_assert_eq!(machine.next(now), DaemonAction::Finished);
        prop_assert!(!world.alive && !world.announced && world.exclusive.is_empty());
    }
}
