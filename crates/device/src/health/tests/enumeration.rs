//! What enumerations prove: a GPU is absent from a complete one alone, and back in another session.

use super::*;

fn listed(session: u64) -> Observation {
    Observation::Enumerated { session }
}

fn absent(session: u64) -> Observation {
    Observation::NotEnumerated { session, complete: true }
}

fn not_found(session: u64) -> Observation {
    Observation::NotEnumerated { session, complete: false }
}

/// Whether a fatal Xid on a driver without recovery action, which takes evidence of repair, is over
/// after these observations and clean polls.
fn repairs(observations: impl IntoIterator<Item = Observation>) -> bool {
    let mut bench = Bench::after(well_without_field());
    bench.observe(xid(95));
    for observation in observations {
        bench.observe(observation);
    }
    bench.poll(&well_without_field(), 5);
    bench.is_healthy()
}

#[test]
fn gone_and_back_is_a_complete_enumeration_without_it_and_another_session_with_it() {
    assert!(repairs([absent(1), listed(2)]));
    assert!(repairs([absent(2), listed(3)]));
    assert!(repairs([absent(2), not_found(2), not_found(3), listed(3)]));
    assert!(repairs([absent(2), absent(3), listed(3)]), "it was absent from session 2");
}

#[test]
fn failing_to_look_is_no_return() {
    assert!(!repairs([]));
    assert!(!repairs([listed(2), listed(3)]));
    assert!(!repairs([not_found(1), listed(1)]));
    assert!(!repairs([not_found(1), listed(2)]));
    assert!(!repairs([not_found(1), not_found(2), listed(3)]));
    assert!(!repairs([absent(1), listed(1)]), "look-ups of one session");
    assert!(!repairs([absent(1), listed(1), listed(2)]));
    assert!(!repairs([absent(1), listed(1), not_found(1), listed(2)]));
}

#[test]
fn a_gpu_that_is_lost_and_answers_again_is_not_repaired() {
    let lost = || Observation::Failed(error(15));
    assert!(!repairs([lost(), not_found(1), listed(1)]));
    assert!(!repairs([lost(), not_found(1), listed(2)]));
    let mut bench = Bench::after(well_without_field());
    for observation in [xid(95), lost(), not_found(1), listed(2)] {
        bench.observe(observation);
    }
    bench.poll(&well_without_field(), 5);
    assert_eq!(bench.cause_names(), ["xid"], "what it lost is over, and nothing else");
}

#[test]
fn what_was_lost_in_a_session_is_back_in_a_later_one_whatever_came_between() {
    for lost in [xid(79), Observation::Failed(error(15))] {
        for (then, is_over) in [
            (vec![listed(1)], false),
            (vec![not_found(1), listed(1)], false),
            (vec![absent(1), listed(1)], false),
            (vec![listed(2)], true),
            (vec![not_found(2), listed(2)], true),
            (vec![absent(2), listed(2)], true),
        ] {
            let mut bench = Bench::after(well());
            bench.observe(lost.clone());
            for observation in &then {
                bench.observe(observation.clone());
            }
            assert_eq!(bench.gpu.is_missing(), !is_over, "{lost:?} {then:?}");
            bench.poll(&well(), 5);
            assert_eq!(bench.is_healthy(), is_over, "{lost:?} {then:?}");
        }
    }
}

#[test]
fn a_gpu_that_was_not_found_is_unhealthy_until_it_is_found() {
    let mut bench = Bench::after(well());
    bench.observe(not_found(1));
    bench.poll(&well(), 5);
    assert_eq!(bench.cause_names(), ["not_enumerated"]);
    assert!(bench.gpu.is_missing());
    bench.observe(listed(1));
    assert!(!bench.gpu.is_missing());
    bench.poll(&well(), 2);
    assert!(bench.is_healthy());
}
