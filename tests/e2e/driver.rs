//! The driver under the plugin's feet: late, upgraded, reset, hanging; never a restart, never a
//! lost pod.

use std::fs;
use std::time::{Duration, Instant};

use fake_nvml::profiles;
use fake_nvml::state::Rule;
use simnode::node::{Plugin, monotonic};
use simnode::proto::{AllocateRequest, ContainerAllocateRequest};

use crate::health::{configured, quick};
use crate::journal::Journal;
use crate::observe::until;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, node, plugin};

/// A new load of the driver has a new directory in sysfs. Made beside the old one, so that it has
/// another inode.
pub(crate) fn load_module(rig: &Rig) {
    let modules = rig.node.sysfs().join("module");
    fs::create_dir_all(modules.join("next")).expect("the node is ours");
    fs::rename(modules.join("next"), modules.join("nvidia")).expect("the node is ours");
}

fn unload_module(rig: &Rig) {
    fs::rename(rig.node.sysfs().join("module/nvidia"), rig.node.sysfs().join("module/gone"))
        .expect("the node is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_is_upgraded_without_a_restart_and_pods_keep_their_gpus() {
    let rig = quick().await;
    load_module(&rig);
    let answer = rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap();
    for generation in 1..=2 {
        let seen = rig.plugin.log().len();
        rig.node.edit(|state| state.driver.loaded = false).unwrap();
        unload_module(&rig);
        rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
        let kind = "kind=\"driver_not_loaded\"";
        rig.plugin.wait_for_log_after(seen, kind, PATIENCE).await.unwrap();
        assert_eq!(rig.kubelet.view().capacity(GPU), 8);
        rig.node
            .edit(|state| {
                state.driver.loaded = true;
                state.driver.generation = generation;
                state.driver.version = format!("590.{generation}");
            })
            .unwrap();
        fs::remove_dir(rig.node.sysfs().join("module/gone")).unwrap();
        load_module(&rig);
        rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
        rig.logged(&format!("driver.version=\"590.{generation}\"")).await;
    }
    assert_eq!(rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap(), answer);
    assert_eq!(rig.registrations(), 1);
    rig.node.xid(1, 48).unwrap();
    rig.until_healthy(1, false).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_load_of_the_driver_is_evidence_of_repair() {
    let mut state = profiles::h100x8();
    state.driver.fields = 230;
    let node = node(state);
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms, suspicion: 300ms}");
    fs::create_dir_all(node.sysfs().join("module/nvidia")).unwrap();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.node.xid(4, 48).unwrap();
    rig.until_healthy(4, false).await;
    load_module(&rig);
    rig.node.edit(|state| state.driver.generation = 1).unwrap();
    rig.until_healthy(4, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_is_not_the_drivers_is_said_and_goes_away() {
    let rig = quick().await;
    rig.node.edit(|state| state.driver.mismatch = true).unwrap();
    rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
    rig.logged("kind=\"library_mismatch\"").await;
    rig.node.edit(|state| state.driver.mismatch = false).unwrap();
    rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

impl Rig {
    /// The driver asks for a reset of a GPU, and then for nothing.
    pub(crate) async fn fails_and_recovers(&self, index: usize) {
        self.node.edit_gpu(index, |gpu| gpu.recovery_action = 1).unwrap();
        self.until_healthy(index, false).await;
        self.node.restore(index).unwrap();
        self.until_healthy(index, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_repair_ends_is_over_after_a_new_load_of_the_driver() {
    let node = node(profiles::h100x8());
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms, suspicion: 300ms, relapses: 1}");
    fs::create_dir_all(node.sysfs().join("module/nvidia")).unwrap();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.node.edit_gpu(1, |gpu| gpu.remapped_rows.as_mut().unwrap().failure = true).unwrap();
    rig.logged("kind=\"row_remap_failure\"").await;
    rig.node
        .edit_gpu(2, |gpu| gpu.rules.push(Rule::answer("nvmlDeviceGetMemoryInfo", 14)))
        .unwrap();
    rig.logged("kind=\"inforom\"").await;
    rig.fails_and_recovers(3).await;
    rig.node.edit_gpu(3, |gpu| gpu.recovery_action = 1).unwrap();
    rig.logged("kind=\"relapses\"").await;
    for index in 1..=3 {
        rig.node.restore(index).unwrap();
    }
    // As many clean polls as another GPU needs to be well again, and twice as many, are no evidence
    // of a repair.
    for index in [5, 6] {
        rig.fails_and_recovers(index).await;
    }
    for index in 1..=3 {
        assert_eq!(
            rig.kubelet.view().healthy(GPU, &rig.node.uuid(index)),
            Some(false),
            "GPU {index}"
        );
    }
    load_module(&rig);
    rig.node.edit(|state| state.driver.generation = 1).unwrap();
    rig.until("all eight", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_nvml_cannot_be_used_has_its_reason_and_goes_away() {
    let rig = quick().await;
    for (code, kind) in [(999, "nvml_unknown"), (17, "nvml_unusable"), (9, "driver_not_loaded")] {
        rig.node
            .edit(|state| state.rules.push(Rule::answer("nvmlDeviceGetCount_v2", code)))
            .unwrap();
        rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
        rig.logged(&format!("kind=\"{kind}\"")).await;
        assert_eq!(rig.kubelet.view().capacity(GPU), 8);
        rig.node.edit(|state| state.rules.clear()).unwrap();
        rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    }
    let (library, away) = (rig.node.nvml_library(), rig.node.nvml_library().with_extension("away"));
    fs::rename(&library, &away).unwrap();
    rig.node.edit(|state| state.driver.generation = 1).unwrap();
    rig.logged("kind=\"library_not_found\"").await;
    rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
    fs::rename(&away, &library).unwrap();
    rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    assert_eq!(rig.registrations(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_that_come_later_are_served_beside_the_others() {
    let node = eight_h100s();
    node.unbind(6).unwrap();
    node.unbind(7).unwrap();
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms}");
    let rig = Rig::on(node, config, &options, 6).await;
    rig.node.bind(6).unwrap();
    rig.node.bind(7).unwrap();
    rig.until("all eight", |view| view.allocatable(GPU) == 8).await;
    rig.node.xid(7, 48).unwrap();
    rig.until_healthy(7, false).await;
    assert_eq!(rig.registrations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nvml_is_not_initialised_again_for_a_gpu_that_another_process_does_not_see_either() {
    let node = node(profiles::h100x8());
    let journal = Journal::of(&node);
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms}");
    let rig = Rig::on(node, config, &journal.kept_by(options), 8).await;
    fs::create_dir_all(rig.node.sysfs().join("bus/pci/drivers/nvidia/0000:f0:00.0")).unwrap();
    // One initialisation is ours.
    let looks = || journal.text().matches("nvmlInit_v2").count() - 1;
    rig.eventually("another process has looked twice", async || (looks() >= 2).then_some(())).await;
    rig.xid_until_heard(1, 48).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
    let renewed = |line: &String| line.contains("initialising NVML again");
    assert!(!rig.plugin.log().iter().any(renewed));
    rig.assert_flawless();
}

/// By the look every 60 s containers would lack it until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_node_that_comes_with_the_driver_is_given_once_its_gpus_are_back() {
    let node = eight_h100s();
    let uvm = node.dev().join("nvidia-uvm");
    fs::remove_file(&uvm).unwrap();
    let options = plugin().env("PASS_DEVICE_SPECS", "true").env("HEALTH_POLL_INTERVAL", "200ms");
    let kubelet = node.kubelet();
    let rig = Rig::on(node, kubelet, &options, 8).await;
    let container = ContainerAllocateRequest { device_ids: vec![rig.node.uuid(0)] };
    let request = AllocateRequest { container_requests: vec![container] };
    let is_given = async || {
        let mut client = rig.kubelet.client(GPU).await.unwrap();
        let answer = client.allocate(request.clone()).await.unwrap().into_inner();
        let mut nodes = answer.container_responses.iter().flat_map(|container| &container.devices);
        nodes.any(|node| node.container_path == "/dev/nvidia-uvm")
    };
    assert!(!is_given().await);
    rig.node.edit(|state| state.driver.loaded = false).unwrap();
    rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
    std::os::unix::fs::symlink("/dev/null", &uvm).unwrap();
    rig.node.edit(|state| (state.driver.loaded, state.driver.generation) = (true, 1)).unwrap();
    rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    rig.eventually("the node is given", async || is_given().await.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_without_gpus_is_waited_with() {
    let mut state = profiles::h100x8();
    let late = std::mem::take(&mut state.gpus);
    let node = node(state);
    let kubelet = kubelet(node.kubelet()).await;
    let plugin = Plugin::start(&node, &configured(&node, "health: {pollInterval: 100ms}")).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.logged("NVML is up and sees no GPU").await;
    rig.node.edit(|state| state.gpus = late).unwrap();
    (0..8).for_each(|index| rig.node.bind(index).unwrap());
    rig.until("the GPUs", |view| view.allocatable(GPU) == 8).await;
    // All of them gone, and back.
    rig.node.edit(|state| state.gpus.iter_mut().for_each(|gpu| gpu.present = false)).unwrap();
    rig.until("none", |view| view.allocatable(GPU) == 0 && view.capacity(GPU) == 8).await;
    rig.node.edit(|state| state.gpus.iter_mut().for_each(|gpu| gpu.present = true)).unwrap();
    rig.until("all", |view| view.allocatable(GPU) == 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gpu_that_hangs_concerns_no_other() {
    let rig = quick().await;
    let threads = rig.settled("before", |_| true).await.threads;
    rig.node.edit_gpu(3, |gpu| gpu.rules = vec![Rule::hang("nvmlDeviceGetMemoryInfo")]).unwrap();
    rig.until_healthy(3, false).await;
    rig.node.edit_gpu(5, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until_healthy(5, false).await;
    let line = rig.logged("kind=\"nvml_unresponsive\"").await;
    assert!(line.contains("nvmlDeviceGetMemoryInfo did not return in time"), "{line}");
    assert_eq!(rig.kubelet.view().allocatable(GPU), 6);
    rig.settled("one thread is held up, and no other", |now| now.threads <= threads + 1).await;
    rig.node.restore(5).unwrap();
    rig.until_healthy(5, true).await;
    rig.node.restore(3).unwrap();
    rig.until_healthy(3, true).await;
    rig.settled("the thread that was held up ends", |now| now.threads <= threads).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_have_returned_are_no_longer_counted_as_unanswered() {
    let node = eight_h100s();
    let config = node.kubelet();
    let settings = "health: {pollInterval: 300ms, callDeadline: 300ms, missedCalls: 1}";
    let options = configured(&node, settings).env("HTTP_ADDRESS", "127.0.0.1:0");
    let rig = Rig::on(node, config, &options, 8).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let has = async |count: u32| {
        let line = format!("gpu_device_plugin_nvml_unanswered_calls {count}\n");
        until(&http, "/metrics", &line, |answer| answer.body.contains(&line)).await;
    };
    for _ in 0..2 {
        for index in 0..5 {
            rig.node
                .edit_gpu(index, |gpu| gpu.rules.push(Rule::hang("nvmlDeviceGetMemoryInfo")))
                .unwrap();
        }
        has(5).await;
        for index in 0..5 {
            rig.node.restore(index).unwrap();
        }
        has(0).await;
        rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_allocation_waits_for_a_gpu_that_hangs() {
    const DEADLINE: Duration = Duration::from_secs(5);
    let node = node(profiles::h100x8());
    let journal = Journal::of(&node);
    let config = node.kubelet();
    let options =
        configured(&node, "health: {pollInterval: 100ms, callDeadline: 5s, missedCalls: 1}");
    let rig = Rig::on(node, config, &journal.kept_by(options), 8).await;
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let mut worst = [Duration::ZERO; 2];
    for hangs in [false, true] {
        if hangs {
            let written = monotonic();
            rig.node
                .edit_gpu(3, |gpu| gpu.rules = vec![Rule::hang("nvmlDeviceGetMemoryInfo")])
                .unwrap();
            let asked = |text: &str| {
                text.starts_with("nvmlDeviceGetMemoryInfo") && text.ends_with(&rig.node.uuid(3))
            };
            let hung =
                || journal.calls().into_iter().any(|call| call.at > written && asked(&call.text));
            rig.eventually("the call hangs", async || hung().then_some(())).await;
        }
        for call in 0..200 {
            let container = ContainerAllocateRequest { device_ids: vec![rig.node.uuid(call % 8)] };
            let before = Instant::now();
            client.allocate(AllocateRequest { container_requests: vec![container] }).await.unwrap();
            worst[usize::from(hangs)] = worst[usize::from(hangs)].max(before.elapsed());
        }
    }
    println!(
        "200 calls of Allocate: worst {:?} without, {:?} beside a GPU that hangs",
        worst[0], worst[1]
    );
    assert!(worst[1] < DEADLINE, "one has waited for the call's deadline");
    rig.until_healthy(3, false).await;
    rig.assert_flawless();
}

/// Its pace and its length are what it is about, so it goes by the clock.
#[tokio::test(flavor = "multi_thread")]
async fn allocations_go_on_while_one_gpu_of_eight_hangs_for_30_seconds() {
    const HANG: Duration = Duration::from_secs(30);
    let rig = quick().await;
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    rig.node.edit_gpu(3, |gpu| gpu.rules = vec![Rule::hang("nvmlDeviceGetMemoryInfo")]).unwrap();
    rig.until_healthy(3, false).await;
    let (hangs_since, mut pace) =
        (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    let mut took = Vec::new();
    while hangs_since.elapsed() < HANG {
        pace.tick().await;
        let container =
            ContainerAllocateRequest { device_ids: vec![rig.node.uuid(took.len() % 8)] };
        let before = Instant::now();
        client.allocate(AllocateRequest { container_requests: vec![container] }).await.unwrap();
        took.push(before.elapsed());
    }
    took.sort();
    let slow = took.iter().filter(|took| **took > Duration::from_millis(5)).count();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{} calls of Allocate: median {median:?}, worst {worst:?}, {slow} over 5 ms",
        took.len()
    );
    // Tests run beside each other: what holds on any machine is that nobody waits for the GPU.
    assert!(worst < HANG / 10, "{worst:?}");
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
    rig.node.restore(3).unwrap();
    rig.until_healthy(3, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_hangs_from_the_start_is_unhealthy_and_the_others_are_served() {
    for function in ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFieldValues"] {
        let mut state = profiles::h100x8();
        state.gpus[3].rules = vec![Rule::hang(function)];
        let node = node(state);
        let config = node.kubelet();
        let options = configured(&node, "health: {pollInterval: 100ms, callDeadline: 300ms}");
        let rig = Rig::on(node, config, &options, 7).await;
        assert_eq!(
            rig.kubelet.lists(GPU)[0]
                .devices
                .iter()
                .filter(|device| device.health == "Healthy")
                .count(),
            7
        );
        rig.node.restore(3).unwrap();
        rig.until("all eight", |view| view.allocatable(GPU) == 8).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_hangs_whole_makes_every_gpu_unhealthy_and_is_believed_again() {
    let rig = quick().await;
    let hangs = ["nvmlDeviceGetCount_v2", "nvmlDeviceGetFieldValues"].map(Rule::hang);
    rig.node.edit(|state| state.rules = hangs.into()).unwrap();
    rig.until("every GPU is Unhealthy", |view| view.allocatable(GPU) == 0).await;
    rig.logged("kind=\"nvml_unresponsive\"").await;
    rig.kubelet.restart().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.capacity(GPU) == 8).await;
    rig.node.edit(|state| state.rules.clear()).unwrap();
    rig.until("every GPU is back", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn nvml_is_released_for_a_reset_and_initialised_again() {
    let node = node(profiles::h100x8());
    let journal = Journal::of(&node);
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms, releaseFor: 1h}");
    let rig = Rig::on(node, config, &journal.kept_by(options), 8).await;
    rig.node.edit_gpu(2, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until_healthy(2, false).await;
    let open = rig.plugin.figures().unwrap().gpu_devices;
    assert!(open.contains("nvidiactl") && open.contains("nvidia3"), "{open:?}");
    rig.plugin.signal(10).unwrap();
    rig.logged("NVML is released").await;
    // No device node of a GPU is open, else its reset is refused.
    let is_free = || rig.plugin.figures().is_ok_and(|now| now.gpu_devices.is_empty());
    rig.eventually("the GPUs are free", async || is_free().then_some(())).await;
    assert_eq!(journal.calls().last().unwrap().text, "nvmlShutdown -");
    // It serves from memory.
    rig.kubelet.allocate("pod", "main", GPU, 3).await.unwrap();
    rig.kubelet.restart().await.unwrap();
    rig.until("the list in a new life", |view| view.life == 2 && view.allocatable(GPU) == 7).await;
    rig.node.restore(2).unwrap();
    let asked = monotonic();
    rig.plugin.signal(12).unwrap();
    rig.until_healthy(2, true).await;
    let (_, first) = journal.shutdown_and_next().unwrap();
    assert!(
        first.at > asked && first.text == "nvmlInit_v2 -",
        "{first:?} before it was asked for at {asked:?}"
    );
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn nvml_is_taken_up_again_by_itself() {
    let node = node(profiles::h100x8());
    let journal = Journal::of(&node);
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms, releaseFor: 1s}");
    let rig = Rig::on(node, config, &journal.kept_by(options), 8).await;
    rig.plugin.signal(10).unwrap();
    rig.logged("NVML is released").await;
    rig.logged("taking up NVML again").await;
    // Ten polls long.
    let (release, first) = rig.eventually("a call", async || journal.shutdown_and_next()).await;
    assert!(
        first.at - release.at >= Duration::from_secs(1),
        "{first:?} while NVML is released, from {release:?} on"
    );
    rig.node.xid(4, 48).unwrap();
    rig.node.edit_gpu(4, |gpu| gpu.recovery_action = 1).unwrap();
    rig.until_healthy(4, false).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_of_sixteen_gpus_is_at_most_three_calls_a_gpu() {
    let mut state = profiles::h100x8();
    let more = state.gpus.clone().into_iter().map(|gpu| fake_nvml::state::Gpu {
        uuid: gpu.uuid.replace("GPU-", "GPU-1"),
        pci_bus_id: gpu.pci_bus_id.replacen("00000000:", "00010000:", 1),
        minor: gpu.minor + 8,
        ..gpu
    });
    state.gpus.extend(more.collect::<Vec<_>>());
    let node = node(state);
    let journal = Journal::of(&node);
    let config = node.kubelet();
    let options = configured(&node, "health: {pollInterval: 100ms}");
    let rig = Rig::on(node, config, &journal.kept_by(options), 16).await;
    // Each round begins with the first GPU.
    let first = format!("nvmlDeviceGetFieldValues {}", rig.node.uuid(0));
    let enough = || Some(journal.text()).filter(|text| text.matches(&first).count() >= 20);
    let text = rig.eventually("twenty rounds", async || enough()).await;
    // The links are read once, beside the first rounds; a round with an enumeration is none that
    // only polls.
    let rounds: Vec<_> = text.split_inclusive(&first).skip(4).collect();
    let polls =
        rounds.iter().rev().skip(1).filter(|round| !round.contains("nvmlDeviceGetHandleByIndex"));
    let mut seen = 0;
    for round in polls {
        for index in 0..16 {
            let calls = round.lines().filter(|line| line.contains(&rig.node.uuid(index))).count();
            assert!(calls <= 3, "{calls} calls about GPU {index} in {round}");
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen} rounds that only poll in {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_never_waits_for_events_is_not_asked_in_a_hot_loop() {
    const WAITS: usize = 5;
    const TIMEOUT: u32 = 10;
    let mut state = profiles::h100x8();
    state.rules.push(Rule::answer("nvmlEventSetWait_v2", TIMEOUT));
    let node = node(state);
    let journal = Journal::of(&node);
    let config = node.kubelet();
    let rig = Rig::on(node, config, &journal.kept_by(plugin()), 8).await;
    let waits = || {
        journal
            .calls()
            .into_iter()
            .filter(|call| call.text == "nvmlEventSetWait_v2 -")
            .collect::<Vec<_>>()
    };
    let waits = rig
        .eventually("some waits", async || Some(waits()).filter(|waits| waits.len() >= WAITS))
        .await;
    // Its pauses add up to more than this, and a busy machine only makes them longer.
    let took = waits[WAITS - 1].at - waits[0].at;
    assert!(took >= Duration::from_secs(1), "{WAITS} waits in {took:?}");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_root_whose_symlinks_mean_places_in_it_is_found() {
    // As Debian's alternatives and NixOS lay it out: in our container /opt/current is nothing.
    let node = eight_h100s();
    let at = |path: &str| node.driver_root().join(path);
    std::fs::create_dir_all(at("opt")).unwrap();
    std::fs::rename(at("usr/lib64"), at("opt/570")).unwrap();
    std::os::unix::fs::symlink("/opt/current", at("usr/lib64")).unwrap();
    std::os::unix::fs::symlink("/opt/570", at("opt/current")).unwrap();
    let options =
        plugin().arg("--nvml-library=").env("FAKE_NVML_STATE", at("opt/570/fake-nvml.json"));
    let config = node.kubelet();
    Rig::on(node, config, &options, 8).await;
}
