//! What pods hold: an id stays in its list for as long as a pod may hold it, and a GPU that nothing
//! holds can be reset.

use std::time::Duration;

use fake_nvml::profiles;
use fake_nvml::state::State;
use simnode::kubelet::Trouble;
use simnode::node::Plugin;

use crate::dropin;
use crate::health::configured;
use crate::journal::Journal;
use crate::rig::{GPU, PATIENCE, Rig, node, plugin};

const SMALL: &str = "nvidia.com/mig-1g.10gb";
const LARGE: &str = "nvidia.com/mig-2g.20gb";
const TERMINATE: i32 = 15;
const KILL: i32 = 9;

/// One H100 cut into seven 1g.10gb.
fn seven_slices() -> State {
    let mut state = profiles::h100x8_mig_single();
    state.gpus.truncate(1);
    state
}

/// A node of that with its slices offered by their profiles.
async fn sliced() -> Rig {
    let options = plugin().env("MIG_STRATEGY", "mixed").env("HEALTH_POLL_INTERVAL", "200ms");
    dropin::rig(node(seven_slices()), &options, SMALL, 7).await
}

impl Rig {
    /// Gives the GPU the second profile's MIG layout: of the seven slices the first two stay.
    fn change_layout(&self) {
        let mixed = profiles::h100x8_mig_mixed();
        self.node.edit_gpu(0, |gpu| gpu.mig.clone_from(&mixed.gpus[0].mig)).unwrap();
    }

    fn slice(&self, index: usize) -> String {
        seven_slices().gpus[0].mig.as_ref().unwrap().devices[index].uuid.clone()
    }

    /// Seven pods, each with a slice; stays the one that has this slice.
    async fn held_by_one_pod(&self, slice: &str) -> String {
        for pod in 0..7 {
            self.kubelet.allocate(&format!("pod{pod}"), "main", SMALL, 1).await.unwrap();
        }
        self.asked_after(self.kubelet.pod_resources_asked().len()).await;
        let holders = self.kubelet.pod_devices();
        let (stays, go): (Vec<_>, Vec<_>) = holders.into_iter().partition(|held| held.id == slice);
        go.iter().for_each(|held| self.kubelet.release(&held.pod));
        stays[0].pod.clone()
    }

    /// Has the kubelet asked so often that what was seen once is seen again.
    async fn asked_again(&self, times: usize) {
        for n in 0..times {
            let before = self.kubelet.pod_resources_asked().len();
            self.kubelet.allocate(&format!("another{before}-{n}"), "main", SMALL, 1).await.unwrap();
            self.asked_after(before).await;
            self.kubelet.release(&format!("another{before}-{n}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_gone_stays_unhealthy_while_a_pod_holds_it_and_no_longer() {
    let rig = sliced().await;
    let held = rig.slice(6);
    let pod = rig.held_by_one_pod(&held).await;
    rig.change_layout();
    rig.until("the new profile", |view| {
        view.allocatable(LARGE) == 1 && view.allocatable(SMALL) == 2
    })
    .await;
    assert_eq!(
        rig.kubelet.view().capacity(SMALL),
        7,
        "nobody has said yet that nothing holds them"
    );
    // A pod that asks for one gets one that is there.
    rig.kubelet.allocate("new", "main", SMALL, 1).await.unwrap();
    rig.until("what no pod holds leaves the list", |view| view.capacity(SMALL) == 3).await;
    assert_eq!(rig.kubelet.view().healthy(SMALL, &held), Some(false));
    rig.logged("a device that is no longer offered and that no pod holds has left its list").await;
    rig.kubelet.release(&pod);
    rig.until("what the pod held leaves it too", |view| view.capacity(SMALL) == 2).await;
    assert_eq!(rig.kubelet.view().healthy(SMALL, &held), None);
    assert_eq!(rig.kubelet.view().accepted(SMALL).count(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_has_not_heard_of_its_pods_is_not_believed() {
    let rig = sliced().await;
    let held = rig.slice(6);
    rig.held_by_one_pod(&held).await;
    rig.asked_again(1).await;
    rig.kubelet.reach_api_server(false);
    rig.kubelet.restart().await.unwrap();
    rig.until("the next life", |view| view.life == 2 && view.allocatable(SMALL) == 7).await;
    rig.change_layout();
    rig.until("the new profile", |view| {
        view.allocatable(LARGE) == 1 && view.allocatable(SMALL) == 2
    })
    .await;
    // It answers that it has no pod, and then that it has one, which holds something else.
    rig.asked_again(3).await;
    assert_eq!(rig.kubelet.view().capacity(SMALL), 7);
    assert_eq!(rig.kubelet.view().healthy(SMALL, &held), Some(false));
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_holds_is_kept_while_the_kubelet_says_nothing_and_no_longer() {
    for trouble in [Trouble::Hangs, Trouble::Fails] {
        let rig = sliced().await;
        let held = rig.slice(6);
        let pod = rig.held_by_one_pod(&held).await;
        rig.asked_again(1).await;
        rig.kubelet.trouble_pod_resources(trouble);
        // It has gone, and nobody says so.
        rig.kubelet.release(&pod);
        rig.change_layout();
        rig.until("the new profile", |view| view.allocatable(LARGE) == 1).await;
        // A kubelet that knows of no pod at all is not believed.
        rig.kubelet.allocate("new", "main", SMALL, 1).await.unwrap();
        rig.asked_again(2).await;
        assert_eq!(rig.kubelet.view().healthy(SMALL, &held), Some(false), "{trouble:?}");
        rig.kubelet.trouble_pod_resources(Trouble::None);
        rig.until("what no pod holds leaves the list", |view| view.capacity(SMALL) == 2).await;
        assert_eq!(rig.kubelet.view().healthy(SMALL, &held), None, "{trouble:?}");
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_without_devices_stays_registered_and_is_there_again() {
    let rig = sliced().await;
    rig.kubelet.allocate("other", "main", SMALL, 1).await.unwrap();
    rig.asked_again(1).await;
    rig.kubelet.release("other");
    let whole = |gpu: &mut fake_nvml::state::Gpu| gpu.mig.as_mut().unwrap().enabled = false;
    rig.node.edit_gpu(0, whole).unwrap();
    rig.until("the GPU whole", |view| view.allocatable(GPU) == 1 && view.allocatable(SMALL) == 0)
        .await;
    rig.kubelet.allocate("new", "main", GPU, 1).await.unwrap();
    rig.until("no slice in the list", |view| view.capacity(SMALL) == 0).await;
    assert!(rig.kubelet.view().resource(SMALL).unwrap().known);
    rig.node.edit_gpu(0, |gpu| gpu.mig.as_mut().unwrap().enabled = true).unwrap();
    // The pod holds the whole GPU on, and no slice of it is for another pod.
    rig.until_healthy(0, false).await;
    rig.until("the slices", |view| view.capacity(SMALL) == 7).await;
    assert_eq!(rig.kubelet.view().allocatable(SMALL), 0);
    rig.kubelet.release("new");
    rig.until("the slices again", |view| view.allocatable(SMALL) == 7).await;
    assert_eq!(rig.kubelet.view().accepted(SMALL).count(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_lists_what_a_pod_holds_and_the_node_has_no_more() {
    let node = node(profiles::h100x8());
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms}");
    let mut rig = Rig::on(node, config, &options, 8).await;
    for pod in 0..8 {
        rig.kubelet.allocate(&format!("pod{pod}"), "main", GPU, 1).await.unwrap();
    }
    let lost = rig.node.uuid(3);
    let holder = rig.kubelet.pod_devices().into_iter().find(|held| held.id == lost).unwrap();
    rig.plugin.signal(9).unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    // Else the plugin would know the GPU from before.
    let _ = std::fs::remove_file(rig.node.state_directory().join("health.json"));
    rig.node.unbind(3).unwrap();
    rig.kubelet.trouble_pod_resources(Trouble::Slow(1000));
    let lists = rig.kubelet.lists(GPU).len();
    rig.plugin = Plugin::start(&rig.node, &options).unwrap();
    rig.until("the next plugin", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 7
    })
    .await;
    let first = &rig.kubelet.lists(GPU)[lists].devices;
    assert_eq!(first.len(), 8, "the first list has what the pod holds");
    let gone = first.iter().find(|device| device.id == lost).unwrap();
    assert_eq!(gone.health, "Unhealthy");
    let line = rig.logged("a pod holds a device that this node does not offer").await;
    assert!(
        line.contains(&lost) && line.contains(&format!("default/{}/main", holder.pod)),
        "{line}"
    );
    rig.kubelet.release(&holder.pod);
    rig.until("its end", |view| view.capacity(GPU) == 7).await;
    // It comes back as it was.
    rig.node.bind(3).unwrap();
    rig.until_healthy(3, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_lists_a_gpu_of_this_boot_that_is_gone_whoever_holds_it() {
    for signal in [TERMINATE, KILL] {
        lists_a_gpu_of_this_boot_that_is_gone(signal).await;
    }
}

async fn lists_a_gpu_of_this_boot_that_is_gone(signal: i32) {
    let node = node(profiles::h100x8());
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms}").arg("--devices=0-6");
    let mut rig = Rig::on(node, config, &options, 7).await;
    let (lost, reserved) = (rig.node.uuid(3), rig.node.uuid(7));
    if signal == KILL {
        rig.state_file_has(&lost).await;
    }
    rig.plugin.signal(signal).unwrap();
    rig.plugin.wait_exit(PATIENCE).await.unwrap();
    rig.node.edit_gpu(3, |gpu| gpu.present = false).unwrap();
    rig.plugin = Plugin::start(&rig.node, &options).unwrap();
    rig.until("the next plugin", |view| {
        view.accepted(GPU).count() == 2 && view.allocatable(GPU) == 6
    })
    .await;
    let view = rig.kubelet.view();
    assert_eq!((view.healthy(GPU, &lost), view.healthy(GPU, &reserved)), (Some(false), None));
    rig.logged("NVML numbers GPUs otherwise than when they were first seen on this boot").await;
    rig.node.edit_gpu(3, |gpu| gpu.present = true).unwrap();
    rig.until_healthy(3, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn nvml_is_released_by_itself_for_a_gpu_that_needs_a_reset_and_that_no_pod_holds() {
    let node = node(profiles::h100x8());
    let journal = Journal::of(&node);
    let config = node.kubelet();
    let text = "health: {pollInterval: 100ms, releaseForReset: true, releaseFor: 1s}";
    let options = journal.kept_by(configured(&node, text));
    let rig = Rig::on(node, config, &options, 8).await;
    for pod in 0..8 {
        rig.kubelet.allocate(&format!("pod{pod}"), "main", GPU, 1).await.unwrap();
    }
    let uuid = rig.node.uuid(2);
    let holder = rig.kubelet.pod_devices().into_iter().find(|held| held.id == uuid).unwrap();
    let asked = rig.kubelet.pod_resources_asked().len();
    rig.node.edit_gpu(2, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until_healthy(2, false).await;
    rig.asked_after(asked + 1).await;
    assert!(
        !rig.plugin.log().iter().any(|line| line.contains("NVML is released")),
        "a pod works with it"
    );
    rig.kubelet.release(&holder.pod);
    let line = rig.logged("the GPU needs a reset and no pod holds it: releasing NVML").await;
    assert!(line.contains(&uuid), "{line}");
    rig.logged("NVML is released").await;
    // Somebody resets it meanwhile.
    rig.node.restore(2).unwrap();
    rig.logged("taking up NVML again").await;
    rig.until_healthy(2, true).await;
    let (shutdown, next) = journal.shutdown_and_next().expect("it was released");
    assert!(next.at - shutdown.at > Duration::from_millis(900), "{shutdown:?} {next:?}");
    let release = rig.plugin.log().iter().filter(|line| line.contains("NVML is released")).count();
    assert_eq!(release, 1);
    rig.assert_flawless();
}
