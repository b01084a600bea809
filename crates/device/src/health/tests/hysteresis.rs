//! How recovery is active back: polls in a row, stale facts, relapses.

use super::*;

#[test]
fn any_failure_starts_the_row_of_clean_polls_again() {
    let unreadable = Reading { recovery_action: Some(Err(error(999))), ..well() };
    let no_probe = Reading { probe: None, ..well() };
    let failed_probe = Reading { probe: Some(Err(error(10))), ..well() };
    for between in [
        Observation::Poll(asks_for(RecoveryAction::GpuReset)),
        Observation::Poll(unreadable),
        Observation::Poll(no_probe),
        Observation::Poll(failed_probe),
        Observation::TimedOut { call: "x" },
        Observation::Failed(error(999)),
        xid(48),
    ] {
        let mut bench = Bench::after(well());
        bench.observe(xid(48));
        bench.poll(&well(), 1);
        bench.now = bench.now.after(Duration::from_secs(9));
        bench.observe(between.clone());
        bench.poll(&well(), 1);
        assert!(!bench.is_healthy(), "{between:?}");
        bench.poll(&well(), 1);
        assert!(bench.is_healthy(), "{between:?}");
    }
}

#[test]
fn a_gpu_that_failed_after_it_recovered_has_a_relapse_however_few_polls_that_took() {
    let mut bench = Bench::with(
        thresholds(|thresholds| {
            thresholds.recovery_polls = count(1);
            let window = Duration::from_secs(3600);
            thresholds.relapses = Some(RelapseLimit { count: count(1), window });
        }),
        well(),
    );
    bench.observe(xid(48));
    bench.poll(&well(), 1);
    assert!(bench.is_healthy());
    bench.observe(xid(48));
    assert_eq!(bench.cause_names(), ["relapses", "xid"]);
}

#[test]
fn reads_between_polls_do_not_count_towards_recovery() {
    let mut bench = Bench::after(well());
    bench.observe(xid(48));
    for _ in 0..100 {
        bench.now = bench.now.after(Duration::from_secs(1));
        bench.observe(Observation::Reading(well()));
    }
    assert!(!bench.is_healthy());
}

#[test]
fn a_poll_that_began_before_the_xid_does_not_count() {
    let mut bench = Bench::after(well());
    bench.now = ms(60_000);
    bench.observe(xid(48));
    for began in [50_000, 59_000, 60_001] {
        bench.gpu.apply(ms(began), Observation::Poll(well()), &bench.policy);
    }
    bench.poll(&well(), 1);
    assert!(!bench.is_healthy());
    bench.poll(&well(), 1);
    assert!(bench.is_healthy());
}

#[test]
fn with_quick_polls_an_xid_lasts_as_long_as_the_suspicion() {
    let mut bench = Bench::after(well());
    bench.observe(xid(48));
    let began = bench.now;
    for _ in 0..49 {
        bench.now = bench.now.after(Duration::from_millis(100));
        bench.gpu.apply(bench.now, Observation::Poll(well()), &bench.policy);
        assert!(!bench.is_healthy());
    }
    let at = began.after(Duration::from_secs(5));
    bench.gpu.apply(at, Observation::Poll(well()), &bench.policy);
    assert!(bench.is_healthy());
}

#[test]
fn evidence_of_repair_is_void_when_the_xid_comes_again() {
    let mut bench = Bench::after(well_without_field());
    bench.observe(xid(48));
    bench.observe(Observation::Repaired(RepairEvidence::DriverReload));
    bench.observe(xid(48));
    bench.poll(&well_without_field(), 10);
    assert!(!bench.is_healthy());
}

#[test]
fn too_many_relapses_stay_until_evidence_of_repair() {
    for (evidence, ends) in EVIDENCE.into_iter().zip([true, true, false, true, true]) {
        let mut bench = Bench::after(well());
        for relapse in 0..3 {
            bench.observe(xid(48));
            bench.poll(&well(), 2);
            assert!(bench.is_healthy(), "{relapse}");
        }
        bench.observe(xid(48));
        assert_eq!(bench.cause_names(), ["relapses", "xid"]);
        bench.poll(&well(), 100);
        assert_eq!(bench.cause_names(), ["relapses"]);
        bench.observe(Observation::Repaired(evidence));
        bench.poll(&well(), 2);
        assert_eq!(bench.is_healthy(), ends, "{evidence:?}");
    }
}

#[test]
fn relapses_far_apart_do_not_latch() {
    let mut bench = Bench::after(well());
    for _ in 0..20 {
        bench.observe(xid(48));
        bench.poll(&well(), 2);
        assert!(bench.is_healthy());
        bench.now = bench.now.after(Duration::from_secs(1801));
    }
}

#[test]
fn every_failure_of_the_gpu_itself_is_a_relapse() {
    let fabric = Fabric { state: FabricState::NotStarted, status: ReturnCode(0), health_mask: 0 };
    for (failure, times, word) in [
        (Observation::Poll(Reading { fabric: Some(Ok(fabric)), ..well() }), 1, "fabric"),
        (Observation::Poll(Reading { probe: Some(Err(error(999))), ..well() }), 3, "nvml_error"),
        (Observation::TimedOut { call: "nvmlDeviceGetMemoryInfo" }, 3, "nvml_unresponsive"),
        (Observation::Poll(asks_for(RecoveryAction::GpuReset)), 1, "recovery_action"),
    ] {
        let mut bench = Bench::after(well());
        for relapse in 0..4 {
            assert!(bench.is_healthy(), "{word}, {relapse}");
            for _ in 0..times {
                bench.observe(failure.clone());
            }
            assert!(bench.cause_names().contains(&word), "{word}, {relapse}");
            bench.poll(&well(), 2);
        }
        assert_eq!(bench.cause_names(), ["relapses"], "{word}");
    }
}

#[test]
fn a_quarantine_and_a_fault_of_the_node_are_no_relapses() {
    let mut bench = Bench::after(well());
    for _ in 0..20 {
        bench.observe(Observation::Quarantine(Some("x".into())));
        bench.observe(Observation::Quarantine(None));
        bench.poll(&well(), 2);
        assert!(bench.is_healthy());
    }
    let uuid: crate::names::Uuid = "GPU-a".parse().unwrap();
    let mut node = NodeHealth::default();
    let (gpus, complete) = ([uuid.clone()].into(), true);
    node.apply(ms(0), NodeObservation::Enumeration { session: 1, gpus, complete });
    for n in 0..20 {
        let fault = NodeFault::Unresponsive { call: "nvmlInit_v2" };
        node.apply(ms(n), NodeObservation::Fault(Some(fault)));
        assert!(!node.health_of(&uuid, GpuPart::Whole).is_healthy());
        node.apply(ms(n), NodeObservation::EveryGpu(Observation::Poll(well())));
        node.apply(ms(n), NodeObservation::Fault(None));
        assert!(node.health_of(&uuid, GpuPart::Whole).is_healthy());
    }
}

#[test]
fn evidence_from_before_the_xid_does_not_count() {
    let mut bench = Bench::after(well_without_field());
    bench.now = ms(60_000);
    bench.observe(xid(48));
    bench.gpu.apply(ms(59_000), Observation::Repaired(RepairEvidence::DriverReload), &bench.policy);
    bench.poll(&well_without_field(), 5);
    assert!(!bench.is_healthy());
}

#[test]
fn an_incident_of_many_causes_is_one_relapse() {
    let mut bench = Bench::after(well());
    for _ in 0..3 {
        for number in [48, 62, 95] {
            bench.observe(xid(number));
        }
        bench.observe(Observation::Failed(error(16)));
        bench.poll(&well(), 2);
        assert!(bench.is_healthy());
    }
}

#[test]
fn a_repair_wipes_the_relapses_so_far() {
    let mut bench = Bench::after(well());
    for _ in 0..20 {
        bench.observe(xid(48));
        bench.poll(&well(), 2);
        assert!(bench.is_healthy());
        bench.observe(xid(48));
        bench.observe(Observation::Repaired(RepairEvidence::Manual));
        bench.poll(&well(), 2);
        assert!(bench.is_healthy());
    }
}
