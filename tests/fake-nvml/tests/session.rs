//! What holds from `nvmlInit` to `nvmlShutdown`: the enumeration, and the open device files.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use fake_nvml::profiles;
use fake_nvml::state::Rule;

use common::*;

fn started(at_once: bool) -> (Node, Raw) {
    let mut state = profiles::h100x8();
    state.driver.enumerates_at_once = at_once;
    let node = Node::new(state);
    let nvml = node.raw();
    assert_eq!(nvml.init(), SUCCESS);
    (node, nvml)
}

fn count(nvml: &Raw) -> Result<u32, u32> {
    nvml.out("nvmlDeviceGetCount_v2")
}

fn uuid(nvml: &Raw, index: u32) -> Result<String, u32> {
    nvml.text("nvmlDeviceGetUUID", Some(nvml.by_index(index)?), 96)
}

#[test]
fn a_gpu_that_is_gone_renumbers_the_others_at_the_next_init() {
    let (mut node, nvml) = started(false);
    let uuids: Vec<String> = node.state.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let third = nvml.by_index(2).expect("GPU 2");
    node.gpu(2, |gpu| gpu.present = false);
    assert_eq!(count(&nvml), Ok(8));
    assert_eq!(uuid(&nvml, 2), Err(GPU_IS_LOST));
    assert_eq!(uuid(&nvml, 3).as_ref(), Ok(&uuids[3]));
    assert_eq!(nvml.by_uuid(&uuids[3]), Err(GPU_IS_LOST));
    assert_eq!((nvml.shutdown(), nvml.init()), (SUCCESS, SUCCESS));
    assert_eq!(count(&nvml), Ok(7));
    assert_eq!(uuid(&nvml, 2).as_ref(), Ok(&uuids[3]));
    assert_eq!(nvml.by_uuid(&uuids[2]), Err(NOT_FOUND));
    // It is back, and not seen before another init.
    node.gpu(2, |gpu| gpu.present = true);
    assert_eq!(count(&nvml), Ok(7));
    assert_eq!(nvml.text("nvmlDeviceGetUUID", Some(third), 96), Err(GPU_IS_LOST));
    assert_eq!((nvml.shutdown(), nvml.init()), (SUCCESS, SUCCESS));
    assert_eq!((count(&nvml), uuid(&nvml, 2).as_ref()), (Ok(8), Ok(&uuids[2])));
}

#[test]
fn a_gpu_that_is_gone_renumbers_the_others_at_once_if_told_to() {
    let (mut node, nvml) = started(true);
    let uuids: Vec<String> = node.state.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let (third, fourth) = (nvml.by_index(2).expect("GPU 2"), nvml.by_index(3).expect("GPU 3"));
    node.gpu(2, |gpu| gpu.present = false);
    assert_eq!(count(&nvml), Ok(7));
    assert_eq!(nvml.by_index(2), Ok(fourth));
    assert_eq!(nvml.of("nvmlDeviceGetIndex", fourth), Ok(2));
    assert_eq!(nvml.text("nvmlDeviceGetUUID", Some(third), 96), Err(GPU_IS_LOST));
    assert_eq!(nvml.by_uuid(&uuids[2]), Err(NOT_FOUND));
    assert_eq!(nvml.by_index(7), Err(INVALID_ARGUMENT));
    node.gpu(2, |gpu| gpu.present = true);
    assert_eq!(nvml.text("nvmlDeviceGetUUID", Some(third), 96), Err(GPU_IS_LOST));
    assert_eq!(uuid(&nvml, 2).as_ref(), Ok(&uuids[2]));
}

#[test]
fn a_gpu_that_comes_during_init_is_not_seen_by_it() {
    let mut node = Node::new(profiles::h100x8());
    node.change(|state| {
        state.gpus[7].present = false;
        state.rules = vec![Rule::hang("nvmlInit")];
    });
    let nvml = node.raw();
    std::thread::scope(|threads| {
        let init = threads.spawn(|| nvml.init());
        nvml.until_hanging(1);
        node.change(|state| {
            state.gpus[7].present = true;
            state.rules.clear();
        });
        assert_eq!(init.join().expect("it goes on"), SUCCESS);
    });
    assert_eq!(count(&nvml), Ok(7));
    assert_eq!((nvml.shutdown(), nvml.init()), (SUCCESS, SUCCESS));
    assert_eq!(count(&nvml), Ok(8));
}

#[test]
fn device_files_are_open_from_init_to_the_last_shutdown() {
    let mut node = Node::new(profiles::h100x8());
    let dev = node.directory().join("dev");
    fs::create_dir(&dev).expect("mkdir");
    for name in ["nvidiactl", "nvidia0", "nvidia1", "nvidia2", "nvidia-uvm"] {
        symlink("/dev/null", dev.join(name)).expect("a device");
    }
    node.change(|state| state.driver.dev_root = Some(dev.clone()));
    node.gpu(1, |gpu| gpu.lost = true);
    let open = || -> BTreeSet<String> {
        let files = fs::read_dir("/proc/self/fd").expect("procfs");
        let paths = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        let own = paths.filter_map(|path| path.strip_prefix(&dev).ok().map(|path| path.to_owned()));
        own.map(|path| path.display().to_string()).collect()
    };
    let nvml = node.raw();
    assert_eq!((nvml.init(), nvml.init()), (SUCCESS, SUCCESS));
    let expected: BTreeSet<String> = ["nvidia0", "nvidia2", "nvidiactl"].map(String::from).into();
    assert_eq!(open(), expected);
    assert_eq!(nvml.shutdown(), SUCCESS);
    assert_eq!(open(), expected);
    assert_eq!(nvml.shutdown(), SUCCESS);
    assert!(open().is_empty());
}
