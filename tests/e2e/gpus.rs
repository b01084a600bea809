//! GPUs that fail, come late or are gone, and what is reported to the kubelet.

use fake_nvml::profiles;
use fake_nvml::state::{Fabric, Rule};
use simnode::kubelet::KubeletVersion;
use simnode::node::Plugin;

use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, kubelet, node, plugin};

/// Xids that an application causes: they leave the GPU Healthy.
const OF_APPLICATIONS: [u64; 6] = [13, 31, 43, 45, 68, 109];

#[tokio::test(flavor = "multi_thread")]
async fn an_xid_makes_its_gpu_unhealthy_and_no_other() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.node.xid(3, 79).unwrap();
    rig.until_healthy(3, false).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
    rig.logged("Xid 79").await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn xids_of_applications_leave_the_gpu_healthy() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    for xid in OF_APPLICATIONS {
        rig.node.xid(2, xid).unwrap();
    }
    // An Xid that counts is behind them in the same queue.
    rig.node.xid(5, 48).unwrap();
    rig.until_healthy(5, false).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_xid_alone_is_watched_with_all_others_disabled() {
    let options =
        plugin().env("DP_DISABLE_HEALTHCHECKS", "all,banana").env("DP_ENABLE_HEALTHCHECKS", "48");
    let node = eight_h100s();
    let config = node.kubelet();
    let rig = Rig::on(node, config, &options, 8).await;
    rig.logged("banana").await;
    // The one that counts is behind the other in the same queue.
    rig.node.xid(0, 79).unwrap();
    rig.node.xid(1, 48).unwrap();
    rig.until_healthy(1, false).await;
    assert_eq!(rig.kubelet.view().allocatable(GPU), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gpu_without_a_handle_does_not_keep_seven_from_being_served() {
    let mut state = profiles::h100x8();
    state.gpus[4].rules.push(Rule::answer("nvmlDeviceGetHandleByIndex_v2", 999));
    let node = node(state);
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin().env("HEALTH_POLL_INTERVAL", "100ms"), 7).await;
    let line = rig.logged("a GPU answers with an error").await;
    assert!(line.contains("nvmlDeviceGetHandleByIndex_v2") && line.contains("999"), "{line}");
    rig.assert_flawless();
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_leaves_its_gpu_and_its_other_facts_as_they_are() {
    for function in ["nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetName", "nvmlDeviceGetMinorNumber"] {
        let mut state = profiles::h100x8();
        state.gpus[4].rules.push(Rule::answer(function, 999));
        let node = node(state);
        let config = node.kubelet();
        let rig = Rig::on(node, config, &plugin().env("HEALTH_POLL_INTERVAL", "100ms"), 8).await;
        assert_eq!(rig.kubelet.view().capacity(GPU), 8);
        rig.assert_flawless();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_without_a_uuid_is_reported_and_the_others_are_served() {
    for function in ["nvmlDeviceGetUUID", "nvmlDeviceGetHandleByIndex_v2"] {
        let mut state = profiles::h100x8();
        state.gpus[0].rules.push(Rule::answer(function, 15));
        let node = node(state);
        let config = node.kubelet();
        let rig = Rig::on(node, config, &plugin(), 7).await;
        assert_eq!(rig.kubelet.view().capacity(GPU), 7);
        assert!(rig.logged("without a UUID it cannot be served").await.contains(function));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_an_old_driver_lacks_are_no_failure() {
    let node = eight_h100s();
    node.library_without(&[
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlSystemGetNVMLVersion",
    ])
    .unwrap();
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin(), 8).await;
    rig.node.xid(1, 79).unwrap();
    rig.until_healthy(1, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_without_events_or_shutdown_still_serves_its_gpus() {
    let node = eight_h100s();
    node.library_without(&["nvmlEventSetCreate", "nvmlShutdown"]).unwrap();
    let config = node.kubelet();
    let mut rig = Rig::on(node, config, &plugin(), 8).await;
    rig.logged("cannot watch for events").await;
    rig.plugin.terminate().unwrap();
    assert!(rig.plugin.wait_exit(PATIENCE).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_with_one_unsupported_event_type_is_watched_for_the_rest() {
    let mut state = profiles::h100x8();
    state.gpus[0].supported_events = fake_nvml::state::event_type::XID;
    state.gpus[1].supported_events = 0;
    let node = node(state);
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin(), 8).await;
    rig.logged("this GPU reports no events").await;
    rig.node.xid(0, 79).unwrap();
    rig.until_healthy(0, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_vanishes_stays_in_the_list_unhealthy_and_comes_back() {
    let node = eight_h100s();
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin().env("HEALTH_POLL_INTERVAL", "100ms"), 8).await;
    rig.node.edit_gpu(6, |gpu| gpu.present = false).unwrap();
    rig.until_healthy(6, false).await;
    assert_eq!(rig.kubelet.view().capacity(GPU), 8);
    rig.node.edit_gpu(6, |gpu| gpu.present = true).unwrap();
    rig.until_healthy(6, true).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_comes_late_is_served_without_a_restart() {
    let mut state = profiles::h100x8();
    state.driver.loaded = false;
    let node = node(state);
    let kubelet = kubelet(node.kubelet()).await;
    let plugin = Plugin::start(&node, &plugin().env("FAIL_ON_INIT_ERROR", "false")).unwrap();
    let rig = Rig { kubelet, plugin, node };
    rig.logged("no GPUs to serve yet").await;
    assert_eq!(rig.registrations(), 0);
    rig.node.edit(|state| state.driver.loaded = true).unwrap();
    rig.until("the GPUs", |view| view.allocatable(GPU) == 8).await;
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_library_is_an_error_that_says_what_was_looked_for_and_where() {
    let node = eight_h100s();
    std::fs::remove_file(node.nvml_library()).unwrap();
    let options = plugin()
        .bare()
        .env("KUBELET_SOCKET", node.kubelet_socket())
        .env("DRIVER_ROOT_CTR_PATH", node.driver_root());
    let options = options.env("STATE_DIR", "").env("QUARANTINE_DIR", "");
    let mut plugin = Plugin::start(&node, &options).unwrap();
    assert_eq!(plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(1));
    let log = plugin.log().join("\n");
    for part in [
        "libnvidia-ml.so.1",
        "usr/lib64",
        "etc/ld.so.cache",
        "--nvml-library",
        "--fail-on-init-error=false",
    ] {
        assert!(log.contains(part), "{part} is missing in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_in_the_driver_root_is_found_by_itself() {
    let node = eight_h100s();
    let options = plugin()
        .bare()
        .env("KUBELET_SOCKET", node.kubelet_socket())
        .env("DRIVER_ROOT_CTR_PATH", node.driver_root());
    let options = options.env("STATE_DIR", "").env("QUARANTINE_DIR", "");
    let config = node.kubelet();
    Rig::on(node, config, &options, 8).await.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_not_loaded_is_an_error_that_says_what_to_do() {
    let mut state = profiles::h100x8();
    state.driver.loaded = false;
    let node = node(state);
    let mut plugin = Plugin::start(&node, &plugin()).unwrap();
    assert_eq!(plugin.wait_exit(PATIENCE).await.unwrap().code(), Some(1));
    assert!(
        plugin.log().join("\n").contains("the driver is not loaded (NVML return code 9)"),
        "{:?}",
        plugin.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_events_that_fails_is_said_once_and_never_loops_hot() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    rig.node.edit(|state| state.rules.push(Rule::answer("nvmlEventSetWait_v2", 999))).unwrap();
    rig.logged("cannot wait for NVML's events").await;
    let before = rig.plugin.figures().unwrap();
    rig.node.edit(|state| state.rules.clear()).unwrap();
    let line = rig.logged("waiting for NVML's events works again").await;
    let failures: u32 =
        line.split("failures=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(failures < 20, "{line}");
    assert!(rig.plugin.figures().unwrap().cpu_ticks - before.cpu_ticks < 20, "a tick is 10 ms");
    assert_eq!(
        rig.plugin
            .log()
            .iter()
            .filter(|line| line.contains("cannot wait for NVML's events"))
            .count(),
        1
    );
    rig.node.xid(0, 79).unwrap();
    rig.until_healthy(0, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_feature_labels_need_stands_in_the_status() {
    let mut state = profiles::h100x8_mig_mixed();
    for gpu in &mut state.gpus {
        let fabric = Fabric { cluster_uuid: [0xab; 16], clique_id: 7, ..Fabric::default() };
        gpu.fabric = Some(fabric);
    }
    let node = node(state);
    let directory = node.pci_directory(&node.state().gpus[1]);
    std::fs::write(directory.join("config"), virtual_function()).unwrap();
    let config = node.kubelet();
    let options = plugin().env("MIG_STRATEGY", "mixed").env("HTTP_ADDRESS", "127.0.0.1:0");
    let rig = Rig::on(node, config, &options, 4).await;
    let http = rig.plugin.http(PATIENCE).await.unwrap();
    let status = http.get("/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    let gpu = |index: usize| &status["gpus"][index];
    assert_eq!(gpu(0)["pciClass"], "0x030200");
    assert_eq!(gpu(0)["fabricClique"], "abababab-abab-abab-abab-abababababab.7");
    assert!(gpu(0).get("vgpuHost").is_none());
    assert_eq!(gpu(1)["vgpuHost"]["driverVersion"], "550.90.05");
    assert_eq!(gpu(1)["vgpuHost"]["driverBranch"], "r550_40");
    let partitioned = (0..8).find(|index| gpu(*index)["migEnabled"] == true).unwrap();
    let engines = &gpu(partitioned)["migDevices"][0]["engines"];
    let made = rig.node.state().gpus[partitioned].mig.clone().unwrap().devices[0].clone();
    assert_eq!(engines["multiprocessors"], made.multiprocessors);
    assert_eq!(engines["gpuSlices"], made.gpu_slices);
    assert_eq!(engines["copy"], made.gpu_slices, "as the fake has it");
}

/// The PCI configuration space of a virtual GPU: a status register, a list of one capability, and
/// in it the record of the host's driver.
fn virtual_function() -> [u8; 256] {
    const CAPABILITY: &[u8] = b"\x09\x00\x1bVF\x00\x16550.90.05\0r550_40\0\0\0";
    let mut space = [0; 256];
    (space[0x06], space[0x34]) = (0x10, 0x40);
    space[0x40..0x40 + CAPABILITY.len()].copy_from_slice(CAPABILITY);
    space
}
