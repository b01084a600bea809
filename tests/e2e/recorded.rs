//! What the program answers to the kubelet and over HTTP on some simulated nodes, compared with the
//! files in `recorded/`. Fields, names and values are compared, words for people are not. Where a
//! change is intended, `UPDATE_EXPECT=1 cargo test --test e2e recorded` writes the files.

mod calls;
mod raw;
mod recording;
mod reduced;

use fake_nvml::profiles;
use fake_nvml::state::{Event, State, event_type};

use crate::dropin::config;
use crate::rig::{GPU, node, plugin};
use recording::Recording;

/// The one H200 whose answers were written down, with the driver it had.
fn real_h200() -> State {
    let real = include_str!("../fake-nvml/tests/real/h200_580_159.json");
    let real: serde_json::Value = serde_json::from_str(real).unwrap();
    let mut state = profiles::h200x1();
    state.driver.version = real["driver"].as_str().unwrap().to_owned();
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_h200_and_its_xid_79_are_as_recorded() {
    let recording = Recording::of("h200", node(real_h200()), plugin(), &[(GPU, 1)]).await;
    recording.calls().await;
    recording.hold(1).await;
    recording.state("held").await;
    recording.rig.node.xid(0, 79).unwrap();
    recording.rig.until_healthy(0, false).await;
    recording.until_event("gpuUnhealthy", Some(0)).await;
    recording.state("xid79").await;
    recording.lists("xid79.list.txt");
    recording.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_gpus_with_one_broken_and_one_in_quarantine_are_as_recorded() {
    let node = node(profiles::dgx1_v100());
    let recording = Recording::of("whole", node, plugin(), &[(GPU, 8)]).await;
    recording.calls().await;
    recording.hold(2).await;
    recording.state("held").await;
    let node = &recording.rig.node;
    node.xid(4, 79).unwrap();
    recording.rig.until_healthy(4, false).await;
    recording.until_event("gpuUnhealthy", Some(4)).await;
    recording.place(&node.quarantine_directory().join(node.uuid(6)), "under repair");
    recording.rig.until_healthy(6, false).await;
    recording.until_event("gpuUnhealthy", Some(6)).await;
    recording.state("broken").await;
    recording.lists("broken.list.txt");
    recording.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn mig_devices_and_whole_gpus_side_by_side_are_as_recorded() {
    let options = plugin().env("MIG_STRATEGY", "mixed").env("PASS_DEVICE_SPECS", "true");
    let (small, middle) = ("nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb");
    let resources = [(small, 18), (middle, 2), ("nvidia.com/mig-3g.40gb", 2), (GPU, 4)];
    let node = node(profiles::h100x8_mig_mixed());
    let recording = Recording::of("mig-mixed", node, options, &resources).await;
    recording.calls().await;
    recording.hold(2).await;
    recording.state("held").await;
    // A fault of one GPU instance, and a whole GPU that is degraded.
    let node = &recording.rig.node;
    node.edit(|state| {
        let mig = &state.gpus[0].mig.as_ref().unwrap().devices[1];
        let event = Event {
            seq: 0,
            gpu: state.gpus[0].uuid.clone(),
            event_type: event_type::XID,
            data: 48,
            gpu_instance: Some(mig.gpu_instance),
            compute_instance: Some(mig.compute_instance),
            stray: false,
            count: 1,
        };
        state.push_event(event);
    })
    .unwrap();
    recording.rig.until("one fewer", |view| view.allocatable(middle) == 1).await;
    recording.until_event("gpuUnhealthy", Some(0)).await;
    node.edit_gpu(5, |gpu| gpu.remapped_rows.as_mut().unwrap().pending = true).unwrap();
    recording.until_event("gpuDegraded", Some(5)).await;
    recording.state("xid48").await;
    recording.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_under_another_name_are_as_recorded() {
    let text = "version: v1
sharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 3}]}}
";
    let node = node(profiles::a100x8());
    let options = plugin().env("CONFIG_FILE", config(&node, text));
    let resources = [("nvidia.com/gpu.shared", 24)];
    let recording = Recording::of("time-slicing", node, options, &resources).await;
    recording.calls().await;
    recording.hold(3).await;
    recording.state("held").await;
    let file = recording.rig.node.root().join("config.yaml");
    recording.place(&file, &format!("{text}flags: {{migStrategy: sideways}}\n"));
    recording.until_event("configurationRefused", None).await;
    recording.until("a count", |status| status["configuration"]["reloadsRefused"] == 1).await;
    recording.state("refused").await;
    recording.rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn cdi_names_mounts_and_device_nodes_are_as_recorded() {
    let mut state = profiles::h100x8();
    state.gpus.truncate(3);
    let node = node(state);
    let channels = node.dev().join("nvidia-caps-imex-channels");
    std::fs::create_dir(&channels).unwrap();
    std::os::unix::fs::symlink("/dev/null", channels.join("channel0")).unwrap();
    let options = plugin()
        .env("DEVICE_LIST_STRATEGY", "volume-mounts,cdi-annotations,cdi-cri")
        .env("DEVICE_ID_STRATEGY", "index")
        .env("PASS_DEVICE_SPECS", "true")
        .env("IMEX_CHANNEL_IDS", "0")
        .env("GDS_ENABLED", "true");
    let recording = Recording::of("cdi", node, options, &[(GPU, 3)]).await;
    recording.calls().await;
    recording.hold(1).await;
    recording.state("held").await;
    recording.rig.assert_flawless();
}
