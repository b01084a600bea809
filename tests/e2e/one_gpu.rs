//! One GPU that is lost or fails costs the others nothing.

use fake_nvml::profiles;
use fake_nvml::state::{Rule, State};
use simnode::node::PluginOptions;

use crate::health::{QUICK, configured};
use crate::journal::Journal;
use crate::rig::{GPU, Rig, eight_h100s, node};

const PROBE: &str = "nvmlDeviceGetMemoryInfo";
const FIELDS: &str = "nvmlDeviceGetFieldValues";
const INIT: &str = "nvmlInit_v2";
/// NVML's codes for a library that is not initialised and for an unknown error.
const UNINITIALIZED: u32 = 1;
const UNKNOWN: u32 = 999;

/// A node in this state with a quick policy and a journal of NVML's calls.
async fn rig_of(
    state: State,
    with: impl Fn(PluginOptions) -> PluginOptions,
    allocatable: usize,
) -> (Rig, Journal) {
    let node = node(state);
    let journal = Journal::of(&node);
    let (config, options) = (node.kubelet(), journal.kept_by(configured(&node, QUICK)));
    (Rig::on(node, config, &with(options), allocatable).await, journal)
}

impl Rig {
    /// In every list so far each GPU but these was Healthy.
    #[track_caller]
    fn assert_others_always_healthy(&self, but: &[usize]) {
        let but: Vec<_> = but.iter().map(|index| self.node.uuid(*index)).collect();
        for list in self.kubelet.lists(GPU) {
            let others = list.devices.iter().filter(|device| !but.contains(&device.id));
            let broken: Vec<_> = others.filter(|device| device.health != "Healthy").collect();
            assert!(broken.is_empty(), "{broken:?}\n{}", self.plugin.log().join("\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_answers_that_nvml_is_not_initialised_concerns_no_other() {
    let (rig, journal) = rig_of(profiles::h100x8(), |options| options, 8).await;
    let fails = || vec![Rule::answer(FIELDS, UNINITIALIZED)];
    rig.node.edit_gpu(3, |gpu| gpu.rules = fails()).unwrap();
    rig.until_healthy(3, false).await;
    rig.polled(&journal, 12).await;
    rig.assert_others_always_healthy(&[3]);
    rig.node.restore(3).unwrap();
    rig.until_healthy(3, true).await;
    rig.assert_flawless();
    // So it answers from the start: no reason to initialise NVML over and over.
    let mut state = profiles::h100x8();
    state.gpus[3].rules = vec![Rule::answer("nvmlDeviceGetHandleByIndex_v2", UNINITIALIZED)];
    let (rig, journal) = rig_of(state, |options| options, 7).await;
    rig.polled(&journal, 12).await;
    assert!(journal.count(INIT) < 12, "{}", journal.count(INIT));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_has_not_answered_yet_is_healthy_in_no_list() {
    for disabled in ["", "all"] {
        let mut state = profiles::h100x8();
        state.gpus[3].rules = [PROBE, FIELDS].map(|call| Rule::answer(call, UNKNOWN)).into();
        let with = |options: PluginOptions| options.env("DP_DISABLE_HEALTHCHECKS", disabled);
        let (rig, journal) = rig_of(state, with, 7).await;
        rig.polled(&journal, 6).await;
        let uuid = rig.node.uuid(3);
        for list in rig.kubelet.lists(GPU) {
            let gpu = list.devices.iter().find(|device| device.id == uuid);
            assert_eq!(gpu.map(|gpu| gpu.health.as_str()), Some("Unhealthy"), "{list:?}");
        }
        rig.assert_others_always_healthy(&[3]);
        rig.node.restore(3).unwrap();
        rig.until_healthy(3, true).await;
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_for_a_lost_gpu_takes_neither_health_nor_events_from_the_others() {
    let node = eight_h100s();
    let journal = Journal::of(&node);
    let text = QUICK.replace("callDeadline: 300ms", "callDeadline: 2s");
    let (config, options) = (node.kubelet(), journal.kept_by(configured(&node, &text)));
    let rig = Rig::on(node, config, &options, 8).await;
    // Longer than any call may take.
    rig.node.edit(|state| state.rules.push(Rule::delay(INIT, 5000))).unwrap();
    rig.node.lose(2).unwrap();
    rig.until_healthy(2, false).await;
    let another_look = async || {
        let before = journal.count(INIT);
        let more = async || (journal.count(INIT) > before).then_some(());
        rig.eventually("another initialisation", more).await;
    };
    another_look().await;
    // What is in the driver's queue when it is initialised is lost.
    rig.node.xid(5, 48).unwrap();
    rig.until_healthy(5, false).await;
    another_look().await;
    rig.assert_others_always_healthy(&[2, 5]);
    rig.assert_flawless();
}
