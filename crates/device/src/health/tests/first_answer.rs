//! No GPU is Healthy before it has answered, and an answer that is refused is an answer.

use std::collections::BTreeSet;

use super::*;
use crate::names::Uuid;

/// A GPU that was listed and not read yet.
fn new(policy: HealthPolicy) -> Bench {
    let mut bench = Bench { gpu: GpuHealth::default(), policy, now: ms(0) };
    assert_eq!(bench.cause_names(), ["not_answered"]);
    assert!(bench.observe(Observation::Enumerated { session: 1 }).is_empty());
    bench
}

fn off() -> HealthPolicy {
    HealthPolicy::new(HealthRules::default(), Overrides::parse("all", "").0).0
}

#[test]
fn a_gpu_is_not_healthy_before_its_first_answer_under_any_policy() {
    for policy in [HealthPolicy::default(), off()] {
        let mut bench = new(policy);
        let since = bench.gpu.health_of(GpuPart::Whole).reasons()[0].since;
        assert_eq!(since, bench.now);
        let fails = Reading { probe: Some(Err(error(999))), ..Reading::default() };
        assert_eq!(bench.observe(Observation::Poll(fails.clone())).raised, [Cause::NotAnswered]);
        for unanswered in [
            Observation::Poll(fails),
            Observation::Poll(Reading::default()),
            Observation::TimedOut { call: "x" },
            Observation::Enumerated { session: 2 },
        ] {
            let change = bench.observe(unanswered);
            assert!(!change.raised.contains(&Cause::NotAnswered), "it is reported once");
            assert!(bench.cause_names().contains(&"not_answered"));
        }
        let change = bench.observe(Observation::Poll(well()));
        assert!(change.cleared.contains(&Cause::NotAnswered));
        assert!(!bench.cause_names().contains(&"not_answered"));
    }
}

#[test]
fn the_first_answer_to_the_first_reading_is_a_change_without_a_cause() {
    let change = new(off()).observe(Observation::Reading(well()));
    assert_eq!(change, HealthChange { notices: vec![HealthNotice::Answered], ..change.clone() });
    let asking = asks_for(RecoveryAction::GpuReset);
    let change = new(HealthPolicy::default()).observe(Observation::Poll(asking));
    assert_eq!(change.raised, [Cause::RecoveryAction(RecoveryAction::GpuReset)]);
}

#[test]
fn not_supported_and_refused_are_answers() {
    for code in [3, 4] {
        let mut bench = new(HealthPolicy::default());
        bench.observe(Observation::Poll(Reading { probe: Some(Err(error(code))), ..well() }));
        assert!(bench.is_healthy(), "{code}");
    }
}

#[test]
fn a_refused_call_is_no_failure() {
    let refused = Reading {
        recovery_action: Some(Err(error(4))),
        remapped_rows: Some(Err(error(4))),
        fabric: Some(Err(error(4))),
        probe: Some(Err(error(4))),
    };
    assert!(ReturnCode::NO_PERMISSION.is_refused() && !ReturnCode(3).is_refused());
    for first in [well(), refused.clone()] {
        let mut bench = Bench::after(first);
        for _ in 0..5 {
            bench.observe(Observation::Event(EventType::GpuRecoveryAction));
            bench.observe(Observation::Failed(error(4)));
            bench.observe(Observation::Reading(refused.clone()));
            bench.poll(&refused, 1);
        }
        assert!(bench.is_healthy());
    }
}

#[test]
fn a_driver_that_refuses_the_recovery_action_is_as_one_without() {
    let refused = Reading { recovery_action: Some(Err(error(4))), ..well() };
    let mut bench = Bench::after(refused.clone());
    bench.observe(xid(95));
    bench.poll(&refused, 100);
    assert_eq!(bench.cause_names(), ["xid"]);
    bench.observe(Observation::Repaired(RepairEvidence::Reset));
    bench.poll(&refused, 2);
    assert!(bench.is_healthy());
}

#[test]
fn what_was_stated_before_it_is_refused_stays() {
    let mut bench = Bench::after(asks_for(RecoveryAction::GpuReset));
    bench.poll(&Reading { recovery_action: Some(Err(error(4))), ..well() }, 50);
    assert_eq!(bench.cause_names(), ["recovery_action"]);
}

#[test]
fn the_first_answer_is_not_counted_as_a_change_of_health_unless_it_was_overdue() {
    let uuid: Uuid = "GPU-a".parse().unwrap();
    let gpu = |observation| NodeObservation::Gpu(uuid.clone(), observation);
    for (first, transitions) in [(None, (0, 0)), (Some(error(999)), (1, 1))] {
        let mut node = NodeHealth::new(off(), Epoch::default());
        let gpus = [uuid.clone()].into();
        let (session, complete) = (1, true);
        node.apply(ms(0), NodeObservation::Enumeration { session, gpus, complete });
        if let Some(error) = first {
            let reading = Reading { probe: Some(Err(error)), ..Reading::default() };
            node.apply(ms(1), gpu(Observation::Poll(reading)));
        }
        let changes = node.apply(ms(2), gpu(Observation::Poll(well())));
        assert_eq!(changes.len(), 1, "it is published");
        assert!(node.health_of(&uuid, GpuPart::Whole).is_healthy());
        let counted = node.transitions(&uuid);
        assert_eq!((counted.to_unhealthy, counted.to_healthy), transitions);
    }
}

#[test]
fn after_a_fault_of_the_node_a_gpu_is_healthy_once_it_has_answered_again() {
    let gpu: Uuid = "GPU-1".parse().unwrap();
    let mut node = NodeHealth::new(HealthPolicy::default(), Epoch::default());
    let listed = || NodeObservation::Enumeration {
        session: 1,
        gpus: BTreeSet::from([gpu.clone()]),
        complete: true,
    };
    let healthy = |node: &NodeHealth| node.health_of(&gpu, GpuPart::Whole).is_healthy();
    let poll = |reading| NodeObservation::Gpu(gpu.clone(), Observation::Poll(reading));
    let failed = || Reading {
        probe: Some(Err(NvmlError { call: "nvmlDeviceGetMemoryInfo", code: ReturnCode::UNKNOWN })),
        ..Reading::default()
    };
    let answered = || Reading { probe: Some(Ok(())), ..Reading::default() };
    for observation in [listed(), poll(answered())] {
        node.apply(Moment::default(), observation);
    }
    assert!(healthy(&node));
    for observation in [
        NodeObservation::Fault(Some(NodeFault::DriverNotLoaded)),
        listed(),
        poll(failed()),
        NodeObservation::Fault(None),
    ] {
        node.apply(Moment::default(), observation);
        assert!(!healthy(&node));
    }
    node.apply(Moment::default(), poll(answered()));
    assert!(healthy(&node));
}
