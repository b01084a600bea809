//! What a reading states holds for as long as readings state it.

use super::*;

fn pending() -> Reading {
    Reading { remapped_rows: Some(Ok(RemappedRows { pending: true, failure: false })), ..well() }
}

fn joining() -> Reading {
    let fabric = Fabric { state: FabricState::InProgress, status: ReturnCode(0), health_mask: 0 };
    Reading { fabric: Some(Ok(fabric)), ..well() }
}

/// A GPU that has nothing but memory, on an old driver.
fn bare() -> Reading {
    Reading {
        recovery_action: Some(Err(error(3))),
        remapped_rows: Some(Err(error(3))),
        fabric: Some(Err(error(3))),
        probe: Some(Ok(())),
    }
}

fn strict() -> HealthPolicy {
    thresholds(|t| t.row_remap_pending = Severity::Unhealthy)
}

fn states() -> [(Reading, &'static str); 3] {
    [
        (joining(), "fabric"),
        (pending(), "row_remap_pending"),
        (asks_for(RecoveryAction::GpuReset), "recovery_action"),
    ]
}

#[test]
fn a_state_ends_where_the_gpu_no_longer_has_it() {
    for (stated, word) in states() {
        let mut bench = Bench::with(strict(), stated);
        assert_eq!(bench.cause_names(), [word]);
        bench.poll(&bare(), 1);
        assert_eq!(bench.cause_names(), [word]);
        bench.poll(&bare(), 1);
        assert_eq!(bench.cause_names(), [""; 0]);
        assert!(bench.gpu.degradations().is_empty());
        assert_eq!(bench.gpu.recovery_action(), None);
    }
}

#[test]
fn a_state_that_cannot_be_read_stays() {
    let unread = Reading { probe: Some(Ok(())), ..Reading::default() };
    let failed = Reading {
        remapped_rows: Some(Err(error(999))),
        fabric: Some(Err(error(999))),
        ..unread.clone()
    };
    for (stated, word) in states() {
        for reading in [&unread, &failed] {
            let mut bench = Bench::with(strict(), stated.clone());
            bench.poll(reading, 20);
            assert_eq!(bench.cause_names(), [word]);
            bench.poll(&well(), 1);
            bench.poll(reading, 20);
            assert_eq!(bench.cause_names(), [word], "one poll is not enough");
        }
    }
}

#[test]
fn a_new_load_of_the_driver_ends_what_the_old_one_stated() {
    for (stated, word) in states() {
        let mut bench = Bench::with(strict(), stated.clone());
        let change = bench.observe(Observation::Repaired(RepairEvidence::DriverReload));
        assert!(bench.gpu.degradations().is_empty(), "{word} {change:?}");
        assert_eq!(bench.cause_names(), [word], "and clean polls confirm it");
        bench.poll(&Reading { probe: Some(Ok(())), ..Reading::default() }, 2);
        assert_eq!(bench.cause_names(), [""; 0]);
        bench.observe(Observation::Poll(stated.clone()));
        assert_eq!(bench.cause_names(), [word], "the new driver states it too");
        bench.observe(Observation::Repaired(RepairEvidence::DriverReload));
        bench.poll(&stated, 5);
        assert_eq!(bench.cause_names(), [word]);
    }
}

#[test]
fn a_new_load_of_the_driver_ends_calls_that_failed_or_hung_in_the_old_one() {
    for (failure, word) in [
        (Observation::TimedOut { call: "x" }, "nvml_unresponsive"),
        (Observation::Failed(error(999)), "nvml_error"),
    ] {
        let mut bench = Bench::after(well());
        for _ in 0..3 {
            bench.observe(failure.clone());
        }
        assert_eq!(bench.cause_names(), [word]);
        let change = bench.observe(Observation::Repaired(RepairEvidence::DriverReload));
        assert!(change.is_empty());
        bench.observe(failure.clone());
        bench.poll(&well(), 2);
        assert_eq!(bench.cause_names(), [""; 0], "one failure of the new one is tolerated");
    }
}

#[test]
fn only_a_new_driver_or_boot_is_evidence_about_a_state() {
    let mut bench = Bench::after(asks_for(RecoveryAction::GpuReset));
    for evidence in [RepairEvidence::Manual, RepairEvidence::Reenumerated] {
        bench.observe(Observation::Repaired(evidence));
        bench.poll(&Reading { recovery_action: None, ..well() }, 5);
        assert_eq!(bench.cause_names(), ["recovery_action"], "{evidence:?}");
    }
}

#[test]
fn xid_63_is_a_reason_to_read_and_the_rows_decide() {
    let mut bench = Bench::with(strict(), well());
    bench.observe(xid(63));
    assert_eq!(bench.cause_names(), ["row_remap_pending"]);
    bench.poll(&well(), 2);
    assert_eq!(bench.cause_names(), [""; 0], "nothing waits");
    bench.observe(xid(63));
    bench.poll(&pending(), 20);
    assert_eq!(bench.cause_names(), ["row_remap_pending"]);
    assert!(bench.gpu.degradations().contains_key(&Degradation::RowRemapPending));
}

#[test]
fn xid_63_of_a_gpu_without_row_remapping_ends() {
    for first in [bare(), Reading { probe: Some(Ok(())), ..Reading::default() }] {
        let mut bench = Bench::with(strict(), first);
        let change = bench.observe(xid(63));
        assert!(change.notices.iter().any(|n| matches!(n, HealthNotice::Xid { .. })));
        bench.poll(&bare(), 2);
        assert_eq!(bench.cause_names(), [""; 0]);
        assert!(bench.gpu.degradations().is_empty());
    }
}

#[test]
fn a_contained_error_is_over_when_the_driver_wants_nothing_for_ten_minutes() {
    for (then, is_over) in [
        (well(), true),
        (Reading { remapped_rows: Some(Err(error(3))), ..well() }, true),
        (well_without_field(), true),
        (pending(), false),
        (asks_for(RecoveryAction::DrainP2p), false),
        (bare(), false),
    ] {
        let mut bench = Bench::after(bare());
        let contained =
            |bench: &Bench| bench.gpu.degradations().contains_key(&Degradation::ContainedError);
        bench.observe(xid(94));
        bench.poll(&then, 59);
        assert!(contained(&bench), "{then:?}");
        bench.poll(&then, 1);
        assert_eq!(!contained(&bench), is_over, "{then:?}");
        bench.observe(xid(94));
        bench.observe(Observation::Repaired(RepairEvidence::Reenumerated));
        assert!(!contained(&bench), "{then:?}");
    }
}

#[test]
fn another_threshold_counts_for_calls_that_fail_already() {
    let mut bench = Bench::after(well());
    bench.poll(&Reading { probe: Some(Err(error(999))), ..well() }, 2);
    assert!(bench.is_healthy());
    let stricter = thresholds(|t| t.missed_calls = count(2));
    bench.gpu.set_health_policy(bench.now, &stricter);
    assert_eq!(bench.cause_names(), ["nvml_error"]);
}

#[test]
fn a_state_named_by_any_call_counts() {
    let lost = Reading { fabric: Some(Err(error(15))), ..well() };
    assert_eq!(Bench::after(lost).cause_names(), ["lost"]);
    let reset = Reading { remapped_rows: Some(Err(error(16))), ..well() };
    assert_eq!(Bench::after(reset).cause_names(), ["reset_required"]);
}
