//! The supervisor, the inventory and its health against a simulated driver, on a simulated clock.

mod node;
mod pods;
mod properties;
mod release;

use std::time::Duration;

use device::health::RecoveryAction;
use node::{Node, POLL};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn every_gpu_is_healthy_in_the_first_batch_of_observations() {
    let mut node = Node::new(8, false);
    while node.inventory.gpus().is_empty() {
        node.run(Duration::from_millis(1));
    }
    assert_eq!(node.healthy(), 8);
}

#[test]
fn a_gpu_that_hangs_from_the_start_delays_the_first_batch_by_three_seconds_at_most() {
    let mut node = Node::new(8, false);
    node.gpu(3).hangs = true;
    node.run(Duration::from_millis(2_900));
    assert!(node.inventory.gpus().is_empty(), "nothing is listed yet");
    node.run(Duration::from_millis(200));
    assert_eq!(node.healthy(), 7);
}

#[test]
fn a_gpu_that_hung_while_it_was_identified_is_listed_once_it_answers() {
    let mut node = Node::new(1, false);
    node.gpu(0).hangs = true;
    node.run(5 * POLL);
    node.gpu(0).hangs = false;
    node.run(2 * POLL);
    assert_eq!(node.healthy(), 1);
}

#[test]
fn an_hour_with_one_gpu_lost_and_one_hung_leaves_the_others_as_they_are() {
    let mut node = Node::new(8, false);
    node.run(POLL);
    node.gpu(2).lost = true;
    node.gpu(5).hangs = true;
    node.run(Duration::from_secs(60));
    let (sessions, threads) = (node.sessions(), node.hung());
    node.run(HOUR);
    assert_eq!(node.healthy(), 6);
    assert_eq!((node.sessions(), node.hung()), (sessions, threads));
    assert!(node.looks() <= 61, "{} child processes", node.looks());
}

#[test]
fn a_gpu_that_is_back_is_served_after_a_child_process_has_seen_it() {
    let mut node = Node::new(8, false);
    node.run(POLL);
    node.gpu(2).lost = true;
    node.run(HOUR);
    assert_eq!((node.healthy(), node.sessions()), (7, 1));
    node.gpu(2).lost = false;
    node.run(10 * POLL);
    assert_eq!((node.healthy(), node.sessions()), (8, 2));
}

#[test]
fn a_gpu_that_is_bound_is_looked_for_at_the_next_poll() {
    let mut node = Node::new(8, false);
    node.gpu(7).bound = false;
    node.run(2 * POLL);
    assert_eq!(node.healthy(), 7);
    node.gpu(7).bound = true;
    node.run(POLL + POLL / 2);
    assert_eq!((node.healthy(), node.sessions()), (8, 2));
}

#[test]
fn a_bus_that_is_read_after_nvml_was_opened_has_no_gpu_looked_for() {
    for bus_takes in [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(2)] {
        let mut node = Node::new(8, false);
        node.bus_takes = bus_takes;
        node.gpu(7).lost = true;
        node.run(bus_takes + POLL / 2);
        assert_eq!((node.healthy(), node.looks()), (7, 0), "{bus_takes:?}");
    }
}

#[test]
fn a_bus_that_cannot_be_read_delays_the_first_batch_by_three_seconds_at_most() {
    let mut node = Node::new(2, false);
    node.bus_takes = HOUR;
    node.run(Duration::from_millis(2_900));
    assert!(node.inventory.gpus().is_empty(), "nothing is listed yet");
    node.run(Duration::from_millis(200));
    assert_eq!(node.healthy(), 2);
}

#[test]
fn links_are_read_once_a_moment_after_the_first_round() {
    let mut node = Node::new(3, false);
    node.run(POLL / 2);
    let [first, .., last] = node.links_asked() else { panic!("no links are read") };
    assert_eq!(first, last);
    assert!(first.0 > Duration::from_millis(49) && first.0 < Duration::from_millis(60));
    assert_eq!(node.links_asked().len(), 3);
    let mut node = Node::new(0, false);
    node.run(2 * POLL);
    assert!(node.links_asked().is_empty());
}

#[test]
fn without_a_thread_to_open_nvml_on_that_is_tried_again() {
    let mut node = Node::new(2, false);
    node.out_of_threads = true;
    node.run(Duration::from_secs(60));
    assert!((10..=30).contains(&node.sessions()), "{} sessions in a minute", node.sessions());
    node.out_of_threads = false;
    node.run(POLL);
    assert_eq!(node.healthy(), 2);
}

#[test]
fn no_initialisation_is_made_for_a_gpu_that_left_the_bus() {
    let mut node = Node::new(4, false);
    node.run(POLL);
    node.gpu(1).bound = false;
    node.run(HOUR);
    assert_eq!((node.healthy(), node.sessions(), node.looks()), (3, 1, 0));
}

#[test]
fn renewals_that_list_nothing_new_come_ever_more_seldom() {
    let mut node = Node::new(4, false);
    node.run(POLL);
    node.gpu(1).lost = true;
    // The child sees it, and a new initialisation here does not.
    node.gpu(1).seen_by_child_alone = true;
    node.run(4 * HOUR);
    assert_eq!(node.healthy(), 3);
    assert!((2..=11).contains(&node.sessions()), "{} sessions", node.sessions());
}

#[test]
fn a_code_of_the_node_from_one_gpu_is_that_gpus_own_while_nvml_counts_gpus() {
    let mut node = Node::new(8, false);
    node.run(POLL);
    node.gpu(4).fails = Some(1);
    node.run(20 * POLL);
    assert_eq!((node.healthy(), node.sessions()), (7, 1));
}

#[test]
fn opening_and_failing_at_once_is_tried_with_growing_pauses() {
    let mut node = Node::new(2, false);
    node.counts_once = true;
    node.run(Duration::from_secs(60));
    assert!(node.sessions() <= 14, "{} sessions in a minute", node.sessions());
    node.counts_once = false;
    node.run(2 * POLL);
    assert_eq!(node.healthy(), 2);
}

#[test]
fn a_slow_initialisation_is_no_miss_of_the_gpus() {
    let mut node = Node::new(8, false);
    node.run(POLL);
    node.init_takes = Duration::from_secs(16);
    node.gpu(7).lost = true;
    node.run(4 * POLL);
    node.gpu(7).lost = false;
    for _ in 0..120 {
        node.run(Duration::from_secs(1));
        assert!(node.healthy() >= 7);
    }
    assert_eq!((node.healthy(), node.sessions()), (8, 2));
}

#[test]
fn an_initialisation_that_never_ends_is_a_fault_of_the_node() {
    let mut node = Node::new(2, false);
    node.run(POLL);
    node.init_takes = HOUR;
    node.reload_driver();
    node.run(Duration::from_secs(90));
    assert_eq!(node.healthy(), 0);
    node.run(HOUR + 3 * POLL);
    assert_eq!(node.healthy(), 2);
}

#[test]
fn a_gpu_whose_registration_for_events_failed_is_registered_later() {
    let mut node = Node::new(2, true);
    node.gpu(1).deaf = true;
    node.run(POLL);
    node.xid(1, 95);
    assert_eq!(node.healthy(), 2, "it is not heard");
    assert_eq!(node.deaf(), 1);
    node.gpu(1).deaf = false;
    node.run(4 * POLL);
    node.xid(1, 95);
    assert_eq!((node.healthy(), node.deaf()), (1, 0));
}

#[test]
fn a_reset_that_the_driver_asks_for_stands_until_it_asks_no_more() {
    let mut node = Node::new(2, false);
    node.run(POLL);
    node.gpu(0).action = RecoveryAction::GpuReset;
    node.run(HOUR);
    assert_eq!(node.healthy(), 1);
    node.gpu(0).action = RecoveryAction::None;
    node.run(3 * POLL);
    assert_eq!(node.healthy(), 2);
}

#[test]
fn a_driver_that_is_loaded_while_nvml_is_opened_repairs_nothing_that_comes_later() {
    let mut node = Node::new(4, true);
    node.run(Duration::from_secs(1));
    node.restart(false);
    node.reload_driver();
    node.run(Duration::from_secs(1));
    node.xid(0, 95);
    node.release(None);
    node.run(20 * POLL);
    assert_eq!(node.healthy(), 3);
}

#[test]
fn a_reset_while_nvml_is_released_is_evidence_of_repair_and_a_release_alone_is_none() {
    for (energy_after, healthy) in [(Some(900), 1), (Some(7), 2), (None, 1)] {
        let mut node = Node::new(2, true);
        node.gpu(0).energy = Some(800);
        node.run(POLL);
        node.xid(0, 95);
        node.run(2 * POLL);
        node.release(None);
        node.gpu(0).energy = energy_after;
        node.gpu(0).latched = healthy == 1;
        node.changed(Some(0));
        node.run(10 * POLL);
        assert_eq!(node.healthy(), healthy, "{energy_after:?}");
    }
}

#[test]
fn an_xid_in_the_moment_in_which_nvml_fails_is_not_lost() {
    let mut node = Node::new(2, true);
    node.run(POLL);
    node.xid_and_failure(0, 95);
    node.run(10 * POLL);
    assert_eq!(node.healthy(), 1);
}

#[test]
fn an_xid_of_a_gpu_that_was_cleared_while_it_was_off_the_bus_stands() {
    let mut node = Node::new(3, true);
    node.run(Duration::from_secs(1));
    node.gpu(0).bound = false;
    node.changed(Some(0));
    node.gpu(1).hangs = true;
    node.changed(Some(1));
    node.run(Duration::from_secs(10));
    node.clear(0);
    node.gpu(0).bound = true;
    node.changed(Some(0));
    node.xid(0, 95);
    node.changed(Some(0));
    node.run(Duration::from_secs(600));
    node.gpu(1).hangs = false;
    node.changed(Some(1));
    node.run(Duration::from_secs(600));
    assert_eq!(node.healthy(), 2);
}
