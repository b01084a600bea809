//! Events come to those who registered, at once, and only while the driver is the one they opened.

mod common;

use std::time::{Duration, Instant};

use fake_nvml::profiles;
use fake_nvml::state::event_type::{DOUBLE_BIT_ECC, XID};
use fake_nvml::state::{DeafenedBy, Event, Rule};

use common::*;

/// A node of eight GPUs, the library initialised, and a set registered for Xids of GPU 0.
fn listening() -> (Node, Raw, usize, usize) {
    let node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    assert_eq!(nvml.init(), SUCCESS);
    let set = nvml.event_set().expect("a set");
    let gpu = nvml.by_index(0).expect("GPU 0");
    assert_eq!(nvml.register(gpu, XID, set), SUCCESS);
    (node, nvml, set, gpu)
}

#[test]
fn an_event_is_delivered_with_its_device_and_data() {
    let (mut node, nvml, set, gpu) = listening();
    node.xid(0, 79);
    let event = nvml.wait(set, 1000).expect("an event");
    assert_eq!(event.device, gpu);
    assert_eq!((event.event_type, event.data), (XID, 79));
    assert_eq!((event.gpu_instance, event.compute_instance), (u32::MAX, u32::MAX));
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
}

#[test]
fn an_event_ends_a_wait_that_has_begun() {
    let (mut node, nvml, set, _) = listening();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| nvml.wait(set, u32::MAX).map(|event| event.data));
        nvml.until_waiting(1);
        node.xid(0, 48);
        // Its time-out is weeks away.
        assert_eq!(waiter.join().expect("the waiter"), Ok(48));
    });
}

#[test]
fn a_wait_without_event_times_out() {
    let (_node, nvml, set, _) = listening();
    let begin = Instant::now();
    assert_eq!(nvml.wait(set, 120), Err(TIMEOUT));
    assert!(begin.elapsed() >= Duration::from_millis(120));
}

#[test]
fn one_unsupported_type_registers_nothing() {
    const OF_NO_TYPE: u64 = 0x20;
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let set = nvml.event_set().expect("a set");
    let gpu = nvml.by_index(0).expect("GPU 0");
    assert_eq!(nvml.register(gpu, XID | OF_NO_TYPE, set), NOT_SUPPORTED);
    node.xid(0, 79);
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
}

#[test]
fn events_in_the_file_at_init_have_happened() {
    let mut state = profiles::h100x8();
    let uuid = state.gpus[0].uuid.clone();
    state.push_event(xid_event(&uuid, 79));
    let mut node = Node::new(state);
    let nvml = node.raw();
    nvml.init();
    let set = nvml.event_set().expect("a set");
    assert_eq!(nvml.register(nvml.by_index(0).expect("GPU 0"), XID, set), SUCCESS);
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
    node.xid(0, 80);
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(80));
}

#[test]
fn events_before_registration_are_lost() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let set = nvml.event_set().expect("a set");
    node.xid(0, 79);
    assert_eq!(nvml.register(nvml.by_index(0).expect("GPU 0"), XID, set), SUCCESS);
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
}

#[test]
fn a_set_gets_only_what_it_registered() {
    let (mut node, nvml, set, _) = listening();
    node.xid(1, 79);
    let uuid = node.state.gpus[0].uuid.clone();
    node.change(|state| {
        let mut event = xid_event(&uuid, 0);
        event.event_type = DOUBLE_BIT_ECC;
        state.push_event(event);
    });
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
    node.xid(0, 31);
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(31));
}

#[test]
fn each_set_gets_its_own_copy() {
    let (mut node, nvml, set, gpu) = listening();
    let other = nvml.event_set().expect("another set");
    assert_eq!(nvml.register(gpu, XID, other), SUCCESS);
    node.xid(0, 63);
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(63));
    assert_eq!(nvml.wait(other, 1000).map(|event| event.data), Ok(63));
}

#[test]
fn a_storm_is_delivered_as_often_as_told_and_in_order() {
    let (mut node, nvml, set, _) = listening();
    let uuid = node.state.gpus[0].uuid.clone();
    node.change(|state| {
        let mut storm = xid_event(&uuid, 31);
        storm.count = 1000;
        state.push_event(storm);
        state.push_event(xid_event(&uuid, 79));
    });
    for _ in 0..1000 {
        assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(31));
    }
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(79));
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
}

#[test]
fn mig_instance_ids_come_through() {
    let (mut node, nvml, set, _) = listening();
    let uuid = node.state.gpus[0].uuid.clone();
    node.change(|state| {
        let mut event = xid_event(&uuid, 94);
        event.gpu_instance = Some(7);
        event.compute_instance = Some(0);
        state.push_event(event);
    });
    let event = nvml.wait(set, 1000).expect("an event");
    assert_eq!((event.gpu_instance, event.compute_instance), (7, 0));
}

#[test]
fn rapid_changes_lose_no_event() {
    let (mut node, nvml, set, _) = listening();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| {
            (0..200).map(|_| nvml.wait(set, 600_000).map(|event| event.data)).collect::<Vec<_>>()
        });
        for xid in 100..300 {
            node.xid(0, xid);
        }
        let seen = waiter.join().expect("the waiter");
        assert_eq!(seen, (100..300).map(Ok).collect::<Vec<_>>());
    });
}

#[test]
fn other_calls_go_on_while_one_waits() {
    let (mut node, nvml, set, gpu) = listening();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| nvml.wait(set, u32::MAX));
        nvml.until_waiting(1);
        assert!(nvml.of::<u32>("nvmlDeviceGetMinorNumber", gpu).is_ok());
        node.xid(0, 43);
        assert!(waiter.join().expect("the waiter").is_ok());
    });
}

#[test]
fn shutdown_and_free_end_a_wait() {
    let (_node, nvml, set, gpu) = listening();
    let other = nvml.event_set().expect("another set");
    assert_eq!(nvml.register(gpu, XID, other), SUCCESS);
    std::thread::scope(|threads| {
        let freed = threads.spawn(|| nvml.wait(other, u32::MAX));
        let shut = threads.spawn(|| nvml.wait(set, u32::MAX));
        nvml.until_waiting(2);
        assert_eq!(nvml.call1("nvmlEventSetFree", other), SUCCESS);
        assert_eq!(freed.join().expect("a waiter"), Err(INVALID_ARGUMENT));
        assert_eq!(nvml.shutdown(), SUCCESS);
        assert_eq!(shut.join().expect("a waiter"), Err(UNINITIALIZED));
    });
}

#[test]
fn an_unloaded_driver_ends_a_wait() {
    let (mut node, nvml, set, _) = listening();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| nvml.wait(set, u32::MAX));
        nvml.until_waiting(1);
        node.change(|state| state.driver.loaded = false);
        assert_eq!(waiter.join().expect("the waiter"), Err(DRIVER_NOT_LOADED));
    });
}

#[test]
fn garbage_is_no_event_set() {
    let (_node, nvml, _, gpu) = listening();
    for set in [0, 1, gpu, usize::MAX] {
        assert_eq!(nvml.wait(set, 0), Err(INVALID_ARGUMENT));
        assert_eq!(nvml.call1("nvmlEventSetFree", set), INVALID_ARGUMENT);
        assert_eq!(nvml.register(gpu, XID, set), INVALID_ARGUMENT);
    }
}

#[test]
fn a_lost_gpu_makes_its_set_deaf() {
    let (mut node, nvml, set, _) = listening();
    let other = nvml.event_set().expect("another set");
    assert_eq!(nvml.register(nvml.by_index(1).expect("GPU 1"), XID, other), SUCCESS);
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| nvml.wait(set, u32::MAX));
        nvml.until_waiting(1);
        node.gpu(0, |gpu| gpu.lost = true);
        assert_eq!(waiter.join().expect("the waiter"), Err(GPU_IS_LOST));
    });
    assert_eq!(nvml.wait(other, 0), Err(TIMEOUT));
    node.change(|state| state.driver.deafened_by = DeafenedBy::Any);
    assert_eq!(nvml.wait(other, 0), Err(GPU_IS_LOST));
    node.change(|state| state.driver.deafened_by = DeafenedBy::Nothing);
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
}

#[test]
fn an_unknown_at_registration_leaves_the_set_to_be_freed() {
    let (mut node, nvml, set, gpu) = listening();
    node.gpu(0, |gpu| gpu.rules = vec![Rule::answer("nvmlDeviceRegisterEvents", UNKNOWN).times(1)]);
    assert_eq!(nvml.register(gpu, XID, set), UNKNOWN);
    node.xid(0, 79);
    assert_eq!(nvml.wait(set, 0), Err(UNKNOWN));
    assert_eq!(nvml.register(gpu, XID, set), UNKNOWN);
    assert_eq!(nvml.call1("nvmlEventSetFree", set), SUCCESS);
    let fresh = nvml.event_set().expect("a new set");
    assert_eq!(nvml.register(gpu, XID, fresh), SUCCESS);
}

#[test]
fn events_come_without_a_handle_and_for_gpus_outside_the_set() {
    let (mut node, nvml, set, _) = listening();
    let other = nvml.by_index(3).expect("GPU 3");
    let uuid = node.state.gpus[3].uuid.clone();
    node.change(|state| {
        state.push_event(Event::xid("", 79));
        state.push_event(Event { stray: true, ..Event::xid(&uuid, 95) });
    });
    let next = || nvml.wait(set, 1000).map(|event| (event.device, event.data));
    assert_eq!([next(), next(), next()], [Ok((0, 79)), Ok((other, 95)), Err(TIMEOUT)]);
}

#[test]
fn events_of_an_instance_are_for_the_privileged() {
    let (mut node, nvml, set, _) = listening();
    let uuid = node.state.gpus[0].uuid.clone();
    node.change(|state| {
        state.driver.privileged = false;
        state.push_event(Event { gpu_instance: Some(7), ..Event::xid(&uuid, 94) });
        state.push_event(Event::xid(&uuid, 95));
    });
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(95));
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
}
