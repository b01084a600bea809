//! Init, shutdown and every way in which a driver or a GPU refuses.

mod common;

use std::fs;

use fake_nvml::profiles;
use fake_nvml::state::Rule;
use fake_nvml::state::event_type::XID;

use common::*;

const UUID: &str = "nvmlDeviceGetUUID";
const MINOR: &str = "nvmlDeviceGetMinorNumber";

fn count(nvml: &Raw) -> Result<u32, u32> {
    nvml.out("nvmlDeviceGetCount_v2")
}

fn uuid(nvml: &Raw, gpu: usize) -> Result<String, u32> {
    nvml.text(UUID, Some(gpu), 96)
}

#[test]
fn calls_before_init_are_refused() {
    let nvml = Node::new(profiles::h100x8());
    let nvml = nvml.raw();
    assert_eq!(count(&nvml), Err(UNINITIALIZED));
    assert_eq!(nvml.by_index(0), Err(UNINITIALIZED));
    assert_eq!(nvml.event_set(), Err(UNINITIALIZED));
    assert_eq!(nvml.call0("nvmlUnitGetCount"), UNINITIALIZED);
    assert_eq!(nvml.shutdown(), UNINITIALIZED);
}

#[test]
fn init_is_counted() {
    let node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    assert_eq!(nvml.init(), SUCCESS);
    assert_eq!(nvml.call0("nvmlInit"), SUCCESS);
    assert_eq!(nvml.shutdown(), SUCCESS);
    assert_eq!(count(&nvml), Ok(8));
    assert_eq!(nvml.shutdown(), SUCCESS);
    assert_eq!(count(&nvml), Err(UNINITIALIZED));
    assert_eq!(nvml.shutdown(), UNINITIALIZED);
}

#[test]
fn without_a_good_state_file_there_is_no_driver() {
    let node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    fs::remove_file(node.state_path()).expect("remove");
    assert_eq!(nvml.init(), DRIVER_NOT_LOADED);
    fs::write(node.state_path(), "{\"gpus\": [{]}").expect("write");
    assert_eq!(nvml.init(), DRIVER_NOT_LOADED);
    fs::write(node.state_path(), "{}").expect("write");
    assert_eq!(nvml.init(), SUCCESS);
    assert_eq!(count(&nvml), Ok(0));
}

#[test]
fn the_last_good_state_outlives_a_bad_file() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    fs::write(node.state_path(), "not a state").expect("write");
    assert_eq!(count(&nvml), Ok(8));
    fs::remove_file(node.state_path()).expect("remove");
    assert_eq!(count(&nvml), Ok(8));
    node.change(|state| state.driver.enumerates_at_once = true);
    node.change(|state| state.gpus.truncate(3));
    assert_eq!(count(&nvml), Ok(3));
}

#[test]
fn a_change_counts_from_the_next_call_on() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    // Same size and, on many file systems, the same times: only the bytes differ.
    for round in 0..50 {
        let minor = round % 10;
        node.gpu(0, |gpu| gpu.minor = minor);
        let gpu = nvml.by_index(0).expect("GPU 0");
        assert_eq!(nvml.of(MINOR, gpu), Ok(minor));
    }
}

#[test]
fn an_unloaded_driver_stays_away_until_shutdown_and_init() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let gpu = nvml.by_index(0).expect("GPU 0");
    node.change(|state| state.driver.loaded = false);
    assert_eq!(count(&nvml), Err(DRIVER_NOT_LOADED));
    assert_eq!(uuid(&nvml, gpu), Err(DRIVER_NOT_LOADED));
    assert_eq!(nvml.init(), DRIVER_NOT_LOADED);
    node.change(|state| state.driver.loaded = true);
    assert_eq!(count(&nvml), Err(DRIVER_NOT_LOADED));
    assert_eq!(nvml.init(), DRIVER_NOT_LOADED);
    assert_eq!(nvml.shutdown(), SUCCESS);
    assert_eq!(nvml.init(), SUCCESS);
    assert_eq!(count(&nvml), Ok(8));
}

#[test]
fn a_reload_unseen_is_a_reload_too() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    node.change(|state| state.driver.generation += 1);
    assert_eq!(count(&nvml), Err(DRIVER_NOT_LOADED));
    assert_eq!(nvml.shutdown(), SUCCESS);
    assert_eq!(nvml.init(), SUCCESS);
    assert_eq!(count(&nvml), Ok(8));
}

#[test]
fn a_version_mismatch_refuses_init() {
    let mut node = Node::new(profiles::h100x8());
    node.change(|state| state.driver.mismatch = true);
    let nvml = node.raw();
    assert_eq!(nvml.init(), VERSION_MISMATCH);
    node.change(|state| state.driver.mismatch = false);
    assert_eq!(nvml.init(), SUCCESS);
    node.change(|state| state.driver.mismatch = true);
    assert_eq!(count(&nvml), Err(VERSION_MISMATCH));
}

#[test]
fn an_error_asked_for_the_node_is_given_by_name() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    node.change(|state| state.rules.push(Rule::answer("nvmlInit", 999)));
    assert_eq!(nvml.init(), 999, "the name without its version is enough");
    node.change(|state| state.rules = vec![Rule::answer(UUID, 17)]);
    assert_eq!(nvml.init(), SUCCESS);
    for index in 0..8 {
        let gpu = nvml.by_index(index).expect("a GPU");
        assert_eq!(uuid(&nvml, gpu), Err(17));
        assert_eq!(nvml.of(MINOR, gpu), Ok(index));
    }
    node.change(|state| state.rules = vec![Rule::answer("nvmlDeviceGetCount_v2", 4)]);
    assert_eq!(count(&nvml), Err(4));
    assert_eq!(nvml.out::<u32>("nvmlDeviceGetCount"), Ok(8));
}

#[test]
fn an_error_asked_for_one_gpu_is_its_own() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let gpus: Vec<_> = (0..8).map(|index| nvml.by_index(index).expect("a GPU")).collect();
    node.gpu(3, |gpu| {
        gpu.rules = vec![
            Rule::answer(UUID, 999),
            Rule::answer("nvmlDeviceGetHandleByIndex_v2", 15),
            Rule::answer("nvmlDeviceGetRetiredPages", 16),
        ];
    });
    assert_eq!(uuid(&nvml, gpus[3]), Err(999));
    assert!(uuid(&nvml, gpus[2]).is_ok());
    assert_eq!(nvml.by_index(3), Err(15));
    assert!(nvml.by_index(4).is_ok());
    assert_eq!(nvml.call1("nvmlDeviceGetRetiredPages", gpus[3]), 16);
    assert_eq!(nvml.call1("nvmlDeviceGetRetiredPages", gpus[2]), NOT_SUPPORTED);
}

#[test]
fn a_lost_gpu_keeps_its_index_and_has_no_handle() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let before = nvml.by_index(2).expect("GPU 2");
    node.gpu(2, |gpu| gpu.lost = true);
    assert_eq!(count(&nvml), Ok(8));
    assert_eq!(nvml.by_index(2), Err(GPU_IS_LOST));
    assert_eq!(uuid(&nvml, before), Err(GPU_IS_LOST));
    assert_eq!(nvml.of::<u32>(MINOR, before), Err(GPU_IS_LOST));
    assert_eq!(nvml.call1("nvmlDeviceGetBoardId", before), GPU_IS_LOST);
    let gpu = node.state.gpus[2].clone();
    assert_eq!(nvml.by_uuid(&gpu.uuid), Err(GPU_IS_LOST));
    assert_eq!(nvml.by_text("nvmlDeviceGetHandleByPciBusId_v2", &gpu.pci_bus_id), Err(GPU_IS_LOST));
    assert!(nvml.by_index(3).and_then(|gpu| uuid(&nvml, gpu)).is_ok());
}

#[test]
fn a_gpu_that_comes_back_has_a_new_handle() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let before = nvml.by_index(2).expect("GPU 2");
    node.gpu(2, |gpu| gpu.lost = true);
    assert_eq!(uuid(&nvml, before), Err(GPU_IS_LOST));
    node.gpu(2, |gpu| gpu.lost = false);
    assert_eq!(uuid(&nvml, before), Err(GPU_IS_LOST));
    let after = nvml.by_uuid(&node.state.gpus[2].uuid).expect("it is back");
    assert_ne!(before, after);
    assert_eq!(uuid(&nvml, after).as_ref(), Ok(&node.state.gpus[2].uuid));
    assert_eq!(nvml.by_index(2), Ok(after));
}

#[test]
fn events_of_a_lost_gpu_come_until_it_is_back() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let set = nvml.event_set().expect("a set");
    assert_eq!(nvml.register(nvml.by_index(2).expect("GPU 2"), XID, set), SUCCESS);
    let event = xid_event(&node.state.gpus[2].uuid, 79);
    node.change(|state| {
        state.gpus[2].lost = true;
        state.push_event(event);
    });
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(79));
    node.xid(2, 154);
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(154));
    node.gpu(2, |gpu| gpu.lost = false);
    node.xid(2, 31);
    assert_eq!(nvml.wait(set, 0), Err(TIMEOUT));
    assert_eq!(nvml.register(nvml.by_index(2).expect("GPU 2"), XID, set), SUCCESS);
    node.xid(2, 43);
    assert_eq!(nvml.wait(set, 1000).map(|event| event.data), Ok(43));
}

#[test]
fn handles_are_stable_and_garbage_is_none() {
    let node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let gpu = nvml.by_index(5).expect("GPU 5");
    assert_eq!(nvml.by_uuid(&node.state.gpus[5].uuid), Ok(gpu));
    assert_eq!(nvml.shutdown(), SUCCESS);
    nvml.init();
    assert_eq!(nvml.by_index(5), Ok(gpu));
    let set = nvml.event_set().expect("a set");
    for garbage in [0, 1, gpu + 1, gpu + (1 << 20), set, usize::MAX] {
        assert_eq!(uuid(&nvml, garbage), Err(INVALID_ARGUMENT));
        assert_eq!(nvml.call1("nvmlDeviceGetBoardId", garbage), INVALID_ARGUMENT);
    }
}

#[test]
fn a_named_call_hangs_until_its_name_is_gone() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let gpus: Vec<_> = (0..2).map(|index| nvml.by_index(index).expect("a GPU")).collect();
    node.gpu(0, |gpu| gpu.rules = vec![Rule::hang(UUID)]);
    std::thread::scope(|threads| {
        let hung = threads.spawn(|| uuid(&nvml, gpus[0]));
        nvml.until_hanging(1);
        assert!(uuid(&nvml, gpus[1]).is_ok(), "another GPU answers meanwhile");
        assert!(nvml.of::<u32>(MINOR, gpus[0]).is_ok(), "another call answers meanwhile");
        // A change that does not end the hang.
        node.gpu(0, |gpu| gpu.recovery_action = 1);
        nvml.until_hanging(1);
        node.gpu(0, |gpu| gpu.rules.clear());
        let answer = hung.join().expect("the hung thread");
        assert_eq!(answer.as_ref(), Ok(&node.state.gpus[0].uuid));
    });
}

#[test]
fn init_and_the_event_wait_hang_too() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    node.change(|state| state.rules = vec![Rule::hang("nvmlInit")]);
    std::thread::scope(|threads| {
        let hung = threads.spawn(|| nvml.init());
        nvml.until_hanging(1);
        node.change(|state| state.rules.clear());
        assert_eq!(hung.join().expect("the hung thread"), SUCCESS);
    });
    let set = nvml.event_set().expect("a set");
    assert_eq!(nvml.register(nvml.by_index(0).expect("GPU 0"), XID, set), SUCCESS);
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| nvml.wait(set, 600_000).map(|event| event.data));
        nvml.until_waiting(1);
        node.change(|state| state.rules = vec![Rule::hang("nvmlEventSetWait_v2")]);
        nvml.until_hanging(1);
        let late = threads.spawn(|| nvml.wait(set, 0));
        // Both hang, the second one past its time-out.
        nvml.until_hanging(2);
        node.change(|state| state.rules.clear());
        assert_eq!(late.join().expect("a hung thread"), Err(TIMEOUT));
        nvml.until_waiting(1);
        node.xid(0, 79);
        assert_eq!(waiter.join().expect("a hung thread"), Ok(79));
    });
}

#[test]
fn a_new_directory_at_the_same_path_is_noticed() {
    let mut node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let set = nvml.event_set().expect("a set");
    assert_eq!(nvml.register(nvml.by_index(0).expect("GPU 0"), XID, set), SUCCESS);
    let aside = node.directory().with_extension("aside");
    // The first event may come while the waiter still looks for the directory, the second one comes
    // afterwards.
    for xid in [79, 48] {
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| nvml.wait(set, 600_000).map(|event| event.data));
            nvml.until_waiting(1);
            if !aside.exists() {
                fs::rename(node.directory(), &aside).expect("rename");
                fs::create_dir(node.directory()).expect("mkdir");
            }
            node.xid(0, xid);
            assert_eq!(waiter.join().expect("the waiter"), Ok(xid));
        });
    }
    fs::remove_dir_all(aside).expect("clean up");
}

#[test]
fn null_and_short_buffers_are_refused() {
    let node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    nvml.init();
    let gpu = nvml.by_index(0).expect("GPU 0");
    let length = node.state.gpus[0].uuid.len() as u32;
    assert_eq!(nvml.text(UUID, Some(gpu), length), Err(INSUFFICIENT_SIZE));
    assert_eq!(nvml.text(UUID, Some(gpu), length + 1).as_ref(), Ok(&node.state.gpus[0].uuid));
    assert_eq!(nvml.text("nvmlSystemGetDriverVersion", None, 3), Err(INSUFFICIENT_SIZE));
    assert_eq!(nvml.null("nvmlDeviceGetMinorNumber", gpu), INVALID_ARGUMENT);
    assert_eq!(nvml.null("nvmlDeviceGetPciInfo_v3", gpu), INVALID_ARGUMENT);
    assert_eq!(nvml.null("nvmlDeviceGetMemoryInfo_v2", gpu), INVALID_ARGUMENT);
    assert_eq!(nvml.call1("nvmlDeviceGetCount_v2", 0), INVALID_ARGUMENT);
    assert_eq!(nvml.call1("nvmlEventSetCreate", 0), INVALID_ARGUMENT);
    assert_eq!(nvml.null("nvmlDeviceGetHandleByUUID", 0), INVALID_ARGUMENT);
}
