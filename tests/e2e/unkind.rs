//! An NVML that does what its header file allows and what was seen on real nodes: facts that are
//! refused, calls that fail once or hang where nobody polls, GPUs that are counted and not
//! identified.

use std::time::Duration;

use fake_nvml::profiles;
use fake_nvml::state::{Event, Rule, State, event_type};
use serde_json::Value;
use simnode::node::{HttpAddress, Plugin, PluginOptions};

use crate::dropin;
use crate::health::{QUICK, configured};
use crate::journal::Journal;
use crate::look::run;
use crate::observe::until;
use crate::rig::{GPU, PATIENCE, Rig, kubelet, node, plugin};

const SMALL: &str = "nvidia.com/mig-1g.10gb";
/// NVML's codes for what a GPU does not support, a permission that is refused, a GPU that is lost,
/// and an unknown error.
const NOT_SUPPORTED: u32 = 3;
const NO_PERMISSION: u32 = 4;
const LOST: u32 = 15;
const UNKNOWN: u32 = 999;

fn serving(options: PluginOptions) -> PluginOptions {
    options.env("HTTP_ADDRESS", "127.0.0.1:0")
}

/// A node in this state with a quick policy and HTTP.
async fn rig_of(state: State, allocatable: usize) -> Rig {
    let node = node(state);
    let (config, options) = (node.kubelet(), serving(configured(&node, QUICK)));
    Rig::on(node, config, &options, allocatable).await
}

async fn status(http: &HttpAddress) -> Value {
    serde_json::from_str(&http.get("/status").await.unwrap().body).unwrap()
}

/// Waits for a finding of this kind, and returns what it says.
async fn finding(rig: &Rig, kind: &str) -> String {
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let message = async || {
        let status = status(&http).await;
        let findings = status["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["kind"] == kind)?;
        Some(found["message"].as_str().unwrap().to_owned())
    };
    rig.eventually(kind, message).await
}

impl Rig {
    /// What `check gpus` says.
    async fn check_gpus(&self) -> (Option<i32>, String) {
        let printed = run(&self.node, &plugin(), &["check", "gpus"]).await;
        (printed.code, printed.text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_counted_and_not_identified_is_told_everywhere() {
    for function in ["nvmlDeviceGetUUID", "nvmlDeviceGetHandleByIndex_v2"] {
        let mut state = profiles::h100x8();
        state.gpus[0].rules.push(Rule::answer(function, LOST));
        let rig = rig_of(state, 7).await;
        let told = finding(&rig, "unidentified").await;
        assert!(
            told.contains("lists 8 GPUs and identifies 7") && told.contains(function),
            "{told}"
        );
        let http = rig.plugin.http(PATIENCE).await.unwrap();
        let metrics = http.get("/metrics").await.unwrap().body;
        for (stage, count) in [("bus", 8), ("enumerated", 8), ("identified", 7), ("offered", 7)] {
            let line = format!("gpu_device_plugin_gpus{{stage=\"{stage}\"}} {count}\n");
            assert!(metrics.contains(&line), "{line} {metrics}");
        }
        let (code, line) = rig.check_gpus().await;
        assert_eq!(code, Some(1), "{line}");
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_whose_uuids_are_none_are_one_finding() {
    let mut state = profiles::h100x8();
    state.gpus[..3]
        .iter_mut()
        .for_each(|gpu| gpu.rules.push(Rule::value("nvmlDeviceGetUUID", "N/A")));
    let rig = rig_of(state, 5).await;
    let told = finding(&rig, "unidentified").await;
    assert!(told.contains("lists 8 GPUs and identifies 5") && told.contains("N/A"), "{told}");
    assert_eq!(rig.kubelet.view().capacity(GPU), 5);
    assert_eq!(rig.check_gpus().await.0, Some(1));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_matches_no_gpu_is_told() {
    let node = node(profiles::h100x8());
    let (config, options) = (node.kubelet(), serving(configured(&node, QUICK)));
    let rig = Rig::on(node, config, &options.arg("--devices=0-7,model=A100"), 8).await;
    let told = finding(&rig, "matches_nothing").await;
    assert!(told.contains("model=A100"), "{told}");
    rig.assert_flawless();
}

/// The callers of these need a privilege where MIG is on (NVIDIA/k8s-device-plugin, issue 1683).
#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_with_mig_whose_memory_is_refused_has_its_mig_devices_and_is_never_whole() {
    let mut state = profiles::h100x8_mig_single();
    let rule = || Rule::answer("nvmlDeviceGetMemoryInfo*", NO_PERMISSION);
    state.gpus.iter_mut().for_each(|gpu| gpu.rules.push(rule()));
    let options = serving(plugin().env("MIG_STRATEGY", "mixed"));
    let rig = dropin::rig(node(state), &options, SMALL, 56).await;
    let told = finding(&rig, "facts_missing").await;
    assert!(told.contains("privileged") && told.contains("NVIDIA_MIG_MONITOR_DEVICES"), "{told}");
    assert!(rig.kubelet.view().resource(GPU).is_none());
    rig.assert_flawless();
}

/// Of R470 there is the first version of the call alone; GB10 and Tegra support neither.
#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_an_old_driver_is_known_and_one_that_is_not_told_is_a_gap() {
    for supported in [true, false] {
        let mut state = profiles::h100x8();
        let refuse = || Rule::answer("nvmlDeviceGetMemoryInfo*", NOT_SUPPORTED);
        if !supported {
            state.gpus.iter_mut().for_each(|gpu| gpu.rules.push(refuse()));
        }
        let node = node(state);
        node.library_without(&["nvmlDeviceGetMemoryInfo_v2"]).unwrap();
        let (config, options) = (node.kubelet(), serving(configured(&node, QUICK)));
        let rig = Rig::on(node, config, &options, 8).await;
        let http = rig.plugin.http(PATIENCE).await.unwrap();
        let status = status(&http).await;
        assert_eq!(status["gpus"][0]["memoryBytes"].is_number(), supported, "{status}");
        rig.xid_until_heard(1, 79).await;
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_for_events_that_failed_once_is_made_later() {
    for function in
        ["nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes", "nvmlEventSetCreate"]
    {
        let mut state = profiles::h100x8();
        let rule = Rule::answer(function, UNKNOWN).times(1);
        match function {
            "nvmlEventSetCreate" => state.rules.push(rule),
            _ => state.gpus[2].rules.push(rule),
        }
        let rig = rig_of(state, 8).await;
        rig.xid_until_heard(2, 95).await;
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_events_that_hangs_is_counted_and_states_are_read_meanwhile() {
    let rig = rig_of(profiles::h100x8(), 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    rig.node.edit(|state| state.rules.push(Rule::hang("nvmlEventSetWait"))).unwrap();
    let counted = "gpu_device_plugin_nvml_unanswered_calls 1\n";
    until(&http, "/metrics", "counted", |answer| answer.body.contains(counted)).await;
    rig.logged("nvmlEventSetWait").await;
    rig.node.edit_gpu(4, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until_healthy(4, false).await;
    rig.node.edit_gpu(4, |gpu| gpu.recovery_action = 0).unwrap();
    rig.node.edit(|state| state.rules.clear()).unwrap();
    rig.xid_until_heard(2, 95).await;
    let none = "gpu_device_plugin_nvml_unanswered_calls 0\n";
    until(&http, "/metrics", "counted no more", |answer| answer.body.contains(none)).await;
    let deaf = |status: &Value| {
        let gpus = status["gpus"].as_array().unwrap().iter();
        let degradations = gpus.filter_map(|gpu| gpu["degradations"].as_array()).flatten();
        degradations.filter(|degradation| degradation["kind"] == "no_events").count()
    };
    let none = async || (deaf(&status(&http).await) == 0).then_some(());
    rig.eventually("events are received", none).await;
    // Nor does it keep NVML from being initialised again.
    rig.node.edit_gpu(6, |gpu| gpu.lost = true).unwrap();
    rig.until_healthy(6, false).await;
    rig.node.restore(6).unwrap();
    rig.until_healthy(6, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nvml_that_opens_and_then_fails_is_opened_with_growing_pauses() {
    const OPENED: usize = 6;
    let mut state = profiles::h100x8();
    state.rules.push(Rule::answer("nvmlDeviceGetCount_v2", UNKNOWN));
    let node = node(state);
    let journal = Journal::of(&node);
    let kubelet = kubelet(node.kubelet()).await;
    let options = journal.kept_by(plugin()).env("FAIL_ON_INIT_ERROR", "false");
    let plugin = Plugin::start(&node, &options).unwrap();
    let rig = Rig { kubelet, plugin, node };
    let opened = async || {
        let calls = journal.calls().into_iter().filter(|call| call.text == "nvmlInit_v2 -");
        Some(calls.map(|call| call.at).collect::<Vec<Duration>>()).filter(|at| at.len() >= OPENED)
    };
    let at = rig.eventually("several initialisations", opened).await;
    let pauses: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Pauses vary by chance; each is longer than the one two before it.
    assert!(pauses.windows(3).all(|pauses| pauses[2] > pauses[0]), "{pauses:?}");
    assert!(at[OPENED - 1] - at[0] > Duration::from_secs(1), "{pauses:?}");
    rig.node.edit(|state| state.rules.clear()).unwrap();
    rig.until("the GPUs", |view| view.allocatable(GPU) == 8).await;
}

/// In NVML's enumeration of that moment it is not, and in sysfs it is bound afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_bound_while_nvml_initialises_is_served() {
    let mut state = profiles::h100x8();
    state.gpus[5].present = false;
    state.rules.push(Rule::delay("nvmlInit_v2", 1000).times(1));
    let node = node(state);
    node.unbind(5).unwrap();
    let journal = Journal::of(&node);
    let kubelet = kubelet(node.kubelet()).await;
    let options = journal.kept_by(configured(&node, QUICK));
    let plugin = Plugin::start(&node, &options).unwrap();
    let rig = Rig { kubelet, plugin, node };
    let begun = async || journal.text().contains("nvmlInit_v2").then_some(());
    rig.eventually("the initialisation", begun).await;
    rig.node.bind(5).unwrap();
    rig.until("all eight", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_gpu_is_never_offered_because_another_one_broke() {
    let node = node(profiles::h100x8());
    let reserved = node.uuid(7);
    let journal = Journal::of(&node);
    let (config, options) = (node.kubelet(), journal.kept_by(configured(&node, QUICK)));
    let rig = Rig::on(node, config, &options.arg("--devices=0-6"), 7).await;
    // The ones after it move up in the next enumeration.
    rig.node.unbind(0).unwrap();
    rig.until_healthy(0, false).await;
    rig.node.edit(|state| state.driver.generation = 1).unwrap();
    let assert_reserved = || {
        let lists = rig.kubelet.lists(GPU);
        let mut ids = lists.iter().flat_map(|list| &list.devices).map(|device| &device.id);
        assert!(ids.all(|id| *id != reserved), "{lists:?}");
    };
    rig.polled(&journal, 12).await;
    assert_reserved();
    rig.until("the other six", |view| view.allocatable(GPU) == 6).await;
    assert_reserved();
    rig.logged("NVML numbers GPUs otherwise than when they were first seen on this boot").await;
    rig.assert_flawless();
}

/// The remedy is a reset of the GPU, which is all its instances' end.
#[tokio::test(flavor = "multi_thread")]
async fn an_xid_of_one_instance_that_takes_a_reset_counts_for_its_whole_gpu() {
    let mut state = profiles::h100x8_mig_single();
    state.gpus.truncate(2);
    let gpu = state.gpus[0].clone();
    let place = gpu.mig.as_ref().unwrap().devices[3].gpu_instance;
    let options = plugin().env("MIG_STRATEGY", "mixed");
    let rig = dropin::rig(node(state), &options, SMALL, 14).await;
    let event = || Event {
        seq: 0,
        gpu: gpu.uuid.clone(),
        event_type: event_type::XID,
        data: 95,
        gpu_instance: Some(place),
        compute_instance: None,
        stray: false,
        count: 1,
    };
    rig.node.edit(|state| state.push_event(event())).unwrap();
    rig.until("the slices of the other GPU", |view| view.allocatable(SMALL) == 7).await;
    rig.assert_flawless();
}

/// Such GPUs may be cut or not.
#[tokio::test(flavor = "multi_thread")]
async fn gpus_whose_mig_mode_is_unknown_take_no_slices_from_the_others() {
    for rule in [Rule::answer("nvmlDeviceGetMigMode", UNKNOWN), Rule::hang("nvmlDeviceGetName")] {
        let mut state = profiles::h100x8_mig_single();
        state.gpus.truncate(3);
        state.gpus[..2].iter_mut().for_each(|gpu| gpu.rules.push(rule.clone()));
        let node = node(state);
        let options = configured(&node, &format!("{QUICK}flags: {{migStrategy: single}}\n"));
        let config = node.kubelet();
        let rig = Rig::on(node, config, &options, 7).await;
        rig.node.edit(|state| state.gpus.iter_mut().for_each(|gpu| gpu.rules.clear())).unwrap();
        rig.until("all slices", |view| view.allocatable(GPU) == 21).await;
        assert!(rig.kubelet.lists(GPU).iter().all(|list| list.devices.len() >= 7));
        rig.assert_flawless();
    }
}
