//! The two verbs about NVML: released for a time, and taken up again.

use std::time::Duration;

use super::node::{DEADLINE, Node, POLL};
use crate::nvml::release::{RELEASE_DEADLINE, ReleaseEnd, Usage};

const MINUTE: Duration = Duration::from_secs(60);

fn serving(gpus: u32) -> Node {
    let mut node = Node::new(gpus, false);
    node.run(POLL);
    assert_eq!((node.usage(), node.healthy()), (Usage::InUse, gpus as usize));
    node
}

/// The time from now until which NVML is released.
#[track_caller]
fn released_for(node: &mut Node) -> Duration {
    match node.release_end() {
        Some(ReleaseEnd::Released { until }) => until.since(node.now()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_release_cancels_nothing_and_the_later_end_counts() {
    let mut node = serving(2);
    node.release(Some(MINUTE));
    assert_eq!(released_for(&mut node), MINUTE);
    node.release(Some(Duration::from_secs(5)));
    assert_eq!(released_for(&mut node), MINUTE);
    node.release(Some(2 * MINUTE));
    assert_eq!(released_for(&mut node), 2 * MINUTE);
    node.run(2 * MINUTE - Duration::from_secs(1));
    assert_eq!(node.usage(), Usage::Released);
    node.run(POLL);
    assert_eq!((node.usage(), node.healthy()), (Usage::InUse, 2));
}

#[test]
fn taking_up_twice_is_taking_up_once() {
    let mut node = serving(2);
    node.release(None);
    released_for(&mut node);
    for _ in 0..2 {
        node.take_up();
        node.run(Duration::from_secs(1));
        assert_eq!((node.usage(), node.sessions(), node.release_end()), (Usage::InUse, 2, None));
    }
}

#[test]
fn a_release_while_nvml_is_down_is_refused_at_once_and_never_fires_later() {
    let mut node = serving(2);
    node.init_fails = Some(9);
    node.reload_driver();
    node.run(2 * MINUTE);
    assert!(matches!(node.usage(), Usage::Down(reason) if reason.contains("nvmlInit_v2")));
    node.release(None);
    assert!(matches!(node.release_end(), Some(ReleaseEnd::NotInUse(reason))
        if reason.contains("nvmlInit_v2")));
    node.init_fails = None;
    node.run(2 * MINUTE);
    assert_eq!((node.usage(), node.release_end(), node.healthy()), (Usage::InUse, None, 2));
}

#[test]
fn a_release_while_nvml_is_initialised_is_refused_at_once_too() {
    let mut node = serving(2);
    node.init_takes = MINUTE;
    node.reload_driver();
    while node.usage() != Usage::Changing {
        node.run(Duration::from_secs(1));
    }
    node.release(None);
    assert!(matches!(node.release_end(), Some(ReleaseEnd::NotInUse(_))));
    node.init_takes = Duration::from_millis(1);
    node.run(3 * MINUTE);
    assert_eq!((node.usage(), node.release_end()), (Usage::InUse, None));
}

#[test]
fn a_call_that_hangs_has_the_release_withdrawn_and_it_does_not_fire_when_it_returns() {
    let mut node = serving(3);
    node.gpu(1).hangs = true;
    node.run(4 * POLL);
    node.release(None);
    node.run(RELEASE_DEADLINE - Duration::from_secs(1));
    assert_eq!((node.usage(), node.release_end()), (Usage::Released, None));
    // A second one shares the end of the first.
    node.release(None);
    node.run(Duration::from_secs(1));
    assert_eq!(node.release_end(), Some(ReleaseEnd::GivenUp));
    node.run(3 * POLL);
    assert_eq!((node.usage(), node.healthy()), (Usage::InUse, 2), "the others are watched again");
    node.gpu(1).hangs = false;
    node.changed(Some(1));
    node.run(10 * POLL);
    assert_eq!((node.usage(), node.release_end(), node.healthy()), (Usage::InUse, None, 3));
}

#[test]
fn a_call_of_an_earlier_session_that_hangs_keeps_its_gpu_open_and_so_nothing_is_released() {
    let mut node = serving(3);
    node.gpu(1).hangs = true;
    node.run(4 * POLL);
    // It is given up with the first session, and the second has no call that hangs.
    node.reload_driver();
    node.gpu(1).bound = false;
    node.run(20 * DEADLINE);
    assert_eq!(node.usage(), Usage::InUse);
    node.release(None);
    node.run(RELEASE_DEADLINE);
    assert_eq!(node.release_end(), Some(ReleaseEnd::GivenUp));
    node.run(2 * POLL);
    node.gpu(1).hangs = false;
    node.run(POLL);
    node.release(None);
    released_for(&mut node);
}

#[test]
fn taking_up_withdraws_a_release_that_is_not_done() {
    let mut node = serving(3);
    node.gpu(1).hangs = true;
    node.run(4 * POLL);
    node.release(None);
    assert_eq!((node.usage(), node.release_end()), (Usage::Released, None));
    node.take_up();
    assert_eq!((node.usage(), node.release_end()), (Usage::Changing, Some(ReleaseEnd::TakenUp)));
    node.run(5 * POLL);
    assert_eq!((node.usage(), node.release_end(), node.healthy()), (Usage::InUse, None, 2));
}
