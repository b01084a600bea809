//! What holds for every sequence of observations.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn scope() -> impl Strategy<Value = Scope> {
    let id = || prop_oneof![0..3_u32, Just(u32::MAX)];
    (id(), id()).prop_map(|(gpu_instance, compute_instance)| {
        Scope::from_event(gpu_instance, compute_instance)
    })
}

fn any_xid() -> impl Strategy<Value = Xid> {
    prop_oneof![8 => 0..180_u32, 1 => any::<u32>()].prop_map(Xid)
}

fn answer<T: std::fmt::Debug + Clone + 'static>(
    ok: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<Result<T, NvmlError>>> {
    let code = prop_oneof![0..30_u32, Just(999)];
    prop_oneof![
        6 => ok.prop_map(|ok| Some(Ok(ok))),
        2 => code.prop_map(|code| Some(Err(error(code)))),
        1 => Just(None),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    let action = prop_oneof![5 => Just(0), 1 => 0..10_u32].prop_map(RecoveryAction::from);
    let rows = (any::<bool>(), prop::bool::weighted(0.1))
        .prop_map(|(pending, failure)| RemappedRows { pending, failure });
    let fabric = (0..5_u32, prop_oneof![Just(0), Just(999)], any::<u32>()).prop_map(
        |(state, status, health_mask)| Fabric {
            state: state.into(),
            status: ReturnCode(status),
            health_mask,
        },
    );
    (answer(action), answer(rows), answer(fabric), answer(Just(()))).prop_map(
        |(recovery_action, remapped_rows, fabric, probe)| Reading {
            recovery_action,
            remapped_rows,
            fabric,
            probe,
        },
    )
}

/// What raises a cause, at once and by itself.
fn fault() -> impl Strategy<Value = Observation> {
    prop_oneof![
        5 => (any_xid(), scope()).prop_map(|(xid, scope)| Observation::Xid { xid, scope }),
        1 => prop_oneof![Just(14), Just(15), Just(16)]
            .prop_map(|code| Observation::Failed(error(code))),
        1 => (0..4_u64, any::<bool>()).prop_map(|(session, complete)| {
            Observation::NotEnumerated { session, complete }
        }),
        1 => Just(Observation::Quarantine(Some("out".into()))),
    ]
}

/// What may raise a cause and clears none.
fn bad_news() -> impl Strategy<Value = Observation> {
    prop_oneof![
        4 => fault(),
        2 => reading().prop_map(Observation::Reading),
        1 => (0..1000_u32).prop_map(|code| Observation::Failed(error(code))),
        1 => Just(Observation::TimedOut { call: "x" }),
        1 => prop::sample::select(EventType::ALL.to_vec()).prop_map(Observation::Event),
    ]
}

fn observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        9 => bad_news(),
        6 => reading().prop_map(Observation::Poll),
        4 => Just(Observation::Poll(well())),
        4 => Just(Observation::Poll(well_without_field())),
        2 => (0..4_u64).prop_map(|session| Observation::Enumerated { session }),
        1 => prop::sample::select(EVIDENCE.to_vec()).prop_map(Observation::Repaired),
        1 => Just(Observation::Quarantine(None)),
    ]
}

fn any_policy() -> impl Strategy<Value = HealthPolicy> {
    let weight = || prop::sample::select(vec![Severity::Degraded, Severity::Unhealthy]);
    let relapses = prop::option::of((1..4_u32, 0..100_000_u64));
    let lists = prop::sample::select(vec!["", "all", "48", "48,79", "xids"]);
    let numbers = (1..4_u32, 1..4_u32, 0..10_000_u64, prop::option::of(0..60_000_u64));
    (numbers, relapses, weight(), weight(), weight(), lists.clone(), lists).prop_map(
        |((polls, misses, suspicion, quiet), relapses, rows, p2p, fabric, disable, enable)| {
            let thresholds = Thresholds {
                recovery_polls: count(polls),
                relapses: relapses.map(|(times, window)| RelapseLimit {
                    count: count(times),
                    window: ms(window).0,
                }),
                missed_calls: count(misses),
                suspicion: ms(suspicion).0,
                quiet_period: quiet.map(|quiet| ms(quiet).0),
                row_remap_pending: rows,
                drain_p2p: p2p,
                fabric,
            };
            HealthPolicy::new(
                HealthRules { thresholds, ..HealthRules::default() },
                Overrides::parse(disable, enable).0,
            )
            .0
        },
    )
}

/// A GPU that has answered; until then it is Unhealthy, whatever is observed.
fn answered() -> GpuHealth {
    let mut gpu = GpuHealth::default();
    gpu.apply(ms(0), Observation::Poll(well()), &HealthPolicy::default());
    gpu
}

/// Observations with the time before each.
fn history() -> impl Strategy<Value = Vec<(u64, Observation)>> {
    prop::collection::vec((0..20_000_u64, observation()), 1..80)
}

fn devices() -> Vec<GpuPart> {
    let slices = (0..4).flat_map(|gpu_instance| {
        (0..4).map(move |compute_instance| {
            GpuPart::MigDevice(Placement { gpu_instance, compute_instance })
        })
    });
    slices.chain([GpuPart::Whole]).collect()
}

/// The causes, without their details.
fn causes(gpu: &GpuHealth) -> BTreeSet<(CauseKind, Scope, Option<Xid>)> {
    let health = gpu.health_of(GpuPart::Whole);
    let key = |reason: &Reason| match &reason.cause {
        Cause::Xid { xid, scope, .. } => (CauseKind::Xid, *scope, Some(*xid)),
        cause => (cause.kind(), cause.scope(), None),
    };
    health.reasons().iter().map(key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn within_an_incident_causes_only_grow(
        policy in any_policy(),
        before in history(),
        news in prop::collection::vec(bad_news(), 1..30),
    ) {
        let (mut gpu, mut now) = (answered(), ms(0));
        for (time, observation) in before {
            now = now.after(ms(time).0);
            gpu.apply(now, observation, &policy);
        }
        for news in news {
            let active = causes(&gpu);
            let change = gpu.apply(now, news, &policy);
            prop_assert!(change.cleared.is_empty());
            prop_assert!(causes(&gpu).is_superset(&active));
        }
    }

    #[test]
    fn a_fault_hits_every_device_in_its_scope_and_no_other(
        history in history(),
        policy in any_policy(),
    ) {
        let (mut gpu, mut now) = (answered(), ms(0));
        for (time, observation) in history {
            now = now.after(ms(time).0);
            gpu.apply(now, observation, &policy);
            let active = causes(&gpu);
            for device in devices() {
                let hit = active.iter().any(|(_, scope, _)| scope.covers(device));
                prop_assert_eq!(gpu.health_of(device).is_healthy(), !hit, "{:?}", device);
            }
        }
    }

    #[test]
    fn nothing_is_healthy_again_faster_than_the_polls_allow(
        history in history(),
        policy in any_policy(),
    ) {
        let (mut gpu, mut now) = (answered(), ms(0));
        // Polls since the last observation that raised anything but a quarantine.
        let mut polls = u32::MAX;
        for (time, observation) in history {
            now = now.after(ms(time).0);
            let from_outside = matches!(observation, Observation::Quarantine(_));
            let is_poll = matches!(observation, Observation::Poll(_));
            let was_unhealthy = !gpu.health_of(GpuPart::Whole).is_healthy();
            let change = gpu.apply(now, observation, &policy);
            if is_poll {
                polls = polls.saturating_add(1);
            }
            if !change.raised.is_empty() && !from_outside {
                polls = 0;
            }
            if was_unhealthy && gpu.health_of(GpuPart::Whole).is_healthy() && !from_outside {
                prop_assert!(is_poll, "only a poll clears a failure of the hardware");
                prop_assert!(polls >= policy.thresholds().recovery_polls.get(), "{} polls", polls);
            }
        }
    }

    #[test]
    fn the_order_of_faults_does_not_matter(
        faults in prop::collection::vec(fault(), 1..20)
            .prop_flat_map(|faults| (Just(faults.clone()), Just(faults).prop_shuffle())),
        first in prop::sample::select(vec![well(), well_without_field()]),
    ) {
        let run = |faults: Vec<Observation>| {
            let mut bench = Bench::after(first.clone());
            for fault in faults {
                bench.observe(fault);
            }
            (
                causes(&bench.gpu),
                bench.gpu.xids().clone(),
                bench.gpu.degradations().keys().copied().collect::<Vec<_>>(),
            )
        };
        prop_assert_eq!(run(faults.0), run(faults.1));
    }

    #[test]
    fn a_poll_that_began_before_a_fault_clears_nothing_of_it(
        fault in fault(), late in prop::collection::vec(0..30_000_u64, 0..20),
    ) {
        let mut bench = Bench::after(well());
        bench.now = ms(30_000);
        bench.observe(fault);
        let active = causes(&bench.gpu);
        for began in late {
            bench.gpu.apply(ms(began), Observation::Poll(well()), &bench.policy);
        }
        prop_assert_eq!(causes(&bench.gpu), active);
    }

    #[test]
    fn every_change_of_health_is_in_the_returned_changes(
        history in history(),
        policy in any_policy(),
    ) {
        let (mut gpu, mut now) = (answered(), ms(0));
        for (time, observation) in history {
            now = now.after(ms(time).0);
            let before = gpu.health_of(GpuPart::Whole);
            let change = gpu.apply(now, observation, &policy);
            let after = gpu.health_of(GpuPart::Whole);
            prop_assert_eq!(
                before != after,
                !(change.raised.is_empty() && change.cleared.is_empty())
            );
        }
    }

    #[test]
    fn the_same_history_gives_the_same_health_and_a_restart_keeps_it(
        history in history(),
        policy in any_policy(),
    ) {
        let uuid: crate::names::Uuid = "GPU-a".parse().unwrap();
        let new = || {
            let mut node = NodeHealth::new(policy.clone(), Epoch::default());
            let (gpus, complete) = ([uuid.clone()].into(), true);
            node.apply(ms(0), NodeObservation::Enumeration { session: 9, gpus, complete });
            node
        };
        let (mut one, mut two, mut now) = (new(), new(), ms(0));
        for (time, observation) in history {
            now = now.after(ms(time).0);
            let observation = NodeObservation::Gpu(uuid.clone(), observation);
            prop_assert_eq!(one.apply(now, observation.clone()), two.apply(now, observation));
        }
        prop_assert_eq!(one.health_of(&uuid, GpuPart::Whole), two.health_of(&uuid, GpuPart::Whole));
        let remembered = one.persist();
        let mut next = NodeHealth::new(policy.clone(), Epoch::default());
        prop_assert_eq!(next.restore(now, &remembered), []);
        prop_assert_eq!(next.persist(), remembered);
    }

    #[test]
    fn no_text_of_the_environment_is_too_strange(disable in ".{0,40}", enable in "[-+0-9a-zA-Z, \
        ]{0,40}") {
        let (overrides, _) = Overrides::parse(&disable, &enable);
        let (policy, _) = HealthPolicy::new(HealthRules::default(), overrides);
        prop_assert!(!policy.is_off() || policy.action(Xid(48)) == XidAction::Ignore);
    }
}
