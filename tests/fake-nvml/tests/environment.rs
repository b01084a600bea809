//! What the environment says: the state file's path, and the journal. One test, since the
//! environment is the whole program's.

#![allow(unsafe_code, reason = "setting a variable is unsafe")]

mod common;

use fake_nvml::profiles;
use fake_nvml::state::event_type::XID;

use common::*;

#[test]
fn the_environment_names_the_state_file_and_the_journal() {
    let node = Node::new(profiles::none());
    let mut elsewhere = Node::new(profiles::h100x1());
    let journal = node.directory().join("journal");
    let variables = [
        ("FAKE_NVML_STATE", elsewhere.state_path().into_os_string()),
        ("FAKE_NVML_JOURNAL", journal.clone().into_os_string()),
        ("FAKE_NVML_JOURNAL_CALLS", "1".into()),
    ];
    for (name, value) in variables {
        // SAFETY: the only test of this program, so no other thread reads the environment.
        unsafe { std::env::set_var(name, value) };
    }
    let nvml = node.raw();
    assert_eq!(nvml.init(), SUCCESS);
    assert_eq!(nvml.out::<u32>("nvmlDeviceGetCount_v2"), Ok(1));
    let gpu = nvml.by_index(0).expect("GPU 0");
    let set = nvml.event_set().expect("a set");
    assert_eq!(nvml.register(gpu, XID, set), SUCCESS);
    let seq = elsewhere.xid(0, 79);
    assert!(nvml.wait(set, 1000).is_ok());
    assert_eq!(nvml.call1("nvmlDeviceGetBoardId", gpu), NOT_SUPPORTED);

    let uuid = &elsewhere.state.gpus[0].uuid;
    let text = std::fs::read_to_string(journal).expect("the journal");
    let mut last = 0;
    let mut lines = Vec::new();
    for line in text.lines() {
        let (time, what) = line.split_once(' ').expect("a time");
        let time: u64 = time.parse().expect("nanoseconds");
        assert!(time >= last);
        last = time;
        lines.push(what.to_owned());
    }
    let expected = [
        "call nvmlInit_v2 -".to_owned(),
        "call nvmlDeviceGetCount_v2 -".to_owned(),
        format!("call nvmlDeviceGetHandleByIndex_v2 {uuid}"),
        "call nvmlEventSetCreate -".to_owned(),
        format!("call nvmlDeviceRegisterEvents {uuid}"),
        "call nvmlEventSetWait_v2 -".to_owned(),
        format!("event {seq} {uuid} 8 79"),
        format!("call nvmlDeviceGetBoardId {uuid}"),
    ];
    assert_eq!(lines, expected);
}
