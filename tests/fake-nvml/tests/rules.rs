//! Calls that go wrong by a rule: for some calls alone, late, never, or with a wrong value.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use fake_nvml::profiles;
use fake_nvml::state::event_type::XID;
use fake_nvml::state::{Blocks, Rule};

use common::*;

const UUID: &str = "nvmlDeviceGetUUID";
const MINOR: &str = "nvmlDeviceGetMinorNumber";

fn started() -> (Node, Raw) {
    let node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    assert_eq!(nvml.init(), SUCCESS);
    (node, nvml)
}

fn uuid(nvml: &Raw, gpu: usize) -> Result<String, u32> {
    nvml.text(UUID, Some(gpu), 96)
}

#[test]
fn an_error_comes_as_often_as_told_and_after_as_many_calls() {
    let (mut node, nvml) = started();
    let gpu = nvml.by_index(0).expect("GPU 0");
    node.gpu(0, |gpu| gpu.rules = vec![Rule::answer(MINOR, NO_PERMISSION).after(1).times(2)]);
    let minor = || nvml.of::<u32>(MINOR, gpu);
    assert_eq!(minor(), Ok(0));
    // Another change of the file is no new beginning.
    node.gpu(0, |gpu| gpu.recovery_action = 1);
    assert_eq!([minor(), minor(), minor()], [Err(NO_PERMISSION), Err(NO_PERMISSION), Ok(0)]);
    node.gpu(0, |gpu| gpu.rules.clear());
    assert_eq!(minor(), Ok(0));
    node.gpu(0, |gpu| gpu.rules = vec![Rule::answer(MINOR, 999).times(1); 2]);
    assert_eq!([minor(), minor(), minor()], [Err(999), Err(999), Ok(0)], "each counts for itself");
}

#[test]
fn the_first_rule_that_fits_counts() {
    let (mut node, nvml) = started();
    let gpu = nvml.by_index(0).expect("GPU 0");
    node.gpu(0, |gpu| {
        gpu.rules = vec![Rule::answer(UUID, 16).times(1), Rule::answer("nvmlDeviceGet*", 17)];
    });
    assert_eq!(uuid(&nvml, gpu), Err(16));
    assert_eq!(uuid(&nvml, gpu), Err(17));
    assert_eq!(nvml.of::<u32>(MINOR, gpu), Err(17));
}

#[test]
fn a_field_value_goes_wrong_once() {
    let (mut node, nvml) = started();
    let gpu = nvml.by_index(0).expect("GPU 0");
    node.gpu(0, |gpu| {
        gpu.rules = vec![Rule::answer("nvmlDeviceGetFieldValues/230", UNINITIALIZED).times(1)];
    });
    let code = |field| nvml.field_code(gpu, field);
    assert_eq!([code(4), code(230), code(230)], [SUCCESS, UNINITIALIZED, SUCCESS]);
}

#[test]
fn a_call_takes_longer_and_others_do_not() {
    let (mut node, nvml) = started();
    let (first, second) = (nvml.by_index(0).expect("GPU 0"), nvml.by_index(1).expect("GPU 1"));
    node.gpu(0, |gpu| gpu.rules = vec![Rule::delay(UUID, 300).times(1)]);
    thread::scope(|threads| {
        let slow = threads.spawn(|| {
            let begun = Instant::now();
            assert!(uuid(&nvml, first).is_ok());
            begun.elapsed()
        });
        nvml.until_hanging(1);
        assert!(uuid(&nvml, second).is_ok() && uuid(&nvml, first).is_ok());
        assert!(slow.join().expect("it comes back") >= Duration::from_millis(300));
    });
}

#[test]
fn a_hang_blocks_its_gpu_if_it_is_told_to() {
    let (mut node, nvml) = started();
    let (first, second) = (nvml.by_index(0).expect("GPU 0"), nvml.by_index(1).expect("GPU 1"));
    node.gpu(0, |gpu| gpu.rules = vec![Rule::hang(UUID).blocking(Blocks::Gpu)]);
    thread::scope(|threads| {
        let hung = threads.spawn(|| uuid(&nvml, first));
        nvml.until_hanging(1);
        let behind = threads.spawn(|| nvml.of::<u32>(MINOR, first));
        nvml.until_hanging(2);
        assert!(uuid(&nvml, second).is_ok());
        node.gpu(0, |gpu| gpu.rules.clear());
        assert!(hung.join().expect("it goes on").is_ok());
        assert_eq!(behind.join().expect("it goes on"), Ok(0));
    });
}

#[test]
fn a_hang_blocks_everything_if_it_is_told_to() {
    let (mut node, nvml) = started();
    let first = nvml.by_index(0).expect("GPU 0");
    node.gpu(0, |gpu| gpu.rules = vec![Rule::hang(UUID).blocking(Blocks::All)]);
    thread::scope(|threads| {
        let hung = threads.spawn(|| uuid(&nvml, first));
        nvml.until_hanging(1);
        let count = threads.spawn(|| nvml.out::<u32>("nvmlDeviceGetCount_v2"));
        nvml.until_hanging(2);
        let init = threads.spawn(|| nvml.init());
        nvml.until_hanging(3);
        let shutdown = threads.spawn(|| nvml.shutdown());
        nvml.until_hanging(4);
        node.gpu(0, |gpu| gpu.rules.clear());
        assert!(hung.join().expect("it goes on").is_ok());
        assert_eq!(init.join().expect("it goes on"), SUCCESS);
        assert_eq!(shutdown.join().expect("it goes on"), SUCCESS);
        // Before or after the shutdown.
        assert!(matches!(count.join().expect("it goes on"), Ok(8) | Err(UNINITIALIZED)));
    });
}

#[test]
fn counts_and_names_are_as_told() {
    let (mut node, nvml) = started();
    let gpu = nvml.by_index(2).expect("GPU 2");
    let long = "x".repeat(200);
    for told in ["N/A", "all", "../../etc/0", "", &long] {
        node.gpu(2, |gpu| gpu.rules = vec![Rule::value(UUID, told)]);
        let fits = told.len() < 96;
        let expected = if fits { Ok(told.to_owned()) } else { Err(INSUFFICIENT_SIZE) };
        assert_eq!(uuid(&nvml, gpu), expected);
        assert_eq!(nvml.by_uuid(told), Ok(gpu), "it is found by what it reports");
    }
    node.change(|state| state.rules = vec![Rule::value("nvmlDeviceGetCount", u32::MAX)]);
    assert_eq!(nvml.out("nvmlDeviceGetCount_v2"), Ok(u32::MAX));
    assert_eq!(nvml.by_index(8), Err(INVALID_ARGUMENT));
    let count = "nvmlDeviceGetMaxMigDeviceCount";
    node.gpu(2, |gpu| gpu.rules = vec![Rule::value(count, u32::MAX)]);
    assert_eq!(nvml.of(count, gpu), Ok(u32::MAX));
}

#[test]
fn a_uuid_is_another_one_at_each_call() {
    let (mut node, nvml) = started();
    let gpu = nvml.by_index(0).expect("GPU 0");
    let told = "GPU-00000000-0000-4000-8000-00000000000{n}";
    node.gpu(0, |gpu| gpu.rules = vec![Rule::value(UUID, told)]);
    let asked: Vec<_> = (1..4).map(|_| uuid(&nvml, gpu)).collect();
    let expected: Vec<_> = ["1", "2", "3"].map(|n| Ok(told.replace("{n}", n))).into();
    assert_eq!(asked, expected);
}

#[test]
fn two_gpus_have_one_uuid_and_a_handle_each() {
    let mut state = profiles::h100x8();
    state.gpus[4].uuid = state.gpus[1].uuid.clone();
    let node = Node::new(state);
    let nvml = node.raw();
    assert_eq!(nvml.init(), SUCCESS);
    let (one, other) = (nvml.by_index(1).expect("GPU 1"), nvml.by_index(4).expect("GPU 4"));
    assert_eq!(uuid(&nvml, one), uuid(&nvml, other));
    assert_eq!((nvml.of(MINOR, one), nvml.of(MINOR, other)), (Ok(1), Ok(4)));
    assert_eq!(nvml.by_uuid(&node.state.gpus[4].uuid), Ok(one));
}

#[test]
fn a_look_up_by_uuid_touches_the_gpus_before_and_fails_if_any_is_lost() {
    let (mut node, nvml) = started();
    let uuids: Vec<String> = node.state.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let serial = node.state.gpus[0].serial.clone();
    let bus_id = node.state.gpus[0].pci_bus_id.clone();
    node.gpu(5, |gpu| gpu.lost = true);
    assert_eq!(nvml.by_uuid(&uuids[0]), Err(GPU_IS_LOST));
    assert_eq!(nvml.by_uuid("GPU-of-nobody"), Err(GPU_IS_LOST));
    assert_eq!(nvml.by_text("nvmlDeviceGetHandleBySerial", &serial), Err(GPU_IS_LOST));
    assert!(nvml.by_text("nvmlDeviceGetHandleByPciBusId_v2", &bus_id).is_ok());
    assert!(nvml.by_index(0).is_ok());
    node.gpu(5, |gpu| gpu.lost = false);
    node.gpu(5, |gpu| gpu.rules = vec![Rule::hang("nvmlDeviceGetHandleByUUID")]);
    assert!(nvml.by_uuid(&uuids[4]).is_ok(), "the search ends before");
    thread::scope(|threads| {
        let hung = threads.spawn(|| nvml.by_uuid(&uuids[6]));
        nvml.until_hanging(1);
        node.gpu(5, |gpu| gpu.rules.clear());
        assert!(hung.join().expect("it goes on").is_ok());
    });
}

#[test]
fn a_wait_goes_wrong_for_the_sets_of_one_gpu() {
    let (mut node, nvml) = started();
    let sets: Vec<usize> = (0..2).map(|_| nvml.event_set().expect("a set")).collect();
    for (index, set) in (0..).zip(&sets) {
        let gpu = nvml.by_index(index).expect("a GPU");
        assert_eq!(nvml.register(gpu, XID, *set), SUCCESS);
    }
    node.gpu(1, |gpu| gpu.rules = vec![Rule::answer("nvmlEventSetWait", UNKNOWN).times(1)]);
    assert_eq!(nvml.wait(sets[0], 0), Err(TIMEOUT));
    assert_eq!(nvml.wait(sets[1], 0), Err(UNKNOWN));
    node.xid(1, 79);
    assert_eq!(nvml.wait(sets[1], 1000).map(|event| event.data), Ok(79), "events go on coming");
}

#[test]
fn a_wait_is_one_call_however_often_the_file_changes() {
    let (mut node, nvml) = started();
    let set = nvml.event_set().expect("a set");
    assert_eq!(nvml.register(nvml.by_index(0).expect("GPU 0"), XID, set), SUCCESS);
    let rule = Rule::answer("nvmlEventSetWait_v2", UNKNOWN).after(1).times(1);
    node.change(|state| state.rules = vec![rule]);
    thread::scope(|threads| {
        let waiter = threads.spawn(|| nvml.wait(set, u32::MAX).map(|event| event.data));
        for action in 1..4 {
            nvml.until_waiting(1);
            node.gpu(0, |gpu| gpu.recovery_action = action);
        }
        nvml.until_waiting(1);
        node.xid(0, 79);
        assert_eq!(waiter.join().expect("the waiter"), Ok(79));
    });
    assert_eq!(nvml.wait(set, 0), Err(UNKNOWN));
}
