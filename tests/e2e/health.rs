//! Each cause of a GPU's being Unhealthy appears with its reason and goes away by its own rule.

use std::fs;
use std::time::{Duration, Instant};

use fake_nvml::profiles;
use fake_nvml::state::{Event, Rule, State, event_type};
use simnode::kubelet::KubeletVersion;
use simnode::node::{Node, Plugin, PluginOptions};

use crate::rig::{GPU, PATIENCE, Rig, node, plugin, replace};

/// What makes the waits of the policy short.
pub(crate) const QUICK: &str = "version: v1\nhealth: {pollInterval: 100ms, suspicion: 300ms, \
    callDeadline: 300ms, relapses: 100}\n";

/// The plugin with a configuration file of its own.
pub(crate) fn configured(node: &Node, text: &str) -> PluginOptions {
    let file = node.root().join("config.yaml");
    fs::write(&file, text).expect("the node is ours");
    plugin().arg("--config-file").arg(file)
}

/// A node in this state with a quick policy.
async fn rig_of(state: State, text: &str, allocatable: usize) -> Rig {
    let node = node(state);
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let options = configured(&node, text);
    Rig::on(node, config, &options, allocatable).await
}

pub(crate) async fn quick() -> Rig {
    rig_of(profiles::h100x8(), QUICK, 8).await
}

/// A driver that knows no recovery action.
pub(crate) fn old_driver() -> State {
    let mut state = profiles::h100x8();
    state.driver.fields = 230;
    state
}

impl Rig {
    /// Ends the plugin, by a signal, and starts it again.
    pub(crate) async fn restarted(mut self, options: &PluginOptions, signal: i32) -> Self {
        self.plugin.signal(signal).expect("the node is ours");
        self.plugin.wait_exit(PATIENCE).await.expect("the node is ours");
        self.plugin = Plugin::start(&self.node, options).expect("the node is ours");
        self
    }

    /// Waits until the plugin has written to its state file what `part` is a part of.
    pub(crate) async fn state_file_has(&self, part: &str) {
        self.state_file(part, |text| text.contains(part)).await;
    }

    /// Waits until the plugin has written its state file without this.
    pub(crate) async fn state_file_lacks(&self, part: &str) {
        self.state_file(part, |text| !text.contains(part)).await;
    }

    async fn state_file(&self, what: &str, is_right: impl Fn(&str) -> bool) {
        let file = self.node.state_directory().join("health.json");
        let written = || fs::read_to_string(&file).is_ok_and(|text| is_right(&text));
        self.eventually(what, async || written().then_some(())).await;
    }

    /// A GPU that is Unhealthy for this reason is Healthy again once it is as new, and no other
    /// ever was.
    pub(crate) async fn comes_and_goes(&self, index: usize, kind: &str) {
        self.until_healthy(index, false).await;
        assert_eq!(self.kubelet.view().allocatable(GPU), 7);
        let line = self.logged(&format!("kind=\"{kind}\"")).await;
        assert!(
            line.contains("GPU is Unhealthy") && line.contains(&self.node.uuid(index)),
            "{line}"
        );
        self.node.restore(index).expect("the node is ours");
        self.until_healthy(index, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_driver_asks_for_makes_unhealthy_until_it_asks_no_more() {
    let rig = quick().await;
    for (action, says) in [
        (1, "a reset of the GPU"),
        (2, "a reboot of the node"),
        (4, "an end of all work"),
        (9, "9"),
    ] {
        rig.node.edit_gpu(2, |gpu| gpu.recovery_action = action).unwrap();
        rig.logged(&format!(
            "the driver asks for {}",
            if action == 9 { "recovery action 9" } else { says }
        ))
        .await;
        rig.comes_and_goes(2, "recovery_action").await;
    }
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_remapping_pending_keeps_the_gpu_and_failure_does_not() {
    let rig = quick().await;
    rig.node.edit_gpu(1, |gpu| gpu.remapped_rows.as_mut().unwrap().pending = true).unwrap();
    rig.logged("GPU is degraded").await;
    rig.node.edit_gpu(3, |gpu| gpu.remapped_rows.as_mut().unwrap().failure = true).unwrap();
    rig.until_healthy(3, false).await;
    rig.logged("kind=\"row_remap_failure\"").await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
    // A counter that is zero again is no evidence of a repair.
    rig.node.restore(3).unwrap();
    rig.node.restore(1).unwrap();
    rig.logged("no longer degraded").await;
    assert_eq!(rig.kubelet.view().healthy(GPU, &rig.node.uuid(3)), Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_row_counts_where_the_policy_says_so() {
    let text = QUICK.replace("relapses", "rowRemapPending: unhealthy, relapses");
    let rig = rig_of(profiles::h100x8(), &text, 8).await;
    rig.node.edit_gpu(1, |gpu| gpu.remapped_rows.as_mut().unwrap().pending = true).unwrap();
    rig.comes_and_goes(1, "row_remap_pending").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_outside_its_fabric_is_unhealthy_until_it_has_joined() {
    let rig = quick().await;
    for (state, status) in [(1, 0), (2, 0), (3, 999)] {
        rig.node
            .edit_gpu(4, |gpu| {
                let fabric = gpu.fabric.as_mut().unwrap();
                (fabric.state, fabric.status) = (state, status);
            })
            .unwrap();
        rig.until_healthy(4, false).await;
        rig.node.edit_gpu(4, |gpu| gpu.fabric = Some(fake_nvml::state::Fabric::default())).unwrap();
        rig.until_healthy(4, true).await;
    }
    rig.logged("kind=\"fabric\"").await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn return_codes_name_the_state_of_a_gpu() {
    let rig = quick().await;
    for (code, kind) in [(16, "reset_required"), (999, "nvml_error")] {
        rig.node
            .edit_gpu(5, |gpu| gpu.rules.push(Rule::answer("nvmlDeviceGetMemoryInfo", code)))
            .unwrap();
        rig.comes_and_goes(5, kind).await;
    }
    rig.node
        .edit_gpu(5, |gpu| gpu.rules.push(Rule::answer("nvmlDeviceGetFieldValues/230", 15)))
        .unwrap();
    rig.logged("kind=\"lost\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xids_94_and_63_keep_the_gpu() {
    let rig = quick().await;
    rig.node.xid(0, 94).unwrap();
    rig.node.xid(1, 63).unwrap();
    rig.logged("xid=94").await;
    rig.logged("xid=63").await;
    // An Xid that counts is behind them in the same queue.
    rig.node.xid(7, 48).unwrap();
    rig.until_healthy(7, false).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_xid_is_over_when_the_driver_asks_for_nothing() {
    let rig = quick().await;
    rig.node.xid(6, 48).unwrap();
    rig.comes_and_goes(6, "xid").await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_xid_counts_if_the_driver_then_asks_for_something() {
    let rig = quick().await;
    rig.node.edit_gpu(3, |gpu| gpu.recovery_action = 1).unwrap();
    rig.node.xid(3, 154).unwrap();
    rig.comes_and_goes(3, "recovery_action").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_recovery_action_an_xid_is_over_after_the_quiet_period_alone() {
    let text = QUICK.replace("relapses", "quietPeriod: 700ms, relapses");
    let rig = rig_of(old_driver(), &text, 8).await;
    let started = Instant::now();
    rig.node.xid(6, 48).unwrap();
    rig.comes_and_goes(6, "xid").await;
    assert!(started.elapsed() >= Duration::from_millis(700));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_off_the_bus_is_unhealthy_until_nvml_lists_it_again() {
    let rig = quick().await;
    rig.node.lose(2).unwrap();
    rig.node.xid(2, 79).unwrap();
    rig.until_healthy(2, false).await;
    rig.logged("kind=\"lost\"").await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
    rig.node.restore(2).unwrap();
    rig.until_healthy(2, true).await;
    // Its events are heard again.
    rig.node.xid(2, 48).unwrap();
    rig.until_healthy(2, false).await;
    assert_eq!(rig.registrations(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_recovers_while_another_is_off_the_bus() {
    let rig = quick().await;
    rig.node.edit_gpu(5, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until_healthy(5, false).await;
    rig.node.lose(2).unwrap();
    rig.until_healthy(2, false).await;
    rig.node.restore(5).unwrap();
    rig.until_healthy(5, true).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_relapses_too_often_is_believed_no_more() {
    let text = QUICK.replace("relapses: 100", "relapses: 2");
    let rig = rig_of(profiles::h100x8(), &text, 8).await;
    for relapse in 0..3 {
        rig.node.edit_gpu(2, |gpu| gpu.recovery_action = 1).unwrap();
        rig.until_healthy(2, false).await;
        rig.node.restore(2).unwrap();
        match relapse {
            2 => drop(rig.logged("kind=\"relapses\"").await),
            _ => rig.until_healthy(2, true).await,
        }
    }
    rig.logged("kind=\"recovery_action\" cause=\"the driver asks for a reset of the GPU").await;
    assert_eq!(rig.kubelet.view().healthy(GPU, &rig.node.uuid(2)), Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_gpu_is_unhealthy_in_the_first_list_of_the_next_plugin() {
    for signal in [15, 9] {
        let rig = rig_of(old_driver(), QUICK, 8).await;
        rig.node.xid(4, 48).unwrap();
        rig.until_healthy(4, false).await;
        rig.state_file_has("\"xid\"").await;
        let options = configured(&rig.node, QUICK);
        let rig = rig.restarted(&options, signal).await;
        rig.until("the next plugin", |view| {
            view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 7
        })
        .await;
        let lists = rig.kubelet.lists(GPU);
        let uuid = rig.node.uuid(4);
        let first = lists.iter().find(|list| list.stream != lists[0].stream).unwrap();
        let broken = first.devices.iter().find(|device| device.id == uuid);
        assert_eq!(broken.map(|device| device.health.as_str()), Some("Unhealthy"), "{first:?}");
        assert_eq!(rig.kubelet.view().healthy(GPU, &uuid), Some(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_that_is_lost_or_corrupt_is_never_in_the_way() {
    let rig = rig_of(old_driver(), QUICK, 8).await;
    rig.node.xid(4, 48).unwrap();
    rig.until_healthy(4, false).await;
    rig.state_file_has("\"xid\"").await;
    let options = configured(&rig.node, QUICK);
    let file = rig.node.state_directory().join("health.json");
    fs::write(&file, "{\"version\": 1, \"boot").unwrap();
    let rig = rig.restarted(&options, 9).await;
    rig.until("a plugin without a memory", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 8
    })
    .await;
    rig.logged("the state file cannot be read").await;
    assert!(file.with_extension("json.corrupt-1").exists());
    // Renamed and not removed: the plugin may be writing a file there.
    fs::rename(rig.node.state_directory(), rig.node.root().join("elsewhere")).unwrap();
    fs::write(rig.node.state_directory(), "no directory").unwrap();
    let rig = rig.restarted(&options, 9).await;
    rig.until("a plugin without a place", |view| {
        view.accepted(GPU).count() == 3 && view.allocatable(GPU) == 8
    })
    .await;
    rig.logged("the state directory cannot be created").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_quarantine_directory_is_an_outside_word() {
    let rig = quick().await;
    let directory = rig.node.quarantine_directory();
    let place = |index: usize| rig.node.state().gpus[index].pci_bus_id.clone();
    for name in ["3".to_owned(), rig.node.uuid(3), place(3), place(3).to_lowercase()] {
        replace(&directory.join(&name), "dcgm: pcie replays\nsee ticket\n");
        rig.until_healthy(3, false).await;
        assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
        fs::remove_file(directory.join(&name)).unwrap();
        rig.until_healthy(3, true).await;
    }
    rig.logged("quarantined from outside: dcgm: pcie replays").await;
    // It lifts its own cause and no other.
    fs::write(directory.join("3"), "").unwrap();
    rig.until_healthy(3, false).await;
    rig.node.edit_gpu(3, |gpu| gpu.recovery_action = 1).unwrap();
    rig.logged("kind=\"recovery_action\"").await;
    let seen = rig.plugin.log().len();
    fs::remove_file(directory.join("3")).unwrap();
    rig.plugin.wait_for_log_after(seen, "a cause is over", PATIENCE).await.unwrap();
    assert_eq!(rig.kubelet.view().healthy(GPU, &rig.node.uuid(3)), Some(false));
    fs::write(directory.join("GPU-nobody"), "").unwrap();
    rig.logged("named after no GPU").await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_gpu_is_never_shown_healthy_at_the_start() {
    let node = node(profiles::h100x8());
    fs::create_dir(node.quarantine_directory()).unwrap();
    fs::write(node.quarantine_directory().join("5"), "under repair").unwrap();
    let config = node.kubelet();
    let options = configured(&node, QUICK);
    let rig = Rig::on(node, config, &options, 7).await;
    let uuid = rig.node.uuid(5);
    for list in rig.kubelet.lists(GPU) {
        assert!(
            list.devices.iter().all(|device| device.id != uuid || device.health == "Unhealthy"),
            "{list:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_xids_is_few_lists_and_no_memory() {
    let rig = quick().await;
    let before = rig.settled("before", |_| true).await;
    let gpu = rig.node.uuid(0);
    let event = |seq, data| Event {
        seq,
        gpu: gpu.clone(),
        event_type: event_type::XID,
        data,
        gpu_instance: None,
        compute_instance: None,
        stray: false,
        count: 100_000,
    };
    let started = Instant::now();
    rig.node.edit(|state| state.push_event(event(0, 48))).unwrap();
    rig.until_healthy(0, false).await;
    // The last of the storm. A busy machine takes its time for so many.
    rig.plugin.wait_for_log("times=65536", 4 * PATIENCE).await.unwrap();
    println!("100,000 Xids in {:?}", started.elapsed());
    rig.node.xid(1, 48).unwrap();
    rig.until_healthy(1, false).await;
    let lists = rig.kubelet.lists(GPU).len();
    assert!(lists <= 4, "{lists} lists");
    // What an allocator keeps of the busiest moment differs from machine to machine, and is no
    // more than the bounded queues hold. 84 bytes kept of each event would be over the limit.
    let after =
        rig.settled("no memory", |after| after.anonymous_kib <= before.anonymous_kib + 8192).await;
    println!(
        "memory before {} KiB, after {} KiB; {lists} lists",
        before.anonymous_kib, after.anonymous_kib
    );
    let lines = rig.plugin.log().iter().filter(|line| line.contains("xid=48")).count();
    assert!(lines <= 24, "{lines} lines");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_watched_where_health_checking_is_disabled_but_the_outside_word() {
    let text = "version: v1\nhealth: {disabled: true, pollInterval: 100ms}\n";
    let mut state = profiles::h100x8();
    state.gpus[2].recovery_action = 1;
    let rig = rig_of(state, text, 8).await;
    rig.node.xid(4, 79).unwrap();
    fs::write(rig.node.quarantine_directory().join("6"), "").unwrap();
    rig.until_healthy(6, false).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
}
