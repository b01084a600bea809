//! Random sequences of what can happen to a node.

use std::time::{Duration, Instant};

use device::health::RecoveryAction;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::node::{Node, SimGpu};

/// How many sequences are tried unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 400;
const STEPS: usize = 30;

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    Wait(Duration),
    Lose(usize, bool),
    Bind(usize, bool),
    Hang(usize, bool),
    Fail(usize, Option<u32>),
    Deaf(usize, bool),
    Action(usize, bool),
    Quarantine(usize, bool),
    Xid(usize),
    Clear(usize),
    InitFails(Option<u32>),
    InitTakes(Duration),
    BusTakes(Duration),
    Reload,
    Restart {
        new_boot: bool,
    },
    Release,
    TakeUp,
    PodComes(usize),
    PodEnds(usize),
    /// The kubelet says what pods hold.
    PodResources,
    Share {
        replicas: u32,
        renamed: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let gpu = 0..16_usize;
    let flag = any::<bool>();
    let code = proptest::option::of(prop_oneof![Just(1), Just(16), Just(999)]);
    prop_oneof![
        8 => (0..120_u64).prop_map(|seconds| Step::Wait(Duration::from_secs(seconds))),
        2 => (200..1500_u64).prop_map(|seconds| Step::Wait(Duration::from_secs(seconds))),
        2 => (gpu.clone(), flag).prop_map(|(gpu, lost)| Step::Lose(gpu, lost)),
        2 => (gpu.clone(), flag).prop_map(|(gpu, bound)| Step::Bind(gpu, bound)),
        2 => (gpu.clone(), flag).prop_map(|(gpu, hangs)| Step::Hang(gpu, hangs)),
        2 => (gpu.clone(), code).prop_map(|(gpu, code)| Step::Fail(gpu, code)),
        1 => (gpu.clone(), flag).prop_map(|(gpu, deaf)| Step::Deaf(gpu, deaf)),
        2 => (gpu.clone(), flag).prop_map(|(gpu, reset)| Step::Action(gpu, reset)),
        1 => (gpu.clone(), flag).prop_map(|(gpu, out)| Step::Quarantine(gpu, out)),
        2 => gpu.clone().prop_map(Step::Xid),
        1 => gpu.prop_map(Step::Clear),
        1 => proptest::option::of(Just(9)).prop_map(Step::InitFails),
        1 => (1..20_000_u64).prop_map(|ms| Step::InitTakes(Duration::from_millis(ms))),
        1 => (0..4_000_u64).prop_map(|ms| Step::BusTakes(Duration::from_millis(ms))),
        1 => Just(Step::Reload),
        1 => flag.prop_map(|new_boot| Step::Restart { new_boot }),
        1 => Just(Step::Release),
        1 => Just(Step::TakeUp),
        3 => (0..64_usize).prop_map(Step::PodComes),
        2 => (0..64_usize).prop_map(Step::PodEnds),
        2 => Just(Step::PodResources),
        1 => (1..4_u32, flag).prop_map(|(replicas, renamed)| Step::Share { replicas, renamed }),
    ]
}

fn apply(node: &mut Node, step: &Step) {
    let all = node.gpus.len();
    if let Step::Wait(time) = step {
        return node.run(*time);
    }
    let concerned = match step {
        Step::Lose(n, _) | Step::Bind(n, _) | Step::Hang(n, _) | Step::Fail(n, _) => Some(*n),
        Step::Deaf(n, _) | Step::Action(n, _) | Step::Quarantine(n, _) => Some(*n),
        Step::Xid(n) | Step::Clear(n) => Some(*n),
        _ => None,
    };
    let concerned = concerned.map(|n| n % all);
    let old_driver = node.old_driver;
    if let Some(n) = concerned {
        change(step, node.gpu(n), old_driver);
    }
    match (step, concerned) {
        (Step::Quarantine(..), _) => node.send_quarantine(),
        (Step::Xid(_), Some(n)) => node.xid(n, 95),
        (Step::Clear(_), Some(n)) => node.clear(n),
        (Step::InitFails(code), _) => node.init_fails = *code,
        (Step::InitTakes(time), _) => node.init_takes = *time,
        (Step::BusTakes(time), _) => node.bus_takes = *time,
        (Step::Reload, _) => node.reload_driver(),
        (Step::Restart { new_boot }, _) => node.restart(*new_boot),
        (Step::Release, _) => node.release(None),
        (Step::TakeUp, _) => node.take_up(),
        (Step::PodComes(pick), _) => node.admit(*pick),
        (Step::PodEnds(pick), _) => node.end_pod(*pick),
        (Step::PodResources, _) => node.list_pods(),
        (Step::Share { replicas, renamed }, _) => node.share(*replicas, *renamed),
        _ => {}
    }
    // Those that are about pods change nothing of a GPU.
    if !matches!(
        step,
        Step::PodComes(_) | Step::PodEnds(_) | Step::PodResources | Step::Share { .. }
    ) {
        node.changed(concerned);
    }
}

/// What a step changes of a GPU.
fn change(step: &Step, gpu: &mut SimGpu, old_driver: bool) {
    match *step {
        Step::Lose(_, lost) => {
            gpu.uncertain |= gpu.latched && lost != gpu.lost;
            gpu.lost = lost;
        }
        Step::Bind(_, bound) => {
            gpu.uncertain |= gpu.latched && bound != gpu.bound;
            gpu.bound = bound;
        }
        Step::Hang(_, hangs) => gpu.hangs = hangs,
        Step::Fail(_, code) => {
            gpu.fails = code;
            // A reset is needed until there is evidence of one.
            gpu.uncertain |= old_driver && code == Some(16);
        }
        Step::Deaf(_, deaf) => gpu.deaf = deaf,
        Step::Action(_, true) => gpu.action = RecoveryAction::GpuReset,
        Step::Action(_, false) => gpu.action = RecoveryAction::None,
        Step::Quarantine(_, out) => gpu.quarantined = out,
        _ => {}
    }
}

fn try_sequences(cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let steps = proptest::collection::vec(step(), STEPS);
    // Which of the GPUs are partitioned, as bits: on half of the nodes none is.
    let partitioned = prop_oneof![Just(0_u16), any::<u16>()];
    let (gpus, old_driver) = (1..=16_u32, any::<bool>());
    proptest!(config, |(gpus in gpus, old_driver in old_driver, partitioned in partitioned,
            steps in steps)| {
        let mut node = Node::new(gpus, old_driver);
        for (n, gpu) in node.gpus.iter_mut().enumerate() {
            gpu.partitioned = partitioned >> n & 1 == 1;
        }
        node.run(Duration::from_secs(1));
        for step in &steps {
            apply(&mut node, step);
        }
        node.run(Duration::from_secs(600));
    });
}

/// `MODEL_SECONDS=1800 cargo test --profile samples --lib whatever_happens -- --nocapture` tries
/// more sequences for that long, and says how many they were.
#[test]
fn the_list_is_true_whatever_happens() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let cases = number("PROPTEST_CASES").unwrap_or(CASES);
    let time = number("MODEL_SECONDS").map_or(Duration::ZERO, |s| Duration::from_secs(s.into()));
    let (began, mut sequences) = (Instant::now(), 0);
    loop {
        try_sequences(cases);
        sequences += cases;
        if began.elapsed() >= time {
            break;
        }
    }
    println!("{sequences} sequences of {STEPS} steps");
}
