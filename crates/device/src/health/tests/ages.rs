//! What is stated again after a restart keeps its age.

use super::node::{enumeration, epoch, node, on, uuid};
use super::*;

/// A process of the plugin that started so many seconds after the boot.
fn process(origin: u64) -> NodeHealth {
    NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"))
        .with_origin(Duration::from_secs(origin))
}

fn quarantine(gpus: &[&str]) -> NodeObservation {
    NodeObservation::Quarantine(gpus.iter().map(|gpu| (uuid(gpu), "fan".into())).collect())
}

fn poll(node: &mut NodeHealth, seconds: u64, gpu: &str, reading: Reading) {
    node.apply(ms(seconds * 1000), on(gpu, Observation::Poll(reading)));
}

fn pending_row() -> Reading {
    let rows = RemappedRows { pending: true, failure: false };
    Reading { remapped_rows: Some(Ok(rows)), ..well() }
}

/// How long a cause or a degradation of GPU-a lasts at this second; `None`: it does not.
fn age(node: &NodeHealth, seconds: u64, word: &str) -> Option<u64> {
    let now = ms(seconds * 1000);
    let health = node.health_of(&uuid("GPU-a"), GpuPart::Whole);
    let cause = health.reasons().iter().find(|reason| reason.cause.as_str() == word);
    let cause = cause.map(|reason| now.since(reason.since) + reason.before);
    let degradations = node.gpus().get(&uuid("GPU-a")).map(GpuHealth::degradations);
    let degradation = degradations.and_then(|all| {
        let (_, since) = all.iter().find(|(which, _)| which.as_str() == word)?;
        Some(now.since(since.known) + since.before)
    });
    cause.or(degradation).map(|age| age.as_secs())
}

/// Two GPUs, one of them quarantined, with a row that waits, a contained error and without events,
/// all since the second 10 of a process that started 1,000 s after the boot.
fn troubled() -> NodeHealth {
    let mut node = process(1_000);
    node.apply(ms(1_000), enumeration(1, &["GPU-a", "GPU-b"]));
    poll(&mut node, 2, "GPU-a", well());
    node.apply(ms(10_000), quarantine(&["GPU-a"]));
    node.apply(ms(10_000), on("GPU-a", Observation::EventsReceived(false)));
    node.apply(ms(10_000), on("GPU-a", xid(94)));
    poll(&mut node, 10, "GPU-a", pending_row());
    node
}

const WORDS: [&str; 4] = ["external", "row_remap_pending", "no_events", "contained_error"];

#[test]
fn what_is_stated_again_is_as_old_as_it_is() {
    let mut persisted = troubled().persist();
    // Over two restarts, the second of them before anything was stated again.
    for origin in [2_000, 3_000] {
        let mut next = process(origin);
        next.restore(ms(0), &persisted);
        assert_eq!(next.persist(), persisted, "nothing is forgotten before it is looked at");
        if origin == 3_000 {
            next.apply(ms(1_000), enumeration(1, &["GPU-a", "GPU-b"]));
            next.apply(ms(2_000), quarantine(&["GPU-a"]));
            next.apply(ms(2_000), on("GPU-a", Observation::EventsReceived(false)));
            poll(&mut next, 2, "GPU-a", pending_row());
            for word in WORDS {
                assert_eq!(age(&next, 5, word), Some(3_005 - 1_010), "{word}");
            }
            assert_eq!(next.persist().ages, persisted.ages, "as it is in the file");
        }
        persisted = next.persist();
    }
}

#[test]
fn each_of_several_has_an_age_of_its_own() {
    let mut first = process(1_000);
    first.apply(ms(1_000), enumeration(1, &["GPU-a"]));
    first.apply(ms(10_000), quarantine(&["GPU-a"]));
    poll(&mut first, 20, "GPU-a", pending_row());
    let mut next = process(2_000);
    next.restore(ms(0), &first.persist());
    next.apply(ms(1_000), enumeration(1, &["GPU-a"]));
    next.apply(ms(2_000), quarantine(&["GPU-a"]));
    poll(&mut next, 3, "GPU-a", pending_row());
    assert_eq!(age(&next, 5, "external"), Some(2_005 - 1_010));
    assert_eq!(age(&next, 5, "row_remap_pending"), Some(2_005 - 1_020));
}

#[test]
fn what_was_over_in_between_begins_again() {
    let mut next = process(2_000);
    next.restore(ms(0), &troubled().persist());
    next.apply(ms(1_000), enumeration(1, &["GPU-a", "GPU-b"]));
    for seconds in [2, 20] {
        let (gpus, reading): (&[&str], _) =
            if seconds == 2 { (&[], well()) } else { (&["GPU-a"], pending_row()) };
        let received = Observation::EventsReceived(seconds == 2);
        next.apply(ms(seconds * 1000), quarantine(gpus));
        next.apply(ms(seconds * 1000), on("GPU-a", received));
        poll(&mut next, seconds, "GPU-a", reading);
    }
    for word in &WORDS[..3] {
        assert_eq!(age(&next, 25, word), Some(5), "{word}");
    }
}

#[test]
fn failing_to_look_does_not_make_anything_younger() {
    let mut next = process(2_000);
    next.restore(ms(0), &troubled().persist());
    // Not listed yet, and a reading that fails.
    next.apply(ms(1_000), quarantine(&[]));
    next.apply(ms(2_000), enumeration(1, &["GPU-a", "GPU-b"]));
    let failing = Reading { remapped_rows: Some(Err(error(999))), ..well() };
    poll(&mut next, 3, "GPU-a", failing);
    poll(&mut next, 4, "GPU-a", pending_row());
    assert_eq!(age(&next, 5, "row_remap_pending"), Some(2_005 - 1_010));
    // A reading says nothing about events.
    next.apply(ms(5_000), on("GPU-a", Observation::EventsReceived(false)));
    assert_eq!(age(&next, 5, "no_events"), Some(2_005 - 1_010));
}

#[test]
fn another_boot_has_no_ages_and_another_load_of_the_driver_those_of_the_quarantine() {
    for (boot, load, quarantined) in [("boot-2", "load-1", 5), ("boot-1", "load-2", 1_000)] {
        let mut next = NodeHealth::new(HealthPolicy::default(), epoch(boot, load))
            .with_origin(Duration::from_secs(2_000));
        next.restore(ms(0), &troubled().persist());
        next.apply(ms(1_000), enumeration(1, &["GPU-a", "GPU-b"]));
        next.apply(ms(5_000), quarantine(&["GPU-a"]));
        poll(&mut next, 5, "GPU-a", pending_row());
        assert_eq!(age(&next, 10, "external"), Some(quarantined), "{boot} {load}");
        assert_eq!(age(&next, 10, "row_remap_pending"), Some(5), "{boot} {load}");
        assert_eq!(age(&next, 10, "contained_error"), None, "{boot} {load}");
    }
}

#[test]
fn a_fault_of_the_node_keeps_its_age_as_long_as_it_lasts() {
    let fault = |fault| NodeObservation::Fault(fault);
    let mut first = process(1_000);
    first.apply(ms(10_000), fault(Some(NodeFault::DriverNotLoaded)));
    let persisted = first.persist();
    let mut next = process(2_000);
    next.restore(ms(0), &persisted);
    // Another word for the same: NVML cannot be used.
    next.apply(ms(5_000), fault(Some(NodeFault::LibraryMismatch)));
    assert_eq!(age(&next, 6, "library_mismatch"), Some(2_006 - 1_010));
    assert!(matches!(next.fault(), Some((NodeFault::LibraryMismatch, _))));
    assert_eq!(next.persist().ages, persisted.ages);
    let mut third = process(3_000);
    third.restore(ms(0), &next.persist());
    third.apply(ms(5_000), fault(None));
    third.apply(ms(9_000), fault(Some(NodeFault::DriverNotLoaded)));
    assert_eq!(age(&third, 10, "driver_not_loaded"), Some(1), "the driver was there in between");
}

#[test]
fn words_of_a_newer_plugin_and_of_what_is_kept_itself_wait_for_nothing() {
    let mut persisted = troubled().persist();
    let words = persisted.ages.gpus.get_mut(&uuid("GPU-a")).unwrap();
    for word in ["gremlins", "xid", "not_answered", ""] {
        words.insert(word.to_owned(), 5);
    }
    let mut next = process(2_000);
    next.restore(ms(0), &persisted);
    assert_eq!(next.persist().ages, troubled().persist().ages);
}

#[test]
fn without_the_time_since_the_boot_nothing_has_an_age() {
    let mut first = node(well());
    first.apply(ms(10_000), quarantine(&["GPU-a"]));
    assert_eq!(first.persist().ages, PersistedAges::default());
}

/// Only then is what it leaves out over.
#[test]
fn a_reading_is_complete_unless_something_failed_that_the_gpu_has() {
    let rows = |code| Reading { remapped_rows: Some(Err(error(code))), ..well() };
    for (reading, is_complete) in [
        (well(), true),
        (rows(3), true),
        (rows(4), true),
        (rows(999), false),
        (Reading { probe: None, ..well() }, false),
        (Reading { probe: Some(Err(error(999))), ..well() }, false),
    ] {
        assert_eq!(reading.is_complete(), is_complete, "{reading:?}");
    }
}
